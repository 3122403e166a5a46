"""The folder of one evaluation: it can be written before anything is played, and holds the files of one evaluation only."""

import contextlib
import errno
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from foreground.errors import UserError, say
from foreground.training import files, lock

SCORES = "scores.json"
LARGEST = 256 << 20  # bytes of scores.json
REMEDY = "choose another folder with --output"
LONGEST = 200  # bytes of a folder's name
# What an evaluation may write. A list in a file may name anything, and nothing else is deleted for it.
OURS = re.compile(r"(scores|evaluation|latent|skills|games|adaptation|information_plane)\b[^/\0]*\.(json|mp4|png)", re.DOTALL)


def place_of(run: Path, *words: str) -> Path:
    """Return the folder of one evaluation in a run: its name says the checkpoint and what else is evaluated."""
    name = "-".join(re.sub(r"[^\w.,=+-]+", "_", word) for word in words if word)
    return run / "evaluation" / name.encode()[:LONGEST].decode(errors="ignore")


class Output:
    """A folder that one evaluation writes to. Its scores.json lists the files of that evaluation.

    folder    where they go
    earlier   names of files that an evaluation before this one wrote here
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.earlier = _listed(folder / SCORES)
        self._written = {SCORES}
        self._write: Callable[[list[str], bool], None] | None = None

    def note(self, path: Path) -> None:
        """Take down a file that was written, so that scores.json lists it from this moment on."""
        if path.name in self._written or path.parent.resolve() != self.folder.resolve():
            return
        self._written.add(path.name)
        if self._write:
            self.save()

    def tell_of_earlier(self) -> None:
        """Name the files of an earlier evaluation, where there are any: this one takes their place."""
        if self.earlier:
            what = f"this evaluation replaces an earlier one in {self.folder}: {', '.join(sorted(self.earlier))}"
            say(f"warning: {what}; --output FOLDER keeps both")

    def begin(self, write: Callable[[list[str], bool], None]) -> None:
        """Mark what is here as not complete, then delete what an earlier evaluation wrote.

        write   writes scores.json, with the names of the files and whether the evaluation is complete
        """
        self._write = write
        self.save()  # lists the old files, too: a process may be killed before they are gone
        old = set(self.earlier) - self._written
        for name in old:
            (self.folder / name).unlink(missing_ok=True)
        if old:
            self.save()

    def save(self, complete: bool = False) -> None:
        """Write scores.json with what is known by now."""
        self._write(self.files(), complete)  # ty: ignore[not-callable]

    def files(self) -> list[str]:
        """Return the names of what this evaluation wrote, and of what an earlier one did and is still here."""
        return sorted(self._written | {name for name in self.earlier if (self.folder / name).exists()})


@contextlib.contextmanager
def collected(folder: Path) -> Iterator[Output]:
    """Take down what is written to a folder within a `with` block, whoever writes it by `training.files`."""
    out = Output(folder)
    with files.watched(out.note):
        yield out


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Output]:
    """Make the folder ready to be written to, by one evaluation at a time; then as `collected`.

    Errors: UserError for a run folder, and where nothing can be written, as on a file system that is read-only.
    """
    _check_is_no_run(folder)
    try:
        files.make_folder(folder, parents=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".tmp-") as probe:
            probe.write(b"x")
            probe.flush()
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UserError(f"nothing can be written here ({error.strerror or error})", str(folder), REMEDY) from error
    try:
        _wait_for_others(descriptor, folder)
        with collected(folder) as out:
            yield out
    finally:
        os.close(descriptor)


def _check_is_no_run(folder: Path) -> None:
    """Errors: UserError for a run folder or one of its folders: training keeps files of the same names there."""
    folder = folder.resolve()
    kept = ("config.yaml", *lock.LINKED)
    held = next((name for name in kept if (folder / name).exists()), None)
    if held or (folder.name in lock.LINKED and (folder.parent / "config.yaml").exists()):
        what = f"it is a run folder, since it holds {held}" if held else "it is a part of a run folder"
        raise UserError(what, str(folder), f"{REMEDY}, or leave it out: RUN/evaluation is taken then")


def reopen(run: Path) -> None:
    """Mark the scores of a run that goes on as not complete: its next evaluations write over the films beside them."""
    with contextlib.suppress(UserError, ValueError, RecursionError):
        row = json.loads(files.read(run / SCORES, LARGEST))
        if isinstance(row, dict) and row.get("complete"):
            files.write_json(run / SCORES, row | {"complete": False})


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
    """Return the names in the list of an earlier evaluation, of files that an evaluation writes alone."""
    try:
        names = json.loads(files.read(scores, LARGEST)).get("files", []) if scores.exists() else []
    except (UserError, ValueError, AttributeError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str) and OURS.fullmatch(name)] if isinstance(names, list) else []
