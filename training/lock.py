"""One writer for each run folder, for as long as the folder is the same one.

The lock is on the folder itself (its inode), and deleting a file in it frees nothing. The file
RUN/.lock is locked as well. It names the holder. On file systems such as NFS a folder cannot be
locked, and this file is the only lock. Where neither can be locked, a file that only one process
can create stands for the lock. `check` notices that such a file was deleted.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import stat
from pathlib import Path

from foreground.errors import UserError, say
from foreground.training import files
from foreground.training.files import Displaced

IN_USE = 6  # exit code
LINKED = ("checkpoints", "replay", "best")  # folders in a run that may lie elsewhere
# EBADF: a folder on NFS.
CANNOT_LOCK = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF}
REMEDY = "wait for it to end, or choose another folder"


class Lock:
    """Held while a run writes into its folder. `release`, the end of a `with` or the process's end
    frees it.

    made   the folder, when it was made for this lock: a run that is refused before it wrote
           anything leaves none
    """

    def __init__(self, folder: Path, made: bool):
        self.folder = folder
        self._made = made
        self._taken = False
        self._exclusive: Path | None = None  # the file that stands for a lock
        self._only: tuple[Path, os.stat_result] | None = None  # the file that is the only lock
        self._stack = contextlib.ExitStack()
        self._folder_descriptor = self._opened(folder, os.O_RDONLY | os.O_DIRECTORY)

    def _opened(self, path: Path, flags: int, mode: int = 0o644) -> int:
        descriptor = os.open(path, flags, mode)
        self._stack.callback(os.close, descriptor)
        return descriptor

    def take(self) -> None:
        """Take the lock.

        Raises: UserError where another process holds the folder (exit code 6), or a link in it
        leads into another run.
        """
        file = self._lock_file()
        try:
            folder_locked, file_locked = (
                _flocked(descriptor) for descriptor in (self._folder_descriptor, file)
            )
            if file_locked and not folder_locked:
                self._only = self.folder / ".lock", os.fstat(file)
            elif not folder_locked:
                self._exclusive_file()
            if not self._is_here():
                raise BlockingIOError  # its holder was refused, and removed the folder this moment
            for name in LINKED:
                self._check_link(self.folder / name)
        except BlockingIOError:
            holder = _holder(os.pread(file, 64, 0))
            raise UserError(
                f"the run folder is in use by {holder}", str(self.folder), REMEDY, IN_USE
            ) from None
        self._taken = True
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)

    def _lock_file(self) -> int:
        path = self.folder / ".lock"
        descriptor = self._opened(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise UserError(
                "its .lock is a link to another file, or a pipe", str(self.folder), "remove it"
            )
        return descriptor

    def _exclusive_file(self) -> None:
        """Replace the lock by a file that only one process can create."""
        path = self.folder / ".lock-exclusive"
        with contextlib.suppress(OSError, ValueError):
            _remove_left_over(path)
        try:
            # open, so that its inode is not used again.
            descriptor = self._opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            holder = _holder(path.read_bytes()[:300])
            what = f"the run folder is in use by {holder}, and its file system cannot lock"
            raise UserError(
                what, str(self.folder), f"wait for it; if it has ended, remove {path}", IN_USE
            ) from None
        self._exclusive = path
        self._only = (path, os.fstat(descriptor))
        os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
        say(
            f"warning: the file system of {self.folder} cannot lock; {path.name} stands for "
            "the lock"
        )

    def _check_link(self, path: Path) -> None:
        """Accept a link to a folder that only this run writes.

        Raises: UserError where the folder belongs to another run, or another run writes to it
        through a link.
        """
        if not path.is_symlink():
            return
        home = path.resolve().parent
        if (home / "config.yaml").exists() or (home / ".lock").exists():
            remedy = "remove the link: two runs that write one folder delete each other's files"
            raise UserError(
                f"its {path.name} is a link into another run, {home}", str(self.folder), remedy
            )
        if path.is_dir() and not _flocked(self._opened(path, os.O_RDONLY | os.O_DIRECTORY)):
            say(
                f"warning: {path.resolve()} cannot be locked; see to it that no other run "
                "writes there"
            )

    def _is_here(self) -> bool:
        """Return whether the folder's name still leads to the folder that is locked."""
        return _is_same(self.folder, os.fstat(self._folder_descriptor))

    def check(self) -> None:
        """Check before each save that the folder, and a file that is the only lock, are those that
        were locked.

        Raises: Displaced where one of them was renamed, moved, deleted or replaced.
        """
        if not self._is_here():
            what = (
                f"the run folder {self.folder} was renamed, moved or replaced{self._whereabouts()}"
            )
            raise Displaced(what, "move it back to its place")
        if self._only and not _is_same(*self._only):
            what = (
                f"{self._only[0]} was deleted or replaced, so that another process may train here"
            )
            raise Displaced(what, "see to it that no other process does")

    def _whereabouts(self) -> str:
        """Return where the folder that is locked is now, as the end of a clause; "" where that is
        not known.
        """
        with contextlib.suppress(OSError):
            place = os.readlink(f"/proc/self/fd/{self._folder_descriptor}")
            return " (it was deleted)" if place.endswith(" (deleted)") else f" (it is now {place})"
        return ""

    def release(self) -> None:
        """Free the folder for others."""
        # What replaced it is another process's.
        if self._exclusive and self._only and _is_same(*self._only):
            self._exclusive.unlink(missing_ok=True)
        # Two that start at once may both have made it: then it is the holder's.
        made = self._made and self._taken
        if made and self._is_here() and os.listdir(self.folder) == [".lock"]:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._made = False
        self._exclusive = None
        self._stack.close()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_) -> None:
        self.release()


