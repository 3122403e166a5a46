"""The information plane of a run: nats about the robot's state against nats about the background,
per evaluation.
"""

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from foreground.training.files import lines

ESTIMATORS = ("knn", "diffusion", "compressed")  # see nats.py; each has a plane of its own
PREFIX = "evaluation/latent"

Point = tuple[int, float, float]  # env frame, nats about the background, nats about the state
Paths = dict[str, list[Point]]  # estimator -> its points


def keys(estimator: str) -> tuple[str, str]:
    """Return the keys of a reading: nats about the background, and about the state."""
    return f"background/nats/{estimator}", f"state/nats/{estimator}"


def point(frame: int, reading: dict[str, float]) -> dict[str, Point]:
    """Return the point of a reading (probes.read) by each estimator that has one: none without a
    background.
    """
    found = {}
    for name in ESTIMATORS:
        background, state = (reading.get(key) for key in keys(name))
        if background is not None and state is not None:
            found[name] = frame, background, state
    return found


def rows(metrics: Path) -> Iterator[dict]:
    """Yield the lines of metrics.jsonl; skip lines that are not metrics."""
    with metrics.open("rb") as file:
        for _, line in lines(file):
            with contextlib.suppress(ValueError, RecursionError):
                row = json.loads(line)
                if isinstance(row, dict) and type(row.get("step")) is int:
                    yield row


def paths(metrics: Path, *newest: tuple[int, dict[str, float]]) -> Paths:
    """Return the evaluations in metrics.jsonl by each estimator, in order; of several at one frame
    the last.

    newest   (env frame, reading) of evaluations that are not in the file yet
    """
    read = (
        (row["step"], {key.removeprefix(f"{PREFIX}/"): value for key, value in row.items()})
        for row in rows(metrics)
    )
    found: dict[str, dict[int, Point]] = {}
    for frame, reading in itertools.chain(read, newest):
        for name, one in point(frame, reading).items():
            found.setdefault(name, {})[frame] = one
    return {name: list(points.values()) for name, points in found.items()}


def draw(axes, path: list[Point], label: str, colour: str) -> None:
    """Draw a run's path through the plane: dots darken with training, the last is ringed."""
    frames, background, state = (np.array(column) for column in zip(*path))
    axes.plot(background, state, color=colour, lw=1, alpha=0.6)
    shade = 0.25 + 0.75 * frames / frames[-1]
    axes.scatter(background, state, s=22, color=colour, alpha=shade, lw=0)
    axes.scatter(
        background[-1:], state[-1:], s=60, facecolors="none", edgecolors=colour, label=label
    )
    axes.set_xlabel("nats about the background, per component")
    axes.set_ylabel("nats about the state, per number")
    axes.spines[["top", "right"]].set_visible(False)


def picture(found: Paths, label: str) -> np.ndarray:
    """Return one run's planes, a panel for each estimator, uint8 (H, W, 3)."""
    figure = Figure(figsize=(4.2 * len(found), 3.4), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (name, path) in zip(panels, found.items()):
        draw(axes, path, label, "#0b6e4f")
        axes.set_title(name, fontsize=9)
        axes.set_xlim(left=0, right=1.15 * max(0.1, *(background for _, background, _ in path)))
        axes.set_ylim(bottom=0, top=1.15 * max(0.1, *(state for _, _, state in path)))
        for frame, background, state in (path[0], path[-1]):
            place = {"xytext": (6, 4), "textcoords": "offset points"}
            axes.annotate(f"{frame:,}", (background, state), fontsize=8, **place)
    panels[0].legend(frameon=False, fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
