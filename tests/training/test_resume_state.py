"""Test what a checkpoint stores: clocks, provenance; transient errors on resume."""

import os
from pathlib import Path

import pytest
import torch

from foreground import train
from foreground.errors import UserError
from foreground.training import checkpoint, system
from foreground.training.lock import lock
from foreground.training.state import completed, moved
from tests.faults import checkpoint_ablation, runs
from tests.support.training_runs import OFTEN, run, small_trainer


@pytest.fixture
def trainer(tmp_path):
    return small_trainer(tmp_path / "run")


def test_a_checkpoint_of_an_earlier_version_resumes(trainer):
    """It has neither provenance nor the clock of evaluations, so no evaluation is due."""
    trainer.evaluations.evaluate = lambda frame: {"return": 1.0}
    run(trainer, 80)
    state = checkpoint_ablation.state_of(trainer.folder)
    del state["clocks"]["evaluated"], state["episodes"]["score"]
    assert "provenance" not in state
    assert completed(state)["clocks"]["evaluated"] is None
    checkpoint.save(trainer.folder / "checkpoints", 80, state)
    resumed = checkpoint_ablation.make(trainer.folder, OFTEN)
    resumed.evaluations.evaluate = lambda frame: {"return": 1.0}
    assert resumed.resume() == []
    assert [frame for frame, _ in run(resumed, 130).rows] == [120]


CLOCKS = [
    {"agent_step": 2**63 // 2},
    {"agent_step": 41},
    {"agent_step": True},
    {"update": 2**60},
    {"evaluated": 82},
    {"evaluated": -1},
    {"evaluated": "80"},
    {"more": 1},
]


@pytest.mark.parametrize("forged", CLOCKS, ids=str)
def test_counters_are_held_against_each_other(trainer, forged):
    run(trainer, 80)
    state = checkpoint_ablation.state_of(trainer.folder)
    state["clocks"] |= forged
    checkpoint.save(trainer.folder / "checkpoints", 80, state)
    with pytest.raises(UserError, match="whole and does not fit"):
        checkpoint_ablation.make(trainer.folder, OFTEN).resume()


@pytest.mark.parametrize(
    "forged", [{"count": 10**6}, {"count": -1}, {"diverged": 2.5}, {"score": "x"}], ids=str
)
def test_numbers_of_episodes_are_those_of_a_run(trainer, forged):
    run(trainer, 80)
    state = checkpoint_ablation.state_of(trainer.folder)
    state["episodes"] |= forged
    checkpoint.save(trainer.folder / "checkpoints", 80, state)
    with pytest.raises(UserError, match="whole and does not fit"):
        checkpoint_ablation.make(trainer.folder, OFTEN).resume()


def test_a_resume_elsewhere_is_told(trainer):
    trainer.provenance = {"CPU": "one kind", "torch": "2.0", "renderer": "llvmpipe"}
    run(trainer, 40)
    resumed = checkpoint_ablation.make(trainer.folder, OFTEN)
    resumed.provenance = {"CPU": "one kind", "torch": "2.1", "renderer": "softpipe", "new": "fact"}
    [said] = resumed.resume()
    assert "saved with torch 2.0 (now 2.1), renderer llvmpipe (now softpipe): " in said
    run(resumed, 50)
    again = checkpoint_ablation.make(trainer.folder, OFTEN)
    again.provenance = dict(resumed.provenance)
    assert again.resume() == []
    with pytest.raises(ValueError, match="provenance"):
        moved([1], again.provenance)


def test_provenance_names_what_numbers_depend_on():
    facts = system.provenance("cpu")
    assert {
        "CPU",
        "CPU instructions",
        "device",
        "threads",
        "commit",
        "torch",
        "numpy",
        "mujoco",
        "dm_control",
    } <= set(facts)
    assert facts["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert all(isinstance(value, str) and value for value in facts.values())


def test_a_read_that_fails_for_now_sets_nothing_aside(trainer, monkeypatch):
    run(trainer, 120)
    before = sorted(path for path in trainer.folder.rglob("*"))
    opened = os.open

    def stale(path, *words, **options):
        if str(path).endswith("MANIFEST.json"):
            raise OSError(116, "Stale file handle")
        return opened(path, *words, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", stale)
        with pytest.raises(UserError, match=r"Stale file handle.*try again") as error:
            checkpoint_ablation.make(trainer.folder, OFTEN).resume()
    assert error.value.exit_code == 2
    assert sorted(path for path in trainer.folder.rglob("*")) == before
    resumed = checkpoint_ablation.make(trainer.folder, OFTEN)
    assert resumed.resume() == []
    assert resumed.env_frame == 120


@pytest.fixture
def locked(trainer):
    """A trainer whose folder is locked, saved at frame 40."""
    with lock(trainer.folder) as held:
        trainer.checkpointer.check_folder = held.check
        run(trainer, 40)
        yield trainer


def resumed_at(folder: Path) -> int:
    """Return the env frame of a trainer that resumes without a complaint."""
    resumed = checkpoint_ablation.make(folder, OFTEN)
    assert resumed.resume() == []
    return resumed.env_frame


def test_a_folder_that_moved_is_not_made_again(locked, tmp_path):
    """Not by a save, and it is said; where it comes back, saves are made again."""
    moved = locked.folder.rename(tmp_path / "moved")
    told = run(locked, 60)
    assert not locked.folder.exists()
    (sentence,) = told.said
    assert f"renamed, moved or replaced (it is now {moved})" in sentence
    moved.rename(locked.folder)
    assert run(locked, 120).said == []
    locked.folder.rename(moved)  # one failure now and one before are not two in a row
    assert len(run(locked, 140).said) == 1
    moved.rename(locked.folder)
    assert resumed_at(locked.folder) == 120


def test_a_run_whose_folder_stays_away_ends_at_the_second_save(locked, tmp_path):
    moved = locked.folder.rename(tmp_path / "moved")
    with pytest.raises(
        UserError, match=f"2 saves in a row failed.*it is now {moved}.*move it back"
    ) as error:
        run(locked, 400)
    assert error.value.exit_code == 2
    assert locked.env_frame == 120
    assert not locked.folder.exists()
    moved.rename(locked.folder)
    assert resumed_at(locked.folder) == 40


def test_another_run_that_came_and_went_before_the_lock_is_noticed(tmp_path, monkeypatch):
    """The config is compared under the lock."""
    words = [
        *runs.SMALL,
        "--total_frames",
        "200",
        "--background.source",
        "none",
        "--folder",
        str(tmp_path / "run"),
    ]
    real = train.lock.lock

    def late(folder):
        held = real(folder)
        config = train.runs.read([*words, "--seed", "7"], cuda=False)
        (folder / "config.yaml").write_text(train.options.to_yaml(config))
        return held

    monkeypatch.setattr(train.lock, "lock", late)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(UserError, match="seed is 7 there, 0 here"):
        train.main(words)
