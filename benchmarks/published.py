"""Compare runs with published curves, frame by frame.

    python -m benchmarks.published results/SUITE [results/SUITE ...] OUTPUT.png

A panel a task. Solid: mean over seeds of the held-out returns of the deterministic policy during
training, in a band from the lowest seed to the highest. Dashed: published means
(results/published.json, with the source of each). Prints a table with the returns at some frames in
Markdown, and one JSON line last: for each task and frame the margin over the best published curve.
"""

import argparse
import itertools
import json
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from benchmarks import result_files
from benchmarks.plot import colours
from benchmarks.plot_tables import markdown
from foreground.errors import UserError, run_main

ROOT = Path(__file__).parents[1]

PUBLISHED = ROOT / "results" / "published.json"
FRAMES = (100_000, 250_000, 500_000)
# Evaluations that a figure of the table averages, those before its frame: one is too noisy.
WINDOW = 3
HEADS = ("task", "background", "method", "seeds", *(f"{frame:,}" for frame in FRAMES))

# Method -> (env frames, returns), one pair a seed.
Curves = dict[str, list[tuple[np.ndarray, np.ndarray]]]


def evaluated(row: dict) -> tuple[np.ndarray, np.ndarray] | None:
    """Return env frames and held-out returns of a result, of its clean side where nothing played;
    None without any.
    """
    for side in ("heldout", "clean"):
        found = row.get("evaluations", {}).get(f"return_{side}")
        if found and found["xs"]:
            return np.array(found["xs"]), np.array(found["ys"])
    return None


def read(folders: list[Path]) -> dict[tuple[str, str], Curves]:
    """Return the curves of folders of results by (task, background).

    Raises: UserError where there are none.
    """
    panels: dict[tuple[str, str], Curves] = defaultdict(lambda: defaultdict(list))
    for row in itertools.chain.from_iterable(map(result_files.read_all, folders)):
        curve = evaluated(row)
        if curve:
            panels[row["task"], result_files.background_of(row)][row["method"]].append(curve)
    if not panels:
        raise UserError(
            "no result with evaluations",
            ", ".join(map(str, folders)),
            "run benchmarks/returns.py with evaluate_every",
        )
    return panels


def published(task: str, background: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return method -> (env frames, mean returns) of what was published on a task."""
    rows = json.loads(PUBLISHED.read_text(encoding="utf-8"))["rows"]
    chosen = [row for row in rows if (row["task"], row["background"]) == (task, background)]
    return {row["method"]: (np.array(row["frames"]), np.array(row["mean"])) for row in chosen}


def at(curve: tuple[np.ndarray, np.ndarray], frame: int, window: int = 1) -> float:
    """Return the mean of the last `window` values up to a frame; nan where the curve does not reach
    it.
    """
    frames, values = curve
    upto = values[frames <= frame]
    return float(np.mean(upto[-window:])) if len(upto) and frames[-1] >= frame else float("nan")


def best_of(values: list[float]) -> float:
    """Return the largest value of the curves that reach a frame; nan where none does."""
    return max((value for value in values if not np.isnan(value)), default=float("nan"))


def draw(axes, name: tuple[str, str], curves: Curves, colour: dict[str, str]) -> None:
    longest = max(frames[-1] for seeds in curves.values() for frames, _ in seeds)
    for method, seeds in curves.items():
        grid = seeds[0][0][seeds[0][0] <= min(frames[-1] for frames, _ in seeds)]
        values = np.stack([np.interp(grid, *seed) for seed in seeds])
        label = f"{method}, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
        axes.plot(grid, values.mean(0), color=colour[method], lw=1.6, label=label)
        axes.fill_between(grid, values.min(0), values.max(0), color=colour[method], alpha=0.2, lw=0)
    for index, (method, (frames, mean)) in enumerate(published(*name).items()):
        shown = frames <= longest
        axes.plot(
            frames[shown],
            mean[shown],
            color=f"C{index + 4}",
            ls="--",
            lw=1.1,
            label=f"{method}, published",
        )
    axes.set_title(f"{name[0]}, {name[1]}", fontsize=10)
    axes.set_xlabel("env frames")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7)


def rows_of(
    name: tuple[str, str], curves: Curves
) -> tuple[list[tuple], dict[str, dict[int, float]]]:
    """Return the table's rows of a task, and the margin of each method over the best published mean
    by frame.
    """
    theirs = published(*name)
    best = {frame: best_of([at(curve, frame) for curve in theirs.values()]) for frame in FRAMES}
    rows = []
    margins = {}
    for method, seeds in curves.items():
        means = {
            frame: float(np.mean([at(seed, frame, WINDOW) for seed in seeds])) for frame in FRAMES
        }
        rows.append((*name, method, len(seeds), *(_text(means[frame]) for frame in FRAMES)))
        found = {frame: means[frame] - best[frame] for frame in FRAMES}
        margins[method] = {
            frame: round(margin, 1) for frame, margin in found.items() if not np.isnan(margin)
        }
    for method, curve in theirs.items():
        rows.append(
            (*name, f"{method} (published)", "", *(_text(at(curve, frame)) for frame in FRAMES))
        )
    return rows, margins


def _text(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.0f}"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="results of suites")
    parser.add_argument("picture", type=Path, help="PNG to write")
    asked = parser.parse_args(argv)
    panels = read(asked.folders)
    colour = colours(panels)
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(4.4 * columns, 3.3 * lines), squeeze=False)
    table = []
    margins = {}
    for ax, (name, curves) in zip(axes.flat, panels.items()):
        draw(ax, name, curves, colour)
        rows, margins[" ".join(name)] = rows_of(name, curves)
        table += rows
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("held-out return")
    figure.tight_layout()
    figure.savefig(asked.picture, dpi=130)
    print(markdown(HEADS, table))
    print(json.dumps({"picture": str(asked.picture), "over_best_published": margins}))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
