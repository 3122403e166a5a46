"""Information after lossy compression against known values, and the program that calibrates it."""

import json

import numpy as np
import pytest

from benchmarks import calibration
from foreground.evaluation import nats


def latent_of(number: np.ndarray, random, scale: float = 1.0) -> np.ndarray:
    """Thirty features that hold a number of some scale, among noise of 0.3, rotated."""
    return calibration.hidden(scale * number[:, None], random)


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9, 0.97])
def test_compressed_information_of_correlated_gaussians(rho):
    random = np.random.default_rng(0)
    true = random.normal(size=2000)
    seen = rho * true + np.sqrt(1 - rho**2) * random.normal(size=2000)
    found = nats.compressed(100 * latent_of(seen, random) + 3, true[:, None])
    known = -0.5 * np.log(1 - rho**2)
    # The noise that is kept blurs the number, the more the more the number says.
    assert known - 0.06 - 0.15 * known < found < known + 0.06


def test_neighbours_of_several_columns():
    """I of two pairs of correlated numbers is the sum of both."""
    random = np.random.default_rng(0)
    one = random.normal(size=(2000, 2))
    other = 0.8 * one + 0.6 * random.normal(size=(2000, 2))
    known = -np.log(1 - 0.64)
    assert nats._neighbours(one, other) == pytest.approx(known, abs=0.08)
    assert nats._neighbours(one, other[::-1]) == pytest.approx(0.0, abs=0.06)


def test_what_lies_in_no_large_component_is_lost():
    random = np.random.default_rng(0)
    true = random.normal(size=2000)
    noise = random.normal(size=(2000, 8))
    small = np.hstack([0.1 * true[:, None], noise])
    assert nats.compressed(small, true[:, None]) < 0.1
    large = np.hstack([3.0 * true[:, None], noise])
    assert nats.compressed(large, true[:, None]) > 1.0


@pytest.mark.slow
def test_the_program_prints_every_estimator_beside_the_truth(capsys):
    calibration.main([])
    *table, last = capsys.readouterr().out.splitlines()
    rows = {(row["task"], row["nats"]): row for row in json.loads(last)["rows"]}
    assert len(table) == len(rows) + 2 == 10
    for known in (0.0, 0.5, 1.0):
        row = rows["gaussian, d=1", known]
        for name in ("knn", "diffusion", "compressed"):
            assert row[name] == pytest.approx(known, abs=0.2)
        assert row["spread"] < 0.25
