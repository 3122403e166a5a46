"""Test damaged checkpoints: detected, the previous one is used; forged ones run no code."""

import hashlib
import json
import os
import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from foreground.training import checkpoint, files
from foreground.training.checkpoint import Damaged
from tests.training.test_checkpoint import same, small

# ------------------------------------------------------------------------------------------- damage


def damage(path: Path, fault: str, chance: random.Random) -> None:
    content = path.read_bytes()
    place = chance.randrange(len(content))
    if fault == "flip":
        path.write_bytes(
            content[:place]
            + bytes([content[place] ^ (1 << chance.randrange(8))])
            + content[place + 1 :]
        )
    elif fault == "truncate":
        path.write_bytes(content[:place])
    elif fault == "zero":
        path.write_bytes(content[:place] + bytes(len(content) - place))
    elif fault == "longer":
        path.write_bytes(content + b"\0")
    elif fault == "missing":
        path.unlink()
    elif fault == "link":
        shutil.copy(path, path.parent.parent / "outside")
        path.unlink()
        path.symlink_to(path.parent.parent / "outside")
    elif fault == "fifo":
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "MANIFEST.json"])
@pytest.mark.parametrize("fault", ["flip", "truncate", "zero", "longer", "missing", "link", "fifo"])
def test_damage_is_noticed_and_the_previous_checkpoint_is_used(tmp_path, name, fault):
    chance = random.Random(f"{name}{fault}")
    good = checkpoint.save(tmp_path / "good", 2, small(2))
    if (name, fault) == ("MANIFEST.json", "longer"):
        fault = "truncate"  # white space or not, a NUL behind JSON is an error: the same case
    for _ in range(12 if fault in ("flip", "truncate", "zero") else 1):
        root = tmp_path / "run"
        shutil.rmtree(root, ignore_errors=True)
        old = checkpoint.save(root, 1, small(1))
        newest = root / good.name
        shutil.copytree(good, newest)
        damage(newest / name, fault, chance)
        path, sentences = checkpoint.latest(root)
        assert path == old
        assert len(sentences) == 1
        assert f"checkpoint {newest.name} is damaged" in sentences[0]
        assert f"{old.name} is used instead" in sentences[0]
        with pytest.raises(Damaged, match=r"^error: .*: .*: use an earlier checkpoint"):
            checkpoint.load(newest)
        assert same(checkpoint.load(path), small(1))


def test_files_swapped_between_checkpoints_are_noticed(tmp_path):
    old, new = checkpoint.save(tmp_path, 1, small(1)), checkpoint.save(tmp_path, 2, small(2))
    for name in ("tensors.safetensors", "state.json", "MANIFEST.json"):
        shutil.copytree(new, tmp_path / "copy")
        shutil.copy(old / name, new / name)
        assert checkpoint.latest(tmp_path)[0] == old, name
        shutil.rmtree(new)
        (tmp_path / "copy").rename(new)
    shutil.copytree(old, tmp_path / f"step-{9:012d}")
    # A copy under another step's name is not a checkpoint of that step.
    assert checkpoint.latest(tmp_path)[0] == new


# ------------------------------------------------------------------------------------------ hostile


