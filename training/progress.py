"""How far a program is: a bar on a terminal, plain lines elsewhere. Both are redrawn by time, not by what was done."""

import collections
import contextlib
import itertools
import math
import os
import sys
import time

from tqdm import tqdm

from foreground.errors import clean, say

TERMINAL_SECONDS, LINE_SECONDS = 1.0, 30.0
MEASURED = 20.0  # seconds of learning before the time left is told
WINDOW = 300  # seconds over which the speed is measured
UNKNOWN = "time left: measuring"
FORMAT = "{desc}{percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} {unit}s{postfix}"


def has_width(stream) -> bool:
    """Return whether it is a terminal that a bar fits on: `script` without a terminal makes one of no columns."""
    if not stream.isatty():
        return False
    with contextlib.suppress(OSError, ValueError):  # no file behind it
        return os.get_terminal_size(stream.fileno()).columns > 0
    return True


def time_left(seconds: float) -> str:
    """Return a duration in words: "2 h 05 min left", "12 min left", "40 s left"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s left"
    return f"{minutes} min left" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min left"


class Display:
    """One line about something that has an end; `due` says when it should be shown again.

    name       what is done, before the bar
    unit       of `total`
    seconds    between two lines where there is no terminal
    keep       whether the bar stays on the terminal at its end
    """

    def __init__(self, name: str, total: int, unit: str, start: int = 0, seconds=LINE_SECONDS, stream=None, keep=True):
        self.name, self.total, self.unit = name, total, unit
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
        """Return whether it is time to show something."""
        return time.monotonic() >= self._due

    def show(self, done: int, *parts: str) -> None:
        """Show how much is done, and what is told behind it: of that, on a terminal, the first parts that fit."""
        self._due = time.monotonic() + self.every
        if self.bar is None:
            name = f"{self.name}: " if self.name else ""
            say(", ".join([f"{name}{self.unit} {done}/{self.total}", *parts]), self.stream)
            return
        with contextlib.suppress(OSError, ValueError):  # as `say`
            self.bar.n = done
            self.bar.set_postfix_str(", ".join(self._fitting(parts)), refresh=True)

    def _fitting(self, parts: tuple[str, ...]) -> list[str]:
        """Return the parts that fit behind the bar in one line of the terminal; the first one always stays."""
        shape = self.bar.format_dict
        if not shape["ncols"]:
            return list(parts)
        room = shape["ncols"] - len(self.bar.format_meter(**shape | {"postfix": ""}))
        ends = itertools.accumulate(len(part) + 2 for part in parts)
        return [part for index, (part, end) in enumerate(zip(parts, ends)) if end <= room or index == 0]

    def message(self, text: str) -> None:
        """Print a line of its own without breaking the bar."""
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
    """How far training is. The time left comes from the frames that were learned from, never from the prefill.

    total_frames    env frames of the whole run
    learning_from   env frame at which learning begins
    """

    def __init__(self, total_frames: int, start: int = 0, learning_from: int = 0, every_seconds=LINE_SECONDS, stream=None):
        self.display = Display("", total_frames, "frame", start, every_seconds, stream)
        self.total, self.learning_from, self.frames = total_frames, learning_from, start
        self.shown: dict[str, float] = {}
        self._told = -1  # the frame that was shown last
        self._next = 0.0
        self._speed: collections.deque[tuple[float, int]] = collections.deque()  # (time, frame), about a second apart

    def tick(self, frames: int) -> None:
        """Note the env frames done so far; cheap enough for every step."""
        self.frames, now = frames, time.monotonic()
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
        """Note a few numbers to show beside the frames, by their keys in docs/reference/metrics.md."""
        self.shown |= {name: value for name, value in shown.items() if math.isfinite(value)}  # no episode has ended yet
        self.tick(frames)

    def _show(self) -> None:
        self._told = self.frames
        order = sorted(self.shown.items(), key=lambda pair: not pair[0].startswith("evaluation/"))  # first what tells most
        self.display.show(self.frames, self.speed(), *(f"{key} {value:.4g}" for key, value in order))

    def speed(self) -> str:
        """Return frames a second and the time left, as far as they are known."""
        if self.frames < self.learning_from:
            return f"filling the replay, {UNKNOWN}"
        (since, first), (now, last) = (self._speed[0], self._speed[-1]) if self._speed else ((0.0, 0), (0.0, 0))
        if now - since < MEASURED or last <= first:
            return UNKNOWN
        rate = (last - first) / (now - since)
        return f"{rate:.0f} frames/s, {time_left((self.total - self.frames) / rate)}"

    def message(self, text: str) -> None:
        """Print a line without breaking the bar."""
        self.display.message(text)

    def close(self) -> None:
        """Show the end, and leave the bar as it stands."""
        if self._told != self.frames:
            self._show()
        self.display.close()
