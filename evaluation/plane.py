"""The information plane of a run: nats about the robot's state against nats about the background,
per evaluation.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from foreground.training.files import lines

# means over numbers, see nats.py
STATE = "state/nats/knn"
BACKGROUND = "background/nats/knn"
PREFIX = "evaluation/latent"

Point = tuple[int, float, float]  # env frame, nats about the background, nats about the state


def point(frame: int, reading: dict[str, float]) -> list[Point]:
    """Return the point of a reading (probes.read), or none without a background."""
    if reading.get(BACKGROUND) is None or reading.get(STATE) is None:
        return []
    return [(frame, reading[BACKGROUND], reading[STATE])]


def rows(metrics: Path) -> Iterator[dict]:
    """Yield the lines of metrics.jsonl; skip lines that are not metrics."""
    with metrics.open("rb") as file:
        for _, line in lines(file):
            with contextlib.suppress(ValueError, RecursionError):
                row = json.loads(line)
                if isinstance(row, dict) and type(row.get("step")) is int:
                    yield row


def points(metrics: Path) -> list[Point]:
    """Return the evaluations in metrics.jsonl, in order; of several at one frame the last."""
    found: dict[int, Point] = {}
    for row in rows(metrics):
        reading = {key.removeprefix(f"{PREFIX}/"): value for key, value in row.items()}
        for one in point(row["step"], reading):
            found[row["step"]] = one
    return list(found.values())


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


def picture(path: list[Point], label: str) -> np.ndarray:
    """Return one run's plane, uint8 (H, W, 3)."""
    figure = Figure(figsize=(4.2, 3.4), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes, path, label, "#0b6e4f")
    axes.set_xlim(left=0, right=1.15 * max(0.1, *(background for _, background, _ in path)))
    axes.set_ylim(bottom=0, top=1.15 * max(0.1, *(state for _, _, state in path)))
    for frame, background, state in (path[0], path[-1]):
        axes.annotate(
            f"{frame:,}", (background, state), xytext=(6, 4), textcoords="offset points", fontsize=8
        )
    axes.legend(frameon=False, fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
