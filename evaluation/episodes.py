"""Whole episodes with the deterministic policy: scores and films."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from foreground.envs.workers import in_process
from foreground.evaluation import progress, verdicts
from foreground.training.rollout import ActFn, Rollout

SIDE_BY_SIDE = 5  # environments that share a forward pass; more would only cost memory


@dataclass(frozen=True)
class Scores:
    """Returns of whole episodes on one background, and the film (T, H, W, 3) of the first."""

    returns: list[float]
    film: np.ndarray
    render_fps: float = 20.0

    def __repr__(self) -> str:
        return f"Scores(mean={self.mean:.1f}, episodes={len(self.returns)})"

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    def interval(self, level: float = 0.95, draws: int = 10_000) -> tuple[float, float] | None:
        """Return the percentile bootstrap interval of the mean over episodes, from a fixed seed;
        None for few episodes.
        """
        if len(self.returns) < verdicts.EPISODES:
            return None
        values = np.asarray(self.returns)
        index = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
        low, high = np.quantile(values[index].mean(1), [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def play(
    make_env: Callable[[], gymnasium.Env],
    make_policy: Callable[[SyncVectorEnv], tuple[ActFn, object]],
    episodes: int,
    seed: int,
) -> Scores:
    """Play `episodes` whole episodes, a few side by side; episode k of a seed is the same for every
    policy.

    make_policy   (envs) -> (policy, its memory before the first image)
    """
    number = min(SIDE_BY_SIDE, episodes)
    envs = SyncVectorEnv(
        [partial(in_process, make_env)] * number, autoreset_mode=AutoresetMode.NEXT_STEP
    )
    policy, memory = make_policy(envs)
    rollout = Rollout(envs, memory, seed)
    scores: list[list[float]] = [[] for _ in range(number)]
    film: list[np.ndarray] = []
    # Every environment plays the same number of episodes, so that short ones are not
    # over-represented.
    rounds = -(-episodes // number)
    try:
        while any(len(column) < rounds for column in scores):
            progress.tick()
            row = rollout.step(policy)
            if not scores[0]:
                film.append(row["image"][0])
            for episode in rollout.finished:
                scores[episode.index].append(episode.score)
                progress.advance(1, episode.score)
    finally:
        envs.close()
    played = [score for column in zip(*scores) for score in column]
    return Scores(played[:episodes], np.stack(film), envs.metadata.get("render_fps", 20.0))
