"""Environments in processes of their own, killed, stopped, failing or slow at any moment: noticed, and no wrong row is kept."""

import functools
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path
from unittest import mock

import gymnasium
import numpy as np

from benchmarks.fault import Tries
from envs import workers
from envs.workers import Workers
from training.replay import Replay
from training.rollout import Rollout, random_policy

NUMBER, LENGTH, ROWS, PATIENCE = 2, 9, 40, 3.0  # processes, steps of an episode, rows of a try, seconds for an answer


class Counting(gymnasium.Env):
    """Its picture is how many steps its episode has had; it fails or dawdles where a file says so."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, word: Path):
        self.word, self.number = word, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number = 0
        return self._picture(), {}

    def step(self, action):
        self.number += 1
        time.sleep(0.002)
        if self.word.exists():
            said = self.word.read_text()
            self.word.unlink(missing_ok=True)
            if said == "fail":
                raise RuntimeError("it broke")
            time.sleep(PATIENCE / 8)
        return self._picture(), float(self.number), False, self.number == LENGTH, {}

    def _picture(self) -> np.ndarray:
        return np.full((8, 8, 3), self.number, np.uint8)


def worker(folder: Path, chance: random.Random) -> Tries:
    """One process after another is harmed while a rollout goes on; they are replaced, and all rows are right."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])  # each start is then a fork
    words = [folder / str(index) for index in range(NUMBER)]
    envs = Workers([functools.partial(Counting, word) for word in words], patience=PATIENCE, calm=1)
    try:
        while True:
            how, who, lost = chance.choice(("kill", "stop", "fail", "slow")), chance.randrange(NUMBER), envs.lost
            process = envs.envs.processes[who]
            timer = threading.Timer(chance.uniform(0, 0.1), harm, (how, process.pid, words[who]))
            replay = Replay(2 * NUMBER * ROWS, (8, 8, 3), 1, num_envs=NUMBER)
            rollout = Rollout(envs, None, chance.randrange(10**6))
            act = random_policy(envs, np.random.default_rng(0))
            timer.start()
            with mock.patch.object(workers, "say") as said:
                for _ in range(ROWS):
                    replay.add(rollout.step(act))
                timer.join()
                for _ in range(3):  # it may have come after the last step
                    if words[who].exists() or (how != "slow" and envs.lost == lost):
                        replay.add(rollout.step(act))
            yield judged(how, who, envs.lost - lost, [call.args[0] for call in said.mock_calls]) or wrong(replay)
    finally:
        envs.close()


def judged(how: str, who: int, losses: int, said: list[str]) -> str:
    """What is not right about what was noticed and said."""
    if how == "slow":
        return f"slow: {said}" if losses or said else ""
    words = {"kill": f"environment {who} was killed (SIGKILL)", "stop": f"environment {who} gave no answer", "fail": "it broke"}
    return "" if losses == 1 and len(said) == 1 and words[how] in said[0] else f"{how} {who}: {losses} losses, said {said}"


def harm(how: str, pid: int, word: Path) -> None:
    """Done to one process."""
    if how in ("kill", "stop"):
        os.kill(pid, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
    else:
        beside = word.with_suffix(".new")
        beside.write_text(how)
        beside.rename(word)  # whole at once: it may be read this moment


def wrong(replay: Replay) -> str:
    """What is not right about the rows: each is the first of an episode, or one step on from the last."""
    rows = replay.peek(NUMBER, ROWS)
    number, first, reward = rows["image"][:, :, 0, 0, 0].int(), rows["is_first"], rows["reward"]
    if not first[:, 0].all() or number[first].any() or reward[first].any():
        return "an episode does not begin at its beginning"
    on = ~first[:, 1:]
    if not ((number[:, 1:] == number[:, :-1] + 1) | ~on).all() or not (reward == number).all():
        return "a row does not follow the one before"
    return ""
