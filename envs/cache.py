"""Decoded clips on disk: written once, then memory-mapped by every process that plays them.

What is read there is not trusted: what is not as it was written, by its SHA-256, is decoded anew.
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
from typing import BinaryIO, NamedTuple

import numpy as np

from foreground.envs.sources import Clip
from foreground.errors import UserError

MAX_TOTAL_BYTES = 4 << 30  # the oldest decoded clips beyond this are deleted
MIN_CLIP_FRAMES = 2
MAX_INDEX_BYTES = 16 << 20  # a hundred thousand clips
PIECE = "piece-"  # begins the names of clips that are kept one by one; they are the first that go
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
ABANDONED = 86_400.0  # seconds after which a temporary file is abandoned


class Omissions(NamedTuple):
    """What is not played of decoded clips, as paths. A warning names it when they are loaded.

    left_out  damaged, and not played
    cut       longer than what plays of one clip
    """

    left_out: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()


Written = tuple[tuple[Clip, ...], Omissions]


def folder() -> Path:
    """Return ``$XDG_CACHE_HOME/foreground/clips``, or else a folder among the temporary files.

    Other users cannot write there. Among the temporary files of all users it must not be a link.
    """
    chosen = os.environ.get("XDG_CACHE_HOME")
    places = (
        lambda: Path(chosen or Path.home() / ".cache") / "foreground" / "clips",
        lambda: _no_link(Path(tempfile.gettempdir()) / f"foreground-{os.getuid()}"),
    )
    for place in places:
        try:
            candidate = place()  # it has none where no temporary file can be written
            candidate.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_ours_alone(candidate):
                return candidate
        except (OSError, RuntimeError):  # the latter: a user without a home
            continue
    raise UserError(
        "no folder can be written for decoded clips",
        chosen or "~/.cache",
        "set XDG_CACHE_HOME to one",
    )


def _no_link(path: Path) -> Path:
    if path.is_symlink():
        raise OSError(errno.ELOOP, "a link", str(path))
    return path


def _is_ours_alone(path: Path) -> bool:
    """Return whether only this user can write to a folder; make it so where this user owns it."""
    state = path.stat()
    if state.st_uid != os.getuid() or not os.access(path, os.W_OK):
        return False
    if state.st_mode & OTHERS_WRITE:
        path.chmod(0o700)
    return not path.stat().st_mode & OTHERS_WRITE


def read_own(path: Path, limit: int) -> bytes:
    """Return the bytes of a file of at most `limit` bytes that this user wrote. Raises: OSError."""
    with open_own(path) as file:
        return _bytes_of(file, limit)


def open_own(path: Path) -> BinaryIO:
    """Open a regular file that this user wrote, as `open_regular`. Raises: OSError."""
    file = open_regular(path)
    if os.fstat(file.fileno()).st_uid != os.getuid():
        file.close()
        raise OSError(errno.EPERM, "another user's file", str(path))
    return file


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file. Refuse links, pipes and devices; never wait for a writer.

    Raises: OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path | str, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes. Raise OSError."""
    with open_regular(path) as file:
        return _bytes_of(file, limit)


def _bytes_of(file: BinaryIO, limit: int) -> bytes:
    content = file.read(min(limit, os.fstat(file.fileno()).st_size) + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"more than {limit} bytes", file.name)
    return content


def fetch(
    name: str,
    clips: Callable[[], Iterable],
    max_frames: int,
    frame_bytes: int,
    finish: Callable[[], Omissions] = Omissions,
) -> tuple[Path, tuple[Clip, ...], Omissions]:
    """Return the frame file `name`, its clips, and what a warning says of them.

    clips       called where the file is not there, whole; yields (path, recording, sha256, frames),
                a frame being (H, W, 3) uint8
    max_frames  frames in all; what is beyond is not written, and a warning says so
    finish      then called: returns what a warning says, or raises what is wrong with the clips
    """
    path = folder() / f"{name}.frames"
    written = _read_index(path, frame_bytes)
    if written is None:
        written = _write(path, clips, max_frames, finish)
        if not name.startswith(PIECE):
            _prune(keep=path)
    with contextlib.suppress(OSError):  # another process may have just deleted it
        os.utime(path)
    return path, *written


