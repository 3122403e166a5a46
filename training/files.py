"""Files that survive a kill and a full disk, and are read without trust. Used by the checkpoint and by the replay.

Written: to a temporary name beside the target, fsync, rename. Read: regular files only, of the size and SHA-256 that
the listing names. Tensors are safetensors; nothing here can run code that a file carries.
"""

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import safetensors
import safetensors.torch
import torch

from errors import UserError
from training.system import free_memory

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class NotSaved(Exception):
    """A save failed (disk full, folder gone, permission): what was saved before is intact, training may go on."""


class Damaged(UserError):
    """A file is missing, truncated, altered or not of our making."""

    def __init__(self, what: str, where: Path | str):
        super().__init__(what, str(where), "use an earlier checkpoint, or start a new run folder")
        self.what, self.where = what, str(where)


def valid_name(name) -> bool:
    """True for a plain file name: letters, digits, dot, underscore, dash; at most 64; not hidden, not a folder up."""
    return isinstance(name, str) and NAME.fullmatch(name) is not None and not name.startswith(".")


def fsync_folder(folder: Path) -> None:
    """Make renames and new names in a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, each entry made to last."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def write(path: Path, content: bytes) -> dict:
    """Write a new file and fsync it; return its listing {"name", "bytes", "sha256"}. Raises OSError.

    What had the name is gone then, and is not written to: it may be a link to another's file, or a pipe.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return {"name": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_atomic(path: Path, content: bytes) -> dict:
    """As `write`, but the name appears only with the whole content behind it, and stays."""
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        listing = write(temporary, content)
        temporary.rename(path)
        fsync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return {**listing, "name": path.name}


@contextlib.contextmanager
def _regular(path: Path, limit: int) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file of at most `limit` bytes, open, and its size; links, pipes and devices are refused. Raises Damaged."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Damaged("not a regular file", path)
            if status.st_size > limit:
                raise Damaged(f"{status.st_size} bytes where at most {limit} belong", path)
            yield file, status.st_size
    except OSError as error:
        raise Damaged(f"cannot be read ({error.strerror})", path) from error


def read(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; links, pipes and devices are refused. Raises Damaged."""
    with _regular(path, limit) as (file, size):
        if size > free_memory():
            raise Damaged(f"{size} bytes, more than the free memory", path)
        return file.read(limit + 1)


def valid_listing(listing) -> bool:
    """True for {"name": a plain file name, "bytes": a size, "sha256": 64 hexadecimal digits} and nothing else."""
    return (
        isinstance(listing, dict)
        and set(listing) == {"name", "bytes", "sha256"}
        and valid_name(listing["name"])
        and type(listing["bytes"]) is int
        and listing["bytes"] >= 0
        and isinstance(listing["sha256"], str)
        and re.fullmatch("[0-9a-f]{64}", listing["sha256"]) is not None
    )


def read_listed(folder: Path, listing: dict) -> bytes:
    """The bytes of a listed file, its size and SHA-256 compared first. Raises Damaged."""
    path = _listed(folder, listing)
    content = read(path, listing["bytes"])
    _compare(path, listing, len(content), hashlib.sha256(content).hexdigest())
    return content


def verify_listed(folder: Path, listing: dict) -> None:
    """Size and SHA-256 of a listed file compared, a block at a time: that needs no memory. Raises Damaged."""
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
    """Tensors as the bytes of a safetensors file; views and shared storage are copied out first."""
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
    """The tensors of safetensors bytes. Raises Damaged for anything else (pickles, zips, headers that lie)."""
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise Damaged(f"not a safetensors file ({str(error)[:100]})", where) from error


def write_named(folder: Path, stem: str, content: bytes) -> dict:
    """Write an immutable file whose name ends in its own hash, so that no other content can ever take its place."""
    digest = hashlib.sha256(content).hexdigest()
    return write_atomic(folder / f"{stem}-{digest[:12]}.safetensors", content)
