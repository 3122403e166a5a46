"""What can be read from the latent: the simulator's state and the background, by probes on fresh episodes.

Nothing here teaches the agent: the simulator's state is only what the probes are fitted to.
Shapes: n steps, F features, S numbers of the state, P background pixels.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields

import cv2
import gymnasium
import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from agents.agent import Agent
from world_models.rssm import State

GRID = 8  # background pixels are averaged to GRID x GRID


@dataclass(frozen=True)
class Record:
    """Steps of whole episodes: what the agent's latent was, and what was true."""

    latent: np.ndarray  # (n, F)
    state: np.ndarray  # (n, S), dm_control's own state observation: the robot, and the objects of the task
    names: tuple[str, ...]  # of the S numbers
    action: np.ndarray  # (n, A), taken at the step
    reward: np.ndarray  # (n,), came with the step
    predicted: np.ndarray  # (n,), the model's expected reward
    clip: np.ndarray  # (n,), which clip plays; -1: none
    phase: np.ndarray  # (n,), where in the clip, 0 to 1
    pixels: np.ndarray  # (n, 3 P), the clip's frame averaged to 8x8
    episode: np.ndarray  # (n,)

    def part(self, chosen: np.ndarray) -> "Record":
        """The steps where `chosen` (n,) is true."""
        rows = {field.name: getattr(self, field.name) for field in fields(self)}
        return Record(**{name: value if name == "names" else value[chosen] for name, value in rows.items()})


def collect(agent: Agent, make_env: Callable[[], gymnasium.Env], episodes: int, seed: int) -> Record:
    """Play whole episodes. The policy acts with its noise in the even ones, a smooth random walk in the odd ones.

    The walk is the same for every agent: without it an agent that stands still would hold little state to read.
    """
    env, rows = make_env(), []
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for episode in range(episodes):
                rows += _play(agent, env, episode, seed)
        names = tuple(_flat(env.unwrapped.state_observation())[0])
    finally:
        env.close()
    columns = [np.stack(column) for column in zip(*rows)]
    latent, state, *rest = columns
    return Record(latent, state, names, *rest)


def _play(agent: Agent, env: gymnasium.Env, episode: int, seed: int) -> list[tuple]:
    """One episode; a tuple a step, in the order of Record's fields without the names."""
    random = np.random.default_rng([seed, episode])
    image, _ = env.reset(seed=seed + episode)
    memory, reward, first, done, walk, rows = agent.initial_state(1), 0.0, True, False, 0.0, []
    while not done:
        # The action that acting would choose; the memory then holds the one that was taken.
        action, memory = agent.act(memory, torch.from_numpy(image)[None], torch.tensor([first]))
        if episode % 2:
            walk = 0.9 * walk + 0.44 * random.normal(size=action.shape[1:])  # deviation 1
            action = torch.as_tensor(np.clip(walk, -1, 1), dtype=torch.float32, device=action.device)[None]
            memory = agent.took(memory, action)
        feature = memory.state.feature
        with torch.no_grad():
            predicted = float(agent.world_model.reward(feature)[0])
        _, state = _flat(env.unwrapped.state_observation())
        latent = feature[0].float().cpu().numpy()
        taken = action[0].cpu().numpy()
        rows.append((latent, state, taken, np.float32(reward), np.float32(predicted), *_behind(env), np.int64(episode)))
        image, reward, terminated, truncated, _ = env.step(taken)
        first, done = False, terminated or truncated
    return rows


