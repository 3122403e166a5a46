"""Estimates of `world_models/information.py` against known mutual information.

    python -m benchmarks.bounds

Trains each with small encoders on fresh correlated Gaussians, and on 8,000 samples of six
non-Gaussian tasks of the package benchmark-mi (benchmarks/data, exported by export_bmi.py). Scores
it on unseen samples, in blocks of 512 as in training. Prints the table in Markdown, draws --plot
FILE, and ends with one JSON line. `--bounds cmim mmcr --into FILE` measures some, and adds them to
a result file. Each estimate is trained from one seed, whichever others are measured.

NCE, NWJ, MI-alpha and cMIM are in nats. Wasserstein is a distance; the table also has W2 between
joint and product, which no 1-Lipschitz critic may exceed. Redundancy reduction and reconstruction
are losses. From their correlation or explained variance follow the nats of Gaussians with that
correlation ("implied"). MMCR is a share of the largest manifold capacity.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import result_files
from foreground.errors import UserError, run_main
from foreground.world_models.information import BOUNDS, ContrastiveConfig, nce, reconstruction

ROOT = Path(__file__).parents[1]

BLOCK = 512  # pairs per block, as in a batch of 16x32
NATS = (0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0)
SAMPLES = ROOT / "benchmarks/data/mutual_information.npz"
IN_NATS = ("nce", "nwj", "mi_alpha", "cmim")
NOT_IN_NATS = ("wasserstein", "mmcr")
IMPLIED = ("redundancy_reduction", "reconstruction")
Pair = tuple[Tensor, Tensor]  # left (n, X), right (n, Y), row by row drawn jointly


@dataclass(frozen=True)
class Task:
    """Samples with a known mutual information."""

    name: str
    nats: float
    train: Callable[[int], Pair]  # a number of pairs -> fresh ones
    test: Callable[[int], Pair]  # never seen in training
    correlation: float | None = None  # of Gaussians


def gaussian(dimension: int, nats: float) -> Task:
    """Return coordinates correlated in pairs: I = - d/2 ln(1 - rho^2)."""
    rho = math.sqrt(1 - math.exp(-2 * nats / dimension))

    def draw(number: int) -> Pair:
        left = torch.randn(number, dimension)
        return left, rho * left + math.sqrt(1 - rho**2) * torch.randn(number, dimension)

    return Task(f"gaussian, d={dimension}", nats, draw, draw, rho)


def exported() -> list[Task]:
    """Return the tasks of benchmark-mi with standardised columns: no optimum of a bound depends on
    units.
    """
    tasks = []
    columns = np.load(SAMPLES)
    for name in dict.fromkeys(key.split(".")[0] for key in columns):
        pair = [
            torch.from_numpy(columns[f"{name}.{side}"].astype(np.float32))
            for side in ("left", "right")
        ]
        pair = [(x - x.mean(0)) / x.std(0) for x in pair]

        def draw(number: int, rows: slice, pair=pair) -> Pair:
            left, right = (x[rows] for x in pair)
            index = torch.randperm(len(left))[:number]
            return left[index], right[index]

        train = lambda number, draw=draw: draw(number, slice(0, 8000))  # noqa: E731
        test = lambda number, draw=draw: draw(number, slice(8000, None))  # noqa: E731
        tasks.append(Task(name, float(columns[f"{name}.nats"]), train, test))
    return tasks


def encoder(inputs: int, outputs: int) -> nn.Sequential:
    """Return a network (N, inputs) -> (N, outputs) without layer norm, which would remove the scale
    of a single coordinate.
    """
    units = 128
    return nn.Sequential(
        nn.Linear(inputs, units),
        nn.SiLU(),
        nn.Linear(units, units),
        nn.SiLU(),
        nn.Linear(units, outputs),
    )


class Encoded(nn.Module):
    """An estimate behind encoders of left and right (N, X), (N, Y), as images have one in the world
    model.
    """

    def __init__(self, name: str, left: int, right: int):
        super().__init__()
        self.name = name
        features = 64
        self.left: nn.Module = encoder(left, features)
        self.right: nn.Module = encoder(right, features)
        # Lipschitz in what it is given, so it is given x and y themselves.
        if name == "wasserstein":
            self.left = self.right = nn.Identity()
            self.bound = BOUNDS[name](left, right, ContrastiveConfig(estimator=name))
        elif name == "reconstruction":  # right itself, as an image of one row of pixels
            self.left = nn.Identity()
            self.right = AsImage()
            self.bound = Decoded(
                nn.Sequential(encoder(left, right), nn.Unflatten(-1, (1, right, 1)))
            )
        elif (
            name == "redundancy_reduction"
        ):  # right is a target and has no gradient, so it is right itself
            self.right = nn.Identity()
            self.bound = BOUNDS[name](features, right, ContrastiveConfig(estimator=name))
        else:
            self.bound = BOUNDS[name](features, features, ContrastiveConfig(estimator=name))

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.bound(self.left(left), self.right(right))


class Decoded(nn.Module):
    """The left side is decoded and compared with an image."""

    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.decoder = decoder

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return reconstruction(self.decoder(left), right)


class AsImage(nn.Module):
    """(N, Y) -> uint8 (N, 1, Y, 1): within four deviations, 255 levels."""

    def forward(self, x: Tensor) -> Tensor:
        return ((x / 8 + 0.5) * 255).round().clamp(0, 255).byte()[:, None, :, None]


def train(model: Encoded, task: Task, steps: int) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        (-model(*task.train(BLOCK))[0].mean()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        schedule.step()


@torch.no_grad()
def score(model: Encoded, task: Task, blocks: int = 20) -> tuple[float, float | None]:
    """Return the value of the estimate, and its (implied) nats, on unseen samples."""
    model.eval()
    value = float(torch.stack([model(*task.test(BLOCK))[0].mean() for _ in range(blocks)]).mean())
    if model.name in IN_NATS:
        return value, value
    if model.name in NOT_IN_NATS:
        return value, None
    return value, -0.5 * float(torch.log1p(-explained(model, *task.test(BLOCK * blocks))).sum())


def explained(model: Encoded, left: Tensor, right: Tensor) -> Tensor:
    """Return the share of the variance of each coordinate of right that left explains, (Y,), within
    [0, 1).
    """
    if model.name == "reconstruction":
        target = model.right(right).float().flatten(1) / 255 - 0.5
        error = (model.bound.decoder(left).flatten(1) - target).square().mean(0)
        return (1 - error / target.var(0)).clamp(0, 1 - 1e-6)
    projected = model.bound.project(model.left(left))
    correlation = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(projected.T, right.T)]
    return torch.stack(correlation).clamp(0, 1 - 1e-6).square()


@torch.no_grad()
def exact_nce(task: Task, blocks: int = 20) -> float:
    """Return NCE of the true log density ratio: a perfect critic at this block size."""
    rho = task.correlation
    values = []
    for _ in range(blocks):
        left, right = (x.double() for x in task.test(BLOCK))
        ratio = 2 * rho * left @ right.T - rho**2 * (
            left.square().sum(-1)[:, None] + right.square().sum(-1)[None]
        )
        values.append(nce(ratio / (2 * (1 - rho**2))).mean())
    return float(torch.stack(values).mean())


def limit(task: Task, dimension: int) -> float:
    """Return W2 between joint and product of correlated Gaussians, in closed form; it is at least
    W1.
    """
    rho = task.correlation
    return math.sqrt(dimension * ((math.sqrt(1 + rho) - 1) ** 2 + (math.sqrt(1 - rho) - 1) ** 2))


def measure(task: Task, names: list[str], steps: int) -> dict:
    """Return a row of the table."""
    left, right = (x.shape[-1] for x in task.test(2))
    row: dict = {"task": task.name, "nats": round(task.nats, 3)}
    if task.correlation is not None:
        row |= {"exact_nce": exact_nce(task), "w2": limit(task, left)}
    for name in names:
        torch.manual_seed(0)
        model = Encoded(name, left, right)
        train(model, task, steps)
        value, nats = score(model, task)
        row[name] = value if nats is None else nats
    return {
        key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()
    }


def merged(kept: dict, new: dict, path: Path) -> dict:
    """Return a result with the estimates of another one beside its own; a new one replaces its
    namesake.

    Raises: UserError where they are of other tasks, or of another number of steps.
    """
    same = [
        [{key: row[key] for key in ("task", "nats")} for row in result["rows"]]
        + [result["block"], result["steps"]]
        for result in (kept, new)
    ]
    if same[0] != same[1]:
        what = "its tasks or steps are others"
        raise UserError(what, str(path), "measure with the options that it was made with")
    rows = []
    for old, row in zip(kept["rows"], new["rows"]):
        added = {name: row[name] for name in new["origin"]}
        rows.append(old | added)
    return kept | {"origin": kept.get("origin", {}) | new["origin"], "rows": rows}


def markdown(rows: list[dict], names: list[str]) -> str:
    heads = ["task", "nats", "exact_nce", *names, "w2"]
    titles = {
        "exact_nce": "NCE, perfect critic",
        "nce": "NCE",
        "nwj": "NWJ",
        "mi_alpha": "MI-alpha, 0.5",
        "cmim": "cMIM (at most 0.69)",
        "wasserstein": "Wasserstein (distance)",
        "mmcr": "MMCR (share)",
    }
    titles |= {name: name.replace("_", " ") + " (implied)" for name in IMPLIED} | {
        "w2": "W2 (distance)"
    }
    lines = [
        "| " + " | ".join(titles.get(head, head) for head in heads) + " |",
        "|---" * len(heads) + "|",
    ]
    for row in rows:
        cells = [row.get(head, "") for head in heads]
        lines.append(
            "| "
            + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells)
            + " |"
        )
    return "\n".join(lines)


def draw(rows: list[dict], names: list[str], path: str) -> None:
    """Draw Gaussians as curves over the true nats, the other tasks as bars; shares are left out."""
    names = [name for name in names if name != "mmcr"]
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves = list(dict.fromkeys(row["task"] for row in rows if "w2" in row))
    figure, axes = plt.subplots(1, len(curves) + 1, figsize=(4.2 * (len(curves) + 1), 3.6))
    for ax, task in zip(axes, curves):
        chosen = [row for row in rows if row["task"] == task]
        truth = [row["nats"] for row in chosen]
        ax.plot(truth, truth, color="0.6", lw=1, label="truth")
        ax.axhline(math.log(BLOCK), color="0.6", lw=0.8, ls=":", label=f"ln {BLOCK}")
        ax.plot(
            truth,
            [row["exact_nce"] for row in chosen],
            color="0.3",
            ls="--",
            lw=1,
            label="NCE, perfect critic",
        )
        for index, name in enumerate(names):
            ax.plot(
                truth,
                [row[name] for row in chosen],
                "o-",
                ms=3,
                lw=1.4,
                color=f"C{index}",
                label=name,
            )
        ax.set_title(task, fontsize=10)
        ax.set_xlabel("nats")
    others = [row for row in rows if "w2" not in row]
    place = np.arange(len(others))
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        offset = width * (index - (len(names) - 1) / 2)
        axes[-1].bar(place + offset, [row[name] for row in others], 0.94 * width, color=f"C{index}")
    axes[-1].hlines(
        [row["nats"] for row in others], place - 0.42, place + 0.42, color="0.2", lw=1.2
    )
    axes[-1].set_xticks(
        place, [row["task"].replace("_", " ") for row in others], fontsize=8, rotation=20
    )
    axes[-1].set_title("benchmark-mi (line: truth)", fontsize=10)
    axes[0].legend(frameon=False, fontsize=7)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=800, help="training steps of each estimate")
    parser.add_argument(
        "--bounds",
        nargs="+",
        default=[*BOUNDS, "reconstruction"],
        choices=[*BOUNDS, "reconstruction"],
    )
    parser.add_argument(
        "--nats", nargs="+", type=float, default=NATS, help="information of the Gaussians"
    )
    parser.add_argument(
        "--dimensions", nargs="+", type=int, default=(1, 20), help="of the Gaussians"
    )
    parser.add_argument("--plot", help="PNG to draw")
    parser.add_argument(
        "--into", type=Path, help="result file that gets these estimates beside those it has"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    tasks = [
        gaussian(dimension, nats) for dimension in options.dimensions for nats in options.nats
    ] + exported()
    rows = []
    for task in tasks:
        rows.append(measure(task, options.bounds, options.steps))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    result = {"block": BLOCK, "cap": round(math.log(BLOCK), 3), "steps": options.steps}
    source = result_files.origin("bounds", argv)
    result |= {"origin": dict.fromkeys(options.bounds, source), "rows": rows}
    if options.into:
        result = merged(result_files.read(options.into), result, options.into)
        result_files.write(options.into, result)
    names = [name for name in (*BOUNDS, "reconstruction") if name in result["rows"][0]]
    if options.plot:
        draw(result["rows"], names, options.plot)
    print(markdown(result["rows"], names))
    print(json.dumps(result))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
