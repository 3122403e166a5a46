"""Probes of the latent: the simulator's state and the background, predicted on new episodes.

`inspect` plays and reads; `read` and `foresee` use recorded episodes.

Shapes: n and m steps to fit and to score, F features, S numbers of the state, K columns of a
target.
"""

import warnings
from collections.abc import Callable, Sequence

import gymnasium
import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from foreground.agents.agent import WorldModelAgent
from foreground.agents.cuda_graphs import uncompiled
from foreground.evaluation import interrupt, nats, progress
from foreground.evaluation.record import Record, collect
from foreground.evaluation.similarity import similarity
from foreground.training import system
from foreground.world_models.rssm import State

KINDS = ("linear", "network")  # ridge or logistic regression, and one hidden layer of 128
COMPONENTS = 3  # of the background's pixels, whose nats are told


def inspect(
    agent: WorldModelAgent,
    make_env: Callable[[], gymnasium.Env],
    episodes: int,
    seed: int,
    actors: Sequence[WorldModelAgent] = (),
) -> dict[str, float]:
    """All readings of an agent's latent from `episodes` fresh episodes; half of them fit, half
    score.

    actors   whose policies act there (`collect`), the agent's own where none are given
    """
    with progress.stage("episodes for the probes", episodes, "episode"):
        record = collect(agent, make_env, episodes, seed, actors)
    with progress.stage("probes", len(KINDS) + 1, "kind"):
        return read(record) | foresee(agent, record)


def read(record: Record) -> dict[str, float]:
    """How much of what can be read, by probes fitted on one half of the episodes and scored on the
    other.

    R2 per number of the state and their means; R2 of the background's pixels and phase, accuracy of
    its clip beside the share of the commonest one; nats by the network's readings (`nats`);
    behavioural similarity; the part of the reward's variance that the model explains. Numbers that
    do not vary are left out; so is the state where the environment tells none.
    """
    train, test = halves(record)
    varies = _varies(train, test)
    result = {"reward_explained": explained(record.predicted, record.reward)}
    if record.names:
        result["similarity"] = similarity(test.latent, test.state[:, varies])
    for kind in KINDS:
        if record.names:
            result |= _read_state(kind, train, test, varies)
        if record.clip[0] >= 0:
            result |= _read_background(kind, train, test)
        progress.advance()
    return result


def summary(reading: dict[str, float]) -> dict[str, float]:
    """Return a reading without the R2 of each number of the state."""
    single = {f"state/{kind}/" for kind in KINDS}
    return {
        key: value
        for key, value in reading.items()
        if key.endswith("/mean") or not key.startswith(tuple(single))
    }


def halves(record: Record) -> tuple[Record, Record]:
    """Return steps to fit and steps to score.

    Pairs of episodes (policy, walk) go to the same half.
    """
    fitted = record.episode // 2 % 2 == 0
    return record.part(fitted), record.part(~fitted)


def _varies(train: Record, test: Record) -> np.ndarray:
    """Return which numbers of the state vary in both halves, (S,)."""
    return (train.state.std(0) > 1e-3) & (test.state.std(0) > 1e-3)


def _read_state(kind: str, train: Record, test: Record, varies: np.ndarray) -> dict[str, float]:
    true = test.state[:, varies]
    reading = _reading(kind, train.latent, train.state[:, varies], test.latent)
    scores = _scores(reading, true)
    names = [name for name, chosen in zip(train.names, varies) if chosen]
    row = {f"state/{kind}/{name}": score for name, score in zip(names, scores)}
    row[f"state/{kind}/mean"] = _mean(scores)
    if kind == "network":
        row |= {
            f"state/nats/{name}": value for name, value in nats.of_columns(reading, true).items()
        }
        row["state/nats/compressed"] = nats.compressed(test.latent, true)
    return row


