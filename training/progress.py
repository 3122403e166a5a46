"""Progress of a program: a bar on a terminal, plain lines elsewhere; both are redrawn at time
intervals.
"""

import collections
import contextlib
import itertools
import math
import os
import sys
import time

from tqdm import tqdm

from foreground.errors import clean, say

TERMINAL_SECONDS = 1.0
LINE_SECONDS = 30.0
MEASURED = 20.0  # seconds of learning before the time left is shown
WINDOW = 300  # seconds over which the speed is measured
UNKNOWN = "time left: measuring"
FORMAT = "{desc}{percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} {unit}s{postfix}"


def has_width(stream) -> bool:
    """Return whether a stream is a terminal with columns; `script` without a terminal makes one
    with none.
    """
    if not stream.isatty():
        return False
    with contextlib.suppress(OSError, ValueError):  # not backed by a file
        return os.get_terminal_size(stream.fileno()).columns > 0
    return True


def time_left(seconds: float) -> str:
    """Return a duration in words: "2 h 05 min left", "12 min left", "40 s left"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s left"
    return (
        f"{minutes} min left" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min left"
    )


class Display:
    """One line of progress towards a total; `due` says when to show it again.

    name       label before the bar
    unit       of `total`
    seconds    between two lines without a terminal
    keep       whether the bar remains on the terminal at its end
    """

    def __init__(
        self,
        name: str,
        total: int,
        unit: str,
        start: int = 0,
        seconds=LINE_SECONDS,
        stream=None,
        keep=True,
    ):
        self.name = name
        self.total = total
        self.unit = unit
        self.stream = stream or sys.stderr
        self.bar = None
        now = time.monotonic()
        if has_width(self.stream):
            description = f"{name}: " if name else ""
            self.bar = tqdm(
                desc=description,
                total=total,
                initial=start,
                unit=unit,
                file=self.stream,
                dynamic_ncols=True,
                bar_format=FORMAT,
                leave=keep,
            )
        self.every = TERMINAL_SECONDS if self.bar is not None else seconds
        self._due = now if self.bar is not None else now + self.every

    def due(self) -> bool:
        """Return whether it is time for another line."""
        return time.monotonic() >= self._due

    def show(self, done: int, *parts: str) -> None:
        """Show the progress and further parts; on a terminal only the first parts that fit."""
        self._due = time.monotonic() + self.every
        if self.bar is None:
            name = f"{self.name}: " if self.name else ""
            say(", ".join([f"{name}{self.unit} {done}/{self.total}", *parts]), self.stream)
            return
        with contextlib.suppress(OSError, ValueError):  # as `say`
            self.bar.n = done
            self.bar.set_postfix_str(", ".join(self._fitting(parts)), refresh=True)

    def _fitting(self, parts: tuple[str, ...]) -> list[str]:
        """Return the parts that fit after the bar in one line of the terminal, at least the first
        one.
        """
        shape = self.bar.format_dict
        if not shape["ncols"]:
            return list(parts)
        width = shape["ncols"] - len(self.bar.format_meter(**shape | {"postfix": ""}))
        ends = itertools.accumulate(len(part) + 2 for part in parts)
        return [
            part for index, (part, end) in enumerate(zip(parts, ends)) if end <= width or index == 0
        ]

    def message(self, text: str) -> None:
        """Print a separate line without breaking the bar."""
        if self.bar is None:
            say(text, self.stream)
            return
        with contextlib.suppress(OSError, ValueError):
            tqdm.write(clean(text), file=self.stream)

    def close(self) -> None:
        """End the bar."""
        if self.bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self.bar.close()


class Progress:
    """Progress of training. The time left is estimated from frames after the prefill only.

    total_frames    env frames of the whole run
    learning_from   env frame at which learning begins
    """

    def __init__(
        self,
        total_frames: int,
        start: int = 0,
        learning_from: int = 0,
        every_seconds=LINE_SECONDS,
        stream=None,
    ):
        self.display = Display("", total_frames, "frame", start, every_seconds, stream)
        self.total = total_frames
        self.learning_from = learning_from
        self.frames = start
        self.shown: dict[str, float] = {}
        self._shown_frame = -1  # the last frame that was shown
        self._next = 0.0
        # (time, frame), about a second apart.
        self._speed: collections.deque[tuple[float, int]] = collections.deque()

    def tick(self, frames: int) -> None:
        """Note the env frames so far; cheap enough for every step."""
        self.frames = frames
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + min(TERMINAL_SECONDS, self.display.every)
        if frames >= self.learning_from:
            self._speed.append((now, frames))
            while now - self._speed[0][0] > WINDOW:
                self._speed.popleft()
        if self.display.due():
            self._show()

    def update(self, frames: int, shown: dict[str, float]) -> None:
        """Note metrics to show after the frames, by their keys in docs/reference/metrics.md."""
        # NaN before the first episode has ended.
        self.shown |= {name: value for name, value in shown.items() if math.isfinite(value)}
        self.tick(frames)

    def _show(self) -> None:
        self._shown_frame = self.frames
        # The most informative first.
        order = sorted(self.shown.items(), key=lambda pair: not pair[0].startswith("evaluation/"))
        self.display.show(
            self.frames, self.speed(), *(f"{key} {value:.4g}" for key, value in order)
        )

    def speed(self) -> str:
        """Return frames per second and the time left, as far as they are known."""
        if self.frames < self.learning_from:
            return f"filling the replay, {UNKNOWN}"
        (since, first), (now, last) = (
            (self._speed[0], self._speed[-1]) if self._speed else ((0.0, 0), (0.0, 0))
        )
        if now - since < MEASURED or last <= first:
            return UNKNOWN
        rate = (last - first) / (now - since)
        return f"{rate:.0f} frames/s, {time_left((self.total - self.frames) / rate)}"

    def message(self, text: str) -> None:
        """Print a line without breaking the bar."""
        self.display.message(text)

    def close(self) -> None:
        """Show the final state and close the bar."""
        if self._shown_frame != self.frames:
            self._show()
        self.display.close()
