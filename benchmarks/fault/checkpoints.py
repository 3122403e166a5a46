"""Checkpoints of a real run, damaged or forged: noticed, the one before is used, and no code that a file carries runs."""

import hashlib
import json
import os
import pickle
import random
import shutil
from pathlib import Path

import torch

from benchmarks.fault import Tries, runs
from training import checkpoint, files
from training.files import Damaged

NAMES = ("tensors.safetensors", "state.json", "MANIFEST.json")


def damage(folder: Path, chance: random.Random) -> Tries:
    """One file of the newest checkpoint truncated, flipped, zeroed, made longer, missing, a link, a pipe, or another's."""
    root = runs.trained(folder / "run") / "checkpoints"
    before, newest = checkpoint.steps(root)[-2:]
    whole = {name: (newest / name).read_bytes() for name in NAMES}
    expected = digest(before)
    while True:
        path, kind = newest / chance.choice(NAMES), chance.choice(list(DAMAGES))
        DAMAGES[kind](path, before / path.name, folder, chance)
        lost = ""
        found, sentences = checkpoint.latest(root)
        if found != before or len(sentences) != 1 or "is damaged" not in sentences[0]:
            lost = f"{path.name}, {kind}: {found} is used, said {sentences}"
        elif digest(found) != expected:
            lost = f"{path.name}, {kind}: the one before is not what it was"
        try:
            checkpoint.load(newest)
            lost = lost or f"{path.name}, {kind}: it loads"
        except Damaged:
            pass
        path.unlink(missing_ok=True)
        path.write_bytes(whole[path.name])
        yield lost


def digest(path: Path) -> str:
    """Of what a checkpoint loads as."""
    total = hashlib.sha256()
    for name, value in sorted(leaves_of(checkpoint.load(path))):
        total.update(name.encode())
        total.update(value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode())
    return total.hexdigest()


def leaves_of(state, place: str = "") -> list[tuple[str, object]]:
    """(place, value) of all that is in nested dicts and lists."""
    pairs = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else None
    if pairs is None:
        return [(place, state)]
    return [leaf for key, value in pairs for leaf in leaves_of(value, f"{place}/{key}")]


def flipped(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def truncated(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])