def _flat(observation: dict[str, np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Names and values (S,) of a dict of arrays."""
    names, values = [], []
    for key, value in observation.items():
        value = np.atleast_1d(np.asarray(value, np.float32)).ravel()
        names += [key if len(value) == 1 else f"{key}[{index}]" for index in range(len(value))]
        values.append(value)
    return names, np.concatenate(values)


def _behind(env: gymnasium.Env) -> tuple[np.int64, np.float32, np.ndarray]:
    """Which clip, where in it, and its pixels averaged to 8x8."""
    background = env.unwrapped.background
    if background is None:
        return np.int64(-1), np.float32(0), np.zeros(GRID * GRID * 3, np.float32)
    small = cv2.resize(background.frame(), (GRID, GRID), interpolation=cv2.INTER_AREA)
    return np.int64(background.clip), np.float32(background.phase), small.astype(np.float32).ravel() / 255


def read(record: Record) -> dict[str, float]:
    """How much of what can be read, by probes fitted on one half of the episodes and scored on the other.

    R2 per number of the state and their means; R2 of the background's pixels and phase, accuracy of its clip beside
    the share of the commonest one; the part of the reward's variance that the model explains. "linear" is ridge
    regression, "network" one hidden layer of 128. Numbers that do not vary are left out.
    """
    # Pairs of episodes (policy, walk) go to the same half.
    fitted = record.episode // 2 % 2 == 0
    train, test = record.part(fitted), record.part(~fitted)
    varies = (train.state.std(0) > 1e-3) & (test.state.std(0) > 1e-3)
    result: dict[str, float] = {"reward_explained": _explained(record.predicted, record.reward)}
    for kind in ("linear", "network"):
        scores = _regress(kind, train.latent, train.state[:, varies], test.latent, test.state[:, varies])
        names = [name for name, chosen in zip(record.names, varies) if chosen]
        result |= {f"state/{kind}/{name}": float(score) for name, score in zip(names, scores)}
        result[f"state/{kind}/mean"] = float(np.mean(np.clip(scores, 0, 1)))
        if record.clip[0] >= 0:
            result |= _read_background(kind, train, test)
    return result


@torch.no_grad()
def foresee(agent: Agent, record: Record, horizons: tuple[int, ...] = (1, 5, 10), samples: int = 8) -> dict[str, float]:
    """How far ahead the dynamics can be trusted: imagined along the actions that were taken, against what came.

    Per horizon: the part of the reward's variance that is explained, and R2 of the state by the linear probe that was
    fitted on states that have seen the image. The mean of `samples` roll-outs of the prior; the second half of `read`.
    """
    probe, varies = _state_probe(record)
    longest, rssm = max(horizons), agent.world_model.rssm
    usable = np.zeros(len(record.episode), bool)
    usable[:-longest] = (record.episode[longest:] == record.episode[:-longest]) & (record.episode[:-longest] // 2 % 2 == 1)
    start = np.flatnonzero(usable)[::3]
    latent = torch.as_tensor(record.latent[start], device=agent.device).repeat(samples, 1)  # (samples * m, F)
    state = State(*latent.split([rssm.config.deterministic, rssm.latent.size], -1))
    row: dict[str, float] = {}
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)
    for step in range(1, longest + 1):
        action = torch.as_tensor(record.action[start + step - 1], device=agent.device).repeat(samples, 1)
        state = agent.world_model.imagine(state, action)
        if step not in horizons:
            continue
        feature = state.feature.float()
        reward = agent.world_model.reward(feature).unflatten(0, (samples, -1)).mean(0).cpu().numpy()
        seen = probe(feature.cpu().numpy()).reshape(samples, len(start), -1).mean(0)
        true = record.state[start + step][:, varies]
        row[f"ahead/{step}/reward_explained"] = _explained(reward, record.reward[start + step])
        scores = [_explained(a, b) for a, b in zip(seen.T, true.T)]
        row[f"ahead/{step}/state"] = float(np.mean(np.clip(scores, 0, 1)))
    torch.set_rng_state(torch_state)
    return row


def _state_probe(record: Record):
    """(a linear probe of the state, fitted on the first half; which numbers of the state vary)."""
    train = record.part(record.episode // 2 % 2 == 0)
    varies = train.state.std(0) > 1e-3
    head = _fit(Ridge(10.0), train.latent, train.state[:, varies])
    return head.predict, varies


def _read_background(kind: str, train: Record, test: Record) -> dict[str, float]:
    pixels = _regress(kind, train.latent, train.pixels, test.latent, test.pixels)
    phase = _regress(kind, train.latent, train.phase[:, None], test.latent, test.phase[:, None])
    row = {f"background/{kind}/pixels": float(np.mean(np.clip(pixels, 0, 1))), f"background/{kind}/phase": float(phase[0])}
    if len(np.unique(train.clip)) > 1:
        heads = {"linear": LogisticRegression(max_iter=300), "network": _network(MLPClassifier)}
        row[f"background/{kind}/clip_accuracy"] = float(
            _fit(heads[kind], train.latent, train.clip).score(test.latent, test.clip)
        )
        row["background/clip_chance"] = float(max(np.mean(test.clip == clip) for clip in np.unique(test.clip)))
    return row


def _network(maker):
    return maker(hidden_layer_sizes=(128,), batch_size=64, early_stopping=True, max_iter=200, random_state=0)


def _fit(head, inputs: np.ndarray, targets: np.ndarray):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # early stopping is meant
        return make_pipeline(StandardScaler(), head).fit(inputs, targets)


def _regress(kind: str, inputs, targets, test_inputs, test_targets) -> np.ndarray:
    """R2 of each column, on standardised columns: (n, F), (n, K), (m, F), (m, K) -> (K,)."""
    mean, std = targets.mean(0), targets.std(0) + 1e-8
    head = Ridge(10.0) if kind == "linear" else _network(MLPRegressor)
    y = (targets - mean) / std
    predicted = _fit(head, inputs, y[:, 0] if y.shape[1] == 1 else y).predict(test_inputs).reshape(len(test_inputs), -1)
    return np.array([_explained(p, t) for p, t in zip(predicted.T, ((test_targets - mean) / std).T)])


def _explained(predicted: np.ndarray, true: np.ndarray) -> float:
    """1 - residual / variance; 0 where nothing varies."""
    return float(1 - np.mean((predicted - true) ** 2) / true.var()) if true.var() > 1e-12 else 0.0
