"""Checkpoints that survive a kill, a full disk and a flipped bit, and contain no pickle.

A checkpoint is a folder ROOT/step-000000123456/ of three files: tensors.safetensors, state.json
(the nested state, with references to the tensors), and MANIFEST.json with name, bytes and SHA-256
of the others. It is written as ROOT/.tmp-.... Each file and the folder are fsynced, the folder is
renamed to a name that never existed, and ROOT is fsynced. There is no pointer file: the latest
checkpoint is the newest folder, by step, whose manifest verifies.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch

from foreground.errors import UserError
from foreground.training import files, system, tree
from foreground.training.files import Damaged, NotSaved, Unreadable

__all__ = [
    "Damaged",
    "Gone",
    "NotSaved",
    "Unreadable",
    "fits",
    "latest",
    "load",
    "peek",
    "prune",
    "rejected",
    "save",
    "set_aside_newer",
    "step_of",
    "steps",
    "verify",
    "weights_sum",
]

VERSION = 1
FOLDER = re.compile(r"step-(\d{12,18})(?:\.(\d{1,6}))?")
CONTENT_FILES = {"tensors.safetensors", "state.json"}
MAX_MANIFEST_BYTES = 1 << 16
# JSON takes up to 36 times its size in memory; a real state is below 1 MB.
MAX_STATE_BYTES = 16 << 20
REJECTED = re.compile(r"rejected-step-(\d{12,18})(?:\.\d{1,6})?(?:-\d{1,6})?")
_MISFITS = (
    KeyError,
    TypeError,
    ValueError,
    IndexError,
    AttributeError,
    RuntimeError,
    OverflowError,
)


class Gone(Damaged):
    """A checkpoint that existed, or was named, does not exist."""

    remedy = (
        "a run that continues keeps its newest two checkpoints: give the run folder, and the "
        "newest is taken"
    )


# -------------------------------------------------------------------------------- folders, in order


def steps(root: Path | str) -> list[Path]:
    """Return the checkpoint folders of a root, oldest first.

    A step that was saved again (".1", ".2") follows the first.
    """
    root = Path(root)
    found = (
        [(FOLDER.fullmatch(path.name), path) for path in root.iterdir()] if root.is_dir() else []
    )
    return [
        path
        for match, path in sorted(
            ((match, path) for match, path in found if match),
            key=lambda pair: (int(pair[0].group(1)), int(pair[0].group(2) or 0)),
        )
    ]


def step_of(path: Path) -> int:
    """Return the step in a checkpoint folder's name."""
    return int(FOLDER.fullmatch(path.name).group(1))


def save(root: Path | str, step: int, state: Any) -> Path:
    """Write a checkpoint; return its folder.

    The root is created, its parent is not: it may have been moved.

    state   nested dicts (keys: strings or ints), lists and tuples of tensors, numpy arrays and
            scalars, ints, floats, strings, bools, None

    Raises: NotSaved when the disk refuses; older checkpoints are then intact. TypeError, with the
    place, for any other value.
    """
    root = Path(root)
    tensors: dict[str, torch.Tensor] = {}
    plain = tree.flatten(state, "state", tensors)
    contents = {
        "tensors.safetensors": files.pack_tensors(tensors),
        "state.json": json.dumps({"version": VERSION, "state": plain}, allow_nan=False).encode(),
    }
    if len(contents["state.json"]) > MAX_STATE_BYTES:
        raise NotSaved(
            f"the state of step {step} has {len(contents['state.json'])} bytes, at most "
            f"{MAX_STATE_BYTES} are read"
        )
    temporary = root / f".tmp-step-{step:012d}-{os.getpid()}"
    try:
        files.make_folder(root)
        _remove_leftovers(root)
        temporary.mkdir()
        listings = [files.write(temporary / name, content) for name, content in contents.items()]
        manifest = {"version": VERSION, "step": step, "files": listings}
        files.write(temporary / "MANIFEST.json", json.dumps(manifest, indent=1).encode())
        files.fsync_folder(temporary)
        target = _new_name(root, step)
        temporary.rename(target)
        files.fsync_folder(root)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise NotSaved(
            f"the checkpoint of step {step} was not saved to {root}: {error.strerror or error}"
        ) from error
    return target


