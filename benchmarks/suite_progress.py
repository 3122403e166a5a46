"""One line of progress of a running suite.

It shows finished, running and waiting runs, env frames per second over all runs, and the time left.
"""

import collections
import contextlib
import json
import sys
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks.engine import Engine
from foreground.configs import run as runs
from foreground.errors import UserError, clean
from foreground.training import progress

SAMPLE_SECONDS = 5.0  # between two looks at the runs' metrics
TAIL = 2**16  # bytes from the end of metrics.jsonl that hold its last line


class SuiteProgress:
    """Tells how far a suite is, whatever engine it runs on: what the runs wrote is read, nothing is
    asked of them.

    words_of   name -> words of train.py, of the runs that are to be done
    folder     where the runs are
    kept       how many others are done already
    """

    def __init__(
        self, words_of: dict[str, list[str]], folder: Path, kept: int, engine: Engine, stream=None
    ):
        self.engine, self.folder, self.done = engine, folder, kept
        self.total = kept + len(words_of)
        self.frames_of = {name: _frames(words, engine.cuda) for name, words in words_of.items()}
        self.ended: set[str] = set()
        self.display = progress.Display("", self.total, "run", kept, stream=stream)
        # (time, frames of all runs)
        self._speed: collections.deque[tuple[float, int]] = collections.deque()

    def end(self, name: str) -> None:
        """Note that a run has ended."""
        self.done += 1
        self.ended.add(name)

    def tick(self, started: list[str]) -> None:
        """Show the line when it is due.

        started   the runs that the engine was given and that have not ended
        """
        now = time.monotonic()
        if not self._speed or now - self._speed[-1][0] >= SAMPLE_SECONDS:
            self._speed.append((now, self._frames_done()))
            while now - self._speed[0][0] > progress.WINDOW:
                self._speed.popleft()
        if self.display.due():
            self.display.show(self.done, self.text(self.engine.running(started)))

    def text(self, running: int) -> str:
        """Return the line behind "run 12/54"."""
        waiting = self.total - self.done - running
        return f"{running} running, {waiting} waiting, {self._rate()}"

    def _rate(self) -> str:
        (since, first), (now, last) = self._speed[0], self._speed[-1]
        if now - since < progress.MEASURED or last <= first:
            return progress.UNKNOWN
        rate = (last - first) / (now - since)
        left = sum(self.frames_of.values()) - last
        return f"{rate:.0f} frames/s, {progress.time_left(left / rate)}"

    def _frames_done(self) -> int:
        return sum(
            frames
            if name in self.ended
            else min(frames, last_frame(self.folder / name / "metrics.jsonl"))
            for name, frames in self.frames_of.items()
        )

    def say(self, text: str) -> None:
        """Print a line of the program's output without breaking the bar."""
        tqdm.write(clean(text), file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        self.display.close()


def _frames(words: list[str], cuda: bool) -> int:
    """Return the env frames that a run is to have.

    0 where its options are wrong, which the run itself will say.
    """
    with contextlib.suppress(UserError):
        return runs.read(words, cuda).total_frames
    return 0


def last_frame(metrics: Path) -> int:
    """Return the latest env frame in the last lines of a run's metrics; 0 where there is none.

    An evaluation beside training is logged late, at an earlier frame.
    """
    frame = 0
    with contextlib.suppress(FileNotFoundError), metrics.open("rb") as file:
        file.seek(max(0, metrics.stat().st_size - TAIL))
        for line in file.read().splitlines():
            with contextlib.suppress(ValueError):  # cut off, at either end
                frame = max(frame, json.loads(line)["step"])
    return frame
