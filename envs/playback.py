"""How clips play: frames in a file that all processes share, and the playback of an environment."""

import errno
import os
import weakref
from collections.abc import Iterator

import numpy as np


class Frames:
    """Frames of one size in an open file. They stay there when the file is deleted."""

    def __init__(self, path: str, number: int, size: int):
        """Raise OSError where the file cannot be read, or holds another number of frames."""
        self.number = number
        self.size = size
        self.bytes = size * size * 3
        self._file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        if os.fstat(self._file).st_size != number * self.bytes:
            raise OSError(errno.EIO, "not as it was written", path)

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(self.number))

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one frame, (size, size, 3) uint8, read-only.

        It is read and not mapped: where the file was cut short, that is an OSError and not the end
        of the process.
        """
        content = os.pread(self._file, self.bytes, index * self.bytes)
        if len(content) != self.bytes:
            raise OSError(errno.EIO, "cut short", "decoded clips")
        return np.frombuffer(content, np.uint8).reshape(self.size, self.size, 3)


class Background:
    """The playback of one environment: clip and start drawn at random, a clip frame per agent step.

    The draw is uniform over all frames of the side, so a clip comes up in proportion to its length.
    At a clip's end the playback turns round and runs backwards (as in the Distracting Control
    Suite): no cut unless `redraw_every` makes one.
    """

    def __init__(
        self,
        clips,
        redraw_every: int = 0,
        window: int = 0,
        max_clips: int = 0,
        still: bool = False,
    ):
        """
        redraw_every  steps after which clip and start are drawn anew; 0: at a reset only
        window        side of the square that shows video, of 64 pixels; 0: all of it
        max_clips     clips that play at most, the first ones; 0: all
        still         whether a frame stays until the next draw
        """
        self.clips = clips
        self.still = still
        self._drawn_from = clips.starts[min(max_clips or len(clips.starts), len(clips.starts) - 1)]
        self.redraw_every = redraw_every
        self.window = 0 if window >= 64 else window
        self._random: np.random.Generator | None = None
        self._first = 0
        self._length = 1
        self._position = 0
        self._steps = 0

    @property
    def size(self) -> int:
        """Height and width of the frames."""
        return self.clips.size

    def reset(self, random: np.random.Generator) -> None:
        """Draw a clip and a start frame; `random` also makes the later draws of this episode."""
        self._random = random
        self._steps = 0
        self._redraw()

    def step(self) -> None:
        """Advance one frame, or to a new clip every `redraw_every` steps."""
        self._steps += 1
        if self.redraw_every and self._steps % self.redraw_every == 0:
            self._redraw()
        elif not self.still:
            self._position += 1

    @property
    def playback(self) -> dict[str, int]:
        """Where it is; see `continue_at`."""
        return {
            "first": self._first,
            "length": self._length,
            "position": self._position,
            "steps": self._steps,
        }

    def continue_at(self, playback: dict[str, int], random: np.random.Generator) -> None:
        """Continue at a stored position; where its clip no longer exists, draw another."""
        self._random = random
        self._steps = playback["steps"]
        self._first = playback["first"]
        self._length = playback["length"]
        self._position = playback["position"]
        if (
            self._first not in self.clips.starts
            or self._first + self._length not in self.clips.starts
        ):
            self._redraw()

    def frame(self) -> np.ndarray:
        """Return the current frame, (H, W, 3) uint8, read-only."""
        return self.clips.frame(self._first + bounce(self._position, self._length))

    @property
    def clip(self) -> int:
        """Number of the clip that plays."""
        return int(np.searchsorted(self.clips.starts, self._first, side="right")) - 1

    @property
    def phase(self) -> float:
        """Where in the clip the playback is, 0 to 1."""
        return bounce(self._position, self._length) / (self._length - 1)

    def window_slices(self, size: int) -> tuple[slice, slice]:
        """Return the rows and columns of an image of `size` that show the video."""
        side = round((self.window or 64) * size / 64)
        start = (size - side) // 2
        return slice(start, start + side), slice(start, start + side)

    def _redraw(self) -> None:
        starts = self.clips.starts
        drawn = int(self._random.integers(self._drawn_from))
        clip = int(np.searchsorted(starts, drawn, side="right")) - 1
        self._first = starts[clip]
        self._length = starts[clip + 1] - starts[clip]
        self._position = drawn - self._first
        if self._random.random() < 0.5:  # half the starts run backwards first
            self._position = 2 * (self._length - 1) - self._position


def bounce(position: int, length: int) -> int:
    """Return 0, 1, ..., length - 1, length - 2, ..., 1, 0, 1, ... for position 0, 1, 2, ...; length
    is at least 2.
    """
    position %= 2 * (length - 1)
    return min(position, 2 * (length - 1) - position)
