"""Environment processes that are killed, stopped, slow or fail: no wrong row is kept."""

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

from foreground.envs import workers
from foreground.envs.workers import Workers
from foreground.errors import UserError
from foreground.training.rollout import Rollout, random_policy
from tests.faults import Tries

NUMBER = 2  # processes
LENGTH = 9  # steps of an episode
ROWS = 40  # of a try
PATIENCE = 3.0  # seconds for an answer


class Counting(gymnasium.Env):
    """Its image shows the step of the episode.

    It fails, waits or dies at its start where a file says so.
    """

    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, word: Path):
        self.word = word
        self.number = 0
        self.over = False
        start = word.with_suffix(".start")
        # Not in the main process, which makes one for its spaces.
        if multiprocessing.parent_process() and start.exists():
            number = int(start.read_text())
            start.unlink()
            os.kill(os.getpid(), number)

    @property
    def snapshot(self) -> int:
        return self.number

    @snapshot.setter
    def snapshot(self, number: int) -> None:
        self.number = number
        self.over = number == LENGTH

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number = 0
        return self._picture(), {}

    def step(self, action):
        time.sleep(0.002)
        if self.over:
            self.over = False
            self.number = 0
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
    """Harm one process while a rollout starts, resumes, steps or is saved; one in four restarts as
    well.

    Processes must be replaced, and all rows must be right.
    """
    # So that each start is a fork.
    multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])
    words = [folder / str(index) for index in range(NUMBER)]
    kept: dict = {}
    make = functools.partial(
        Workers, [functools.partial(Counting, word) for word in words], PATIENCE, calm=1
    )
    with mock.patch.object(workers, "STARTING", 4 * PATIENCE):
        envs = make()
        try:
            while True:
                try:
                    lost, kept = one(envs, words, kept, chance)
                except UserError as error:
                    lost = str(error)
                    kept = {}
                    envs.close()
                    envs = make()
                yield lost
        finally:
            envs.close()


def one(envs: Workers, words: list[Path], kept: dict, chance: random.Random) -> tuple[str, dict]:
    """Harm one process during a rollout; return what was lost, and the last saved state."""
    how = chance.choice(("kill", "stop", "fail", "slow"))
    who = chance.randrange(NUMBER)
    before = envs.lost
    if how != "slow" and chance.random() < 0.25:  # its successor as well
        words[who].with_suffix(".start").write_text(
            str(int(chance.choice((signal.SIGKILL, signal.SIGSTOP))))
        )
    timer = threading.Timer(
        chance.choice((0, 0, 0.1)) * chance.random(), harm, (how, envs, who, words[who])
    )
    rollout = Rollout(envs, None, chance.randrange(10**6))
    resumes = chance.random() < 0.5
    if resumes:
        envs.reset(seed=0)  # as in new processes
    with mock.patch.object(workers, "say") as say:
        timer.start()
        if resumes:
            rollout.load(kept)
        rows = Rows(rollout, chance)
        for _ in range(ROWS):
            rows.one()
        timer.join()
        for _ in range(3):  # the harm may have come after the last step
            if words[who].exists() or (how != "slow" and envs.lost == before):
                rows.one()
    said = [call.args[0] for call in say.mock_calls]
    return judged(how, who, envs.lost - before, said) or rows.wrong, rows.kept


class Rows:
    """Rows of a rollout whose state is sometimes saved, as for a checkpoint.

    `wrong` returns the error of a row.

    Each row must be the first of an episode, or the successor of the last one or of the loaded
    state.
    """

    def __init__(self, rollout: Rollout, chance: random.Random):
        self.rollout = rollout
        self.chance = chance
        self.kept: dict = {}
        self.wrong = ""
        self.act = random_policy(rollout.envs, np.random.default_rng(0))
        self.number = (
            rollout.row["image"][:, 0, 0, 0].astype(int) if rollout.row else np.full(NUMBER, LENGTH)
        )

    def one(self) -> None:
        """Take and check the next row."""
        row = self.rollout.step(self.act)
        number = row["image"][:, 0, 0, 0].astype(int)
        first = row["is_first"]
        right = np.where(
            first,
            (number == 0) & (row["reward"] == 0),
            (number == self.number + 1) & (row["reward"] == number),
        )
        if not right.all() or not first[self.number == LENGTH].all():
            self.wrong = (
                self.wrong
                or f"after {self.number} came {number}, reward {row['reward']}, first {first}"
            )
        self.number = number
        if self.chance.random() < 0.3:
            self.kept = self.rollout.state()
            if self.kept and self.kept["envs"] != number.tolist():
                self.wrong = self.wrong or f"at {number} was kept {self.kept['envs']}"
            if not self.kept:  # a process was lost: new episodes
                self.number = np.full(NUMBER, LENGTH)


def judged(how: str, who: int, losses: int, said: list[str]) -> str:
    """Return the error in the number of losses and the messages, or an empty text."""
    if how == "slow":
        return f"slow: {said}" if losses or said else ""
    words = {
        "kill": f"environment {who} was killed (SIGKILL)",
        "stop": f"environment {who} gave no answer",
        "fail": "it broke",
    }
    return (
        ""
        if losses == 1 and len(said) == 1 and words[how] in said[0]
        else f"{how} {who}: {losses} losses, said {said}"
    )


def harm(how: str, envs: Workers, who: int, word: Path) -> None:
    """Harm one process."""
    if how in ("kill", "stop"):
        os.kill(envs.envs.processes[who].pid, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
    else:
        beside = word.with_suffix(".new")
        beside.write_text(how)
        beside.rename(word)  # atomic: it may be read at any moment
