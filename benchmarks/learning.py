"""Check that every agent still learns.

    python -m benchmarks.learning [AGENT ...] [--option value ...]

Without names of agents it checks all of them. Options are those of train.py.

The task is a square on a small image of noise. One motor moves it sideways; it starts near an edge,
and the reward is its nearness to the centre. Networks are small; there are 600 updates and one
process per core. An agent passes when its deterministic policy closes most of the gap between the
random and the optimal policy. An agent with skills passes when most of the variance of the square's
final place is between skills. An agent for a family of games plays two, given as a number: near the
left, near the right. Prints a line per agent and one JSON line last; exit code 1 when one of them
does not learn. Options go to every agent, so that a fault can be planted:
``--optimiser.actor_lr 1e-9``.
"""

import io
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import ClassVar

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from benchmarks import pool
from foreground.agents.agent import WorldModelAgent
from foreground.agents.commanders import Fixed
from foreground.agents.registry import commanders
from foreground.configs import run as runs
from foreground.errors import UserError, nearest, run_main, say
from foreground.evaluation.driver import Driver, memory_of, policy_of
from foreground.evaluation.episodes import play
from foreground.evaluation.report import agent_policy, uniform_policy
from foreground.training.logger import Logger
from foreground.training.option_help import described
from foreground.training.progress import Progress
from foreground.training.replay import Replay
from foreground.training.rollout import Rollout, layout_of
from foreground.training.trainer import Trainer
from foreground.world_models.world_model import Spaces

ROOT = Path(__file__).parents[1]
PROGRAM = "benchmarks.learning"
SIZE, SQUARE, SPEED, LENGTH = 32, 6, 3.0, 25
# Of the signal "use", small compared with discovery: `slim_sum` adds them unscaled, and must still
# discover.
USE = 0.05
# Env frames of training; share of the gap, or of the variance, that must be reached.
FRAMES, CLOSED = 1500, 0.6
GAMES = ((-1.0,), (1.0,))  # their descriptor: the target of the square, from edge to edge
BLIND = ("unimodal",)  # does not see the game, so that no gap can be closed
FIRST = [name for name in runs.AGENTS if name not in (*runs.FOLLOWING, *BLIND)]
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
        for start, number in np.ndindex(places.shape):
            env, skill = Dot(), agent.skills.grid(SKILLS)[number : number + 1]
            Driver([env], policy_of(agent, Fixed(skill)), memory_of(agent, 1)).run([1000 + start])
            places[start, number] = env.place
    return float(1 - places.var(0).mean() / max(places.var(), 1e-6))


def learn(name: str, words: list[str]) -> dict:
    """Train one agent; its returns."""
    torch.set_num_threads(1)
    config = runs.read(
        ["--agent", name, *words], cuda=False, ours=[*SMALL.split(), "--total_frames", str(FRAMES)]
    )
    began = time.process_time()
    games = GAMES if config.modes.num_modes else ()
    signals = ("left", "right") if games else config.signals
    numbers = config.environment.proprioception
    dot = partial(Dot, signals, games, numbers, config.environment.clip_frames)
    envs = SyncVectorEnv([dot], autoreset_mode=AutoresetMode.NEXT_STEP)
    torch.manual_seed(config.seed)
    condition = commanders()[config.commander].size(config.agent_config)
    spaces = Spaces(SIZE, 1, condition, signals, games, int(numbers))
    agent = WorldModelAgent(config.agent_config, spaces)
    layout = layout_of(envs) | agent.spec.layout
    rollout = Rollout(envs, agent.initial_state(1), config.seed, layout)
    replay = Replay(layout, 2 * FRAMES, seed=config.seed)
    with tempfile.TemporaryDirectory() as folder, Logger(folder, quiet=True) as logger:
        trainer = Trainer(
            config.training, FRAMES, 1, agent, rollout, replay, Path(folder), 20, lambda frame: {}
        )
        trainer.run(logger, Progress(FRAMES, stream=io.StringIO()))
    if agent.discovery is not None:
        scores = {"agent": decided(agent), "random": 0.0, "best": 1.0}
    else:
        policies = {"agent": agent_policy(agent), "random": uniform_policy(0), "best": best_policy}
        scores = {key: mean_return(policy, games) for key, policy in policies.items()}
    closed = (scores["agent"] - scores["random"]) / (scores["best"] - scores["random"])
    row = {"name": name} | {key: round(value, 2) for key, value in scores.items()}
    return row | {
        "closed": round(closed, 3),
        "updates": trainer.update,
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def start(name: str, words: list[str], slot: int) -> subprocess.Popen:
    command = [sys.executable, "-m", PROGRAM, "--alone", name, *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=pool.environment(slot)
    )


def in_processes(names: list[str], words: list[str]) -> list[dict]:
    """Train each agent in a separate process."""
    rows = []
    for name, process in pool.finished(
        [(name, partial(start, name, words)) for name in names], pool.places()
    ):
        text = process.communicate()[0]
        failed = {"name": name, "closed": 0.0, "exit_code": process.returncode}
        row = failed if process.returncode else json.loads(text.splitlines()[-1])
        rows.append(row)
        print(f"{'ok  ' if row['closed'] >= CLOSED else 'FAIL'} {json.dumps(row)}", flush=True)
    return rows


def help_text() -> str:
    """Return what --help says: what is checked, the agents, where the options are told."""
    return "\n".join(
        [
            (__doc__ or "").strip(),
            "",
            "Agents, for AGENT:",
            *(f"  {row}" for row in described(runs.PRESETS, FIRST)),
            "",
            "Options: python train.py --help",
        ]
    )


def main(argv: list[str]) -> None:
    if {"--help", "-h"} & set(argv):
        say(help_text(), sys.stdout)
        return
    start = next(
        (index for index, word in enumerate(argv) if word.startswith("--") and word != "--alone"),
        len(argv),
    )
    names, words = argv[:start], argv[start:]
    if names[:1] == ["--alone"]:
        print(json.dumps(learn(names[1], words)))
        return
    for name in names:
        if name not in FIRST:
            raise UserError(f"unknown agent {name!r}", "command line", nearest(name, FIRST))
    rows = in_processes(names or FIRST, words)
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
