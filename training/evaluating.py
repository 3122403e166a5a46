"""Evaluate in a separate process while training continues.

The trainer hands over a checkpoint. Its files get a second name in RUN/under_evaluation, and
stay there until the result is logged. A run that resumes evaluates what it finds there.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from foreground.errors import UserError, say, unforeseen
from foreground.training import checkpoint, system
from foreground.training.best import linked

FOLDER = "under_evaluation"
GRACE = 5.0  # seconds in which an interrupted evaluation removes its unfinished files
MOST_LOST = 1  # processes that may be lost in a row; the next one ends the run
WHERE = "the evaluation process"


class Outcome(NamedTuple):
    """The outcome of an evaluation.

    metrics    {} if it failed
    pictures   further calls for a logger: names of its methods, and their arguments
    failure    why it failed; "" if it did not
    """

    metrics: dict[str, float]
    pictures: list[tuple[str, tuple[Any, ...]]]
    failure: str = ""


Evaluate = Callable[[int, Path], Outcome]
"""(env frame, checkpoint) -> outcome."""


def reason(error: Exception) -> str:
    """Return why an evaluation failed, in words for a warning."""
    if system.is_memory(error):
        return "out of memory"
    said = error if isinstance(error, UserError | OSError) else unforeseen(error)
    return str(said).removeprefix("error: ")


# ----------------------------------------------------------------------------------- in the process


def serve(make: Callable[[], Evaluate], pipe: Connection, starter: int) -> None:
    """Evaluate what comes by the pipe, until it is closed or the starter ends.

    An evaluation that fails is an outcome. A process that cannot evaluate at all sends a line, and
    ends.
    """
    system.end_with(starter)
    # Those of a terminal or a scheduler are the trainer's. They were blocked until here.
    for number in system.STOPPING:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, system.STOPPING)
    try:
        evaluate = make()
    except Exception as error:
        pipe.send(reason(error))
        return
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            frame, path = pipe.recv()
            try:
                outcome = evaluate(frame, path)
            except Exception as error:
                outcome = Outcome({}, [], reason(error))
            pipe.send(outcome)


# ----------------------------------------------------------------------------------- in the trainer


class Evaluating:
    """The process that evaluates checkpoints of a run, one at a time; it starts with the first one.

    folder   of the run
    make     picklable; called in the process, returns what evaluates there
    """

    def __init__(self, folder: Path, make: Callable[[], Evaluate]):
        self.root = Path(folder) / FOLDER
        self.make = make
        self.checkpoint: Path | None = None  # that is being evaluated, under its second name
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._lost = 0  # processes in a row
        self._left: list[Path] = []  # by an earlier process of the run

    @property
    def frame(self) -> int | None:
        """The env frame that is being evaluated, if any."""
        return None if self.checkpoint is None else checkpoint.step_of(self.checkpoint)

    def begin(self, saved: Path) -> None:
        """Hand over a checkpoint. The one before must be done.

        Raises: OSError when the file system refuses.
        """
        self._send(linked(saved, self.root, checkpoint.step_of(saved)))

    def begin_again(self, frame: int) -> None:
        """Hand over the checkpoints that an earlier process of the run left, one after the other.

        frame   from which the run resumes; later checkpoints are deleted
        """
        self._left = checkpoint.steps(self.root)
        while self._left and checkpoint.step_of(self._left[-1]) > frame:
            shutil.rmtree(self._left.pop(), ignore_errors=True)
        if self._left:
            self._send(self._left.pop(0))

    def take(self, seconds: float = 0.0) -> Outcome | None:
        """Return the outcome if it is there within so many seconds; `done` must follow.

        Raises: UserError where the process cannot evaluate, or was lost repeatedly.
        """
        if self.checkpoint is None:
            return None
        try:
            answer = self._pipe.recv() if self._pipe.poll(seconds) else None
        except (EOFError, ConnectionError):
            self._replace()
            return None
        if isinstance(answer, str):
            remedy = "leave out --training.evaluate_async; the same command continues"
            raise UserError(f"it cannot evaluate ({answer})", WHERE, remedy, 5)
        if answer:
            self._lost = 0
        return answer

    def done(self) -> None:
        """Forget the checkpoint: its outcome is logged."""
        doomed = self.root / f".tmp-{self.checkpoint.name}"
        with contextlib.suppress(OSError):  # then it is evaluated again, and not logged again
            self.checkpoint.rename(doomed)
        self.checkpoint = None
        shutil.rmtree(doomed, ignore_errors=True)
        if self._left:
            return self._send(self._left.pop(0))
        with contextlib.suppress(OSError):
            self.root.rmdir()

    def stop(self) -> None:
        """End the process. What it was evaluating stays for the next start."""
        if self._process is None:
            return
        self._pipe.close()
        self._process.terminate()
        self._process.join(GRACE)
        self._process.kill()
        self._process.join()
        self._process = self._pipe = self.checkpoint = None

    def _send(self, path: Path) -> None:
        self.checkpoint = path
        if self._process is None:
            self._start()
        # One that has ended is noticed by `take`.
        with contextlib.suppress(ConnectionError):
            self._pipe.send((checkpoint.step_of(path), path))

    def _start(self) -> None:
        # Not forked: neither CUDA nor OpenGL survives that.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        told = (self.make, theirs, os.getpid())
        self._process = context.Process(target=serve, args=told, name="evaluation", daemon=True)
        with blocked():
            self._process.start()
        theirs.close()

    def _replace(self) -> None:
        """Start another process for the same checkpoint.

        Raises: UserError where that has been done already.
        """
        self._process.join(GRACE)
        code = self._process.exitcode
        path = self.checkpoint
        self.stop()
        how = f"was killed (signal {-code})" if code and code < 0 else f"ended with code {code}"
        self._lost += 1
        if self._lost > MOST_LOST:
            remedy = "leave out --training.evaluate_async; the same command continues"
            raise UserError(f"it {how}, {self._lost} times in a row", WHERE, remedy, 5)
        say(f"warning: {WHERE} {how}; another one evaluates that frame again")
        self._send(path)


@contextlib.contextmanager
def blocked() -> Generator[None]:
    """Start a process within that gets no signal of a terminal until it unblocks them."""
    numbers = set(system.STOPPING) - {signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