def _new_name(root: Path, step: int) -> Path:
    """Return a name that no folder has: an existing checkpoint is never replaced."""
    name = f"step-{step:012d}"
    taken = [path.name for path in steps(root) if path.name.split(".")[0] == name]
    if not taken:
        return root / name
    return root / f"{name}.{max(int(other.partition('.')[2] or 0) for other in taken) + 1}"


def _remove_leftovers(root: Path) -> None:
    """Delete the remains of a killed save or prune. The run's lock excludes other writers."""
    for path in root.glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def load(path: Path | str) -> Any:
    """Return the state that was saved: all values are equal and of the same type.

    Tensors are on the CPU. Numpy scalars become the Python numbers that they equal.

    Raises: Damaged.
    """
    path = Path(path)
    listings = _manifest(path)
    plain = _plain(path, listings["state.json"])
    content = files.read_listed(path, listings["tensors.safetensors"])
    tensors = files.unpack_tensors(content, path / "tensors.safetensors")
    unused = set(tensors)
    try:
        state = tree.restore(plain, tensors, unused)
    except _MISFITS as error:
        raise Damaged(f"state.json does not fit the tensors ({str(error)[:100]})", path) from error
    if unused:
        raise Damaged(f"{len(unused)} tensors that the state does not name", path)
    return state


def weights_sum(path: Path | str) -> str:
    """Return the SHA-256 of a checkpoint's tensors, by its manifest; "" where it is unreadable."""
    try:
        return _manifest(Path(path))["tensors.safetensors"]["sha256"]
    except (Damaged, files.Unreadable):
        return ""


def peek(path: Path | str, *keys: str | int) -> Any:
    """Return a part of a saved state that holds no tensors: peek(path, "replay", "manifest").

    Raises: Damaged, also when the part does not exist or holds tensors.
    """
    path = Path(path)
    node = _plain(path, _manifest(path)["state.json"])
    try:
        for key in keys:
            node = dict(node["dict"])[key]
        return tree.restore(node, {}, set())
    except _MISFITS as error:
        raise Damaged(f"the state has no plain part {'/'.join(map(str, keys))}", path) from error


def _plain(path: Path, listing: dict) -> Any:
    document = _json(files.read_listed(path, listing), path / "state.json")
    if (
        not isinstance(document, dict)
        or document.get("version") != VERSION
        or set(document) != {"version", "state"}
    ):
        raise Damaged("state.json is not of a version that this program reads", path)
    return document["state"]


@contextlib.contextmanager
def fits(path: Path | str) -> Generator[None]:
    """Raise UserError for a whole state of another agent, of another version, or of neither."""
    try:
        yield
    except _MISFITS as error:
        if system.is_memory(error):
            raise
        what = (
            f"the checkpoint is whole and does not fit ({type(error).__name__}: {str(error)[:100]})"
        )
        raise UserError(
            what, str(path), "use the version that wrote it, or begin in a new --folder"
        ) from error


def verify(path: Path | str) -> None:
    """Compare every file of a checkpoint with its manifest.

    Raises: Damaged.
    """
    for listing in _manifest(Path(path)).values():
        files.verify_listed(Path(path), listing)


def latest(
    root: Path | str, check: Callable[[Path], list[str]] | None = None, most: int | None = None
) -> tuple[Path | None, list[str]]:
    """Return the newest valid checkpoint, or None, and a sentence about each newer one that was
    skipped.

    check   a further check of a valid checkpoint (its replay chunks): returns a list of errors
    most    the highest step that it may have; None: any

    Raises: Unreadable where one cannot be read now: only proven damage counts.
    """
    passed_over, chosen = [], None
    for path in reversed([path for path in steps(root) if most is None or step_of(path) <= most]):
        try:
            verify(path)
            wrong = check(path) if check else []
        except Damaged as error:
            wrong = [f"{Path(error.where).name}: {error.what}"]
        if not wrong:
            chosen = path
            break
        passed_over.append(f"checkpoint {path.name} is damaged ({wrong[0]})")
    instead = f"{chosen.name} is used instead" if chosen else "there is no earlier one"
    return chosen, [f"{sentence}; {instead}" for sentence in passed_over]


