"""Evaluate a run during training, in its process or in a separate one.

The order is fixed: keep the best checkpoint, then log the figures. A run that was killed thus
evaluates a frame again only if its figures are not logged.
"""

from collections.abc import Callable
from pathlib import Path

from foreground.errors import UserError
from foreground.training.best import Best
from foreground.training.checkpointer import Checkpointer
from foreground.training.evaluating import Evaluating, Outcome, reason
from foreground.training.logger import Logger, has_logged
from foreground.training.progress import Progress

PATIENCE = 0.2  # seconds between two looks for a stop signal


def look(what: str, frame: int, call: Callable[[], dict | None], progress: Progress) -> dict | None:
    """Call a function that only reads the agent.

    If it fails, training continues with a warning.
    """
    try:
        return call()
    except Exception as error:
        failed(what, frame, reason(error), progress)
        return {}


def failed(what: str, frame: int, why: str, progress: Progress) -> None:
    """Say that training continues without it."""
    progress.message(f"warning: {what} at frame {frame} failed ({why}); training continues")


class Evaluations:
    """Evaluates the agent as it was just saved, logs the figures, and keeps the best checkpoint.

    checkpointer  of the run
    evaluate      called with the env frame: metrics, or None if it was interrupted
    process       the separate process; None: there is none
    apart         whether the process replaces `evaluate`; otherwise it only repeats evaluations
                  that were pending before a resume
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        evaluate: Callable[[int], dict[str, float] | None],
        process: Evaluating | None,
        apart: bool,
    ):
        self.folder = checkpointer.folder
        self.checkpointer = checkpointer
        self.evaluate = evaluate
        self.process = process
        self.apart = process is not None and apart
        self.best = Best(self.folder)
        self.broken: UserError | None = None  # why the process cannot evaluate: the run must end

    def begin_again(self, frame: int) -> None:
        """Repeat the evaluations that were pending when the run stopped."""
        if self.process:
            self.process.begin_again(frame)

    def make(
        self, frame: int, logger: Logger, progress: Progress, stopped: Callable[[], bool]
    ) -> bool:
        """Evaluate a frame, or hand it over; return False if it was interrupted and is still due.

        stopped   whether the run was asked to stop
        """
        if not self.settle(frame, logger, progress, stopped):
            return False
        if has_logged(self.folder / "metrics.jsonl", frame, "evaluation/"):
            return True
        if self.apart:
            self.hand_over(frame, progress)
            return True
        row = look("the evaluation", frame, lambda: self.evaluate(frame), progress)
        if row is None:
            return False
        self.take_down(frame, self.saved_at(frame), row, logger, progress)
        return True

    def hand_over(self, frame: int, progress: Progress) -> None:
        """Let the process evaluate the checkpoint of a frame."""
        saved = self.saved_at(frame)
        if saved is None:
            return failed("the evaluation", frame, "its checkpoint was not saved", progress)
        try:
            self.process.begin(saved)
        except OSError as error:
            failed("the evaluation", frame, reason(error), progress)

    def collect(self, now: int, logger: Logger, progress: Progress, seconds: float = 0.0) -> None:
        """Log the outcome of what was handed over, if it is there within so many seconds.

        now   the current env frame
        """
        if not self.process or self.process.frame is None:
            return
        try:
            outcome = self.process.take(seconds)
        except UserError as error:
            self.broken = error
            return
        if outcome:
            self.log(self.process.frame, outcome, now, logger, progress)
            self.process.done()

    def log(
        self, frame: int, outcome: Outcome, now: int, logger: Logger, progress: Progress
    ) -> None:
        """Log an outcome once."""
        if outcome.failure:
            return failed("the evaluation", frame, outcome.failure, progress)
        if has_logged(self.folder / "metrics.jsonl", frame, "evaluation/"):
            return
        for name, words in outcome.pictures:
            getattr(logger, name)(*words)
        self.take_down(frame, self.process.checkpoint, outcome.metrics, logger, progress, now)

    def settle(
        self, now: int, logger: Logger, progress: Progress, stopped: Callable[[], bool]
    ) -> bool:
        """Wait for what was handed over; return whether it is done."""
        while self.process and self.process.frame is not None:
            if stopped() or self.broken:
                return False
            self.collect(now, logger, progress, PATIENCE)
        return True

    def take_down(
        self,
        frame: int,
        saved: Path | None,
        row: dict[str, float],
        logger: Logger,
        progress: Progress,
        now: int | None = None,
    ) -> None:
        """Keep the checkpoint that was evaluated if it is the best; log the figures.

        saved   its checkpoint
        now     the current env frame, where it is a later one
        """
        if not row:
            return
        score = row.get("return_heldout", row.get("return_clean", float("nan")))
        self.offer(frame, saved, score, progress)
        logger.scalars(frame, row, "evaluation")
        shown = {f"evaluation/{key}": row[key] for key in row if key.startswith("return_")}
        progress.update(frame if now is None else now, shown)

    def saved_at(self, frame: int) -> Path | None:
        """Return the last checkpoint if it is of this frame."""
        return self.checkpointer.saved if self.checkpointer.saved_at == frame else None

    def offer(self, frame: int, saved: Path | None, score: float, progress: Progress) -> None:
        """Keep the checkpoint of a frame, if there is one, as the best if its return is highest."""
        if saved is None:
            return
        try:
            self.best.offer(saved, frame, score)
        except OSError as error:
            progress.message(
                f"warning: the best checkpoint was not kept ({error.strerror}); training continues"
            )

    def stop(self) -> None:
        """End the process, if any."""
        if self.process:
            self.process.stop()