def _index_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_index(path: Path, frame_bytes: int) -> Written | None:
    """Return the clips of valid frames, and the notes on them, or None."""
    try:
        index = json.loads(read_own(_index_path(path), MAX_INDEX_BYTES))
        clips, omitted = _contents(index)
        with open_own(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != sum(clip.frames for clip in clips) * frame_bytes:
                return None
            digest = hashlib.file_digest(file, "sha256")  # a third of a second for 250 MB
            return (clips, omitted) if _sum(digest, clips, omitted) == index["sha256"] else None
    except (OSError, ValueError, RecursionError):
        return None


def _sum(digest, clips: Sequence[Clip], omitted: Omissions) -> str:
    """Return the SHA-256 of the frames, which `digest` has read, and of their clips."""
    digest.update(json.dumps([clips, omitted]).encode())
    return digest.hexdigest()


def _contents(index) -> Written:
    """Return what an index holds. Raises: ValueError where it is not as `_write` makes it."""
    lists = ("clips", *Omissions._fields)
    if not isinstance(index, dict) or set(index) != {*lists, "sha256"}:
        raise ValueError("not an index")
    if not all(isinstance(index[name], list) for name in lists):
        raise ValueError("not an index")
    clips = tuple(Clip.of(clip) for clip in index["clips"])
    if not clips or any(clip.frames < MIN_CLIP_FRAMES for clip in clips):
        raise ValueError("a clip without frames")
    return clips, Omissions(*(tuple(index[name]) for name in Omissions._fields))


def _write(path: Path, clips: Callable[[], Iterable], max_frames: int, finish) -> Written:
    """Stream the frames to a temporary file and rename it, so that readers see whole files only."""
    descriptor, temporary = _temporary(path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            written, digest = _write_clips(file, clips(), max_frames)
        omitted = finish()
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(path.parent, error) from error
        raise
    sum_ = _sum(digest, written, omitted)
    listed = [clip._asdict() for clip in written]
    write_json(_index_path(path), {"clips": listed, **omitted._asdict(), "sha256": sum_})
    return tuple(written), omitted


def _temporary(folder: Path) -> tuple[int, str]:
    try:
        return tempfile.mkstemp(dir=folder, prefix=".writing-")
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> UserError:
    what = f"decoded clips cannot be written ({error.strerror})"
    return UserError(what, str(folder), "free some space or set XDG_CACHE_HOME")


def _write_clips(file: BinaryIO, clips: Iterable, room: int) -> tuple[list[Clip], "hashlib._Hash"]:
    """Write at most `room` frames. Return the clips, and the SHA-256 of their frames."""
    written = []
    digest = hashlib.sha256()
    limit = room
    for name, recording, sha256, frames in clips:
        if room < MIN_CLIP_FRAMES:
            what = f"clips after the first {len(written)} are left out: {limit} frames"
            warnings.warn(what, stacklevel=5)
            break
        count = _write_clip(file, digest, frames, room)
        room -= count
        written.append(Clip(name, count, recording, sha256))
    return written, digest


def write_json(path: Path, value) -> None:
    """Write a file of the cache whole.

    Where that fails the cache goes without: all is made anew the next time.
    """
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
    """Delete the frame files least recently used, single clips first, beyond MAX_TOTAL_BYTES.

    Before that, delete what a kill left half written.
    """
    total = 0
    for path, state in _regular_files(keep.parent, ".writing-*"):
        if state.st_mtime < time.time() - ABANDONED:
            _delete(path)
        else:
            total += state.st_size
    files = _regular_files(keep.parent, "*.frames")

    def worth(file: tuple[Path, os.stat_result]) -> tuple:
        path, state = file
        return path == keep, not path.name.startswith(PIECE), state.st_mtime

    for path, state in sorted(files, key=worth, reverse=True):
        total += state.st_size
        if total > MAX_TOTAL_BYTES and path != keep:
            _delete(path)
            _delete(_index_path(path))


def _regular_files(folder: Path, pattern: str) -> list[tuple[Path, os.stat_result]]:
    """Return regular files with their states; skip links, folders and files that disappear."""
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
