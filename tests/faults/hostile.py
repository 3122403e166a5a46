"""Forged checkpoints with a matching manifest: refused in one line, and no code of a file is
executed.
"""

import hashlib
import json
import os
import pickle
import random
import shutil
import time
from pathlib import Path

import numpy as np
import torch

from foreground.agents.optimiser import Divergence
from foreground.errors import UserError
from foreground.training import checkpoint, files
from foreground.training.files import Damaged
from foreground.training.trainer import Trainer
from tests.faults import Tries, checkpoint_ablation
from tests.faults.checkpoints import NAMES
from tests.faults.clips import MOST_BYTES, peak_bytes
from tests.faults.resume import options_of
from tests.faults.states import leaves_of, node_at, put, text_of

AGENTS = ("infopower", "slim", "mra", "hierarchical")
LONGEST = 20.0  # seconds to resume
MORE = ["a", "jnt_qposadr", "body_parentid", "geom_pos", "get_reward", "random", "__class__", 0]
STRANGE = [
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    2**70,
    1e308,
    float("nan"),
    float("-inf"),
    0.5,
    "",
    "../escaped",
    "/tmp/escaped",
]
STRANGE += [
    [],
    {},
    [1, 2],
    {"a": 1},
    {0: None},
    ("a",),
    [[]] * 5,
    torch.zeros(0),
    torch.zeros(3, 3),
    torch.tensor(1.0),
]
STRANGE += [
    torch.full((7,), float("nan")),
    torch.zeros(5, dtype=torch.uint8),
    np.zeros(3),
    np.ones((2, 2), np.int64),
]


class Payload:
    """The code of a pickle: it would make a folder that must not exist."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def hostile(folder: Path, chance: random.Random) -> Tries:
    """Forged checkpoints: pickles, false headers, names that lead out of the folder.

    Every second one is valid except for one leaf, and a trainer resumes from it.
    """
    mark = folder / "executed"
    victims: dict[str, tuple[Trainer, dict]] = {}
    number = 0
    while True:
        number += 1
        if number % 2:
            lost = forgery(folder / "checkpoints", mark, chance)
        else:
            name = AGENTS[number // 2 % len(AGENTS)]
            victims[name] = victim, state = victims.get(name) or trained(folder / name, name)
            lost = resumed(victim, *strange(state, chance))
            lost = lost and f"{name}, {lost}"
        if mark.exists():
            lost = f"{lost or number}: its code ran"
            _ = mark.rmdir()
        if any(path.name == "escaped" for path in folder.rglob("*")):
            lost = f"{lost or number}: it wrote outside"
        yield lost


def trained(folder: Path, agent: str) -> tuple[Trainer, dict]:
    """Return a trainer in this process, and its checkpoint."""
    victim = checkpoint_ablation.make(
        folder, options_of(agent, folder.parent, *checkpoint_ablation.WORDS)
    )
    checkpoint_ablation.run_to(victim, checkpoint_ablation.CUT)
    return victim, checkpoint_ablation.state_of(folder)


def forgery(root: Path, mark: Path, chance: random.Random) -> str:
    """Load files that are not a checkpoint; return what is wrong."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    kind = chance.choice(list(FORGERIES))
    try:
        checkpoint.load(FORGERIES[kind](root, mark, chance))
        return f"{kind}: it loads"
    except Damaged:
        return ""


def strange(state: dict, chance: random.Random) -> tuple[dict, str]:
    """Return the state with another value at a leaf or at a node above it, and a description."""
    place, _ = chance.choice(leaves_of(state))
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        place = place.rpartition("/")[0] or place
    value = chance.choice(STRANGE)
    if chance.random() < 0.2:  # an additional key
        place = (
            chance.choice(
                [*dict.fromkeys(other.rpartition("/")[0] for other, _ in leaves_of(state))]
            )
            or place
        )
        node = node_at(state, place)
        if isinstance(node, dict):
            value = node | {chance.choice(MORE): value}
    return put(state, place, value), f"{place} is {text_of(value)[:60]}"


