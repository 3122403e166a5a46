"""Rollouts of many skills from the same starts, and their measures.

`play` plays them; `measure` gives identifiability, coverage, violations, returns, and the share of
discovery that the simulator explains. Zero-shot goals are in goals.py, downstream tasks in
downstream.py.

Shapes: K skills, R repeats, T agent steps, S simulator numbers (qpos, qvel), C condition.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.ensemble import ExtraTreesRegressor

from foreground import envs as environments
from foreground.agents.agent import WorldModelAgent
from foreground.agents.commanders import Fixed
from foreground.envs.offers import Simulated, offered
from foreground.evaluation import posture, progress
from foreground.evaluation.driver import (
    Callback,
    Driver,
    Features,
    Film,
    Moment,
    memory_of,
    policy_of,
)

SKILLS = 48
REPEATS = 3
LAST = 10  # states from which a skill is recovered
SIDE_BY_SIDE = 16  # environments that share a forward pass
# Of q over skills; tried in turn, each with each share.
SHARPNESS = np.concatenate([[0.0], np.geomspace(0.05, 50, 25)])
UNIFORM = (0.02, 0.1, 0.3)  # share of the uniform in q


@dataclass(frozen=True)
class SkillRecord:
    """Rollouts of every skill, each from the same R starts, clips included."""

    skill: np.ndarray  # (K, C)
    state: np.ndarray  # (K, R, T+1, S); S is 0 where no simulator is offered
    body: posture.Body | None  # what the S numbers are
    # (K, R, T, C), what discovery rewards along the skill, a step each; C is 0 without discovery.
    direction: np.ndarray
    way: np.ndarray  # (K, R, T, C), the same from one state, the first of all, to each state
    reward: np.ndarray  # (K, R, T), of discovery
    violation: np.ndarray  # (K, R, T, 4), see Signals.violations; each in [0, 1]; or (K, R, T, 0)
    signal: np.ndarray  # (K, R, T, 2), use and safety; or (K, R, T, 0)
    film: np.ndarray  # uint8 (J, T, H, W, 3), of the first repeat of the skills that are filmed
    render_fps: float


def play(
    agent: WorldModelAgent,
    make_env: Callable[[], gymnasium.Env],
    skills: torch.Tensor,
    repeats: int,
    steps: int,
    seed: int,
    filmed: Sequence[int] | None = None,
) -> SkillRecord:
    """Hold each of `skills` (K, C) for `steps` agent steps with the deterministic policy.

    Each is played from the same `repeats` starts. A skill that is listed twice has other starts the
    second time; otherwise its rollouts would be the same.

    filmed   places of the skills of which the first repeat is filmed; none: all
    """
    shown = set(range(len(skills)) if filmed is None else filmed)
    copy = _copies(skills)
    seeds = [seed + repeat + repeats * one for repeat in range(repeats) for one in copy]
    every = skills.repeat(repeats, 1)  # (R K, C), repeat by repeat
    looks = []

    def wave(envs: list[gymnasium.Env], rows: slice) -> tuple:
        simulated = offered(envs[0], Simulated)
        body = posture.body(simulated.physics) if simulated else None
        looks.append((body, envs[0].metadata.get("render_fps", 20.0)))
        # The first K rows are the first repeat.
        here = [row - rows.start for row in range(rows.start, rows.stop) if row in shown]
        return _play(agent, envs, every[rows], steps, seeds[rows], here)

    columns = list(zip(*in_waves(make_env, len(every), wave)))
    feature = torch.cat(columns.pop(0))  # (R K, T+1, F)
    film = np.concatenate([part for part in columns.pop() if part is not None])
    rows = [np.concatenate(column) for column in columns] + list(_discovery(agent, feature, every))
    # (R K, ...) -> (K, R, ...)
    state, violation, signal, direction, way, reward = (
        row.reshape(repeats, len(skills), *row.shape[1:]).swapaxes(0, 1) for row in rows
    )
    body, fps = looks[0]
    return SkillRecord(
        skills.cpu().numpy(), state, body, direction, way, reward, violation, signal, film, fps
    )


def _copies(skills: torch.Tensor) -> list[int]:
    """Return how often each of (K, C) occurred before."""
    rows = [tuple(row) for row in skills.cpu().numpy().round(6)]
    return [rows[:index].count(row) for index, row in enumerate(rows)]


def in_waves(
    make_env: Callable[[], gymnasium.Env],
    number: int,
    play: Callable[[list[gymnasium.Env], slice], Any],
) -> list:
    """Return `play(envs, rows)` for `number` rows, in batches of one forward pass; close the
    environments.
    """
    envs = [make_env() for _ in range(min(SIDE_BY_SIDE, number))]
    found = []
    try:
        for first in range(0, number, len(envs)):
            rows = slice(first, min(first + len(envs), number))
            found.append(play(envs[: number - first], rows))
            progress.advance(rows.stop - rows.start)
        return found
    finally:
        for env in envs:
            env.close()


def in_steps(number: int, steps: int) -> int:
    """Return the ticks of so many rollouts: those of a wave share a step."""
    return -(-number // SIDE_BY_SIDE) * steps


class Looks(Callback):
    """Keeps the simulator's values after each step: `states` [(N, S)], `violations` [(N, 4)],
    `signals` [(N, 2)].

    S, 4 and 2 are 0 where the environments offer no simulator, or no signals.
    """

    def __init__(self):
        self.states: list[np.ndarray] = []
        self.violations: list[np.ndarray] = []
        self.signals: list[np.ndarray] = []

    def on_action(self, moment: Moment) -> None:
        if not self.states:
            self.readers = _signals(moment.envs)
            self.states.append(_states(moment.envs))

    def on_step(self, moment: Moment) -> None:
        pairs = list(zip(self.readers, moment.action))
        self.states.append(_states(moment.envs))
        number = len(moment.envs)
        violations = np.array([list(reader.violations(one).values()) for reader, one in pairs])
        self.violations.append(violations.reshape(number, -1))
        read = np.array([reader.read(one) for reader, one in pairs], np.float32)
        self.signals.append(read.reshape(number, -1))


def _play(
    agent: WorldModelAgent,
    envs: list[gymnasium.Env],
    skills: torch.Tensor,
    steps: int,
    seeds: list[int],
    filmed: list[int],
) -> tuple:
    """Return one rollout per environment: features (N, T+1, F) and columns (N, T, ...)."""
    features = Features()
    film = Film(filmed)
    looks = Looks()
    watching = [features, looks, *([film] if filmed else [])]
    end = Driver(envs, policy_of(agent, Fixed(skills)), memory_of(agent, len(envs)), watching).run(
        seeds, steps
    )
    first = torch.zeros(len(envs), dtype=torch.bool)
    last = agent.observe_step(end.memory, torch.from_numpy(end.image), first, sample=False).feature
    latents = torch.stack([*features.latents, last], 1).float()
    columns = (np.stack(column, 1) for column in (looks.states, looks.violations, looks.signals))
    return latents, *columns, np.stack(film.images, 1) if filmed else None


def _signals(envs: list[gymnasium.Env]) -> list[environments.Signals]:
    """Return the readers of use and safety; empty where there is no simulator, or its domain has no
    signals.
    """
    found = [offered(env, Simulated) for env in envs]
    domains = [environments.registry.body_of(one.task) for one in found if one]
    if len(domains) < len(envs) or not {*domains} <= {*environments.USES}:
        return []
    return [
        environments.Signals(one.physics, domain, ("use", "safety"))
        for one, domain in zip(found, domains)
    ]


def _states(envs: list[gymnasium.Env]) -> np.ndarray:
    """Return the simulator's numbers, (N, S); S is 0 where no simulator is offered."""
    found = [offered(env, Simulated) for env in envs]
    return np.stack([one.simulator_state() if one else np.zeros(0) for one in found])


