"""Estimators of `eval.py --latent` (evaluation/nats.py) against known mutual information.

    python -m benchmarks.calibration

`knn` and `diffusion` get the pair itself, as they get a probe's reading and the number.
`compressed` gets a latent of 30 features: the left side among noise of a third of its deviation,
rotated at random. The pairs are correlated Gaussians, and tasks of benchmark-mi with one number on
the right. Prints the table in Markdown, with the spread between the estimators, and one JSON line
last.
"""

import argparse
import json
import sys

import numpy as np
import torch

from benchmarks import bounds
from foreground.errors import run_main
from foreground.evaluation import nats

FEATURES = 30
NOISE = 0.3
KNOWN = (0.0, 0.5, 1.0, 2.0, 4.0)  # nats of the Gaussians


def hidden(left: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a latent (m, 30) that holds left (m, X) in a rotation of its features."""
    noise = NOISE * random.normal(size=(len(left), FEATURES - left.shape[1]))
    rotation = np.linalg.qr(random.normal(size=(FEATURES, FEATURES)))[0]
    return np.hstack([left, noise]) @ rotation


def measure(task: bounds.Task, random: np.random.Generator) -> dict:
    """Return a row of the table."""
    left, right = (side.double().numpy() for side in task.test(nats.STEPS))
    found = {"compressed": nats.compressed(hidden(left, random), right)}
    if left.shape[1] == 1:
        found = nats.of_columns(left, right) | found
    row = {"task": task.name, "nats": task.nats, **found}
    if len(found) > 1:
        row["spread"] = max(found.values()) - min(found.values())
    return {key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()}


def markdown(rows: list[dict]) -> str:
    heads = ("task", "nats", "knn", "diffusion", "compressed", "spread")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row.get(head, "") for head in heads]
        shown = (f"{cell:.2f}" if isinstance(cell, float) else cell for cell in cells)
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tasks = [bounds.gaussian(1, known) for known in KNOWN]
    tasks += [task for task in bounds.exported() if task.test(2)[1].shape[1] == 1]
    random = np.random.default_rng(0)
    rows = [measure(task, random) for task in tasks]
    print(markdown(rows))
    print(json.dumps({"steps": nats.STEPS, "kept": nats.KEPT, "rows": rows}))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
