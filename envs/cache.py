"""Decoded clips on disk: written once, then memory-mapped by every process that plays them.

What is read there is not trusted: whatever is not as it was written, by its SHA-256, is decoded anew.
"""

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from envs.sources import Clip
from errors import UserError

MAX_TOTAL_BYTES = 4 << 30  # the oldest decoded clips beyond this are deleted
MIN_CLIP_FRAMES = 2
MAX_INDEX_BYTES = 16 << 20  # a hundred thousand clips
ABANDONED = 86_400.0  # seconds after which nobody writes to a temporary file any more


def folder() -> Path:
    """``$XDG_CACHE_HOME/foreground/clips``, or a folder of this user's among the temporary files if that fails."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    places = (
        lambda: Path(chosen or Path.home() / ".cache") / "foreground" / "clips",
        lambda: Path(tempfile.gettempdir()) / f"foreground-{os.getuid()}",
    )
    for place in places:
        try:
            candidate = place()  # where no temporary file can be written there is no folder of them, either
            candidate.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(candidate, os.W_OK) and candidate.stat().st_uid == os.getuid():
                return candidate
        except (OSError, RuntimeError):  # the latter: a user without a home
            continue
    raise UserError("no folder can be written for decoded clips", chosen or "~/.cache", "set XDG_CACHE_HOME to one")


def open_regular(path: Path | str) -> BinaryIO:
    """A regular file, open; links, pipes and devices are refused, and nothing waits for a writer. Errors: OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path | str, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes. Errors: OSError."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"more than {limit} bytes", str(path))
    return content


def fetch(name: str, clips: Callable[[], Iterable], max_frames: int, frame_bytes: int) -> tuple[Path, tuple[Clip, ...]]:
    """Return the frame file `name` and its clips. It is written from `clips()` where it is not there, whole.

    clips       yields (path, recording, sha256, iterator of (H, W, 3) uint8 frames), see `Clip`
    max_frames  frames in all; what is beyond is left out, with a warning
    """
    path = folder() / f"{name}.frames"
    written = _read_index(path, frame_bytes)
    if written is None:
        written = _write(path, clips(), max_frames)
        _prune(keep=path)
    with contextlib.suppress(OSError):  # another process may have deleted it this moment
        os.utime(path)
    return path, written


def _index_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_index(path: Path, frame_bytes: int) -> tuple[Clip, ...] | None:
    """Return the clips of frames that are as they were written, else None."""
    try:
        index = json.loads(read_regular(_index_path(path), MAX_INDEX_BYTES))
        clips = _clips_of(index)
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != sum(clip.frames for clip in clips) * frame_bytes:
                return None
            digest = hashlib.file_digest(file, "sha256")  # a third of a second for 250 MB
            return clips if _sum(digest, clips) == index["sha256"] else None
    except (OSError, ValueError, RecursionError):
        return None


def _sum(digest, clips: Sequence[Clip]) -> str:
    """Return the SHA-256 of the frames, which `digest` has had, and of what clips they are."""
    digest.update(json.dumps(clips).encode())
    return digest.hexdigest()


def _clips_of(index) -> tuple[Clip, ...]:
    """Return the clips of an index. Raise ValueError where it is not as `_write` makes it."""
    if not isinstance(index, dict) or set(index) != {"clips", "sha256"} or not isinstance(index["clips"], list):
        raise ValueError("not an index")
    clips = tuple(Clip.of(clip) for clip in index["clips"])
    if not clips or any(clip.frames < MIN_CLIP_FRAMES for clip in clips):
        raise ValueError("a clip without frames")
    return clips


def _write(path: Path, clips: Iterable, max_frames: int) -> tuple[Clip, ...]:
    """Stream the frames to a new file beside `path` and rename it, so that no reader sees half of it."""
    written, room, digest = [], max_frames, hashlib.sha256()
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for name, recording, sha256, frames in clips:
                if room < MIN_CLIP_FRAMES:
                    warnings.warn(f"clips after the first {len(written)} are left out: {max_frames} frames", stacklevel=4)
                    break
                count = _write_clip(file, digest, frames, room)
                room -= count
                written.append(Clip(name, count, recording, sha256))
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        what = f"decoded clips cannot be written ({error.strerror})"
        raise UserError(what, str(path.parent), "free some space or set XDG_CACHE_HOME") from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    write_json(_index_path(path), {"clips": [clip._asdict() for clip in written], "sha256": _sum(digest, written)})
    return tuple(written)


def write_json(path: Path, value) -> None:
    """Write a file of the cache whole. Where that fails the cache goes without: all is made anew the next time."""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        with os.fdopen(descriptor, "w") as file:
            json.dump(value, file)
        os.replace(temporary, path)
    except OSError:
        if temporary:
            _delete(Path(temporary))


def _write_clip(file: BinaryIO, digest, frames: Iterator[np.ndarray], room: int) -> int:
    written = 0
    for frame in frames:
        if written < room:
            content = np.ascontiguousarray(frame, np.uint8).tobytes()
            file.write(content)
            digest.update(content)
            written += 1
    return written


def _prune(keep: Path) -> None:
    """Deletes the least recently used frame files until all together are within MAX_TOTAL_BYTES.

    Before that, what a kill left half written.
    """
    total = 0
    for path, state in _regular_files(keep.parent, ".writing-*"):
        if state.st_mtime < time.time() - ABANDONED:
            _delete(path)
        else:
            total += state.st_size
    files = _regular_files(keep.parent, "*.frames")
    for path, state in sorted(files, key=lambda file: (file[0] == keep, file[1].st_mtime), reverse=True):
        total += state.st_size
        if total > MAX_TOTAL_BYTES and path != keep:
            _delete(path)
            _delete(_index_path(path))


def _regular_files(folder: Path, pattern: str) -> list[tuple[Path, os.stat_result]]:
    """With their states; links, folders and what goes this moment are passed over."""
    found = []
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            state = path.lstat()
            if stat.S_ISREG(state.st_mode):
                found.append((path, state))
    return found


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
