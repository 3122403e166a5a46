"""Check that every agent still learns.

    python -m benchmarks.learning [AGENT ...] [--option value ...]

Without names of agents it checks all of them. Options are those of train.py.

The task is a square on a small image of noise. One motor moves it sideways; it starts near an edge,
and the reward is its nearness to the centre. Networks are small, and there is one process per core.
An agent passes when its deterministic policy closes most of the gap between the random and the
optimal policy. An agent with skills passes when most of the variance of the square's final place is
between skills. An agent of goals passes when the square ends much nearer to the place that its goal
picture shows than to those of other goals. An agent for a family of games plays two, given as a
number: near the left, near the right. An agent that follows a run has one trained first, of the
agent in BEGIN. Training lasts 600 updates at most. It ends early once the agent is well above the
threshold at two measurements in a row. Prints a line per agent and one JSON line last; exit code 1
when one of them does not learn. Options go to every agent, so that a fault can be planted:
``--optimiser.actor_lr 1e-9``.
"""

import io
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
import unittest.mock
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import ClassVar

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from foreground import saved
from foreground.agents.agent import WorldModelAgent
from foreground.agents.commanders import Fixed
from foreground.agents.goal import GoalPrior
from foreground.agents.registry import commanders
from foreground.configs import run as runs
from foreground.errors import UserError, nearest, run_main, say
from foreground.evaluation.driver import Driver, memory_of, policy_of
from foreground.evaluation.episodes import play
from foreground.evaluation.goals import look
from foreground.evaluation.report import agent_policy, uniform_policy
from foreground.training import options
from foreground.training.logger import Logger
from foreground.training.option_help import described
from foreground.training.progress import Progress
from foreground.training.replay import Replay
from foreground.training.rollout import Rollout, layout_of
from foreground.training.trainer import Trainer
from foreground.world_models.world_model import Spaces

ROOT = Path(__file__).parents[1]
SIZE, SQUARE, SPEED, LENGTH = 32, 6, 3.0, 25
# Of the signal "use", small compared with discovery: `slim_sum` adds them unscaled, and must still
# discover.
USE = 0.05
FRAMES = 1500  # env frames of training: 600 updates after the prefill
CLOSED = 0.6  # share of the gap, or of the variance, that must be reached
# Env frames between two measurements; the share that ends training, at two of them in a row.
EVERY, ENOUGH = 100, 0.8
GAMES = ((-1.0,), (1.0,))  # their descriptor: the target of the square, from edge to edge
# The first does not see the game, so that no gap can be closed; the second has frozen skills, which
# bound what it can do (docs/notebook/2026-11-28-skill-actor.md).
LEFT_OUT = ("unimodal", "hierarchical")
CHECKED = [name for name in runs.AGENTS if name not in LEFT_OUT]
# Agent -> that of the run that it follows.
BEGIN = {"goal_from": "goal", "finetune": "metra"}
# A task with one action, as the square has: an agent that follows a run compares their numbers.
# Families of games refuse it.
ONE_ACTION = ["--task", "cartpole-balance"]
PRELOADED = ["foreground.train", "torch._dynamo"]  # torch.optim imports the latter when first used
SKILLS = 8  # that are tested, each from several starts
SMALL = """
--size cpu --device cpu --compile false --environment.image_size 32 --environment.action_repeat 1
--environment.time_limit 25 --training.batch_size 16 --training.batch_length 8
--training.train_ratio 64 --training.prefill 300 --world_model.depth 8 --world_model.embedding 64
--world_model.units 64 --world_model.layers 1 --world_model.rssm.deterministic 64
--world_model.rssm.hidden 64 --world_model.rssm.groups 8 --world_model.rssm.classes 8
--world_model.empowerment.units 64 --world_model.objective.pilot_updates 50
--actor_critic.units 64 --actor_critic.layers 1 --actor_critic.horizon 6
--actor_critic.imag_starts 64 --actor_critic.discount 0.9 --optimiser.model_lr 2e-3
--optimiser.actor_lr 2e-3 --optimiser.critic_lr 2e-3 --skill.duration 25 --discovery.units 64
--discovery.layers 1 --discovery.lr 2e-3
"""


def wanted(game: tuple[float]) -> float:
    """Return where a game wants the square."""
    return (SIZE - SQUARE) / 2 * (1 + 0.8 * game[0])


