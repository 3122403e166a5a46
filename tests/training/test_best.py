"""Test the best checkpoint: which one is kept, and what a resume makes of it."""

import json
import math
from pathlib import Path

import pytest
import torch

from foreground.training import best as module
from foreground.training import checkpoint, files
from foreground.training.best import Best


def saved(run: Path, frame: int) -> Path:
    return checkpoint.save(run / "checkpoints", frame, {"weights": torch.full((3,), float(frame))})


def kept(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "best").iterdir())


def test_the_highest_return_is_kept_and_the_others_go(tmp_path):
    best = Best(tmp_path)
    for frame, score, taken in (
        (10, 5.0, True),
        (20, 9.0, True),
        (30, 9.0, False),
        (40, math.nan, False),
        (50, 2.0, False),
    ):
        assert best.offer(saved(tmp_path, frame), frame, score) is taken
        checkpoint.prune(tmp_path / "checkpoints", keep=2)
    assert [path.name for path in checkpoint.steps(tmp_path / "checkpoints")] == [
        "step-000000000040",
        "step-000000000050",
    ]
    assert kept(tmp_path) == ["step-000000000020"]
    checkpoint.verify(tmp_path / "best" / "step-000000000020")
    assert (
        checkpoint.load(tmp_path / "best" / "step-000000000020")["weights"].tolist() == [20.0] * 3
    )
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "env_frame": 20,
        "return": 9.0,
        "checkpoint": "best/step-000000000020",
    }


def test_a_resume_knows_it_or_forgets_what_comes_later(tmp_path):
    Best(tmp_path).offer(saved(tmp_path, 20), 20, 9.0)
    again = Best(tmp_path)
    assert (again.frame, again.score) == (20, 9.0)
    again.forget_after(20)
    assert again.frame == 20
    again.forget_after(10)  # the run continues from frame 10, and frame 20 is played again
    assert again.frame is None
    torch.manual_seed(0)
    assert again.offer(saved(tmp_path, 20), 20, 1.0)
    assert kept(tmp_path) == ["step-000000000020"]
    assert Best(tmp_path).score == 1.0


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"env_frame": "x"}', '{"env_frame": 20, "return": NaN}', "[" * 3000]
)
def test_a_record_that_is_none_is_no_best_one(tmp_path, text):
    Best(tmp_path).offer(saved(tmp_path, 20), 20, 9.0)
    (tmp_path / "best.json").write_text(text)
    assert Best(tmp_path).frame is None


def test_a_record_that_cannot_be_read_this_time_is_kept(tmp_path, monkeypatch, capsys):
    """EIO proves no damage: the checkpoint that the record names may be better than what is
    offered.
    """
    Best(tmp_path).offer(saved(tmp_path, 20), 20, 9.0)
    real = files.read

    def fails(path, limit):
        raise files.Unreadable("cannot be read (Input/output error)", path)

    monkeypatch.setattr(files, "read", fails)
    best = Best(tmp_path)
    best.forget_after(30)
    assert "best.json cannot be read (Input/output error)" in capsys.readouterr().err
    with pytest.raises(OSError, match=r"best\.json cannot be read"):
        best.offer(saved(tmp_path, 30), 30, 5.0)
    assert kept(tmp_path) == ["step-000000000020"]
    monkeypatch.setattr(files, "read", real)
    assert not best.offer(saved(tmp_path, 40), 40, 5.0)
    assert (best.frame, best.score) == (20, 9.0)
    assert best.offer(saved(tmp_path, 50), 50, 10.0)


def test_a_record_that_is_read_late_counts_only_up_to_the_resume(tmp_path, monkeypatch):
    Best(tmp_path).offer(saved(tmp_path, 20), 20, 9.0)
    with monkeypatch.context() as patched:
        patched.setattr(
            module.files,
            "read",
            lambda path, limit: (_ for _ in ()).throw(files.Unreadable("x", path)),
        )
        best = Best(tmp_path)
        best.forget_after(10)
    assert best.offer(saved(tmp_path, 30), 30, 1.0)


def test_a_record_without_its_checkpoint_is_no_best_one(tmp_path):
    Best(tmp_path).offer(saved(tmp_path, 20), 20, 9.0)
    (tmp_path / "best" / "step-000000000020").rename(tmp_path / "elsewhere")
    assert Best(tmp_path).frame is None


def test_a_file_system_without_links_gets_a_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(
        module.os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported"))
    )
    Best(tmp_path).offer(saved(tmp_path, 20), 20, 9.0)
    checkpoint.verify(tmp_path / "best" / "step-000000000020")


def test_a_full_disk_costs_nothing_that_was_kept(tmp_path, monkeypatch):
    best = Best(tmp_path)
    best.offer(saved(tmp_path, 20), 20, 9.0)
    monkeypatch.setattr(
        module,
        "_second_name",
        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(OSError, match="No space"):
        best.offer(saved(tmp_path, 30), 30, 10.0)
    again = Best(tmp_path)
    assert (again.frame, again.score) == (20, 9.0)
