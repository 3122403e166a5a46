"""Files that survive a kill and a full disk, and are read without trust.

Writing: to a temporary name in the same folder, fsync, rename. Reading: only regular files with the
size and SHA-256 of the listing. Tensors are safetensors: no code in a file is executed.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch

from foreground.errors import UserError, say
from foreground.training.system import free_memory

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
TEMPORARY = re.compile(r"\.tmp-[a-z0-9_]{8}([-.].*)?")  # names of files that are being written
ABANDONED = 86_400.0  # seconds after which a temporary file is no longer written
MAX_LINE = 1 << 20  # bytes of a line of metrics.jsonl; a real one has a few thousand
MAX_BYTES = 1 << 53  # the largest size that a listing may claim
# Errors of open() for a name that is missing, a link, a folder, a socket or a device: we did not
# write it.
PROOFS = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV}
_watching: list[Callable[[Path], None]] = []  # see `watched`
_unsynced: set[int] = set()  # devices whose folders cannot be synced, and that a warning named
# Of a folder: CIFS, some FUSE, drvfs.
CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS}


class NotSaved(Exception):
    """A save failed (disk full, folder gone, permission).

    Earlier files are intact, training may continue.
    """


class Displaced(NotSaved):
    """The run folder's name no longer leads to the locked folder, and may lead to another run's."""

    def __init__(self, what: str, remedy: str):
        super().__init__(f"{what}: {remedy}")
        self.what, self.remedy = what, remedy


class Damaged(UserError):
    """A file is proven to be missing, truncated, altered or foreign."""

    remedy = "use an earlier checkpoint, or start a new run folder"

    def __init__(self, what: str, where: Path | str):
        super().__init__(what, str(where), self.remedy)
        self.what, self.where = what, str(where)


class Unreadable(UserError):
    """A file cannot be read now (stale handle, disk error, no memory). It may be intact."""

    def __init__(self, what: str, where: Path | str):
        remedy = (
            "nothing was changed: try again; if it stays so, move that checkpoint away, and "
            "the one before it is taken"
        )
        super().__init__(what, str(where), remedy)
        self.what = what


def valid_name(name) -> bool:
    """Return whether a name is plain: letters, digits, dot, underscore, dash; at most 64; not
    hidden.
    """
    return isinstance(name, str) and NAME.fullmatch(name) is not None and not name.startswith(".")


@contextlib.contextmanager
def _naming(path: Path) -> Generator[None]:
    """Add the path to an OSError: those of write() and fsync() have none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def fsync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a power cut.

    Some file systems cannot sync a folder; a warning says so once.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with _naming(folder):
            os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
        _warn_unsynced(str(folder), error.strerror)
    finally:
        os.close(descriptor)


def _warn_unsynced(folder: str, reason: str) -> None:
    device = os.stat(folder).st_dev  # one warning for each file system
    if device not in _unsynced:
        _unsynced.add(device)
        what = f"the file system of {folder} cannot sync a folder ({reason})"
        say(f"warning: {what}; a power cut may cost the newest checkpoint, nothing else is lost")


@contextlib.contextmanager
def watched(told: Callable[[Path], None]) -> Generator[None]:
    """Call `told` with the path of each file that is named within a `with` block, see `named`."""
    _watching.append(told)
    try:
        yield
    finally:
        _watching.remove(told)


def named(path: Path) -> None:
    """Report to the watchers that a whole file has its name. Every writer of files calls it."""
    for told in tuple(_watching):
        told(path)


