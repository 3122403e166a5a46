"""SHA-256 sums of clips.

They are stored next to the decoded clips, so that a file is read once for its sum.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from foreground.envs import cache

MAX_BYTES = 64 << 20  # of the file of sums
MAX_KEPT = 200_000  # sums; the oldest go
CHUNK = 1 << 20


def state_of(files: Iterable[Path]) -> list[list[int]]:
    """Return size, modification time and inode of each file: another state means other contents.

    Raises: OSError.
    """
    states = (path.stat() for path in files)
    return [[state.st_size, state.st_mtime_ns, state.st_ino] for state in states]


class Sums:
    """Sums of clips by the state of their files.

    Call `keep` at the end: the next process finds them.
    """

    def __init__(self):
        self._path = cache.folder() / "sums.json"
        self._known = _read(self._path)
        self._new: dict[str, list[str]] = {}

    def of(self, files: list[Path]) -> str:
        """Return the SHA-256 of one file, or that of several files in their order.

        Raises: OSError where one cannot be read, or changes meanwhile.
        """
        state = _state(files)
        key = os.path.realpath(files[0])
        if key in self._known and self._known[key][0] == state:
            return self._known[key][1]
        digest = _sum_of_file(files[0]) if len(files) == 1 else _sum_of_all(files)
        if _state(files) != state:
            raise OSError(None, "it changes while it is read", str(files[0]))
        self._known[key] = self._new[key] = [state, digest]
        return digest

    def keep(self) -> None:
        """Add the new sums to those that other processes wrote meanwhile."""
        if self._new:
            kept = {**_read(self._path), **self._new}
            cache.write_json(self._path, dict(list(kept.items())[-MAX_KEPT:]))
            self._new = {}


def _state(files: list[Path]) -> str:
    return hashlib.sha256(json.dumps(state_of(files)).encode()).hexdigest()[:32]


def _sum_of_file(path: Path) -> str:
    with cache.open_regular(os.path.realpath(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum_of_all(files: list[Path]) -> str:
    """Return the SHA-256 of the concatenated sums of the files."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(bytes.fromhex(_sum_of_file(path)))
    return digest.hexdigest()


def _read(path: Path) -> dict[str, list[str]]:
    """Return the entries of the file of sums that have the form of `Sums.keep`."""
    try:
        known = json.loads(cache.read_own(path, MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: value for key, value in known.items() if _well_formed(value)}


def _well_formed(value) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(text, str) for text in value)
        and (len(value[0]), len(value[1])) == (32, 64)
    )
