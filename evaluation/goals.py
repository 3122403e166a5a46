"""Goals given as pictures: how near a robot comes to them before another clip than the goal's.

A policy of goals is conditioned on the goal (agents/goal.py). A policy of skills takes at every
step the skill that leads there by discovery's map, as in METRA (arXiv 2310.08887) and CSF (arXiv
2412.08021). Both use the latent of the picture: the world model sees it for `LOOK` steps. Distances
are in bins of coverage (posture.py), since a small budget mostly learns posture. A robot that only
moves about passes many goals, so each attempt is also measured against another goal.

Shapes: N environments, G goals, T agent steps, S simulator numbers, H, W image.
"""

from collections.abc import Callable
from typing import NamedTuple

import gymnasium
import numpy as np
import torch

from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import Commander, Held
from foreground.agents.commanders import Fixed, resampled
from foreground.agents.goal import GoalPrior
from foreground.agents.memory import Memory
from foreground.configs.run import RunConfig
from foreground.envs.offers import Backed, Simulated, offered
from foreground.evaluation import posture, progress
from foreground.evaluation.driver import Callback, Driver, Film, Moment, memory_of, policy_of
from foreground.evaluation.skills import in_steps, in_waves
from foreground.world_models.rssm import State

LOOK = 8  # steps for which the model looks at a goal
RADII = (3, 1)  # bins
TRIES = 50  # starts among which one with another clip than the goal's is looked for
NO_CLIP = -1


class Goal(NamedTuple):
    """An image, its simulator state and the clip behind it."""

    image: np.ndarray  # uint8 (H, W, 3)
    state: np.ndarray  # (S,)
    clip: int = NO_CLIP  # its number within the side that plays


class Attempts(NamedTuple):
    """One attempt at each goal."""

    distance: np.ndarray  # (G, T), bins between robot and goal after each step
    other: np.ndarray  # (G, T), the same to the next goal of the list, to which it was not sent
    same_clip: np.ndarray  # bool (G,), whether the goal's clip plays where the robot starts
    film: np.ndarray  # uint8 (first wave, T, H, W, 3)
    render_fps: float = 20.0


def tried(
    config: RunConfig,
    agent: WorldModelAgent,
    make_env: Callable[[], gymnasium.Env],
    number: int,
    name: str,
) -> tuple[list[Goal], Attempts]:
    """Return `number` goals and an attempt at each.

    Goals are the ends of random walks as long as training holds a skill or goal. The robot has
    twice that.

    name   of the background, for the line of progress
    """
    longest = config.environment.time_limit // config.environment.action_repeat
    steps, most = (min(times * config.skill.duration, longest) for times in (1, 2))
    seed, ticks = config.evaluation.seed, number * steps + in_steps(number, most)
    with progress.stage(f"{name}, goals", number, "goal", ticks):
        aims = draw(make_env, number, steps, seed)
        return aims, attempt(agent, make_env, aims, most, seed)


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
            state = offered(env, Simulated).simulator_state()
            goals.append(Goal(image, state, clip_of(env)))
    finally:
        env.close()
    return goals


def clip_of(env: gymnasium.Env) -> int:
    """Return the number of the clip behind the robot, `NO_CLIP` where none plays."""
    backed = offered(env, Backed)
    return NO_CLIP if backed is None or backed.background is None else backed.background.clip


def start(env: gymnasium.Env, goal: Goal, seed: int) -> tuple[int, bool]:
    """Return the seed of a start, and whether the goal's clip plays there.

    It is `seed`, or the next in steps of 1,000 with another clip. A side with one clip has none.
    """
    if goal.clip == NO_CLIP:
        return seed, False
    for candidate in range(seed, seed + 1000 * TRIES, 1000):
        env.reset(seed=candidate)
        if clip_of(env) != goal.clip:
            return candidate, False
    return seed, True


def attempt(
    agent: WorldModelAgent,
    make_env: Callable[[], gymnasium.Env],
    goals: list[Goal],
    steps: int,
    seed: int,
) -> Attempts:
    """Send the robot to each goal for `steps` agent steps, from a start that differs from the
    goal's.
    """

    def wave(envs: list[gymnasium.Env], rows: slice) -> tuple:
        fps = envs[0].metadata.get("render_fps", 20.0)
        found = _attempt(agent, envs, goals[rows], others[rows], steps, seed + rows.start)
        return *found, fps

    others = goals[1:] + goals[:1]
    distances, same, films, fps = zip(*in_waves(make_env, len(goals), wave))
    distance, other = np.concatenate(distances, 1)
    return Attempts(distance, other, np.concatenate(same), films[0], fps[0])


def measures(attempts: Attempts) -> dict[str, float]:
    """Return shares of goals hit at some step and held at the end, and of steps at the goal, by
    radius.

    `distance` is the mean smallest distance, in bins. `same_clip` is the share of goals whose clip
    plays where the robot starts. `other_...` are those of another goal than the robot was sent to,
    which is what the same moves reach by chance; of a single goal there is none.
    """
    row = {"same_clip": float(attempts.same_clip.mean())}
    ways = {"": attempts.distance}
    if len(attempts.distance) > 1:
        ways["other_"] = attempts.other
    for whose, distance in ways.items():
        row[f"{whose}distance"] = float(distance.min(1).mean())
        for radius in RADII:
            near = distance <= radius
            found = {"hit": near.any(1).mean(), "end": near[:, -1].mean(), "stay": near.mean()}
            row |= {f"{whose}{name}_{radius}": float(value) for name, value in found.items()}
    return row


def leading(agent: WorldModelAgent, target: torch.Tensor) -> Commander:
    """Return the commander that leads to latents (N, F)."""
    own = agent.commander
    return own.to(target) if isinstance(own, GoalPrior) else Towards(agent, target)


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
    """Keeps the bins between robot and goals (2, N, S) after each step: `rows`, [(2, N)]."""

    def __init__(self, body: posture.Body, aims: np.ndarray):
        self.body = body
        self.aims = aims
        self.rows: list[np.ndarray] = []

    def on_step(self, moment: Moment) -> None:
        state = np.stack([offered(env, Simulated).simulator_state() for env in moment.envs])
        self.rows.append(posture.distance(self.body, state, self.aims))


@torch.no_grad()
def _attempt(
    agent: WorldModelAgent,
    envs: list[gymnasium.Env],
    goals: list[Goal],
    others: list[Goal],
    steps: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distances to goals and to others after each step (2, N, T), whether the goal's
    clip plays (N,), the film.
    """
    aims = np.stack([[goal.state for goal in each] for each in (goals, others)])  # (2, N, S)
    distances = Distances(posture.body(offered(envs[0], Simulated).physics), aims)
    film = Film()
    leader = leading(agent, look(agent, np.stack([goal.image for goal in goals])).float())
    seeds, same = zip(
        *(
            start(env, goal, seed + 10_000 + index)
            for index, (env, goal) in enumerate(zip(envs, goals))
        )
    )
    driver = Driver(envs, policy_of(agent, leader), memory_of(agent, len(envs)), [distances, film])
    driver.run(seeds, steps)
    return np.stack(distances.rows, -1), np.array(same), np.stack(film.images, 1)


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