class Dot(gymnasium.Env):
    """A square over noise that is drawn anew at every step; observation uint8 (32, 32, 3), action
    (1,) in [-1, 1].
    """

    metadata: ClassVar[dict] = {"render_fps": 20}
    observation_space = gymnasium.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(
        self,
        signals: tuple[str, ...] = (),
        games: tuple[tuple[float], ...] = (),
        numbers: bool = False,
        clip: bool = False,
    ):
        self.signals, self.games, self.game = signals, games, games[0] if games else (0.0,)
        self.numbers, self.clip = numbers, clip  # whether it tells its place, or its noise alone
        self.noise = np.zeros((SIZE, SIZE, 3), np.uint8)
        self.place = 0.0
        told = {name: (value.shape, np.float32) for name, value in self._told(0.0, 0.0).items()}
        self.metadata = {**self.metadata, "info_fields": told}

    @property
    def snapshot(self) -> dict:
        """As DMCEnv's: a checkpoint has it."""
        return {
            "place": self.place,
            "step": self.step_number,
            "game": self.game,
            "random": self.np_random.bit_generator.state,
        }

    @snapshot.setter
    def snapshot(self, taken: dict) -> None:
        self.place, self.step_number, self.game = taken["place"], taken["step"], taken["game"]
        self.np_random.bit_generator.state = taken["random"]

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        if self.games:
            self.game = self.games[int(self.np_random.integers(len(self.games)))]
        self.step_number, edge = 0, self.np_random.uniform(0, 4)
        self.place = edge if self.np_random.random() < 0.5 else SIZE - SQUARE - edge
        image, told = self._picture(), self._told(0.0, 0.0)
        return image, {
            name: value * 0 if name == "signals" else value for name, value in told.items()
        }

    def _told(self, use: float, safety: float) -> dict:
        if self.games:
            every = [self.near(game) for game in self.games]
            return {"game": np.array(self.game, np.float32), "signals": np.array(every, np.float32)}
        told = {"proprioception": np.array([self.place], np.float32)} if self.numbers else {}
        if self.clip:
            told["clip"] = self.noise
        if self.signals:
            values = {"use": use, "safety": safety}
            told["signals"] = np.array([values[name] for name in self.signals], np.float32)
        return told

    def step(self, action):
        if self.step_number >= LENGTH:  # stepped after its end
            image, told = self.reset()
            return image, 0.0, False, False, told
        self.step_number += 1
        self.place = float(np.clip(self.place + SPEED * float(action[0]), 0, SIZE - SQUARE))
        size = abs(float(action[0]))
        image = self._picture()
        told = self._told(USE * self.near(self.game), -max(0.0, size - 0.9))
        return image, self.near(self.game), False, self.step_number >= LENGTH, told

    def near(self, game: tuple[float]) -> float:
        """Return 1 where a game wants the square (by default the centre), 0 half an image away."""
        return 1 - abs(self.place - wanted(game)) / ((SIZE - SQUARE) / 2)

    def _picture(self) -> np.ndarray:
        self.noise = self.np_random.integers(0, 120, (SIZE, SIZE, 3), dtype=np.uint8)
        image = self.noise.copy()
        left = round(self.place)
        image[13 : 13 + SQUARE, left : left + SQUARE] = (250, 200, 40)
        return image


def best_policy(envs: SyncVectorEnv):
    """Return the optimal policy: straight to the target."""

    def act(memory, image, is_first):
        rows = [(wanted(env.unwrapped.game) - env.unwrapped.place) / SPEED for env in envs.envs]
        return torch.tensor(rows, dtype=torch.float32).clamp(-1, 1)[:, None], memory

    return act, None


def mean_return(policy, games: tuple[tuple[float], ...] = ()) -> float:
    return play(partial(Dot, games=games), policy, 20, seed=1000).mean


def decided(agent: WorldModelAgent, starts: int = 4) -> float:
    """Return the share of the variance of the square's last place that is between skills.

    Each skill is held from several starts.
    """
    places = np.zeros((starts, SKILLS))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = policy_of(agent, Fixed(agent.skills.grid(SKILLS)))
        for start in range(starts):
            envs = [Dot() for _ in range(SKILLS)]
            Driver(envs, policy, memory_of(agent, SKILLS)).run([1000 + start] * SKILLS)
            places[start] = [env.place for env in envs]
    return float(1 - places.var(0).mean() / max(places.var(), 1e-6))


def reached(agent: WorldModelAgent, starts: int = 4) -> float:
    """Return by how much nearer the square ends to its goal than to the others, as a share.

    1: at its goal; 0: as near as to any goal. Each goal is sent to from several starts.
    """
    wanted = np.linspace(0, SIZE - SQUARE, SKILLS)
    pictures = []
    for place in wanted:
        env = Dot()
        env.reset(seed=0)
        env.place = place
        pictures.append(env._picture())
    places = np.zeros((starts, SKILLS))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        policy = policy_of(agent, agent.commander.to(look(agent, np.stack(pictures)).float()))
        for start in range(starts):
            envs = [Dot() for _ in wanted]
            Driver(envs, policy, memory_of(agent, SKILLS)).run([1000 + start] * SKILLS)
            places[start] = [env.place for env in envs]
    own = np.abs(places - wanted).mean()
    any_goal = np.abs(places[..., None] - wanted).mean()
    return float(1 - own / any_goal)


def attempt(name: str, words: list[str]) -> dict:
    """Train one agent; an error becomes its row."""
    try:
        return learn(name, words)
    except Exception as error:
        traceback.print_exc()
        return failure(name, error)


def failure(name: str, error: BaseException) -> dict:
    """Return the row of an agent that did not end."""
    return {"name": name, "closed": 0.0, "error": f"{type(error).__name__}: {error}"}