@uncompiled
@torch.no_grad()
def foresee(
    agent: WorldModelAgent, record: Record, horizons: tuple[int, ...] = (1, 5, 10), samples: int = 8
) -> dict[str, float]:
    """How far ahead the dynamics can be trusted: imagined along the actions that were taken,
    against what came.

    Per horizon: the part of the reward's variance that is explained, and R2 of the state by the
    linear probe that was fitted on states that have seen the image. The mean of `samples` roll-outs
    of the prior; the second half of `read`. Horizons longer than the episodes are left out.
    """
    horizons = tuple(steps for steps in horizons if len(_starts(record, steps)))
    if not horizons:
        return {}
    probe, varies = _state_probe(record) if record.names else (None, None)
    longest, rssm = max(horizons), agent.world_model.rssm
    start = _starts(record, longest)[::3]
    # (samples * m, F)
    latent = torch.as_tensor(record.latent[start], device=agent.device).repeat(samples, 1)
    state = State(*latent.split([rssm.config.deterministic, rssm.latent.size], -1))
    row: dict[str, float] = {}
    with system.random_kept(agent.device):  # looking must not change the run
        torch.manual_seed(0)
        for step in range(1, longest + 1):
            action = torch.as_tensor(record.action[start + step - 1], device=agent.device).repeat(
                samples, 1
            )
            state = agent.world_model.imagine(state, action)
            if step not in horizons:
                continue
            feature = state.feature.float()
            if agent.world_model.rewarded:
                reward = (
                    agent.world_model.reward(feature)
                    .unflatten(0, (samples, -1))
                    .mean(0)
                    .cpu()
                    .numpy()
                )
                row[f"ahead/{step}/reward_explained"] = explained(
                    reward, record.reward[start + step]
                )
            if probe is not None:
                seen = probe(feature.cpu().numpy()).reshape(samples, len(start), -1).mean(0)
                row[f"ahead/{step}/state"] = _mean(
                    _scores(seen, record.state[start + step][:, varies])
                )
    return row


def _starts(record: Record, steps: int) -> np.ndarray:
    """Return the rows of the second half whose episode lasts `steps` rows more."""
    within = record.episode[steps:] == record.episode[: len(record.episode) - steps]
    second = record.episode[: len(within)] // 2 % 2 == 1
    return np.flatnonzero(within & second)


def _state_probe(record: Record):
    """Return a linear probe of the state, fitted on the first half, and its varying numbers."""
    train, test = halves(record)
    varies = _varies(train, test)
    head = _fit(Ridge(10.0), train.latent, train.state[:, varies])
    return head.predict, varies


def _read_background(kind: str, train: Record, test: Record) -> dict[str, float]:
    pixels = _reading(kind, train.latent, train.pixels, test.latent)
    phase = _reading(kind, train.latent, train.phase[:, None], test.latent)
    row = {f"background/{kind}/pixels": _mean(_scores(pixels, test.pixels))}
    row[f"background/{kind}/phase"] = _scores(phase, test.phase[:, None])[0]
    if kind == "network":
        axes = PCA(COMPONENTS).fit(train.pixels)
        seen = axes.transform(test.pixels)
        told = nats.of_columns(axes.transform(pixels), seen)
        told["compressed"] = nats.compressed(test.latent, seen)
        row |= {f"background/nats/{name}": value for name, value in told.items()}
    if len(np.unique(train.clip)) > 1:
        heads = {"linear": LogisticRegression(max_iter=300), "network": _network(MLPClassifier)}
        clip = _fit(heads[kind], train.latent, train.clip).predict(test.latent)
        row[f"background/{kind}/clip_accuracy"] = float(np.mean(clip == test.clip))
        row["background/clip_chance"] = float(
            max(np.mean(test.clip == one) for one in np.unique(test.clip))
        )
        if kind == "network":
            row["background/nats/clip"] = nats.of_labels(clip, test.clip)
    return row


def _network(maker):
    return maker(
        hidden_layer_sizes=(128,), batch_size=64, early_stopping=True, max_iter=200, random_state=0
    )


def _fit(head, inputs: np.ndarray, targets: np.ndarray):
    """Return a fitted probe.

    Errors: Interrupted where the evaluation was asked to end before it: a fit itself cannot be.
    """
    interrupt.check()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # early stopping is meant
        return make_pipeline(StandardScaler(), head).fit(inputs, targets)


def _reading(
    kind: str, inputs: np.ndarray, targets: np.ndarray, test_inputs: np.ndarray
) -> np.ndarray:
    """Return the prediction (m, K) from (m, F) of a probe fitted on (n, F), (n, K)."""
    mean, std = targets.mean(0), targets.std(0) + 1e-8
    head = Ridge(10.0) if kind == "linear" else _network(MLPRegressor)
    y = (targets - mean) / std
    read = _fit(head, inputs, y[:, 0] if y.shape[1] == 1 else y).predict(test_inputs)
    return read.reshape(len(test_inputs), -1) * std + mean


def _scores(reading: np.ndarray, true: np.ndarray) -> list[float]:
    """Return R2 of each column of (m, K)."""
    return [explained(a, b) for a, b in zip(reading.T, true.T)]


def _mean(scores: list[float]) -> float:
    """Return the mean of R2, each clipped to [0, 1]: one badly predicted number does not cancel the
    others.
    """
    return float(np.mean(np.clip(scores, 0, 1)))


def explained(predicted: np.ndarray, true: np.ndarray) -> float:
    """Return 1 - residual / variance; 0 where nothing varies."""
    return float(1 - np.mean((predicted - true) ** 2) / true.var()) if true.var() > 1e-12 else 0.0
