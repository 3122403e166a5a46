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
from foreground.envs import workers
from foreground.envs.workers import Workers
from foreground.errors import UserError
from foreground.training.rollout import Rollout, random_policy

NUMBER, LENGTH, ROWS, PATIENCE = 2, 9, 40, 3.0  # processes, steps of an episode, rows of a try, seconds for an answer


class Counting(gymnasium.Env):
    """Its picture is how many steps its episode has had; it fails, dawdles or dies at its start where a file says so."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, word: Path):
        self.word, self.number, self.over = word, 0, False
        start = word.with_suffix(".start")
        if multiprocessing.parent_process() and start.exists():  # one is made beside the processes, for its spaces
            number = int(start.read_text())
            start.unlink()
            os.kill(os.getpid(), number)

    @property
    def snapshot(self) -> int:
        return self.number

    @snapshot.setter
    def snapshot(self, number: int) -> None:
        self.number, self.over = number, number == LENGTH

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number = 0
        return self._picture(), {}

    def step(self, action):
        time.sleep(0.002)
        if self.over:
            self.over, self.number = False, 0
            return self._picture(), 0.0, False, False, {}
        self.number += 1
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
    """One process after another is harmed while a rollout begins, goes on from what was kept, steps and is kept; one in four
    starts is harmed, too. They are replaced, and all rows are right.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])  # each start is then a fork
    words, kept = [folder / str(index) for index in range(NUMBER)], {}
    make = functools.partial(Workers, [functools.partial(Counting, word) for word in words], PATIENCE, calm=1)
    with mock.patch.object(workers, "STARTING", 4 * PATIENCE):
        envs = make()
        try:
            while True:
                try:
                    lost, kept = one(envs, words, kept, chance)
                except UserError as error:
                    lost, kept = str(error), {}
                    envs.close()
                    envs = make()
                yield lost
        finally:
            envs.close()


def one(envs: Workers, words: list[Path], kept: dict, chance: random.Random) -> tuple[str, dict]:
    """A rollout in which one process is harmed: what was lost, and its last state that was kept."""
    how, who, before = chance.choice(("kill", "stop", "fail", "slow")), chance.randrange(NUMBER), envs.lost
    if how != "slow" and chance.random() < 0.25:  # its successor, too
        words[who].with_suffix(".start").write_text(str(int(chance.choice((signal.SIGKILL, signal.SIGSTOP)))))
    timer = threading.Timer(chance.choice((0, 0, 0.1)) * chance.random(), harm, (how, envs, who, words[who]))
    rollout, goes_on = Rollout(envs, None, chance.randrange(10**6)), chance.random() < 0.5
    if goes_on:
        envs.reset(seed=0)  # as in processes that just started
    with mock.patch.object(workers, "say") as say:
        timer.start()
        if goes_on:
            rollout.load(kept)
        rows = Rows(rollout, chance)
        for _ in range(ROWS):
            rows.one()
        timer.join()
        for _ in range(3):  # it may have come after the last step
            if words[who].exists() or (how != "slow" and envs.lost == before):
                rows.one()
    said = [call.args[0] for call in say.mock_calls]
    return judged(how, who, envs.lost - before, said) or rows.wrong, rows.kept


class Rows:
    """Rows of a rollout, kept now and then as a checkpoint keeps it; `wrong` says what is not right about one of them.

    Each is the first of an episode, or one step on from the last, and from what was taken up.
    """

    def __init__(self, rollout: Rollout, chance: random.Random):
        self.rollout, self.chance, self.kept, self.wrong = rollout, chance, {}, ""
        self.act = random_policy(rollout.envs, np.random.default_rng(0))
        self.number = rollout.row["image"][:, 0, 0, 0].astype(int) if rollout.row else np.full(NUMBER, LENGTH)

    def one(self) -> None:
        """The next row."""
        row = self.rollout.step(self.act)
        number, first = row["image"][:, 0, 0, 0].astype(int), row["is_first"]
        right = np.where(first, (number == 0) & (row["reward"] == 0), (number == self.number + 1) & (row["reward"] == number))
        if not right.all() or not first[self.number == LENGTH].all():
            self.wrong = self.wrong or f"after {self.number} came {number}, reward {row['reward']}, first {first}"
        self.number = number
        if self.chance.random() < 0.3:
            self.kept = self.rollout.state()
            if self.kept and self.kept["envs"] != number.tolist():
                self.wrong = self.wrong or f"at {number} was kept {self.kept['envs']}"
            if not self.kept:  # a process was lost: new episodes
                self.number = np.full(NUMBER, LENGTH)


def judged(how: str, who: int, losses: int, said: list[str]) -> str:
    """What is not right about what was noticed and said."""
    if how == "slow":
        return f"slow: {said}" if losses or said else ""
    words = {"kill": f"environment {who} was killed (SIGKILL)", "stop": f"environment {who} gave no answer", "fail": "it broke"}
    return "" if losses == 1 and len(said) == 1 and words[how] in said[0] else f"{how} {who}: {losses} losses, said {said}"


def harm(how: str, envs: Workers, who: int, word: Path) -> None:
    """Done to one process."""
    if how in ("kill", "stop"):
        os.kill(envs.envs.processes[who].pid, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
    else:
        beside = word.with_suffix(".new")
        beside.write_text(how)
        beside.rename(word)  # whole at once: it may be read this moment
