"""Checkpoints: exact round trips; kills, full disks, damage and hostile content; one lock per run folder."""

import hashlib
import json
import math
import os
import pickle
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from errors import UserError
from training import checkpoint, files
from training.checkpoint import Damaged, NotSaved


def small(step: int) -> dict:
    return {"step": step, "weights": torch.full((50,), float(step)), "nested": [{"a": torch.arange(3)}, "text"]}


def same(a, b) -> bool:
    """Equal in type, value and, for numbers, every bit that has a meaning."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(
            a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


# --------------------------------------------------------------------------------------------------------- round trip


def test_a_training_state_comes_back_exactly(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    state = {
        "model": dict(model.state_dict()), "optimizer": optimizer.state_dict(), "torch": torch.get_rng_state(),
        "numpy": np.random.default_rng(3).bit_generator.state,
        "legacy": np.random.RandomState(3).get_state(legacy=False), "python": random.Random(3).getstate(),
        "floats": [math.nan, math.inf, -math.inf, -0.0, 0.1, 5e-324, 1e308], "ints": [2**128 + 1, -5, 0],
        "plain": [True, False, None, "", "ä\n\x00", (), [], {}, (1, [2, (3,)])],
        "keys": {0: "int", "0": "text", -1: 2, "a/b": torch.ones(1), "a b": torch.ones(2), "a_b": torch.ones(3)},
        "tensors": [torch.zeros(0, 3), torch.tensor(3.5), torch.tensor(math.nan), torch.ones(2, dtype=torch.bfloat16),
                    torch.ones(3, dtype=torch.bool), torch.arange(6).view(2, 3).T, torch.ones(9, 9)[:, 4],
                    torch.full((2,), 2**62)],
        "arrays": [np.arange(3, dtype=kind) for kind in ("u1", "i2", "u4", "u8", "f2", "f4", "f8", "c16", ">f4")]
        + [np.array(2.5), np.zeros((0, 2)), np.array([True, False]), np.arange(6).reshape(2, 3).T],
    }
    shared = torch.ones(4)
    state["shared"] = [shared, shared, shared[1:3]]
    loaded = checkpoint.load(checkpoint.save(tmp_path, 7, state))
    for key, value in state.items():
        assert same(value, loaded[key]), key
    random.Random(0).setstate(loaded["python"])
    np.random.default_rng(0).bit_generator.state = loaded["numpy"]
    optimizer.load_state_dict(loaded["optimizer"])


def test_numpy_scalars_become_python_numbers(tmp_path):
    state = [np.float64(0.1), np.int64(3), np.bool_(True), np.float32("nan")]
    loaded = checkpoint.load(checkpoint.save(tmp_path, 7, state))
    assert same(loaded, [0.1, 3, True, math.nan])


@pytest.mark.parametrize("value", [object(), {1.5: 1}, {True: 1}, {1, 2}, b"x", np.array([object()]), len, Path()])
def test_what_cannot_be_held_is_named_with_its_place(tmp_path, value):
    with pytest.raises(TypeError, match="state/a/1"):
        checkpoint.save(tmp_path, 1, {"a": [0, value]})
    loop = []
    loop.append(loop)
    with pytest.raises(TypeError, match="holds itself"):
        checkpoint.save(tmp_path, 1, loop)
    assert checkpoint.steps(tmp_path) == []


def test_peek_reads_a_plain_part(tmp_path):
    path = checkpoint.save(tmp_path, 1, {"replay": {"manifest": {"count": 5, 3: [1]}, "tail": torch.ones(1)}})
    assert checkpoint.peek(path, "replay", "manifest") == {"count": 5, 3: [1]}
    assert checkpoint.peek(path, "replay", "manifest", 3) == [1]
    for keys in (("nothing",), ("replay", "tail"), ("replay", "manifest", "count", "x")):
        with pytest.raises(Damaged):
            checkpoint.peek(path, *keys)


# ----------------------------------------------------------------------------------------------- order, pruning, names


def test_order_is_by_step_and_a_step_saved_again_replaces_nothing(tmp_path):
    assert checkpoint.latest(tmp_path / "missing") == (None, [])
    paths = [checkpoint.save(tmp_path, step, small(step)) for step in (5, 300, 20, 300, 1)]
    for age, path in enumerate(paths):
        os.utime(path, (age, age))
    assert [path.name for path in checkpoint.steps(tmp_path)] == [
        "step-000000000001", "step-000000000005", "step-000000000020", "step-000000000300", "step-000000000300.1"]
    assert checkpoint.latest(tmp_path) == (paths[3], [])
    checkpoint.prune(tmp_path, keep=1)
    assert checkpoint.steps(tmp_path) == [paths[1], paths[3]]


def test_prune_keeps_two_that_verify(tmp_path):
    paths = [checkpoint.save(tmp_path, step, small(step)) for step in range(5)]
    (paths[3] / "state.json").write_text("x")
    (tmp_path / ".tmp-step-9").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    assert checkpoint.prune(tmp_path) == [paths[2], paths[4]]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["notes.txt", *(path.name for path in paths[2:])])
    (paths[2] / "state.json").write_text("x")
    checkpoint.prune(tmp_path)
    assert checkpoint.steps(tmp_path) == paths[2:]


def test_rejected_checkpoints_are_set_aside(tmp_path):
    paths = [checkpoint.save(tmp_path, step, small(step)) for step in range(3)]
    (paths[2] / "state.json").write_text("x")
    chosen, _ = checkpoint.latest(tmp_path)
    assert checkpoint.set_aside_newer(tmp_path, chosen) == [tmp_path / "rejected-step-000000000002"]
    assert checkpoint.latest(tmp_path) == (paths[1], [])
    assert checkpoint.save(tmp_path, 2, small(2)) == paths[2]
    assert len(checkpoint.set_aside_newer(tmp_path, None)) == 3
    assert len(list(tmp_path.iterdir())) == 4


def test_an_extra_check_counts(tmp_path):
    old, new = checkpoint.save(tmp_path, 1, small(1)), checkpoint.save(tmp_path, 2, small(2))
    path, sentences = checkpoint.latest(tmp_path, lambda path: ["a chunk is missing"] if path == new else [])
    assert path == old
    assert sentences == [f"checkpoint {new.name} is damaged (a chunk is missing); {old.name} is used instead"]


# --------------------------------------------------------------------------------------------------- kills, full disks


def test_kill_in_a_save_loop_loses_nothing(tmp_path):
    """One warm parent forks 30 savers (torch is imported once) and each gets a real SIGKILL at a random moment."""
    chance, last = random.Random(0), 0
    torch.set_num_threads(1)
    for _ in range(30):
        reader, writer = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(reader)
            try:
                for step in range(last + 1, last + 10_000):
                    checkpoint.save(tmp_path, step, small(step) | {"large": torch.full((50_000,), float(step))})
                    checkpoint.prune(tmp_path)
                    os.write(writer, b"%d\n" % step)
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            pipe.readline()  # at least one save is done
            time.sleep(chance.uniform(0, 0.03))
            os.kill(process, signal.SIGKILL)
            assert os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGKILL
            said = [int(line) for line in pipe.read().split()]
        path, sentences = checkpoint.latest(tmp_path)
        assert sentences == []
        state = checkpoint.load(path)
        assert state["step"] >= max(said, default=last + 1)
        assert (state["large"] == state["step"]).all()
        assert len(checkpoint.steps(tmp_path)) >= min(2, state["step"])
        last = state["step"]


def test_a_disk_that_is_full_at_any_call_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    """Fail the k-th call that touches the disk, for every k until a save gets through."""
    first = checkpoint.save(tmp_path, 1, small(1))
    failures = 0
    for k in range(100):
        calls = 0

        def failing(real):
            def call(*arguments, **named):
                nonlocal calls
                calls += 1
                if calls > k:  # noqa: B023
                    raise OSError(28, "No space left on device")
                return real(*arguments, **named)
            return call

        with monkeypatch.context() as patch:
            for owner, name in ((os, "write"), (os, "fsync"), (os, "open"), (Path, "mkdir"), (Path, "rename")):
                patch.setattr(owner, name, failing(getattr(owner, name)))
            try:
                checkpoint.save(tmp_path, 2, small(2))
                break
            except NotSaved:
                failures += 1
        path, sentences = checkpoint.latest(tmp_path)
        assert sentences == []
        assert same(checkpoint.load(path), small(1 if path == first else 2))
    assert failures >= 10
    assert checkpoint.latest(tmp_path)[0] != first


def test_a_real_refusal_of_the_kernel(tmp_path):
    """A limit on file sizes makes write() itself fail in the middle of a file."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            checkpoint.save(tmp_path, 1, {"x": torch.zeros(1000)})
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            with pytest.raises(NotSaved, match="step 2 was not saved"):
                checkpoint.save(tmp_path, 2, {"x": torch.zeros(100_000)})
            checkpoint.save(tmp_path, 3, {"x": torch.zeros(1000)})
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(process, 0)[1] == 0
    assert [path.name[-1] for path in sorted(tmp_path.iterdir())] == ["1", "3"]
    checkpoint.verify(checkpoint.latest(tmp_path)[0])