def learn(name: str, words: list[str]) -> dict:
    """Train one agent; return the share that it reached at each measurement, and its cost.

    Where it follows a run, the agent of `BEGIN` is trained first.
    """
    system.prepare_environment()
    torch.set_num_threads(1)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        if name in runs.FOLLOWING:
            first = Path(folder, "first")
            train(BEGIN[name], ONE_ACTION, first)
            words = [*words, *ONE_ACTION, "--init_from", str(first)]
        shares, updates = train(name, words, Path(folder, "run"))
    return {
        "name": name,
        "closed": shares[-1],
        "shares": shares,
        "updates": updates,
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def train(name: str, words: list[str], folder: Path) -> tuple[list[float], int]:
    """Train one agent in a run folder; return the share at each measurement, and the updates."""
    config = runs.read(
        ["--agent", name, *words], cuda=False, ours=[*SMALL.split(), "--total_frames", str(FRAMES)]
    )
    games = GAMES if config.modes.num_modes else ()
    signals = ("left", "right") if games else config.signals
    numbers = config.environment.proprioception
    dot = partial(Dot, signals, games, numbers, config.environment.clip_frames)
    envs = SyncVectorEnv([dot], autoreset_mode=AutoresetMode.NEXT_STEP)
    torch.manual_seed(config.seed)
    condition = commanders()[config.commander].size(config.agent_config)
    spaces = Spaces(SIZE, 1, condition, signals, games, int(numbers))
    agent = WorldModelAgent(config.agent_config, spaces)
    if config.init_from:
        saved.load_pretrained(agent, config)
    layout = layout_of(envs) | agent.spec.layout
    rollout = Rollout(envs, agent.initial_state(1), config.seed, layout)
    replay = Replay(layout, 2 * FRAMES, seed=config.seed, recent_steps=config.training.recent_steps)
    with torch.random.fork_rng():  # measurements do not change what is learned
        measure = yardstick(agent, games)
    shares = []
    with Logger(folder, quiet=True) as logger:
        trainer = Trainer(config.training, 0, 1, agent, rollout, replay, folder, 20, lambda _: {})
        for frames in (*range(config.training.prefill + EVERY, FRAMES, EVERY), FRAMES):
            trainer.frames = frames
            trainer.run(logger, Progress(FRAMES, stream=io.StringIO()))
            with torch.random.fork_rng():
                shares.append(round(measure(), 3))
            if len(shares) > 1 and min(shares[-2:]) >= ENOUGH:
                break
    (folder / "config.yaml").write_text(options.to_yaml(config))
    return shares, trainer.update


def yardstick(agent: WorldModelAgent, games: tuple[tuple[float], ...]) -> Callable[[], float]:
    """Return what measures the agent: 0 at the random policy, 1 at the best one."""
    if isinstance(agent.commander, GoalPrior):
        return lambda: reached(agent)
    if agent.learners.keys() & {"discovery"}:
        return lambda: decided(agent)
    random, best = (mean_return(policy, games) for policy in (uniform_policy(0), best_policy))
    return lambda: (mean_return(agent_policy(agent), games) - random) / (best - random)


def processes() -> ProcessPoolExecutor:
    """Return a process per core; each is forked for one agent from one that has the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with unittest.mock.patch.dict(os.environ, PYTHONPATH=str(ROOT)):  # it does not inherit sys.path
        forkserver.ensure_running()
    return ProcessPoolExecutor(os.cpu_count(), context, max_tasks_per_child=1)


def in_processes(names: list[str], words: list[str]) -> Iterator[dict]:
    """Train each agent in a separate process; yield their rows as they end."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with processes() as pool:
        named = {pool.submit(attempt, name, words): name for name in names}
        for future in as_completed(named):
            killed = future.exception()  # its process, and with it the pool
            yield failure(named[future], killed) if killed else future.result()


def help_text() -> str:
    """Return what --help says: what is checked, the agents, where the options are told."""
    return "\n".join(
        [
            (__doc__ or "").strip(),
            "",
            "Agents, for AGENT:",
            *(f"  {row}" for row in described(runs.PRESETS, CHECKED)),
            "",
            "Options: python train.py --help",
        ]
    )


def main(argv: list[str]) -> None:
    if {"--help", "-h"} & set(argv):
        say(help_text(), sys.stdout)
        return
    start = next((index for index, word in enumerate(argv) if word.startswith("--")), len(argv))
    names, words = argv[:start], argv[start:]
    for name in names:
        if name not in CHECKED:
            raise UserError(f"unknown agent {name!r}", "command line", nearest(name, CHECKED))
    rows = []
    for row in in_processes(names or CHECKED, words):
        rows.append(row)
        print(f"{'ok  ' if row['closed'] >= CLOSED else 'FAIL'} {json.dumps(row)}", flush=True)
    failed = [row["name"] for row in rows if row["closed"] < CLOSED]
    print(
        json.dumps(
            {
                "agents": len(rows),
                "failed": failed,
                "closed": {row["name"]: row["closed"] for row in rows},
            }
        )
    )
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