def _discovery(
    agent: WorldModelAgent, feature: torch.Tensor, skills: torch.Tensor
) -> tuple[np.ndarray, ...]:
    """Return directions to the next state and from one start, (N, T, C), and rewards (N, T).

    They are of features (N, T+1, F) and skills (N, C).
    """
    before = feature[:, :-1]
    after = feature[:, 1:]
    if agent.discovery is None:
        nothing = np.zeros((*after.shape[:2], 0), np.float32)
        return nothing, nothing, np.zeros(after.shape[:2], np.float32)
    reference = feature[:1, :1].expand_as(after)
    skill = skills[:, None].expand(-1, after.shape[1], -1)
    found = agent.discovery
    rows = (
        found.direction(before, after),
        found.direction(reference, after),
        found.reward(before, after, skill),
    )
    return tuple(row.detach().cpu().numpy() for row in rows)


def measure(record: SkillRecord) -> dict[str, float]:
    """Return all measures of a record, by their keys under skills/ in docs/reference/metrics.md."""
    row: dict[str, float] = {}
    if record.body is not None:
        row |= {f"identifiability/{key}": value for key, value in identifiability(record).items()}
        row |= {
            f"coverage/{key}": value
            for key, value in posture.coverage(record.body, record.state).items()
        }
    if record.violation.shape[-1]:
        row |= {f"violation/{name}": value for name, value in violations(record).items()}
    row |= {f"return/{name}": value for name, value in returns(record).items()}
    if record.body is not None:
        row |= {
            f"discovery_explained/{name}": value
            for name, value in discovery_explained(record).items()
        }
    return row