def zeroed(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    place = chance.randrange(len(content.rstrip(b"\0")))  # from there on it was not zero before
    path.write_bytes(content[:place] + bytes(len(content) - place))


def longer(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * chance.randrange(1, 5000))


def swapped(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    path.write_bytes(other.read_bytes())


def linked(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    shutil.copy(path, folder / "outside")
    path.unlink()
    path.symlink_to(folder / "outside")


def piped(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = {
    "flipped": flipped,
    "truncated": truncated,
    "zeroed": zeroed,
    "longer": longer,
    "missing": lambda path, *_: path.unlink(),
    "swapped": swapped,
    "linked": linked,
    "piped": piped,
}


# ------------------------------------------------------------------------------------------------------------- hostile


class Payload:
    """What a pickle would run: makes a folder that must never be there."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def hostile(folder: Path, chance: random.Random) -> Tries:
    """Forged checkpoints whose manifest agrees with what they hold: pickles, headers that lie, names that lead elsewhere."""
    mark, root = folder / "executed", folder / "checkpoints"
    while True:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        kind = chance.choice(list(FORGERIES))
        path = FORGERIES[kind](root, mark, chance)
        try:
            checkpoint.load(path)
            lost = f"{kind}: it loads"
        except Damaged:
            lost = ""
        if mark.exists():
            lost, _ = f"{kind}: its code ran", mark.rmdir()
        if (folder / "escaped").exists() or (root / "escaped").exists():
            lost = f"{kind}: it wrote outside"
        yield lost


def forged(root: Path, tensors: bytes, state: bytes, manifest: dict | None = None) -> Path:
    """A checkpoint folder with these files and a manifest that lists them, or says what it is told to."""
    path = root / "step-000000000001"
    path.mkdir()
    contents = {"tensors.safetensors": tensors, "state.json": state}
    for name, content in contents.items():
        (path / name).write_bytes(content)
    listings = [
        {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    ]
    (path / "MANIFEST.json").write_text(json.dumps({"version": 1, "step": 1, "files": listings} | (manifest or {})))
    return path


def tensors_of(header: dict, body: bytes = b"", length: int | None = None) -> bytes:
    """Bytes of a safetensors file, whose header's length may be a lie."""
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def tree(name: str = "state/a") -> bytes:
    return json.dumps({"version": 1, "state": {"dict": [["a", {"tensor": name}]]}}).encode()


ONE = files.pack_tensors({"state/a": torch.ones(3)})
ENTRY = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}


def pickled(root: Path, mark: Path, chance: random.Random) -> Path:
    """In the place of tensors, of the state, or as torch saves."""
    content = pickle.dumps([0] * chance.randrange(9) + [Payload(mark)], protocol=chance.randrange(2, 6))
    if chance.random() < 0.3:
        saved = root.parent / "saved"
        torch.save({"a": Payload(mark)}, saved)
        content = saved.read_bytes()
    return forged(root, content, tree()) if chance.random() < 0.5 else forged(root, ONE, content)


def lying(root: Path, mark: Path, chance: random.Random) -> Path:
    """A header that is too long, too large, of another size than what follows, of no known type, or of places outside."""
    wrong = chance.choice(
        [
            {"shape": [2**40, 2**40]},
            {"shape": [chance.randrange(4, 99)]},
            {"shape": [-3]},
            {"dtype": chance.choice(["F4", "X", "PICKLE", 1, None])},
            {"data_offsets": [-4, 8]},
            {"data_offsets": [0, 2 ** chance.randrange(5, 63)]},
            {"data_offsets": [12, 0]},
        ]
    )
    length = chance.choice([None, None, 2**63, 2**40, 10**9, 0, 5])
    entry = ENTRY | (wrong if length is None else {})
    return forged(root, tensors_of({"state/a": entry}, bytes(12), length), tree())


def leading(root: Path, mark: Path, chance: random.Random) -> Path:
    """Names that lead out of the folder, in the manifest or among the tensors."""
    name = chance.choice(["../escaped", "../../escaped", "/tmp/escaped", "a/../../escaped", "..", ".", "a\0b", "~/escaped", ""])
    if chance.random() < 0.5:
        return forged(root, tensors_of({name: ENTRY}, bytes(12)), tree(name + chance.choice(["\n", "\r", " "])))
    listing = {"name": name, "bytes": len(ONE), "sha256": hashlib.sha256(ONE).hexdigest()}
    return forged(root, ONE, tree(), {"files": [listing, {"name": "state.json", "bytes": 1, "sha256": "0" * 64}]})


def nested(root: Path, mark: Path, chance: random.Random) -> Path:
    """A state that is deep, large, circular in its names, or of no known kind."""
    deep = chance.randrange(2000, 50_000)
    state = chance.choice(
        [
            b'{"version": 1, "state": ' + b"[" * deep + b"]" * deep + b"}",
            b'{"version": 1, "state": ' + b"9" * deep + b'e999, "x": 1}',
            json.dumps(
                {"version": 1, "state": {"dict": [["a", {"tensor": "state/a"}], ["b", {"tensor": "state/a"}]]}}
            ).encode(),
            json.dumps({"version": 1, "state": {"__class__": "os.system", "args": ["true"]}}).encode(),
            json.dumps({"version": 1, "state": {"array": "state/a", "dtype": "|O", "shape": [3]}}).encode(),
            json.dumps({"version": 1, "state": {"array": "state/a", "dtype": "<f8", "shape": [10**9]}}).encode(),
            json.dumps({"version": chance.randrange(2, 99), "state": {}}).encode(),
        ]
    )
    return forged(root, ONE, state)


def linked_away(root: Path, mark: Path, chance: random.Random) -> Path:
    """A file, or the folder itself, is a link to a whole checkpoint elsewhere."""
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    path, target = forged(elsewhere, ONE, tree()), root / "step-000000000001"
    if chance.random() < 0.3:
        target.symlink_to(path)
        return target
    target.mkdir()
    away = chance.choice(NAMES)
    for name in NAMES:
        if name == away:
            (target / name).symlink_to(path / name)
        else:
            shutil.copy(path / name, target / name)
    return target


FORGERIES = {
    "pickled": pickled,
    "a header that lies": lying,
    "a name that leads elsewhere": leading,
    "a strange state": nested,
    "a link": linked_away,
}
