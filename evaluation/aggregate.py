"""Scores of several seeds and tasks as one figure: interquartile mean and its stratified bootstrap
interval.

As recommended by Agarwal et al. 2021 (arXiv 2108.13264). Shapes: R runs (seeds), K tasks.
"""

import numpy as np
from scipy.stats import trim_mean


def interquartile_mean(scores: np.ndarray) -> float:
    """Return the mean of the middle half of all R*K scores.

    A quarter, rounded down to whole scores, is cut off at each end.
    """
    return float(trim_mean(np.asarray(scores, float), 0.25, axis=None))


def stratified_interval(
    scores: list[np.ndarray] | np.ndarray,
    statistic=interquartile_mean,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval: the runs of each task are resampled within that
    task.

    scores   one array (R,) per task; the number of runs may differ
    """
    columns = [np.asarray(column, float) for column in scores]
    random = np.random.default_rng(seed)
    # (draws, R) each.
    samples = [column[random.integers(0, len(column), (draws, len(column)))] for column in columns]
    values = [statistic(row) for row in np.concatenate(samples, 1)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def probability_of_improvement(scores: list[np.ndarray], others: list[np.ndarray]) -> float:
    """Return the probability that a run of one method beats a run of another, averaged over tasks.

    A tie counts half (Mann-Whitney U).

    scores, others   one array (R,) per task
    """

    def of_task(one: np.ndarray, other: np.ndarray) -> float:
        difference = np.asarray(one, float)[:, None] - np.asarray(other, float)[None]
        return float(np.mean((difference > 0) + 0.5 * (difference == 0)))

    return float(np.mean([of_task(one, other) for one, other in zip(scores, others, strict=True)]))
