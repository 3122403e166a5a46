"""Test environments in processes: killed, stopped, failing and slow; no partial step is stored."""

import functools
import os
import signal
import threading
import time

import gymnasium
import numpy as np
import pytest

from foreground.envs.workers import MOST_IN_A_ROW, Workers, name_of
from foreground.errors import UserError, WorkerLost
from foreground.training.replay import Replay
from foreground.training.rollout import Rollout, random_policy
from tests.faults import start
from tests.support.small import row_layout


class Counting(gymnasium.Env):
    """Its picture says how many steps its episode has had, and which episode of how many it is."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, fails_at: int = 0, slow: float = 0.0):
        self.fails_at, self.slow, self.number = fails_at, slow, 0

    @property
    def snapshot(self) -> dict:
        return {"number": self.number}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number = 0
        return self.picture(), {}

    def step(self, action):
        self.number += 1
        time.sleep(self.slow)
        if self.number == self.fails_at:
            raise RuntimeError("the pendulum broke")
        return self.picture(), 1.0, False, self.number == 6, {}

    def picture(self) -> np.ndarray:
        return np.full((8, 8, 3), self.number, np.uint8)


@pytest.fixture(scope="module", autouse=True)
def server():
    """Fork the processes of environments from one that has their imports."""
    start.serve()


def workers(patience=20.0, **fields) -> Workers:
    return Workers([functools.partial(Counting, **fields)] * 2, patience)


def rows_of(rollout: Rollout, number: int, replay: Replay) -> None:
    act = random_policy(rollout.envs, np.random.default_rng(0))
    for _ in range(number):
        replay.add(rollout.step(act))


def test_they_are_what_they_were_without_processes(capfd):
    envs = workers()
    try:
        rollout = Rollout(envs, None, 0)
        act = random_policy(envs, np.random.default_rng(0))
        seen = [rollout.step(act)["image"][:, 0, 0, 0].tolist() for _ in range(9)]
        assert seen == [[n, n] for n in (0, 1, 2, 3, 4, 5, 6, 0, 1)]
        assert rollout.state()["envs"] == [{"number": 1}] * 2
    finally:
        envs.close()
    assert not any(process.is_alive() for process in envs.envs.processes)
    assert capfd.readouterr().err == ""


def test_every_signal_has_a_name():
    names = {number: name_of(number) for number in range(1, 65)}
    assert names[9] == "SIGKILL"
    assert names[35] == "SIGRTMIN+1"
    assert names[32] == "signal 32"  # the C library keeps it for itself
    assert len(set(names.values())) == 64


GONE = [(signal.SIGKILL, "1 was killed (SIGKILL)"), (signal.SIGSTOP, "1 gave no answer for 2 s")]


@pytest.mark.parametrize(("how", "words"), GONE)
def test_one_that_is_gone_is_named_and_replaced(capfd, how, words):
    """At a moment between two steps; what follows begins an episode everywhere, and every row is
    right.
    """
    envs = workers(patience=2.0)
    try:
        rollout, replay = Rollout(envs, None, 0), Replay(row_layout((8, 8, 3), 1), 200, num_envs=2)
        rows_of(rollout, 4, replay)
        os.kill(envs.envs.processes[1].pid, how)
        rows_of(rollout, 5, replay)
        rows = replay.peek(2, 9)
    finally:
        envs.close()
    assert f"the process of environment {words}" in capfd.readouterr().err
    assert rows["image"][:, :, 0, 0, 0].tolist() == [[0, 1, 2, 3, 0, 1, 2, 3, 4]] * 2
    assert (
        rows["is_first"].tolist()
        == [[True, False, False, False, True, False, False, False, False]] * 2
    )
    assert rows["reward"].tolist() == [[0, 1, 1, 1, 0, 1, 1, 1, 1]] * 2
    assert envs.lost == 1


def test_a_save_that_finds_one_gone_has_no_episode_to_go_on_with(capfd):
    envs = workers()
    try:
        rollout, replay = Rollout(envs, None, 0), Replay(row_layout((8, 8, 3), 1), 200, num_envs=2)
        rows_of(rollout, 3, replay)
        os.kill(envs.envs.processes[0].pid, signal.SIGKILL)
        assert rollout.state() == {}
        rows_of(rollout, 2, replay)
        assert replay.peek(2, 5)["image"][0, :, 0, 0, 0].tolist() == [0, 1, 2, 0, 1]
    finally:
        envs.close()
    assert "environment 0 was killed" in capfd.readouterr().err


# Gymnasium prints the traceback of the process.
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_one_that_fails_again_and_again_is_an_error(capfd):
    envs = workers(fails_at=1)
    try:
        envs.reset(seed=0)
        for _ in range(MOST_IN_A_ROW):
            with pytest.raises(WorkerLost):
                envs.step(np.zeros((2, 1), np.float32))
            envs.reset(seed=0)
        with pytest.raises(
            UserError, match=r"the pendulum broke.*4 times in a row.*--environment.num_envs 1"
        ) as error:
            envs.step(np.zeros((2, 1), np.float32))
    finally:
        envs.close()
    assert error.value.exit_code == 5


class Odd(Counting):
    """Fails with what cannot leave a process, or with a user's mistake."""

    def __init__(self, mistake: bool):
        super().__init__()
        self.mistake, self.held = mistake, 0

    def step(self, action):
        if self.mistake:
            raise UserError("no such clip", "clips/a.mp4", "put it back")
        error = RuntimeError("locked")
        error.lock = threading.Lock()
        raise error

    @property
    def snapshot(self) -> dict:
        return {"held": self.held}

    @snapshot.setter
    def snapshot(self, taken: dict) -> None:
        if taken["held"] < 0:
            raise ValueError("another simulator took this")
        self.held = taken["held"]


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.timeout(60)
def test_what_an_environment_raises_arrives_in_words(capfd):
    envs = Workers([functools.partial(Odd, False)] * 2, 20.0)
    try:
        envs.reset(seed=0)
        with pytest.raises(WorkerLost, match="RuntimeError: locked"):
            envs.step(np.zeros((2, 1), np.float32))
    finally:
        envs.close()
    envs = Workers([functools.partial(Odd, True)] * 2, 20.0)
    try:
        envs.reset(seed=0)
        with pytest.raises(UserError, match=r"^error: no such clip: clips/a.mp4: put it back$"):
            envs.step(np.zeros((2, 1), np.float32))
    finally:
        envs.close()


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.timeout(60)
def test_snapshots_are_handed_out_one_each_and_may_be_refused(capfd):
    envs = Workers([functools.partial(Odd, False)] * 2, 20.0)
    try:
        envs.set_attr("snapshot", [{"held": 3}, {"held": 4}])
        assert envs.get_attr("snapshot") == ({"held": 3}, {"held": 4})
        with pytest.raises(ValueError, match="another simulator"):
            envs.set_attr("snapshot", [{"held": 1}, {"held": -1}])
        assert envs.reset(seed=0)[0].shape == (2, 8, 8, 3)
        assert envs.lost == 0
    finally:
        envs.close()


def test_a_slow_one_is_waited_for():
    envs = workers(patience=5.0, slow=0.5)
    try:
        envs.reset(seed=0)
        envs.step(np.zeros((2, 1), np.float32))
        assert envs.lost == 0
    finally:
        envs.close()