def _remove_left_over(path: Path) -> None:
    """Remove the lock file of a process of this host that has ended.

    Processes of other hosts cannot be checked.

    Raises: OSError, ValueError where it is not a lock file, or is gone.
    """
    content = path.read_bytes()[:300]
    number, host = content.decode().split()
    if host != socket.gethostname() or Path(f"/proc/{int(number)}").exists():
        return
    aside = files.temporary_name(path)
    path.rename(aside)
    if aside.read_bytes()[:300] != content:  # another process has taken it over since it was read
        os.link(aside, path)
    aside.unlink()


def _is_same(path: Path, status: os.stat_result) -> bool:
    """Return whether a name leads to the file or folder that has this status."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.stat(path), status)
    return False


def _holder(content: bytes) -> str:
    """Return who wrote a lock file: its process, and its host where that is another one."""
    words = [*content.decode(errors="replace").split(), "", ""]
    number = words[0] if words[0].isdecimal() else "?"
    elsewhere = words[1] and words[1] != socket.gethostname()
    return f"process {number}" + (f" on {words[1][:64]}" if elsewhere else "")


def _flocked(descriptor: int) -> bool:
    """Lock an open file; False where its file system cannot.

    Raises: BlockingIOError where another process holds it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in CANNOT_LOCK:
            return False
        raise
    return True


def lock(run_folder: Path | str) -> Lock:
    """Take the one lock of a run folder (made if missing).

    Raises: UserError where the folder cannot be written, or another process holds it (exit code 6).
    """
    folder = Path(run_folder)
    made = not folder.exists()
    try:
        files.make_folder(folder, parents=True)
        held = Lock(folder, made)
    except OSError as error:
        what = f"the run folder cannot be written ({error.strerror})"
        raise UserError(what, str(folder), "choose another folder") from error
    try:
        held.take()
    except OSError as error:
        held.release()
        what = f"the run folder cannot be written or locked ({error.strerror})"
        raise UserError(what, str(folder), "choose another folder") from error
    except BaseException:
        held.release()
        raise
    return held
