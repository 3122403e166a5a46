"""Draw returns over env frames: ``python benchmarks/plot.py results/SUITE OUTPUT.png``. One panel a task and background.

Reads the result files of benchmarks/returns.py; lines are training episodes (mean of five), a dot the held-out return of the
deterministic policy at the end, the dashed line the random policy. Of several seeds it is the mean, in a band from the
lowest to the highest seed. Prints the table in Markdown.
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

Panels = dict[tuple[str, str], dict[str, list[dict]]]  # (task, background) -> agent -> results, one a seed


def read(folder: Path) -> Panels:
    """Result files by (task, background) and agent."""
    panels: Panels = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        background = "clean" if result["background"] == "none" else "video"
        panels[result["task"], background][result["agent"]].append(result)
    if not panels:
        raise UserError("no result files", str(folder), "run benchmarks/returns.py first")
    return panels


def colours(panels: Panels) -> dict[str, str]:
    """A colour an agent, the same in every panel; those without one of their own take matplotlib's in turn."""
    others = sorted({agent for results in panels.values() for agent in results} - set(COLOURS))
    return COLOURS | {agent: f"C{index}" for index, agent in enumerate(others)}


def running_mean(values: list[float], width: int = 5) -> np.ndarray:
    return np.array([np.mean(values[max(0, i - width + 1) : i + 1]) for i in range(len(values))])


def curves(results: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Env frames (n,) that all seeds have, and their returns there (seeds, n)."""
    grid = np.array(results[0]["xs"])
    first, last = max(result["xs"][0] for result in results), min(result["xs"][-1] for result in results)
    grid = grid[(grid >= first) & (grid <= last)]
    return grid, np.stack([np.interp(grid, result["xs"], running_mean(result["ys"])) for result in results])


def seed_means(results: list[dict]) -> dict[str, list[float]]:
    """What played behind the robot -> mean return of each seed; `random policy`: its return on any side."""
    means = defaultdict(list)
    for result in results:
        for side, row in result["scores"].items():
            means["random policy" if side.startswith("random") else side].append(row["mean"])
    return means


def draw(axes, name: tuple[str, str], panel: dict[str, list[dict]], colour: dict[str, str]) -> None:
    for agent, results in panel.items():
        xs, ys = curves(results)
        axes.plot(xs, ys.mean(0), color=colour[agent], lw=1.6, label=agent)
        if len(results) > 1:
            axes.fill_between(xs, ys.min(0), ys.max(0), color=colour[agent], alpha=0.2, lw=0)
        side = next(iter(results[0]["scores"]))
        frame = np.mean([result["env_frame"] for result in results])
        axes.plot([frame], [np.mean(seed_means(results)[side])], "o", color=colour[agent], clip_on=False)
    random = seed_means([result for results in panel.values() for result in results])["random policy"]
    if random:
        axes.axhline(np.mean(random), color="0.6", ls="--", lw=0.8)
    axes.set_title(f"{name[0]}, {name[1]}", fontsize=10)
    axes.set_xlabel("env frames")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def held_out(results: list[dict], means: dict[str, list[float]]) -> str:
    """Mean over seeds, and [95 % over the episodes of the only seed] or [lowest, highest seed]."""
    if "heldout" not in means:
        return "-"
    seeds = means["heldout"]
    low, high = results[0]["scores"]["heldout"]["interval"] if len(seeds) == 1 else (min(seeds), max(seeds))
    return f"{np.mean(seeds):.0f} [{low:.0f}, {high:.0f}]"


def table(panels: Panels) -> str:
    """Markdown: a row a task, background and agent, means over the seeds."""
    interval = "held-out [95 % of one seed's episodes, or lowest and highest seed]"
    heads = ("task", "background", "agent", "seeds", "env frames", interval, "train clips", "clean", "random policy")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, panel in panels.items():
        for agent, results in panel.items():
            means = seed_means(results)
            sides = [f"{np.mean(means[side]):.0f}" if means[side] else "-" for side in ("train", "clean", "random policy")]
            frames = min(result["env_frame"] for result in results)
            cells = (*name, agent, len(results), frames, held_out(results, means), *sides)
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    if len(argv) != 2:
        raise UserError("two arguments are expected", "command line", "python benchmarks/plot.py results/SUITE OUTPUT.png")
    panels = read(Path(argv[0]))
    columns = len(panels) if len(panels) < 4 else 2  # clean beside video
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.2 * rows), squeeze=False)
    for ax, (name, panel) in zip(axes.flat, panels.items()):
        draw(ax, name, panel, colours(panels))
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("return")
    figure.tight_layout()
    figure.savefig(argv[1], dpi=130)
    print(table(panels))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
