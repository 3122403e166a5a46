"""What the clips of one side are: where they lie, and the SHA-256 of what they hold.

Plain values, for files and checks.
"""

import hashlib
import itertools
from typing import NamedTuple

CLIP_KEYS = {"path", "frames", "recording", "sha256"}
SOURCE_KEYS = {"source", "root", "clips", "left_out"}


class Clip(NamedTuple):
    """One clip that plays.

    path       below the root of its source, with "/"; of a shot, its file and frames
               ("a.mp4[0:30]")
    frames     how many of its frames play
    recording  clips of one recording are parts of one video, and are never on two sides
    sha256     of the file's bytes, or of the pictures of a frame folder; of a made clip, of what it
               is made by
    """

    path: str
    frames: int
    recording: str
    sha256: str

    @classmethod
    def of(cls, plain) -> "Clip":
        """Return the clip whose `_asdict()` is given. Raises: ValueError for anything else."""
        if not isinstance(plain, dict) or set(plain) != CLIP_KEYS:
            raise ValueError("not a clip")
        clip = cls(**plain)
        texts = (clip.path, clip.recording, clip.sha256)
        if type(clip.frames) is not int or clip.frames < 0:
            raise ValueError("not a clip")
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("not a clip")
        return clip


class Source(NamedTuple):
    """The clips of one side of a source.

    source    what plays: a path as it was typed, or a name such as starter
    root      the absolute path of the folder, links resolved; "" where the clips lie in no folder
    clips     those that play, in order
    left_out  paths of damaged clips that were left out
    """

    source: str
    root: str
    clips: tuple[Clip, ...]
    left_out: tuple[str, ...] = ()

    def plain(self) -> dict:
        """Return it as dicts, lists, strings and integers, for JSON; see `of`."""
        clips = [clip._asdict() for clip in self.clips]
        return {
            "source": self.source,
            "root": self.root,
            "clips": clips,
            "left_out": list(self.left_out),
        }

    @classmethod
    def of(cls, plain) -> "Source":
        """Return what `plain` was made from. Raises: ValueError for anything else."""
        if not isinstance(plain, dict) or set(plain) != SOURCE_KEYS:
            raise ValueError("not a source of clips")
        clips = plain["clips"]
        left_out = plain["left_out"]
        texts = [
            plain["source"],
            plain["root"],
            *(left_out if isinstance(left_out, list) else [None]),
        ]
        if not isinstance(clips, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError("not a source of clips")
        return cls(plain["source"], plain["root"], tuple(map(Clip.of, clips)), tuple(left_out))

    @property
    def starts(self) -> tuple[int, ...]:
        """The first frame of each clip, and the number of all frames."""
        return (0, *itertools.accumulate(clip.frames for clip in self.clips))

    def text(self) -> str:
        """Return how many clips of how many recordings there are, for the first lines of a run."""
        clips = len(self.clips)
        recordings = len({clip.recording for clip in self.clips})
        number = f"{clips} clip{'s' * (clips != 1)}"
        return f"{number} of {recordings} recording{'s' * (recordings != 1)}"


def sum_of_text(text: str) -> str:
    """Return the SHA-256 that stands for a clip which is made by arithmetic: `text` says how."""
    return hashlib.sha256(text.encode()).hexdigest()
