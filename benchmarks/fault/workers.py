"""Environments in processes of their own, killed, stopped, failing or slow at any moment: noticed, and no wrong row is kept."""

import functools
import os
import random
import signal
import threading
import time
from pathlib import Path

import gymnasium
import numpy as np

from benchmarks.fault import Tries
from envs.workers import Workers
from training.replay import Replay
from training.rollout import Rollout, random_policy

NUMBER, LENGTH, ROWS, PATIENCE = 2, 9, 40, 1.5  # processes, steps of an episode, rows of a try, seconds for an answer


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
            time.sleep(PATIENCE / 3)
        return self._picture(), float(self.number), False, self.number == LENGTH, {}

    def _picture(self) -> np.ndarray:
        return np.full((8, 8, 3), self.number, np.uint8)


def worker(folder: Path, chance: random.Random) -> Tries:
    """One after another on the same environments, whose rows say what is right."""
    words = [folder / f"word{index}" for index in range(NUMBER)]
    envs = Workers([functools.partial(Counting, word) for word in words], PATIENCE, calm=1)
    try:
        while True:
            how, who, lost = chance.choice(("kill", "stop", "fail", "slow")), chance.randrange(NUMBER), envs.lost
            process = envs.envs.processes[who]
            timer = threading.Timer(chance.uniform(0, 0.1), harm, (how, process.pid, words[who]))
            replay = Replay(2 * NUMBER * ROWS, (8, 8, 3), 1, num_envs=NUMBER)
            rollout = Rollout(envs, None, chance.randrange(10**6))
            act = random_policy(envs, np.random.default_rng(0))
            timer.start()
            for _ in range(ROWS):
                replay.add(rollout.step(act))
            timer.join()
            if words[who].exists():  # it came after the last step
                words[who].unlink(missing_ok=True)
            elif envs.lost - lost != (how != "slow") and how not in ("kill", "stop"):
                yield f"{how}: {envs.lost - lost} losses were noticed"
                continue
            yield wrong(replay) and f"{how}: {wrong(replay)}"
    finally:
        envs.close()


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