def forge(root: Path, tensors: bytes, state: bytes, manifest: dict | None = None) -> Path:
    """A checkpoint whose manifest agrees with whatever it holds."""
    path = root / f"step-{1:012d}"
    path.mkdir()
    contents = {"tensors.safetensors": tensors, "state.json": state}
    listings = [
        {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    ]
    for name, content in contents.items():
        (path / name).write_bytes(content)
    (path / "MANIFEST.json").write_text(
        json.dumps({"version": 1, "step": 1, "files": listings} | (manifest or {}))
    )
    return path


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def header(entries: dict, body: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + body


ONE = files.pack_tensors({"state/a": torch.ones(3)})
TREE = {"dict": [["a", {"tensor": "state/a"}]]}


@pytest.mark.parametrize(
    "tensors",
    [
        pickle.dumps(Payload()),
        b"",
        b"PK\x03\x04",
        (2**63).to_bytes(8, "little"),
        (100).to_bytes(8, "little") + b"{}",
        header({"state/a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}),
        header(
            {"state/a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 12]}},
            bytes(12),
        ),
        header({"state/a": {"dtype": "F32", "shape": [3], "data_offsets": [-4, 8]}}, bytes(12)),
        header({"state/a": {"dtype": "F4", "shape": [24], "data_offsets": [0, 12]}}, bytes(12)),
        header({"state/a": {"dtype": "X", "shape": [3], "data_offsets": [0, 12]}}, bytes(12)),
        header({}),
        header({"../../x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}, bytes(12)),
        files.pack_tensors({"state/a": torch.ones(3), "state/b": torch.ones(3)}),
    ],
)
def test_hostile_tensors(tmp_path, monkeypatch, tensors):
    monkeypatch.chdir(tmp_path)
    path = forge(tmp_path, tensors, json.dumps({"version": 1, "state": TREE}).encode())
    with pytest.raises(Damaged):
        checkpoint.load(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "state",
    [
        "[]",
        "{}",
        "null",
        '{"version": 1}',
        '{"version": 2, "state": null}',
        "[" * 100_000,
        '{"version": 1, "state": NaN',
        '{"version": 1, "state": ' + "[" * 900 + "]" * 900 + "}",
        '{"version": 1, "state": ' + "9" * 5000 + "}",
        *[
            json.dumps({"version": 1, "state": node})
            for node in (
                None,
                {"tensor": "../x"},
                {"tensor": "state/b"},
                {"tensor": 3},
                {"tensor": ["state/a"]},
                {"pickle": "x"},
                {"tensor": "state/a", "x": 1},
                [TREE, TREE],
                {"dict": [["a"]]},
                {"dict": 3},
                {"dict": [[[], 1]]},
                {"dict": [["a", 1], ["a", 2]]},
                {"dict": [[True, 1]]},
                {"float": "1"},
                {"float": []},
                {"tuple": 3},
                {"array": "state/a", "dtype": "<f4", "shape": [3]},
                {"array": "state/a", "dtype": "O", "shape": [3]},
                {"array": "state/a", "dtype": "<f8", "shape": [2**70]},
                {"array": "state/a", "dtype": 3, "shape": [3]},
            )
        ],
    ],
)
def test_hostile_state(tmp_path, state):
    with pytest.raises(Damaged):
        checkpoint.load(forge(tmp_path, ONE, state.encode()))


@pytest.mark.parametrize(
    "manifest",
    [
        {"version": "1"},
        {"step": 2},
        {"step": "1"},
        {"files": None},
        {"files": []},
        {"files": [{}]},
        {"files": [3, 4]},
        {"files": [{"name": "../../etc/passwd", "bytes": 1, "sha256": "0" * 64}] * 2},
        {"files": [{"name": "state.json", "bytes": -1, "sha256": "0" * 64}] * 2},
        {
            "files": [
                {"name": "state.json", "bytes": 2**80, "sha256": "0" * 64},
                {"name": "tensors.safetensors", "bytes": True, "sha256": "0" * 64},
            ]
        },
        {"x": "y" * 70_000},
    ],
)
def test_hostile_manifest(tmp_path, manifest):
    path = forge(tmp_path, ONE, json.dumps({"version": 1, "state": TREE}).encode(), manifest)
    with pytest.raises(Damaged):
        checkpoint.load(path)
    with pytest.raises(Damaged):
        checkpoint.verify(path)


def test_the_forgery_itself_is_sound(tmp_path):
    loaded = checkpoint.load(
        forge(tmp_path, ONE, json.dumps({"version": 1, "state": TREE}).encode())
    )
    assert same(loaded, {"a": torch.ones(3)})


def test_a_linked_folder_is_no_checkpoint(tmp_path):
    real = checkpoint.save(tmp_path / "other", 1, small(1))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / real.name).symlink_to(real)
    assert checkpoint.latest(tmp_path / "run")[0] is None


def test_no_unpickler_in_the_load_path(tmp_path, monkeypatch):
    path = checkpoint.save(tmp_path, 1, small(1))

    def refuse(*_, **__):
        raise AssertionError("a pickle was read")

    for owner, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
        (np, "load"),
    ):
        monkeypatch.setattr(owner, name, refuse)
    assert same(checkpoint.load(path), small(1))
    assert checkpoint.latest(tmp_path)[0] == path
