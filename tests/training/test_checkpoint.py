"""Test checkpoints: exact round trips, order, kills, full disks, one lock per run folder."""

import math
import os
import random
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from foreground.training import checkpoint
from foreground.training.checkpoint import Damaged, NotSaved


def small(step: int) -> dict:
    return {
        "step": step,
        "weights": torch.full((50,), float(step)),
        "nested": [{"a": torch.arange(3)}, "text"],
    }


def same(a, b) -> bool:
    """Equal in type, value and, for numbers, every bit that has a meaning."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return (
            a.dtype == b.dtype
            and a.shape == b.shape
            and torch.equal(
                a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8)
            )
        )
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


# --------------------------------------------------------------------------------------- round trip


def test_a_training_state_comes_back_exactly(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    state = {
        "model": dict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "torch": torch.get_rng_state(),
        "numpy": np.random.default_rng(3).bit_generator.state,
        "legacy": np.random.RandomState(3).get_state(legacy=False),
        "python": random.Random(3).getstate(),
        "floats": [math.nan, math.inf, -math.inf, -0.0, 0.1, 5e-324, 1e308],
        "ints": [2**128 + 1, -5, 0],
        "plain": [True, False, None, "", "ä\n\x00", (), [], {}, (1, [2, (3,)])],
        "keys": {
            0: "int",
            "0": "text",
            -1: 2,
            "a/b": torch.ones(1),
            "a b": torch.ones(2),
            "a_b": torch.ones(3),
        },
        "tensors": [
            torch.zeros(0, 3),
            torch.tensor(3.5),
            torch.tensor(math.nan),
            torch.ones(2, dtype=torch.bfloat16),
            torch.ones(3, dtype=torch.bool),
            torch.arange(6).view(2, 3).T,
            torch.ones(9, 9)[:, 4],
            torch.full((2,), 2**62),
        ],
        "arrays": [
            np.arange(3, dtype=kind)
            for kind in ("u1", "i2", "u4", "u8", "f2", "f4", "f8", "c16", ">f4")
        ]
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


@pytest.mark.parametrize(
    "value", [object(), {1.5: 1}, {True: 1}, {1, 2}, b"x", np.array([object()]), len, Path()]
)
def test_what_cannot_be_held_is_named_with_its_place(tmp_path, value):
    with pytest.raises(TypeError, match="state/a/1"):
        checkpoint.save(tmp_path, 1, {"a": [0, value]})
    loop = []
    loop.append(loop)
    with pytest.raises(TypeError, match="holds itself"):
        checkpoint.save(tmp_path, 1, loop)
    assert checkpoint.steps(tmp_path) == []


def test_peek_reads_a_plain_part(tmp_path):
    path = checkpoint.save(
        tmp_path, 1, {"replay": {"manifest": {"count": 5, 3: [1]}, "tail": torch.ones(1)}}
    )
    assert checkpoint.peek(path, "replay", "manifest") == {"count": 5, 3: [1]}
    assert checkpoint.peek(path, "replay", "manifest", 3) == [1]
    for keys in (("nothing",), ("replay", "tail"), ("replay", "manifest", "count", "x")):
        with pytest.raises(Damaged):
            checkpoint.peek(path, *keys)


# ---------------------------------------------------------------------------- order, pruning, names


def test_order_is_by_step_and_a_step_saved_again_replaces_nothing(tmp_path):
    assert checkpoint.latest(tmp_path / "missing") == (None, [])
    paths = [checkpoint.save(tmp_path, step, small(step)) for step in (5, 300, 20, 300, 1)]
    for age, path in enumerate(paths):
        os.utime(path, (age, age))
    assert [path.name for path in checkpoint.steps(tmp_path)] == [
        "step-000000000001",
        "step-000000000005",
        "step-000000000020",
        "step-000000000300",
        "step-000000000300.1",
    ]
    assert checkpoint.latest(tmp_path) == (paths[3], [])
    checkpoint.prune(tmp_path, keep=1)
    assert checkpoint.steps(tmp_path) == [paths[1], paths[3]]


def test_prune_keeps_two_that_verify(tmp_path):
    paths = [checkpoint.save(tmp_path, step, small(step)) for step in range(5)]
    (paths[3] / "state.json").write_text("x")
    (tmp_path / ".tmp-step-9").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    assert checkpoint.prune(tmp_path) == [paths[2], paths[4]]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["notes.txt", *(path.name for path in paths[2:])]
    )
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


def test_a_rejected_checkpoint_goes_once_two_newer_ones_verify(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, small(step))
    assert len(checkpoint.set_aside_newer(tmp_path, checkpoint.steps(tmp_path)[1])) == 1
    checkpoint.prune(tmp_path)
    assert [path.name[-1] for path in checkpoint.rejected(tmp_path)] == ["3"]
    for step in (3, 4):
        checkpoint.save(tmp_path, step, small(step))
        checkpoint.prune(tmp_path)
    assert [path.name[-1] for path in checkpoint.rejected(tmp_path)] == ["3"]
    checkpoint.save(tmp_path, 5, small(5))
    checkpoint.prune(tmp_path)
    assert checkpoint.rejected(tmp_path) == []
    assert [path.name[-1] for path in checkpoint.steps(tmp_path)] == ["4", "5"]


def test_a_save_makes_no_folder_that_was_moved_away(tmp_path):
    with pytest.raises(NotSaved):
        checkpoint.save(tmp_path / "run" / "checkpoints", 1, small(1))
    assert list(tmp_path.iterdir()) == []


def test_places_of_one_plain_name_are_kept_apart(tmp_path):
    """ "a b" becomes a_b, which is taken, and a_b.2 is the name of another place."""
    state = {
        "a_b.2": torch.ones(1),
        "a_b": torch.ones(2),
        "a b": torch.ones(3),
        "a_b.3": torch.ones(4),
    }
    assert same(checkpoint.load(checkpoint.save(tmp_path, 1, state)), state)


def test_a_state_that_could_not_be_read_is_not_saved(tmp_path):
    with pytest.raises(NotSaved, match="are read"):
        checkpoint.save(tmp_path, 1, {"text": "x" * checkpoint.MAX_STATE_BYTES})
    assert checkpoint.steps(tmp_path) == []


def test_a_checkpoint_that_was_pruned_is_named_so(tmp_path):
    with pytest.raises(Damaged, match=r"not there any more.*keeps its newest two checkpoints"):
        checkpoint.load(tmp_path / "step-000000000001")


def test_an_extra_check_counts(tmp_path):
    old, new = checkpoint.save(tmp_path, 1, small(1)), checkpoint.save(tmp_path, 2, small(2))
    path, sentences = checkpoint.latest(
        tmp_path, lambda path: ["a chunk is missing"] if path == new else []
    )
    assert path == old
    assert sentences == [
        f"checkpoint {new.name} is damaged (a chunk is missing); {old.name} is used instead"
    ]


# -------------------------------------------------------------------------------- kills, full disks


@pytest.mark.slow
def test_kill_in_a_save_loop_loses_nothing(tmp_path):
    """One warm parent forks 30 savers (torch is imported once) and each gets a real SIGKILL at a
    random moment.
    """
    chance, last = random.Random(0), 0
    torch.set_num_threads(1)
    for _ in range(30):
        reader, writer = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(reader)
            try:
                for step in range(last + 1, last + 10_000):
                    checkpoint.save(
                        tmp_path, step, small(step) | {"large": torch.full((50_000,), float(step))}
                    )
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
            for owner, name in (
                (os, "write"),
                (os, "fsync"),
                (os, "open"),
                (Path, "mkdir"),
                (Path, "rename"),
            ):
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
