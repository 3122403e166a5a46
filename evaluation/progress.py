"""Progress of an evaluation.

Every loop that plays calls `tick`; the caller gives its length with `stage`.
"""

import contextlib
import os
import time
from collections.abc import Generator
from typing import TextIO

import numpy as np

from foreground.evaluation import interrupt
from foreground.training.progress import UNKNOWN, Display, time_left

MEASURED = 3.0  # seconds before a remaining time is shown


class Stage:
    """A part of an evaluation: so many items (episodes, skills), each of about so many steps.

    steps   ticks that are expected, 0 where that is not known: the time left then comes from whole
            items
    """

    def __init__(self, name: str, total: int, unit: str, steps: int = 0, stream=None):
        self.display = Display(name, total, unit, stream=stream, keep=False)
        self.total = total
        self.steps = steps
        self.done = 0
        self.ticks = 0
        self.scores = []
        self.began = time.monotonic()

    def tick(self) -> None:
        """Note a step."""
        self.ticks += 1
        self.show()

    def advance(self, number: int, scores: list[float]) -> None:
        """Note that items are done, and their returns."""
        self.done += number
        self.scores += scores
        self.show()

    def show(self) -> None:
        """Show the progress, if an update is due."""
        if not self.display.due():
            return
        words = [self.left()]
        if self.scores:
            words.insert(0, f"return {np.mean(self.scores):.1f} so far")
        self.display.show(self.done, *words)

    def left(self) -> str:
        """Return the time left in words."""
        share = max(self.done / self.total, self.ticks / self.steps if self.steps else 0.0)
        seconds = time.monotonic() - self.began
        if share <= 0 or seconds < MEASURED:
            return UNKNOWN
        return time_left(seconds * max(1 - share, 0) / share)


_stages: list[Stage] = []  # the current ones; the last one is shown
_stream: TextIO | None = None  # where they are shown; None: stderr


def hide() -> None:
    """Show no progress in this process."""
    global _stream
    _stream = open(os.devnull, "w")  # noqa: SIM115


@contextlib.contextmanager
def stage(name: str, total: int, unit: str = "episode", steps: int = 0) -> Generator[Stage]:
    """Show the progress of what is played within a `with` block."""
    one = Stage(name, max(total, 1), unit, steps, _stream)
    _stages.append(one)
    try:
        yield one
    finally:
        _stages.remove(one)
        one.display.close()


def tick() -> None:
    """Note one step of an evaluation. Raises: Interrupted when its end was asked for."""
    interrupt.check()
    if _stages:
        _stages[-1].tick()


def advance(number: int = 1, *scores: float) -> None:
    """Count finished items of the current stage, and record their returns."""
    if _stages:
        _stages[-1].advance(number, [float(score) for score in scores])
