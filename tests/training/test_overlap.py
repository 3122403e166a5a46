"""Test updates while environments step: rows, exact resume, and the time of the longer part."""

import functools
import time

import numpy as np
import pytest

from foreground.configs import run as runs
from foreground.envs.workers import Workers
from foreground.errors import UserError
from foreground.training.rollout import Rollout, random_policy
from tests.envs.test_workers import Counting
from tests.faults import checkpoint_ablation
from tests.faults.states import differing

WORDS = [
    "--environment.num_envs",
    "2",
    "--training.overlap",
    "true",
    *checkpoint_ablation.WORDS[:-2],
]


def waited(slow: float, busy: float, steps: int) -> tuple[float, list[int]]:
    """Seconds of some slow steps with other work meanwhile, and what the images say."""
    envs = Workers([functools.partial(Counting, slow=slow)] * 2, 20.0)
    try:
        rollout, act = Rollout(envs, None, 0), random_policy(envs, np.random.default_rng(0))
        rollout.step(act)
        began, seen = time.monotonic(), []
        for _ in range(steps):
            rollout.send(act)
            time.sleep(busy)
            seen.append(int(rollout.receive()["image"][0, 0, 0, 0]))
        return time.monotonic() - began, seen
    finally:
        envs.close()


def test_environments_step_while_others_work():
    seconds, seen = waited(0.2, 0.2, 5)
    assert 1.0 <= seconds < 1.7
    assert seen == [1, 2, 3, 4, 5]


def test_a_process_that_was_lost_meanwhile_begins_again(capfd):
    envs = Workers([Counting] * 2, 20.0)
    try:
        rollout, act = Rollout(envs, None, 0), random_policy(envs, np.random.default_rng(0))
        for _ in range(3):
            rollout.step(act)
        envs.envs.processes[1].kill()
        envs.envs.processes[1].join()
        rollout.send(act)
        row = rollout.receive()
        assert row["is_first"].all()
        assert not row["action"].any()
    finally:
        envs.close()
    assert "was killed (SIGKILL)" in capfd.readouterr().err


@pytest.mark.slow
def test_a_run_with_overlap_resumes_to_the_bit(tmp_path):
    state, _, end = checkpoint_ablation.stretch(tmp_path, WORDS)
    found = checkpoint_ablation.resumed(tmp_path / "again", WORDS, state)
    assert found == end, differing(end, found)


def test_updates_are_done_between_sending_and_receiving(tmp_path):
    trainer, order = checkpoint_ablation.make(tmp_path / "run", WORDS), []
    for owner, name in (
        (trainer.rollout, "send"),
        (trainer.agent, "update"),
        (trainer.rollout, "receive"),
    ):
        setattr(owner, name, noted(order, name, getattr(owner, name)))
    checkpoint_ablation.run_to(trainer, checkpoint_ablation.END)
    trainer.rollout.envs.close()
    assert "update" in order
    last = ""
    for name in order:
        assert name != "update" or last == "send"
        last = last if name == "update" else name


def noted(order: list[str], name: str, function):
    def call(*words):
        order.append(name)
        return function(*words)

    return call


def test_without_processes_there_is_nothing_to_overlap():
    with pytest.raises(
        UserError, match=r"training.overlap is not read.*environment.num_envs is above 1"
    ):
        runs.read(["--training.overlap", "true", "--agent", "dreamer"], cuda=False)
