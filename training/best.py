"""The checkpoint with the highest return so far, in RUN/best; RUN/checkpoints has the newest two.

Its files are hard links, which cost nothing while the checkpoint exists in both folders. best.json
says which one it is. Training never resumes from it.
"""

import errno
import json
import math
import os
import shutil
from pathlib import Path

from foreground.errors import say
from foreground.training import files
from foreground.training.files import Damaged, Unreadable

LARGEST = 4096  # bytes of best.json


class Best:
    """The best checkpoint of a run folder: its `frame` and `score`, or None and -inf.

    folder   the run folder
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.record = self.folder / "best.json"
        self.root = self.folder / "best"
        self.frame: int | None = None
        self.score = -math.inf
        self._last = math.inf  # later checkpoints do not count
        self._unread = ""  # why best.json could not be read now; it may be intact
        self._read()
        if self._unread:
            say(
                f"warning: {self._unread}; the best checkpoint is not replaced until that file "
                "can be read"
            )

    def _read(self) -> None:
        """Load best.json where it is valid and its checkpoint exists."""
        self._unread = ""
        try:
            row = json.loads(files.read(self.record, LARGEST))
            frame = int(row["env_frame"])
            score = float(row["return"])
        except Unreadable as error:
            self._unread = f"{self.record} {error.what}"
            return
        except (Damaged, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return
        there = frame <= self._last and (self.root / _name(frame) / "MANIFEST.json").is_file()
        if math.isfinite(score) and there:
            self.frame = frame
            self.score = score

    def forget_after(self, frame: int) -> None:
        """Forget a best checkpoint later than `frame`, from which a run resumes: those frames are
        played again.
        """
        self._last = frame
        if self.frame is not None and self.frame > frame:
            self.frame = None
            self.score = -math.inf

    def offer(self, checkpoint: Path, frame: int, score: float) -> bool:
        """Keep a checkpoint if its return is higher than that of the best one; return whether it
        is.

        Raises: OSError when the file system refuses; the previous best one then remains.
        """
        if self._unread:
            self._read()
        if self._unread:  # its checkpoint may be better
            raise OSError(errno.EIO, self._unread)
        self._last = math.inf
        if not score > self.score:
            return False
        target = linked(checkpoint, self.root, frame)
        row = {"env_frame": frame, "return": score, "checkpoint": f"best/{_name(frame)}"}
        files.write_atomic(self.record, json.dumps(row, indent=1).encode())
        self.frame = frame
        self.score = score
        for path in self.root.iterdir():
            if path != target:
                shutil.rmtree(path, ignore_errors=True)
        return True


def linked(checkpoint: Path, root: Path, frame: int) -> Path:
    """Give the checkpoint of a frame a second name in the folder `root`; return it.

    Its files are hard links, or copies where the file system has no links.

    Raises: OSError.
    """
    temporary = root / f".tmp-{_name(frame)}"
    target = root / _name(frame)
    files.make_folder(root)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for path in checkpoint.iterdir():
        _second_name(path, temporary / path.name)
    files.fsync_folder(temporary)
    if target.exists():  # of the same frame, from before the run was resumed at an earlier one
        old = root / f".tmp-old-{_name(frame)}"
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    temporary.rename(target)
    files.fsync_folder(root)
    return target


def _name(frame: int) -> str:
    return f"step-{frame:012d}"


def _second_name(path: Path, new: Path) -> None:
    """Link a file, or copy it where the file system has no links."""
    try:
        os.link(path, new)
    except OSError:
        files.write(new, path.read_bytes())
