"""Draw returns over env frames: ``python benchmarks/plot.py results/SUITE OUTPUT.png``. One panel a task and background.

Reads the result files of benchmarks/returns.py; lines are training episodes (mean of five), a dot the held-out return of the
deterministic policy at the end, the dashed line the random policy. Prints the table in Markdown.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import matplotlib  # noqa: E402

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from errors import UserError, run_main  # noqa: E402

COLOURS = {"infopower": "#0b6e4f", "c_dreamer": "#d9822b", "dreamer": "#5b5ea6", "infopower_paper": "#8c8c8c"}


def read(folder: Path) -> dict[tuple[str, str], list[dict]]:
    """Result files by (task, background)."""
    panels = defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        background = "clean" if result["background"] == "none" else "video"
        panels[result["task"], background].append(result)
    if not panels:
        raise UserError("no result files", str(folder), "run benchmarks/returns.py first")
    return panels


def running_mean(values: list[float], width: int = 5) -> np.ndarray:
    return np.array([np.mean(values[max(0, i - width + 1) : i + 1]) for i in range(len(values))])


def draw(axes, name: tuple[str, str], results: list[dict]) -> None:
    for result in results:
        side = next(iter(result["scores"]))
        colour = COLOURS[result["agent"]]
        axes.plot(result["xs"], running_mean(result["ys"]), color=colour, lw=1.6, label=result["agent"])
        axes.plot([result["env_frame"]], [result["scores"][side]["mean"]], "o", color=colour, clip_on=False)
        random = [row["mean"] for key, row in result["scores"].items() if key.startswith("random")]
        axes.axhline(random[0], color="0.6", ls="--", lw=0.8)
    axes.set_title(f"{name[0]}, {name[1]}", fontsize=10)
    axes.set_xlabel("env frames")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def table(panels: dict) -> str:
    """Markdown: held-out (or clean) return and interval, train and clean, the random policy's."""
    heads = ("task", "background", "agent", "env frames", "held-out [95 %]", "train clips", "clean", "random policy")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for (task, background), results in panels.items():
        for result in results:
            scores = result["scores"]
            first = next(iter(scores))
            low, high = scores[first]["interval"]
            sides = [f"{scores[side]['mean']:.0f}" if side in scores else "-" for side in ("train", "clean")]
            random = next(row["mean"] for key, row in scores.items() if key.startswith("random"))
            held = f"{scores[first]['mean']:.0f} [{low:.0f}, {high:.0f}]" if first == "heldout" else "-"
            cells = (task, background, result["agent"], result["env_frame"], held, *sides, f"{random:.0f}")
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    if len(argv) != 2:
        raise UserError("two arguments are expected", "command line", "python benchmarks/plot.py results/SUITE OUTPUT.png")
    panels = read(Path(argv[0]))
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.2), squeeze=False)
    for ax, (name, results) in zip(axes[0], panels.items()):
        draw(ax, name, results)
    axes[0][0].set_ylabel("return")
    figure.tight_layout()
    figure.savefig(argv[1], dpi=130)
    print(table(panels))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