def test_everything_is_synced_before_the_name_appears(tmp_path, monkeypatch):
    """Order of calls: each file and the folder synced, then the rename, then the parent synced."""
    events = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor):
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def noted_rename(path, target):
        events.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    root = tmp_path / "checkpoints"
    checkpoint.save(root, 1, small(1))
    temporary = f".tmp-step-{1:012d}-{os.getpid()}"
    written = ["tensors.safetensors", "state.json", "MANIFEST.json", temporary]
    assert events == [tmp_path.name, *written, "rename", "checkpoints"]


# -------------------------------------------------------------------------------------------------------------- damage


def damage(path: Path, fault: str, chance: random.Random) -> None:
    content = path.read_bytes()
    place = chance.randrange(len(content))
    if fault == "flip":
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << chance.randrange(8))]) + content[place + 1 :])
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
    for _ in range(30 if fault in ("flip", "truncate", "zero") else 1):
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
    assert checkpoint.latest(tmp_path)[0] == new  # a copy under another step's name is no checkpoint of that step


# ------------------------------------------------------------------------------------------------------------- hostile


def forge(root: Path, tensors: bytes, state: bytes, manifest: dict | None = None) -> Path:
    """A checkpoint whose manifest agrees with whatever it holds."""
    path = root / f"step-{1:012d}"
    path.mkdir()
    contents = {"tensors.safetensors": tensors, "state.json": state}
    listings = [{"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in contents.items()]
    for name, content in contents.items():
        (path / name).write_bytes(content)
    (path / "MANIFEST.json").write_text(json.dumps({"version": 1, "step": 1, "files": listings} | (manifest or {})))
    return path


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def header(entries: dict, body: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + body


ONE = files.pack_tensors({"state/a": torch.ones(3)})
TREE = {"dict": [["a", {"tensor": "state/a"}]]}


@pytest.mark.parametrize("tensors", [
    pickle.dumps(Payload()), b"", b"PK\x03\x04", (2**63).to_bytes(8, "little"), (100).to_bytes(8, "little") + b"{}",
    header({"state/a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}),
    header({"state/a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 12]}}, bytes(12)),
    header({"state/a": {"dtype": "F32", "shape": [3], "data_offsets": [-4, 8]}}, bytes(12)),
    header({"state/a": {"dtype": "F4", "shape": [24], "data_offsets": [0, 12]}}, bytes(12)),
    header({"state/a": {"dtype": "X", "shape": [3], "data_offsets": [0, 12]}}, bytes(12)),
    header({}), header({"../../x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}, bytes(12)),
    files.pack_tensors({"state/a": torch.ones(3), "state/b": torch.ones(3)})])
def test_hostile_tensors(tmp_path, monkeypatch, tensors):
    monkeypatch.chdir(tmp_path)
    path = forge(tmp_path, tensors, json.dumps({"version": 1, "state": TREE}).encode())
    with pytest.raises(Damaged):
        checkpoint.load(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("state", [
    "[]", "{}", "null", '{"version": 1}', '{"version": 2, "state": null}', "[" * 100_000, '{"version": 1, "state": NaN',
    '{"version": 1, "state": ' + "[" * 900 + "]" * 900 + "}", '{"version": 1, "state": ' + "9" * 5000 + "}",
    *[json.dumps({"version": 1, "state": node}) for node in (
        None, {"tensor": "../x"}, {"tensor": "state/b"}, {"tensor": 3}, {"tensor": ["state/a"]}, {"pickle": "x"},
        {"tensor": "state/a", "x": 1}, [TREE, TREE], {"dict": [["a"]]}, {"dict": 3}, {"dict": [[[], 1]]},
        {"dict": [["a", 1], ["a", 2]]}, {"dict": [[True, 1]]}, {"float": "1"}, {"float": []}, {"tuple": 3},
        {"array": "state/a", "dtype": "<f4", "shape": [3]}, {"array": "state/a", "dtype": "O", "shape": [3]},
        {"array": "state/a", "dtype": "<f8", "shape": [2**70]}, {"array": "state/a", "dtype": 3, "shape": [3]})]])
def test_hostile_state(tmp_path, state):
    with pytest.raises(Damaged):
        checkpoint.load(forge(tmp_path, ONE, state.encode()))


@pytest.mark.parametrize("manifest", [
    {"version": "1"}, {"step": 2}, {"step": "1"}, {"files": None}, {"files": []}, {"files": [{}]}, {"files": [3, 4]},
    {"files": [{"name": "../../etc/passwd", "bytes": 1, "sha256": "0" * 64}] * 2},
    {"files": [{"name": "state.json", "bytes": -1, "sha256": "0" * 64}] * 2},
    {"files": [{"name": "state.json", "bytes": 2**80, "sha256": "0" * 64},
               {"name": "tensors.safetensors", "bytes": True, "sha256": "0" * 64}]},
    {"x": "y" * 70_000}])
def test_hostile_manifest(tmp_path, manifest):
    path = forge(tmp_path, ONE, json.dumps({"version": 1, "state": TREE}).encode(), manifest)
    with pytest.raises(Damaged):
        checkpoint.load(path)
    with pytest.raises(Damaged):
        checkpoint.verify(path)


def test_the_forgery_itself_is_sound(tmp_path):
    loaded = checkpoint.load(forge(tmp_path, ONE, json.dumps({"version": 1, "state": TREE}).encode()))
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

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load"), (np, "load")):
        monkeypatch.setattr(owner, name, refuse)
    assert same(checkpoint.load(path), small(1))
    assert checkpoint.latest(tmp_path)[0] == path


# ---------------------------------------------------------------------------------------------------------------- lock


def test_one_run_per_folder(tmp_path):
    held = checkpoint.lock(tmp_path / "run")
    with pytest.raises(UserError, match=f"^error: the run folder is in use by process {os.getpid()}: .*: wait for it"):
        checkpoint.lock(tmp_path / "run")
    held.release()
    with checkpoint.lock(tmp_path / "run"):
        pass
    checkpoint.lock(tmp_path / "run").release()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        checkpoint.lock(tmp_path / "file" / "run")
    with pytest.raises(NotSaved):
        checkpoint.save(tmp_path / "file" / "run", 1, {})
