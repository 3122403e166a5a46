"""New episodes with the true state at each step and the agent's latent: the data of probes.

Nothing here trains the agent.

Shapes: n steps, F features, S numbers of the state, A action, P background pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import cv2
import gymnasium
import numpy as np
import torch

from foreground.agents.agent import WorldModelAgent
from foreground.agents.memory import Memory
from foreground.envs.offers import Backed, Described, offered
from foreground.evaluation import progress
from foreground.evaluation.driver import Callback, Driver, Moment
from foreground.training import system

GRID = 8  # background pixels are averaged to GRID x GRID


@dataclass(frozen=True)
class Record:
    """Steps of whole episodes: what the agent's latent was, and what was true."""

    latent: np.ndarray  # (n, F)
    # (n, S), what the environment tells of the robot and the objects of the task; S may be 0.
    state: np.ndarray
    names: tuple[str, ...]  # of the S numbers
    action: np.ndarray  # (n, A), taken at the step
    reward: np.ndarray  # (n,), came with the step
    predicted: np.ndarray  # (n,), the model's expected reward; 0 where it has no head for it
    clip: np.ndarray  # (n,), which clip plays; -1: none
    phase: np.ndarray  # (n,), where in the clip, 0 to 1
    pixels: np.ndarray  # (n, 3 P), the clip's frame averaged to 8x8
    episode: np.ndarray  # (n,)

    def part(self, chosen: np.ndarray) -> "Record":
        """Return the steps where `chosen` (n,) is true."""
        rows = {field.name: getattr(self, field.name) for field in fields(self)}
        return Record(
            **{name: value if name == "names" else value[chosen] for name, value in rows.items()}
        )


def collect(
    agent: WorldModelAgent,
    make_env: Callable[[], gymnasium.Env],
    episodes: int,
    seed: int,
    actors: Sequence[WorldModelAgent] = (),
) -> Record:
    """Play whole episodes and note what the agent's latent holds of them.

    In the even ones a policy acts, with its noise: the agent's own, or the actors' in turn. A
    latent is read where its policy goes, so latents of several agents are compared on the episodes
    of one list of actors, which are then the same for each of them. In the odd ones a smooth random
    walk acts: without it an agent that stands still would hold little state to read.
    """
    env, rows, actors = make_env(), [], actors or (agent,)
    try:
        with system.random_kept(agent.device):
            for episode in range(episodes):
                # Four at a time: the halves that fit and score (probes.halves) both see every
                # actor.
                rows += _play(agent, actors[episode // 4 % len(actors)], env, episode, seed)
                progress.advance()
        names = tuple(_true(env)[0])
    finally:
        env.close()
    columns = [np.stack(column) for column in zip(*rows)]
    latent, state, *rest = columns
    return Record(latent, state, names, *rest)


def _play(
    agent: WorldModelAgent, actor: WorldModelAgent, env: gymnasium.Env, episode: int, seed: int
) -> list[tuple]:
    """Return one episode: a tuple per step, in the order of Record's fields without the names."""
    random, truth = np.random.default_rng([seed, episode]), Truth(agent, episode)
    walk = 0.0

    def begin(told: dict[str, np.ndarray]) -> tuple[Memory, Memory]:
        # For the noise that the actor begins with, which comes first.
        torch.manual_seed(seed + episode)
        return actor.initial_state(1).with_fields(told), agent.initial_state(1).with_fields(told)

    def act(
        memories: tuple[Memory, Memory], *seen: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[Memory, Memory]]:
        nonlocal walk
        torch.manual_seed(int(random.integers(2**62)))  # what is done may not depend on who reads
        action, acting = actor.act(memories[0], *seen)
        if episode % 2:
            walk = 0.9 * walk + 0.44 * random.normal(size=action.shape[1:])  # deviation 1
            action = torch.as_tensor(np.clip(walk, -1, 1), dtype=torch.float32)[None]
            acting = acting.with_action(action)
        return action, (acting, agent.act(memories[1], *seen)[1].with_action(action))

    Driver([env], act, begin, [truth]).run([seed + episode])
    return truth.rows


class Truth(Callback):
    """Notes at each step what the second memory's latent is and what the environment says is true:
    `rows`, a tuple a step.
    """

    def __init__(self, agent: WorldModelAgent, episode: int):
        self.agent, self.episode = agent, episode
        self.rows: list[tuple] = []

    def on_action(self, moment: Moment) -> None:
        env, model = moment.envs[0], self.agent.world_model
        feature, reward = moment.memory[1].state.feature, np.float32(moment.reward[0])
        predicted = np.float32(float(model.reward(feature)[0]) if model.rewarded else 0.0)
        _, state = _true(env)
        latent = feature[0].float().cpu().numpy()
        self.rows.append(
            (
                latent,
                state,
                moment.action[0],
                reward,
                predicted,
                *_behind(env),
                np.int64(self.episode),
            )
        )


def _true(env: gymnasium.Env) -> tuple[list[str], np.ndarray]:
    """Return names and values (S,) of the state as the environment tells it; none where it tells
    nothing.
    """
    described = offered(env, Described)
    return _flat(described.state_observation()) if described else ([], np.zeros(0, np.float32))


def _flat(observation: dict[str, np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Return names and values (S,) of a dict of arrays."""
    names, values = [], []
    for key, value in observation.items():
        value = np.atleast_1d(np.asarray(value, np.float32)).ravel()
        names += [key if len(value) == 1 else f"{key}[{index}]" for index in range(len(value))]
        values.append(value)
    return names, np.concatenate(values)


def _behind(env: gymnasium.Env) -> tuple[np.int64, np.float32, np.ndarray]:
    """Return the clip, the position in it, and its pixels averaged to 8x8."""
    backed = offered(env, Backed)
    background = None if backed is None else backed.background
    if background is None:
        return np.int64(-1), np.float32(0), np.zeros(GRID * GRID * 3, np.float32)
    small = cv2.resize(background.frame(), (GRID, GRID), interpolation=cv2.INTER_AREA)
    return (
        np.int64(background.clip),
        np.float32(background.phase),
        small.astype(np.float32).ravel() / 255,
    )
