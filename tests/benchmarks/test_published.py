"""Runs beside published curves: margins over the best curve that reaches a frame."""

import math

import numpy as np

from benchmarks import published


def curve(*points: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.array(column) for column in zip(*points))


def test_the_margin_is_over_the_best_curve_that_reaches_the_frame(monkeypatch):
    theirs = {
        "short": curve((50_000, 300.0), (100_000, 500.0)),
        "long": curve((100_000, 400.0), (250_000, 450.0)),
    }
    monkeypatch.setattr(published, "published", lambda *_: theirs)
    ours = {"infopower": [curve((90_000, 500.0), (100_000, 620.0), (250_000, 760.0))]}
    rows, margins = published.rows_of(("walker-run", "video"), ours)
    # The mean of the last three evaluations: 560 at 100,000, 626.7 at 250,000.
    assert margins == {"infopower": {100_000: 60.0, 250_000: 176.7}}
    assert rows[0][2:] == ("infopower", 1, "560", "627", "-")
    assert rows[1][2:] == ("short (published)", "", "500", "-", "-")


def test_a_frame_that_no_curve_reaches_has_no_best():
    assert math.isnan(published.best_of([math.nan]))
    assert math.isnan(published.best_of([]))
