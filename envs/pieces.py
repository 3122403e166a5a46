"""The clips of a folder, decoded one by one and cached by the sums of their files.

Damaged clips are reported together.
"""

import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from foreground.envs import cache, video
from foreground.envs.damage import Damaged, unreadable
from foreground.envs.folders import Found, files
from foreground.envs.playback import Frames
from foreground.envs.sources import Clip
from foreground.envs.sums import Sums
from foreground.errors import UserError

FORMAT = 2  # raise when decoding changes, so that old pieces are not read
SHOWN = 10  # damaged clips that are named


class Pieces:
    """Clips for `cache.fetch`, decoded as they are asked for.

    damaged  what cannot play, by the name of the clip
    cut      names of clips that are longer than what plays of one
    """

    def __init__(self, clips: list[Found], size: int):
        self.clips = clips
        self.size = size
        self.damaged: dict[str, Damaged] = {}
        self.cut: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, str, str, Frames]]:
        sums = Sums()
        try:
            for clip in self.clips:
                try:
                    digest, frames = self._decoded(clip, sums)
                except Damaged as error:
                    self.damaged[clip.name] = error
                    continue
                yield clip.name, clip.recording, digest, frames
        finally:
            sums.keep()

    def decode_all(self, max_frames: int) -> None:
        """Decode what would play of at most `max_frames` frames: `damaged` is known then."""
        for *_, frames in self:
            max_frames -= len(frames)
            if max_frames < video.MIN_FRAMES:
                break

    def _decoded(self, clip: Found, sums: Sums) -> tuple[str, Frames]:
        """Return the sum and the frames of a clip. Raises: Damaged where it has none."""
        try:
            digest = sums.of(files(clip.path))
            frames = self._kept(digest, clip)
            if sums.of(files(clip.path)) != digest:
                raise Damaged("it changes while it is read", clip.path, "wait until it is whole")
        except OSError as error:
            raise unreadable(error, clip.path) from error
        return digest, frames

    def _kept(self, digest: str, clip: Found) -> Frames:
        name = hashlib.sha256(json.dumps([FORMAT, digest, self.size]).encode()).hexdigest()[:32]
        frame_bytes = self.size * self.size * 3

        cut: list[str] = []

        def decoded() -> Iterator:
            note = functools.partial(cut.append, clip.name)
            yield clip.name, clip.recording, digest, video.decode(clip.path, self.size, note)

        def finish() -> cache.Omissions:
            return cache.Omissions(cut=tuple(cut))

        most = video.MAX_CLIP_FRAMES
        path, written, omitted = cache.fetch(cache.PIECE + name, decoded, most, frame_bytes, finish)
        self.cut += [clip.name] * bool(omitted.cut)
        return Frames(str(path), sum(piece.frames for piece in written), self.size)


def refusal(root: Path, damaged: dict[str, Damaged]) -> UserError:
    """Return one line for all damaged clips."""
    if len(damaged) == 1:
        return next(iter(damaged.values()))
    names = [f"{name} ({error.reason})" for name, error in list(damaged.items())[:SHOWN]]
    more = f", and {len(damaged) - SHOWN} more" if len(damaged) > SHOWN else ""
    remedy = "remove them, put whole copies there, or use --background.skip_damaged true"
    where = f"{remedy}: {', '.join(names)}{more}"
    return UserError(f"{len(damaged)} clips cannot be played", str(root), where)


def cut_warning(cut: list[Clip]) -> str:
    """Return one line for the clips that play in part."""
    shown = [f"{clip.path} ({clip.frames} frames)" for clip in cut[:SHOWN]]
    more = f" and {len(cut) - SHOWN} more" if len(cut) > SHOWN else ""
    clips = f"{len(cut)} clip{' is' if len(cut) == 1 else 's are'} longer than what plays of one"
    limits = f"{video.MAX_CLIP_FRAMES:,} frames, {video.MAX_CLIP_PIXELS / 1e9:.1f} billion pixels"
    remedy = "cut it into shorter clips or scale it down to have it all"
    return f"{clips} ({limits}), the beginning plays: {', '.join(shown)}{more}: {remedy}"
