"""Draw information planes of a suite: ``python -m benchmarks.plane results/SUITE OUTPUT.png``, a
panel a task.

For runs that read their latents during training (--evaluation.latent --training.evaluate_every N):
nats about the robot's state over nats about the background, a point an evaluation, darker with
training; the ring is the last one.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.plot import arguments, colours, read
from foreground.errors import UserError, run_main
from foreground.evaluation import plane


def main(argv: list[str]) -> None:
    places, picture = arguments(argv, __doc__)
    panels = read(*map(Path, places))
    chosen = {
        task: panel
        for (task, _), panel in panels.items()
        if any("plane" in row for rows in panel.values() for row in rows)
    }
    if not chosen:
        raise UserError(
            "no run has read its latent",
            ", ".join(places),
            "train with --evaluation.latent --training.evaluate_every N",
        )
    colour = colours(panels)
    figure, axes = plt.subplots(1, len(chosen), figsize=(4.6 * len(chosen), 3.6), squeeze=False)
    last = {}
    for ax, (task, panel) in zip(axes.flat, chosen.items()):
        for agent, results in panel.items():
            for index, result in enumerate(result for result in results if "plane" in result):
                path = [tuple(point) for point in result["plane"]]
                plane.draw(ax, path, agent if index == 0 else "_seed", colour[agent])
                last[f"{task}, {agent}, seed {result['seed']}"] = path[-1]
        ax.set_title(task, fontsize=10)
        ax.set_xlim(left=0)
        ax.set_ylim(bottom=0)
        ax.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(picture, dpi=130)
    print(json.dumps(last))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