def make_folder(folder: Path, parents: bool = False) -> None:
    """Create a folder, and its parents where `parents` is set; each new name is synced."""
    if folder.is_dir():
        return
    if parents:
        make_folder(folder.parent, parents=True)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def write(path: Path, content: bytes) -> dict:
    """Write a new file and fsync it; return its listing {"name", "bytes", "sha256"}.

    An older file of that name is unlinked first, not written to: it may be a link or a pipe.

    Raises: OSError.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with _naming(path):
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return {"name": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def temporary_name(path: Path) -> Path:
    """Return a unique name in the folder of `path` for a file that is being written."""
    return path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name[-60:]}")


def remove_abandoned(folder: Path) -> None:
    """Delete temporary files and folders that killed processes left in a folder more than a day
    ago.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):  # what cannot be deleted costs room and nothing else
            if (
                not TEMPORARY.fullmatch(path.name)
                or time.time() - path.lstat().st_mtime < ABANDONED
            ):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def write_json(path: Path, value: Any) -> dict:
    """Write JSON as `write_atomic`; NaN and infinity become null."""
    return write_atomic(path, json.dumps(_finite(value), indent=1, allow_nan=False).encode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomic(path: Path, content: bytes) -> dict:
    """As `write`, but the name never has partial content.

    Two processes may write one name at once; the later content stays.
    """
    temporary = temporary_name(path)
    try:
        listing = write(temporary, content)
        temporary.rename(path)
        fsync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    named(path)
    return {**listing, "name": path.name}


def _open_unfollowed(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


@contextlib.contextmanager
def _regular(path: Path, limit: int) -> Generator[tuple[BinaryIO, int]]:
    """Open a regular file of at most `limit` bytes; return it and its size. Refuse links, pipes,
    devices.

    Raises: Damaged for proven damage, Unreadable for an error that may be temporary.
    """
    try:
        with open(path, "rb", opener=_open_unfollowed) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Damaged("not a regular file", path)
            if status.st_size > limit:
                raise Damaged(f"{status.st_size} bytes where at most {limit} belong", path)
            yield file, status.st_size
    except OSError as error:
        kind = Damaged if error.errno in PROOFS else Unreadable
        raise kind(f"cannot be read ({error.strerror})", path) from error


def read(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    Raises: Damaged or Unreadable.
    """
    with _regular(path, limit) as (file, size):
        if size > free_memory():
            raise Unreadable(f"{size} bytes, more than the free memory", path)
        # Never as much as a listing claims: that much memory would be taken first.
        return file.read(size + 1)


def lines(file: BinaryIO, limit: int = MAX_LINE) -> Iterator[tuple[int, bytes]]:
    """Yield (where it ends, line) for each whole line of a file, at most `limit` bytes at a time in
    memory.

    A longer line comes as b"": a file may hold gigabytes of holes. A last line without its end is
    left out.
    """
    end, whole = 0, True
    while piece := file.readline(limit):
        end, begun = end + len(piece), whole
        whole = piece.endswith(b"\n")
        if whole:
            yield end, piece if begun else b""


def valid_listing(listing) -> bool:
    """Return whether a value is {"name": plain name, "bytes": size, "sha256": 64 hexadecimal
    digits}.
    """
    return (
        isinstance(listing, dict)
        and set(listing) == {"name", "bytes", "sha256"}
        and valid_name(listing["name"])
        and type(listing["bytes"]) is int
        and 0 <= listing["bytes"] <= MAX_BYTES
        and isinstance(listing["sha256"], str)
        and re.fullmatch("[0-9a-f]{64}", listing["sha256"]) is not None
    )


def read_listed(folder: Path, listing: dict) -> bytes:
    """Return the bytes of a listed file, after a check of size and SHA-256.

    Raises: Damaged.
    """
    path = _listed(folder, listing)
    content = read(path, listing["bytes"])
    _compare(path, listing, len(content), hashlib.sha256(content).hexdigest())
    return content


def verify_listed(folder: Path, listing: dict) -> None:
    """Check size and SHA-256 of a listed file, block by block.

    Raises: Damaged.
    """
    path = _listed(folder, listing)
    with _regular(path, listing["bytes"]) as (file, _):
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        _compare(path, listing, file.tell(), digest)


def _listed(folder: Path, listing: dict) -> Path:
    if not valid_listing(listing):
        raise Damaged("the listing of a file is malformed", folder)
    return folder / listing["name"]


def _compare(path: Path, listing: dict, size: int, digest: str) -> None:
    if size != listing["bytes"]:
        raise Damaged(f"truncated to {size} of {listing['bytes']} bytes", path)
    if digest != listing["sha256"]:
        raise Damaged("its bytes changed since it was written (SHA-256 differs)", path)


def pack_tensors(tensors: dict[str, torch.Tensor]) -> bytes:
    """Return tensors as bytes of a safetensors file; views and shared storage are copied first."""
    own = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
        own[name] = tensor if whole else tensor.clone(memory_format=torch.contiguous_format)
    pointers = [tensor.data_ptr() for tensor in own.values() if tensor.nbytes]
    if len(set(pointers)) < len(pointers):
        own = {name: tensor.clone() for name, tensor in own.items()}
    return safetensors.torch.save(own)


def unpack_tensors(content: bytes, where: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of safetensors bytes.

    Raises: Damaged for anything else (pickles, zips, false headers).
    """
    try:
        return safetensors.torch.load(content)
    except (
        safetensors.SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        OverflowError,
    ) as error:
        raise Damaged(f"not a safetensors file ({str(error)[:100]})", where) from error


def write_named(folder: Path, stem: str, content: bytes) -> dict:
    """Write an immutable file whose name ends in its hash, so that its content cannot change."""
    digest = hashlib.sha256(content).hexdigest()
    return write_atomic(folder / f"{stem}-{digest[:12]}.safetensors", content)
