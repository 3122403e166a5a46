"""Draw information planes of a suite: ``python -m benchmarks.plane results/SUITE OUTPUT.png``, a
column a task and a row an estimator.

For runs that read their latents during training (--evaluation.latent --training.evaluate_every N):
nats about the robot's state over nats about the background, a point an evaluation, darker with
training; the ring is the last one. Prints the last points by estimator, as one JSON line.
"""

import itertools
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.plot import arguments, colours, read
from benchmarks.plot_tables import Panels
from foreground.errors import UserError, run_main
from foreground.evaluation import plane

# Estimator -> task -> (agent, seed) -> path.
Planes = dict[str, dict[str, dict[tuple[str, int], list[plane.Point]]]]


def path_of(result: dict, estimator: str) -> list[plane.Point]:
    """Return a run's path by an estimator; [] where it did not read its latent during training.

    Results older than the curves of evaluations have one path, by nearest neighbours.
    """
    read = result.get("evaluations", {})
    curves = [read.get(f"latent/{key}") for key in plane.keys(estimator)]
    if None in curves:
        kept = result.get("plane", ()) if estimator == "knn" else ()
        return [(frame, background, state) for frame, background, state in kept]
    background, state = (dict(zip(curve["xs"], curve["ys"])) for curve in curves)
    return [(frame, background[frame], state[frame]) for frame in background if frame in state]


def paths_of(panels: Panels) -> Planes:
    """Return estimator -> task -> (agent, seed) -> path, of what was read."""
    found: Planes = {}
    for (task, _), panel in panels.items():
        for agent, results in panel.items():
            for result, name in itertools.product(results, plane.ESTIMATORS):
                if path := path_of(result, name):
                    paths = found.setdefault(name, {}).setdefault(task, {})
                    paths[agent, result["seed"]] = path
    return found


def draw(axes, paths: dict[tuple[str, int], list[plane.Point]], colour: dict[str, str]) -> None:
    """Draw the paths of one panel, with an entry of the legend for each agent."""
    named = set()
    for (agent, _), path in paths.items():
        plane.draw(axes, path, "_seed" if agent in named else agent, colour[agent])
        named.add(agent)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)


def main(argv: list[str]) -> None:
    places, picture = arguments(argv, __doc__)
    panels = read(*map(Path, places))
    planes = paths_of(panels)
    if not planes:
        raise UserError(
            "no run has read its latent",
            ", ".join(places),
            "train with --evaluation.latent --training.evaluate_every N",
        )
    colour = colours(panels)
    tasks = list(dict.fromkeys(task for found in planes.values() for task in found))
    size = (4.6 * len(tasks), 3.6 * len(planes))
    figure, axes = plt.subplots(len(planes), len(tasks), figsize=size, squeeze=False)
    for row, (name, found) in zip(axes, planes.items()):
        for ax, task in zip(row, tasks):
            ax.set_title(f"{task}, {name}", fontsize=10)
            draw(ax, found.get(task, {}), colour)
    figure.tight_layout()
    figure.savefig(picture, dpi=130)
    last = {
        name: {
            f"{task}, {agent}, seed {seed}": path[-1]
            for task, paths in found.items()
            for (agent, seed), path in paths.items()
        }
        for name, found in planes.items()
    }
    print(json.dumps(last))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