def resumed(victim: Trainer, state: dict, what: str) -> str:
    """Resume a trainer from a state. Return what is wrong.

    It must continue, or give one line with the reason, within bounds of time and memory.
    """
    root = victim.folder / "checkpoints"
    began = time.monotonic()
    before = peak_bytes()
    shutil.rmtree(root)
    checkpoint.save(root, checkpoint_ablation.CUT, state)
    try:
        victim.resume()
        checkpoint_ablation.run_to(victim, min(victim.env_frame, checkpoint_ablation.CUT) + 4)
    except (UserError, Divergence):
        pass
    except Exception as error:  # any other exception is a failure
        return f"{what}: {type(error).__name__}: {str(error)[:200]}"
    took = time.monotonic() - began
    grown = peak_bytes() - before
    return f"{what}: {took:.0f} s, {grown >> 20} MB" if took > LONGEST or grown > MOST_BYTES else ""


def forged(root: Path, tensors: bytes, state: bytes, manifest: dict | None = None) -> Path:
    """Write a checkpoint folder with these files, and a manifest that lists them or has the given
    entries.
    """
    path = root / "step-000000000001"
    path.mkdir()
    contents = {"tensors.safetensors": tensors, "state.json": state}
    for name, content in contents.items():
        (path / name).write_bytes(content)
    listings = [
        {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    ]
    (path / "MANIFEST.json").write_text(
        json.dumps({"version": 1, "step": 1, "files": listings} | (manifest or {}))
    )
    return path


def tensors_of(header: dict, body: bytes = b"", length: int | None = None) -> bytes:
    """Return the bytes of a safetensors file; `length` may be a false length of the header."""
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def tree(name: str = "state/a") -> bytes:
    return json.dumps({"version": 1, "state": {"dict": [["a", {"tensor": name}]]}}).encode()


ONE = files.pack_tensors({"state/a": torch.ones(3)})
ENTRY = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}


def pickled(root: Path, mark: Path, chance: random.Random) -> Path:
    """Write a pickle in place of the tensors or of the state, or a file of torch.save."""
    content = pickle.dumps(
        [0] * chance.randrange(9) + [Payload(mark)], protocol=chance.randrange(2, 6)
    )
    if chance.random() < 0.3:
        saved = root.parent / "saved"
        torch.save({"a": Payload(mark)}, saved)
        content = saved.read_bytes()
    return forged(root, content, tree()) if chance.random() < 0.5 else forged(root, ONE, content)


def lying(root: Path, mark: Path, chance: random.Random) -> Path:
    """Write a header with a false length, size, shape, type or offsets."""
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
    """Write names that lead out of the folder, in the manifest or among the tensors."""
    name = chance.choice(
        [
            "../escaped",
            "../../escaped",
            "/tmp/escaped",
            "a/../../escaped",
            "..",
            ".",
            "a\0b",
            "~/escaped",
            "",
        ]
    )
    if chance.random() < 0.5:
        return forged(
            root,
            tensors_of({name: ENTRY}, bytes(12)),
            tree(name + chance.choice(["\n", "\r", " "])),
        )
    listing = {"name": name, "bytes": len(ONE), "sha256": hashlib.sha256(ONE).hexdigest()}
    return forged(
        root,
        ONE,
        tree(),
        {"files": [listing, {"name": "state.json", "bytes": 1, "sha256": "0" * 64}]},
    )


def nested(root: Path, mark: Path, chance: random.Random) -> Path:
    """Write a state that is deeply nested, large, of repeated names, or of an unknown kind."""
    deep = chance.randrange(2000, 50_000)
    state = chance.choice(
        [
            b'{"version": 1, "state": ' + b"[" * deep + b"]" * deep + b"}",
            b'{"version": 1, "state": ' + b"9" * deep + b'e999, "x": 1}',
            json.dumps(
                {
                    "version": 1,
                    "state": {"dict": [["a", {"tensor": "state/a"}], ["b", {"tensor": "state/a"}]]},
                }
            ).encode(),
            json.dumps(
                {"version": 1, "state": {"__class__": "os.system", "args": ["true"]}}
            ).encode(),
            json.dumps(
                {"version": 1, "state": {"array": "state/a", "dtype": "|O", "shape": [3]}}
            ).encode(),
            json.dumps(
                {"version": 1, "state": {"array": "state/a", "dtype": "<f8", "shape": [10**9]}}
            ).encode(),
            json.dumps({"version": chance.randrange(2, 99), "state": {}}).encode(),
        ]
    )
    return forged(root, ONE, state)


def linked_away(root: Path, mark: Path, chance: random.Random) -> Path:
    """Make a file, or the folder itself, a link to a valid checkpoint elsewhere."""
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    path = forged(elsewhere, ONE, tree())
    target = root / "step-000000000001"
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
    "a false header": lying,
    "a name that leads out of the folder": leading,
    "a strange state": nested,
    "a link": linked_away,
}
