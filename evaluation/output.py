"""The folder of one evaluation: it can be written before anything is played, and holds the files of one evaluation only."""

import contextlib
import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from errors import UserError, say
from training import files

SCORES = "scores.json"
LARGEST = 256 << 20  # bytes of scores.json
REMEDY = "choose another folder with --output"


class Output:
    """A folder that one evaluation writes to. Its scores.json lists the files of that evaluation.

    folder    where they go
    earlier   names of files that an evaluation before this one wrote here
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.earlier = _listed(folder / SCORES)
        self._before = _stamps(folder)

    def written(self) -> list[str]:
        """Return the names of what was written here since the beginning."""
        now = _stamps(self.folder)
        return sorted({name for name, stamp in now.items() if self._before.get(name) != stamp} | {SCORES})

    def tidy(self) -> None:
        """Delete what an earlier evaluation wrote and this one did not."""
        for name in set(self.earlier) - set(self.written()):
            (self.folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Output]:
    """Make the folder ready to be written to, by one evaluation at a time.

    Errors: UserError where nothing can be written there, as on a file system that is read-only.
    """
    try:
        files.make_folder(folder)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".tmp-") as probe:
            probe.write(b"x")
            probe.flush()
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UserError(f"nothing can be written here ({error.strerror or error})", str(folder), REMEDY) from error
    try:
        _wait_for_others(descriptor, folder)
        yield Output(folder)
    finally:
        os.close(descriptor)


def _wait_for_others(descriptor: int, folder: Path) -> None:
    """Hold the folder until the descriptor is closed; where a file system has no locks, go on without."""
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another evaluation that writes to {folder} ({REMEDY} not to wait)")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF):
            raise


def _listed(scores: Path) -> list[str]:
    """Return the names in the list of an earlier evaluation, plain names of files alone."""
    try:
        names = json.loads(files.read(scores, LARGEST)).get("files", []) if scores.exists() else []
    except (UserError, ValueError, AttributeError, RecursionError):
        return []
    return [name for name in names if _is_plain(name)] if isinstance(names, list) else []


def _is_plain(name) -> bool:
    """Return whether it is the name of a file in the folder itself, and not a hidden one."""
    return isinstance(name, str) and not name.startswith(".") and not set(name) & {"/", "\0"} and name != ""


def _stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return what tells one writing of a file from another, by name."""
    found = {}
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # it went this moment
            state = path.lstat()
            if _is_plain(path.name) and path.is_file():
                found[path.name] = (state.st_ino, state.st_mtime_ns, state.st_size)
    return found