def identifiability(record: SkillRecord, last: int = LAST) -> dict[str, float]:
    """Return how well a skill is recovered from the last states of its rollout.

    Trees fitted on the other repeats predict a vector u from a state, averaged over the last ones.
    q(c given states) = (1 - e) softmax of kappa u^T c over the K distinct skills + e / K. kappa and
    e are chosen on the other repeats; with e a single confused skill costs little. nats = ln K + E
    ln q(c) is a lower bound of the mutual information of skill and states: about 0 where states are
    uninformative, at most `cap`, ln K. `accuracy` is how often the most likely skill is the right
    one; `chance` is its level at random.
    """
    distinct, label = np.unique(record.skill.round(6), axis=0, return_inverse=True)
    # Without the first state, which does not depend on the skill.
    repeats = record.state.shape[1]
    last = min(last, record.state.shape[2] - 1)
    scores = np.zeros((len(record.skill), repeats, len(distinct)))  # u^T c
    for repeat in range(repeats):
        others = [other for other in range(repeats) if other != repeat]
        states = record.state[:, others, -last:]  # (K, R-1, last, S)
        targets = np.broadcast_to(
            record.skill[:, None, None], (*states.shape[:3], record.skill.shape[1])
        )
        trees = _trees().fit(
            states.reshape(-1, states.shape[-1]), targets.reshape(-1, targets.shape[-1])
        )
        held = record.state[:, repeat, -last:]
        # (K, C)
        read = trees.predict(held.reshape(-1, held.shape[-1])).reshape(len(held), last, -1).mean(1)
        scores[:, repeat] = read @ distinct.T
    accuracy = float(np.mean(scores.argmax(-1) == label.ravel()[:, None]))
    true = np.take_along_axis(scores, label.reshape(-1, 1, 1), -1)[..., 0]  # (K, R)
    forms = itertools.product(SHARPNESS, UNIFORM)
    # (forms, R)
    log_q = np.stack([_log_q(kappa, uniform, true, scores).mean(0) for kappa, uniform in forms])
    others = log_q.sum(1, keepdims=True) - log_q
    nats = np.mean(log_q[others.argmax(0), range(repeats)]) + np.log(len(distinct))
    return {
        "nats": float(nats),
        "cap": float(np.log(len(distinct))),
        "accuracy": accuracy,
        "chance": 1 / len(distinct),
    }


def _trees() -> ExtraTreesRegressor:
    return ExtraTreesRegressor(100, min_samples_leaf=3, random_state=0, n_jobs=1)


def _log_q(kappa: float, uniform: float, true: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return ln q of the skills that score `true` (N,) among all, (N, K)."""
    softmax = np.exp(kappa * true - logsumexp(kappa * scores, -1))
    return np.log((1 - uniform) * softmax + uniform / scores.shape[-1])


def violations(record: SkillRecord) -> dict[str, float]:
    """Return the rate of each violation, a mean over steps weighted by severity (envs/signals.py),
    and their mean.
    """
    rates = {
        name: float(record.violation[..., index].mean())
        for index, name in enumerate(environments.VIOLATIONS)
    }
    return rates | {"mean": float(record.violation.mean())}


def returns(record: SkillRecord) -> dict[str, float]:
    """Return mean sums over a rollout: of the discovery reward where there is one, of use and of
    safety.
    """
    names = ("use", "safety")[: record.signal.shape[-1]]
    row = {
        name: float(record.signal[..., index].sum(-1).mean()) for index, name in enumerate(names)
    }
    if record.direction.shape[-1]:
        row["discovery"] = float(record.reward.sum(-1).mean())
    return row


def discovery_explained(record: SkillRecord) -> dict[str, float]:
    """Return the share of the variance of discovery's direction that the simulator explains.

    It is that of a `step`, and of the `way` from the start. Trees are fitted on all repeats but the
    last and scored on that one. They read the state, and for a step also its change. The rest is
    noise of the latent, or the video.
    """
    if not record.direction.shape[-1]:
        return {}
    before = record.state[:, :, :-1]
    after = record.state[:, :, 1:]
    step = np.concatenate([before, after - before], -1)  # (K, R, T, 2S)
    return {"step": _explained(step, record.direction), "way": _explained(after, record.way)}


def _explained(inputs: np.ndarray, targets: np.ndarray) -> float:
    """Return 1 - residual / variance of (K, R, T, C) predicted from (K, R, T, X)."""

    def rows(x: np.ndarray) -> np.ndarray:
        return x.reshape(-1, x.shape[-1])

    true = rows(targets[:, -1])
    read = (
        _trees()
        .fit(rows(inputs[:, :-1, ::2]), rows(targets[:, :-1, ::2]))
        .predict(rows(inputs[:, -1]))
    )
    spread = np.square(true - true.mean(0)).sum()
    return (
        float(1 - np.square(read.reshape(true.shape) - true).sum() / spread)
        if spread > 1e-12
        else 0.0
    )
