"""Decoded clips on disk: written once, then memory-mapped by every process that plays them."""

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from errors import UserError

MAX_TOTAL_BYTES = 4 << 30  # the oldest decoded clips beyond this are deleted
MIN_CLIP_FRAMES = 2


def folder() -> Path:
    """``$XDG_CACHE_HOME/foreground/clips``, or a folder of this user's among the temporary files if that fails."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for candidate in (base / "foreground" / "clips", Path(tempfile.gettempdir()) / f"foreground-{os.getuid()}"):
        try:
            candidate.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(candidate, os.W_OK) and candidate.stat().st_uid == os.getuid():
            return candidate
    raise UserError("no folder can be written for decoded clips", str(base), "set XDG_CACHE_HOME to one")


def fetch(name: str, clips: Callable[[], Iterable], max_frames: int, frame_bytes: int) -> tuple[Path, dict]:
    """The frame file `name` and its index {"starts", "names"}, written from `clips()` if it is not there.

    clips       yields (clip name, iterator of (H, W, 3) uint8 frames)
    max_frames  frames in all; what is beyond is left out, with a warning
    """
    path = folder() / f"{name}.frames"
    index = _read_index(path, frame_bytes)
    if index is None:
        index = _write(path, clips(), max_frames)
        _prune(keep=path)
    os.utime(path)
    return path, index


def _index_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_index(path: Path, frame_bytes: int) -> dict | None:
    try:
        index = json.loads(_index_path(path).read_text())
        complete = path.stat().st_size == index["starts"][-1] * frame_bytes
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
    return index if complete else None


def _write(path: Path, clips: Iterable, max_frames: int) -> dict:
    """Streams the frames to a new file beside `path` and renames it, so that no reader sees half of it."""
    starts, names = [0], []
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for name, frames in clips:
                room = max_frames - starts[-1]
                if room < MIN_CLIP_FRAMES:
                    warnings.warn(f"clips after the first {len(names)} are left out: {max_frames} frames", stacklevel=4)
                    break
                written = _write_clip(file, frames, room)
                starts.append(starts[-1] + written)
                names.append(name)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        what = f"decoded clips cannot be written ({error.strerror})"
        raise UserError(what, str(path.parent), "free some space or set XDG_CACHE_HOME") from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    index = {"starts": starts, "names": names}
    temporary_index = Path(temporary).with_suffix(".index")
    temporary_index.write_text(json.dumps(index))
    os.replace(temporary_index, _index_path(path))
    return index


def _write_clip(file, frames: Iterator[np.ndarray], room: int) -> int:
    written = 0
    for frame in frames:
        if written < room:
            file.write(np.ascontiguousarray(frame, np.uint8).tobytes())
            written += 1
    return written


def _prune(keep: Path) -> None:
    """Deletes the least recently used frame files until all together are within MAX_TOTAL_BYTES."""
    files = sorted(keep.parent.glob("*.frames"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = keep.stat().st_size
    for path in files:
        if path == keep:
            continue
        total += path.stat().st_size
        if total > MAX_TOTAL_BYTES:
            path.unlink(missing_ok=True)
            _index_path(path).unlink(missing_ok=True)
