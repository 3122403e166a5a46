"""Compare aggregates with scipy, rliable's published vectors and an exact bootstrap."""

import itertools

import numpy as np
import pytest
from scipy.stats import trim_mean

from foreground.evaluation.aggregate import (
    interquartile_mean,
    probability_of_improvement,
    stratified_interval,
)

# The matrices (runs, tasks) of rliable's own tests (tests/rliable/metrics_test.py,
# library_test.py).
X = np.array([[1, 2], [2, 2], [1, 1], [2, 1]])
Y = np.array([[1, 1], [2, 2], [3, 3]])
LARGE = np.arange(5 * 16).reshape(5, 16)


@pytest.mark.parametrize(("scores", "expected"), [(X, 1.5), (Y, 2.0), (LARGE, 39.5)])
def test_interquartile_mean_of_rliables_vectors(scores, expected):
    assert interquartile_mean(scores) == expected


def test_interquartile_mean_is_scipys_trimmed_mean_and_ignores_outliers():
    random = np.random.default_rng(0)
    for runs, tasks in ((1, 1), (3, 1), (3, 3), (5, 28)):
        scores = random.normal(size=(runs, tasks))
        assert interquartile_mean(scores) == pytest.approx(trim_mean(scores.ravel(), 0.25))
    assert interquartile_mean([0, 1, 2, 3, 1e9]) == 2.0
    assert interquartile_mean([-1e9, 4, 4, 4]) == 4.0


def test_probability_of_improvement_of_rliables_vectors():
    assert probability_of_improvement(X.T, Y.T) == pytest.approx(1 / 3)
    assert probability_of_improvement([[2, 3]], [[1, 1]]) == 1.0
    assert probability_of_improvement([[1, 2]], [[1, 2]]) == 0.5


def test_interval_against_all_draws_counted_out():
    scores = np.array([1.0, 5.0, 9.0])
    # All 27, equally likely.
    every = [np.mean(draw) for draw in itertools.product(scores, repeat=3)]
    low, high = stratified_interval([scores], np.mean, level=0.8, draws=20_000)
    assert (low, high) == pytest.approx(np.quantile(every, [0.1, 0.9]), abs=1e-9)


def test_the_bootstrap_keeps_to_its_task():
    """Runs are resampled within their task: with equal runs within each task nothing varies."""
    assert stratified_interval([np.full(3, 0.1), np.full(4, 0.9)], np.mean) == pytest.approx(
        (3.9 / 7, 3.9 / 7)
    )


def test_interval_holds_the_estimate_and_narrows_with_runs():
    random = np.random.default_rng(1)
    few, many = (random.normal(size=(2, number)) for number in (4, 64))
    for scores in (few, many):
        low, high = stratified_interval(scores)
        assert low < interquartile_mean(scores) < high
    assert np.ptp(stratified_interval(many)) < 0.6 * np.ptp(stratified_interval(few))