def set_aside_newer(root: Path | str, chosen: Path | None) -> list[Path]:
    """Rename every checkpoint after `chosen` (all, for None) to rejected-...; return the new paths.

    Call it when a run resumes from an older checkpoint; otherwise each start would try the damaged
    one first.
    """
    moved = []
    paths = steps(root)
    for path in paths[paths.index(Path(chosen)) + 1 if chosen else 0 :]:
        target, count = path.with_name(f"rejected-{path.name}"), 0
        while target.exists():
            count += 1
            target = path.with_name(f"rejected-{path.name}-{count}")
        moved.append(path.rename(target))
    return moved


def rejected(root: Path | str) -> list[Path]:
    """Return the checkpoints that were set aside."""
    root = Path(root)
    return (
        sorted(path for path in root.iterdir() if REJECTED.fullmatch(path.name))
        if root.is_dir()
        else []
    )


def prune(root: Path | str, keep: int = 2) -> list[Path]:
    """Delete what is older than the newest `keep` (at least 2) valid checkpoints; return these,
    oldest first.

    Rejected checkpoints are deleted too, once so many newer ones are valid. With fewer valid ones
    nothing is deleted: a temporary read error must not cost a good checkpoint.

    Raises: NotSaved when the file system refuses.
    """
    root, kept, older = Path(root), [], []
    _remove_leftovers(root)
    for path in reversed(steps(root)):
        if len(kept) == max(keep, 2):
            older.append(path)
            continue
        try:
            verify(path)
            kept.insert(0, path)
        except (Damaged, Unreadable):
            continue
    if len(kept) == max(keep, 2):
        older += [
            path
            for path in rejected(root)
            if int(REJECTED.fullmatch(path.name).group(1)) < step_of(kept[0])
        ]
    for path in older:
        doomed = root / f".tmp-delete-{path.name}"
        try:
            # A kill in the middle of the deletion must not leave half a checkpoint under its name.
            path.rename(doomed)
        except OSError as error:
            raise NotSaved(
                f"the old checkpoint {path} was not deleted: {error.strerror or error}"
            ) from error
        shutil.rmtree(doomed, ignore_errors=True)
    return kept


def _manifest(path: Path) -> dict[str, dict]:
    """Return file name -> listing of a checkpoint, after a check of the manifest's form.

    Raises: Damaged.
    """
    if not os.path.lexists(path):
        raise Gone("this checkpoint is not there any more", path)
    if path.is_symlink() or not path.is_dir():
        raise Damaged("not a checkpoint folder", path)
    manifest = _json(files.read(path / "MANIFEST.json", MAX_MANIFEST_BYTES), path / "MANIFEST.json")
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise Damaged("MANIFEST.json is not of a version that this program reads", path)
    listings = manifest.get("files")
    if not isinstance(listings, list) or not all(
        files.valid_listing(listing) for listing in listings
    ):
        raise Damaged("MANIFEST.json is malformed", path)
    if sorted(listing["name"] for listing in listings) != sorted(CONTENT_FILES):
        raise Damaged("MANIFEST.json does not list the files of a checkpoint", path)
    sizes = {listing["name"]: listing["bytes"] for listing in listings}
    if sizes["state.json"] > MAX_STATE_BYTES:
        raise Damaged(
            f"state.json is said to have {sizes['state.json']} bytes, {MAX_STATE_BYTES} are "
            "the most",
            path,
        )
    match = FOLDER.fullmatch(path.name)
    if match and manifest.get("step") != int(match.group(1)):
        raise Damaged(f"MANIFEST.json is of step {str(manifest.get('step'))[:20]}", path)
    return {listing["name"]: listing for listing in listings}


def _json(content: bytes, path: Path) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged("not JSON", path) from error
