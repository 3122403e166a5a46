"""Zero-shot goals: given a goal image, choose at every step the skill that leads there by
discovery's map.

As in METRA (arXiv 2310.08887) and CSF (arXiv 2412.08021), but with the latent of the image: the
world model sees it for `LOOK` steps. Distances are in bins of coverage (posture.py), since a small
budget mostly learns posture.

Shapes: N environments, S simulator numbers, H, W image.
"""

from collections.abc import Callable
from typing import NamedTuple

import gymnasium
import numpy as np
import torch

from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import Held
from foreground.agents.commanders import Fixed, resampled
from foreground.agents.memory import Memory
from foreground.envs.offers import Simulated, offered
from foreground.evaluation import posture
from foreground.evaluation.driver import Callback, Driver, Moment, memory_of, policy_of
from foreground.evaluation.skills import in_waves
from foreground.world_models.rssm import State

LOOK = 8  # steps for which the model looks at a goal
RADII = (3, 1)  # bins


class Goal(NamedTuple):
    """An image and its simulator state."""

    image: np.ndarray  # uint8 (H, W, 3)
    state: np.ndarray  # (S,)


def draw(make_env: Callable[[], gymnasium.Env], number: int, steps: int, seed: int) -> list[Goal]:
    """Return the ends of smooth random walks of `steps` agent steps from `number` starts, equal for
    all agents.
    """
    env = make_env()
    goals = []

    def walk(memory: tuple[np.random.Generator, np.ndarray], *_: torch.Tensor):
        random, last = memory
        last = 0.9 * last + 0.44 * random.normal(size=env.action_space.shape)  # deviation 1
        return torch.as_tensor(np.clip(last, -1, 1), dtype=torch.float32)[None], (random, last)

    try:
        for index in range(number):
            random = np.random.default_rng([seed, index])
            end = Driver(
                [env], walk, lambda _, random=random: (random, np.zeros(env.action_space.shape))
            )
            image = end.run([seed + index], steps).image[0]
            goals.append(Goal(image, offered(env, Simulated).simulator_state()))
    finally:
        env.close()
    return goals


def reach(
    agent: WorldModelAgent,
    make_env: Callable[[], gymnasium.Env],
    goals: list[Goal],
    steps: int,
    seed: int,
) -> dict[str, float]:
    """Return shares of goals hit at some step and held at the end, and of steps at the goal, by
    radius.

    Each goal has its own start, which differs from the goal's. `distance` is the mean smallest
    distance, in bins.
    """

    def wave(envs: list[gymnasium.Env], rows: slice) -> np.ndarray:
        return _distances(agent, envs, goals[rows], steps, seed + rows.start)

    distances = np.concatenate(in_waves(make_env, len(goals), wave))  # (goals, T)
    row = {"distance": float(distances.min(1).mean())}
    for radius in RADII:
        near = distances <= radius
        found = {"hit": near.any(1).mean(), "end": near[:, -1].mean(), "stay": near.mean()}
        row |= {f"{name}_{radius}": float(value) for name, value in found.items()}
    return row


class Towards:
    """A commander that takes, at every step, the skill that leads to a latent (N, F)."""

    def __init__(self, agent: WorldModelAgent, target: torch.Tensor):
        self.agent = agent
        self.target = target

    def __call__(
        self, memory: Memory, see: Callable[[], State], is_first: torch.Tensor, explore: bool
    ) -> Held:
        direction = self.agent.discovery.direction(see().feature.float(), self.target)
        return resampled(memory, torch.ones_like(is_first), self.agent.skills.nearest(direction))


class Distances(Callback):
    """Keeps the bins between robot and goal after each step: `rows`, a list of (N,)."""

    def __init__(self, body: posture.Body, aim: np.ndarray):
        self.body = body
        self.aim = aim
        self.rows: list[np.ndarray] = []

    def on_step(self, moment: Moment) -> None:
        state = np.stack([offered(env, Simulated).simulator_state() for env in moment.envs])
        self.rows.append(posture.distance(self.body, state, self.aim))


@torch.no_grad()
def _distances(
    agent: WorldModelAgent, envs: list[gymnasium.Env], goals: list[Goal], steps: int, seed: int
) -> np.ndarray:
    """Return the bins between robot and goal after each step, (N, T)."""
    distances = Distances(
        posture.body(offered(envs[0], Simulated).physics), np.stack([goal.state for goal in goals])
    )
    towards = Towards(agent, look(agent, np.stack([goal.image for goal in goals])).float())
    driver = Driver(envs, policy_of(agent, towards), memory_of(agent, len(envs)), [distances])
    driver.run([seed + 10_000 + index for index in range(len(envs))], steps)
    return np.stack(distances.rows, 1)


def look(agent: WorldModelAgent, images: np.ndarray) -> torch.Tensor:
    """Return the latent (N, F) of images (N, H, W, 3) that are shown for several steps."""
    memory = agent.initial_state(len(images))
    first = torch.ones(len(images), dtype=torch.bool)
    for _ in range(LOOK):
        _, memory = agent.act(
            memory,
            torch.from_numpy(images),
            first,
            explore=False,
            commander=Fixed(memory.condition),
        )
        memory = memory.with_action(torch.zeros_like(memory.action))
        first = torch.zeros_like(first)
    return memory.state.feature
