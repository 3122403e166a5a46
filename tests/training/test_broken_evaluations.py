"""Test evaluations that fail or are interrupted: training continues, and they are repeated."""

import signal
from types import SimpleNamespace

import pytest
import torch

from foreground.envs.workers import broken
from foreground.errors import UserError
from foreground.evaluation import interrupt
from foreground.evaluation.report import Evaluator
from foreground.training import checkpoint
from foreground.training.periodic import Every, Metrics
from tests.faults import checkpoint_ablation
from tests.support.training_runs import OFTEN, run, small_trainer


@pytest.fixture
def trainer(tmp_path):
    return small_trainer(tmp_path / "run")


ENDS = [
    (UserError("no clips", "clips", "put them back"), "no clips: clips: put them back"),
    (FileNotFoundError(2, "No such file or directory", "clips/a.mp4"), "clips/a.mp4"),
    (broken("RuntimeError: the pole is gone"), "the pole is gone"),
    (MemoryError(), "(out of memory)"),
    (RuntimeError("a fault of ours"), "please report it with"),
]


@pytest.mark.parametrize(
    ("error", "words"), ENDS, ids=["clips", "file", "environment", "memory", "fault"]
)
def test_an_evaluation_that_fails_is_a_warning(trainer, tmp_path, monkeypatch, error, words):
    """And the save that was due at its frame is there before it."""
    monkeypatch.chdir(tmp_path)  # a traceback is kept there

    def fail(frame: int):
        assert checkpoint.step_of(checkpoint.steps(trainer.folder / "checkpoints")[-1]) == frame
        raise error

    trainer.evaluations.evaluate = fail
    told = run(trainer, 100)
    assert [sentence.split(" failed (")[0] for sentence in told.said] == [
        f"warning: the evaluation at frame {frame}" for frame in (40, 80)
    ]
    assert all(words in sentence and "training continues" in sentence for sentence in told.said)
    assert told.rows == []
    assert trainer.env_frame == 100


def test_pictures_that_fail_are_a_warning(trainer, monkeypatch):
    monkeypatch.setattr(type(trainer), "show", lambda *_: 1 / 0)
    trainer.config = trainer.config.__class__(**vars(trainer.config) | {"video_every": 60})
    told = run(trainer, 130)
    assert [sentence.split(" failed (")[0] for sentence in told.said] == [
        "warning: the pictures at frame 120"
    ]


def broken_off(trainer, at: int):
    """Return an evaluation that a signal interrupts at one frame."""

    def evaluate(frame: int):
        if frame != at:
            return {"return": float(frame)}
        trainer.stop_signal = int(signal.SIGTERM)
        return None

    return evaluate


@pytest.mark.parametrize("at", [80, 120])
def test_an_evaluation_that_was_broken_off_is_made_up_for(trainer, at):
    straight = checkpoint_ablation.make(trainer.folder.parent / "straight", OFTEN)
    straight.evaluations.evaluate = lambda frame: {"return": float(frame)}
    wanted = run(straight, 160)
    assert [frame for frame, _ in wanted.rows] == [40, 80, 120]  # the one at the end follows
    # again: it draws from the generators of torch.
    begun = checkpoint_ablation.make(trainer.folder, OFTEN)
    begun.evaluations.evaluate = broken_off(begun, at)
    first = run(begun, 160)
    assert begun.env_frame == at
    resumed = checkpoint_ablation.make(trainer.folder, OFTEN)
    resumed.evaluations.evaluate = lambda frame: {"return": float(frame)}
    assert resumed.resume() == []
    assert first.rows + run(resumed, 160).rows == wanted.rows
    ends = [
        checkpoint_ablation.described(checkpoint_ablation.state_of(each.folder))
        for each in (straight, resumed)
    ]
    assert ends[0] == ends[1]


def test_a_run_that_is_over_owes_no_evaluation(trainer):
    """The one at the end follows. A longer budget makes up for it."""
    trainer.evaluations.evaluate = lambda frame: {"return": float(frame)}
    assert [frame for frame, _ in run(trainer, 80).rows] == [40]
    resumed = checkpoint_ablation.make(trainer.folder, OFTEN)
    resumed.evaluations.evaluate = lambda frame: {"return": float(frame)}
    resumed.resume()
    assert run(resumed, 80).rows == []
    assert [frame for frame, _ in run(resumed, 90).rows] == [80]


def test_the_evaluator_says_that_it_was_broken_off(monkeypatch, tmp_path):
    def looked_at(*_):
        interrupt.check()

    monkeypatch.setattr(Evaluator, "looked_at", looked_at)
    evaluator = Evaluator(SimpleNamespace(fresh_side="clean"), None, tmp_path)
    interrupt.ask()
    try:
        assert evaluator.during_training(5) is None
    finally:
        interrupt.ask(False)
    interrupt.check()


def test_due_until_done():
    every = Every(10, 25)
    assert [every.due(now) for now in (25, 29, 30, 35)] == [False, False, True, True]
    every.done = 35
    assert [every.due(now) for now in (35, 39, 40)] == [False, False, True]
    assert Every(10, 20).due(55)
    assert not Every(0, 0).due(100)


def test_metrics_of_many_updates_take_little_room():
    metrics, once = Metrics(), Metrics()
    once.MOST_ROWS = 10**9
    for number in range(3 * Metrics.MOST_ROWS + 7):
        row = {"a": torch.tensor(float(number))} | ({"b": torch.tensor(1.0)} if number % 2 else {})
        metrics.add(row)
        once.add(row)
        assert len(metrics.rows) < Metrics.MOST_ROWS
    assert metrics.flush() == once.flush() == {"a": (3 * Metrics.MOST_ROWS + 6) / 2, "b": 1.0}
    assert metrics.flush() == {}
