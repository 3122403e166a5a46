"""The folder of one evaluation. It is checked for writing before anything is played.

It holds the files of one evaluation only. A complete evaluation stays until its replacement is
complete.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from foreground.envs import own_files
from foreground.errors import UserError, say
from foreground.training import files, lock

SCORES = "scores.json"
LARGEST = 256 << 20  # bytes of scores.json
REMEDY = "choose another folder with --output"
BESIDE = "evaluation"  # end of the name of a temporary folder


class Output:
    """A folder that one evaluation writes to. Its scores.json lists the files of that evaluation.

    place     where the files are in the end
    folder    where they are written: `place`, or a temporary folder in it as long as a complete
              evaluation is there
    earlier   names of files that an evaluation before this one wrote to `place`
    """

    def __init__(self, place: Path):
        self.place = place
        self._row = _row_of(place / SCORES)
        self.earlier = _listed(self._row)
        # Versions without the key wrote it at the end.
        is_complete = self._row.get("complete", bool(self._row))
        self.folder = _made_beside(place) if is_complete else place
        self._written = {SCORES}
        self._write: Callable[[list[str], bool], None] | None = None

    @property
    def is_beside(self) -> bool:
        """Return whether the evaluation is written next to an earlier, complete one."""
        return self.folder != self.place

    def note(self, path: Path) -> None:
        """Record a file that was written, so that scores.json lists it from now on."""
        if path.name in self._written or path.parent.resolve() != self.folder.resolve():
            return
        self._written.add(path.name)
        if self._write:
            self.save()

    def tell_of_earlier(self) -> None:
        """Report the files of an earlier evaluation, if any, which this one replaces."""
        if self.earlier:
            what = (
                f"this evaluation replaces an earlier one in {self.place}: "
                f"{', '.join(sorted(self.earlier))}"
            )
            until = "; that one stays until this one is complete" if self.is_beside else ""
            say(f"warning: {what}{until}; --output FOLDER keeps both")

    def begin(self, write: Callable[[list[str], bool], None]) -> None:
        """Write the first scores.json; then delete what an earlier evaluation left that was not
        complete.

        write   writes scores.json in `folder`, with the names of the files and whether the
                evaluation is complete
        """
        self._write = write
        self.save()  # lists the old files, too: a process may be killed before they are gone
        if not self.is_beside and self._delete_old():
            self.save()

    def _delete_old(self) -> bool:
        """Delete what the earlier evaluation wrote and this one did not; return whether there was
        anything.
        """
        old = set(self.earlier) - self._written
        for name in old:
            (self.place / name).unlink(missing_ok=True)
        return bool(old)

    def save(self, complete: bool = False) -> None:
        """Write scores.json with the results so far.

        A complete evaluation replaces the earlier one.
        """
        self._write(self.files(), complete)  # ty: ignore[not-callable]
        if complete and self.is_beside:
            self._replace_earlier()

    def _replace_earlier(self) -> None:
        """Move all files to `place`.

        Its scores.json says that it is not complete as long as films of two are there.
        """
        names = sorted({*self.earlier, *self._written})
        files.write_json(self.place / SCORES, self._row | {"complete": False, "files": names})
        for name in sorted(self._written - {SCORES}):
            os.replace(self.folder / name, self.place / name)
        self._delete_old()
        os.replace(self.folder / SCORES, self.place / SCORES)
        files.fsync_folder(self.place)

    def files(self) -> list[str]:
        """Return the names of what this evaluation wrote, and of what an earlier one did that is
        deleted first.
        """
        old = [] if self.is_beside else self.earlier
        return sorted(self._written | {name for name in old if (self.place / name).exists()})

    def close(self) -> None:
        """Delete the temporary folder."""
        if self.is_beside:
            shutil.rmtree(self.folder, ignore_errors=True)


def _made_beside(place: Path) -> Path:
    folder = files.temporary_name(place / BESIDE)
    folder.mkdir()
    return folder


@contextlib.contextmanager
def collected(place: Path) -> Generator[Output]:
    """Record the files that `training.files` writes to an evaluation's folder in a `with` block."""
    out = Output(place)
    try:
        with files.watched(out.note):
            yield out
    finally:
        out.close()


@contextlib.contextmanager
def opened(folder: Path) -> Generator[Output]:
    """Prepare the folder for one evaluation at a time; then as `collected`.

    Raises: UserError for a run folder, and where nothing can be written, as on a read-only file
    system.
    """
    _check_is_no_run(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        files.make_folder(folder, parents=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".tmp-") as probe:
            probe.write(b"x")
            probe.flush()
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UserError(
            f"nothing can be written here ({error.strerror or error})", str(folder), REMEDY
        ) from error
    try:
        if _wait_for_others(descriptor, folder):
            _remove_left_overs(folder)
        with collected(folder) as out:
            yield out
    finally:
        os.close(descriptor)
        _remove_empty(made)


def _remove_left_overs(folder: Path) -> None:
    """Delete the unfinished files of killed evaluations. Only the holder of the lock calls it."""
    # Not the probe of one that waits, which has no second dash.
    for path in folder.glob(".tmp-*-*"):
        if not files.TEMPORARY.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Delete folders up to the first that is not empty."""
    with contextlib.suppress(OSError):
        for path in folders:
            path.rmdir()


def _check_is_no_run(folder: Path) -> None:
    """Raise UserError for a run folder or one of its folders, where training has files of the same
    names.
    """
    folder = folder.resolve()
    kept = ("config.yaml", *lock.LINKED)
    held = next((name for name in kept if (folder / name).exists()), None)
    if held or (folder.name in lock.LINKED and (folder.parent / "config.yaml").exists()):
        what = (
            f"it is a run folder, since it holds {held}" if held else "it is a part of a run folder"
        )
        raise UserError(
            what, str(folder), f"{REMEDY}, or leave it out: RUN/evaluation is taken then"
        )


def reopen(run: Path) -> None:
    """Mark the scores of a resumed run as incomplete: its next evaluations overwrite the films."""
    row = _row_of(run / SCORES)
    if row.get("complete"):
        files.write_json(run / SCORES, row | {"complete": False})


def _wait_for_others(descriptor: int, folder: Path) -> bool:
    """Hold the folder until the descriptor is closed; return False where a file system has no
    locks.
    """
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another evaluation that writes to {folder} ({REMEDY} not to wait)")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        return True
    except OSError as error:
        if error.errno not in (
            errno.ENOLCK,
            errno.ENOTSUP,
            errno.ENOSYS,
            errno.EINVAL,
            errno.EBADF,
        ):
            raise
        return False


def _row_of(scores: Path) -> dict:
    """Return what a scores.json holds; nothing where there is none that can be read."""
    with contextlib.suppress(UserError, ValueError, RecursionError):
        row = json.loads(files.read(scores, LARGEST)) if scores.exists() else {}
        return row if isinstance(row, dict) else {}
    return {}


def _listed(row: dict) -> list[str]:
    """Return the listed names of an earlier evaluation that only an evaluation writes.

    A list in a file may name anything; no other file is deleted for it.
    """
    names = row.get("files", [])
    return [name for name in names if _is_ours(name)] if isinstance(names, list) else []


def _is_ours(name) -> bool:
    return isinstance(name, str) and own_files.NAMES.fullmatch(name) is not None
