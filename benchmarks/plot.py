"""Draw returns over env frames.

    python -m benchmarks.plot results/SUITE runs/RUN OUTPUT.png

There is one panel per task and background. Reads folders with the result files of
benchmarks/returns.py, and run folders, also of unfinished runs. The legend is below the panels. A
line is the interquartile mean over seeds of the returns of training episodes (mean of the last
five), in a band of the 95 % stratified bootstrap interval. Small dots are held-out returns of the
deterministic policy in evaluations during training, the large dot is that at the end. The dashed
line is the random policy. With several tasks the last panel is over all of them, in thousandths of
the largest possible return. Prints tables in Markdown, with what the latents hold where the files
have it (benchmarks/latent.py), and one JSON line last.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from benchmarks.plot_tables import (
    COLOURS,
    Panel,
    Panels,
    aggregate_table,
    by_background,
    curves,
    estimate,
    evaluations,
    finished,
    latent_pairs,
    latent_table,
    read,
    seed_means,
    shared_agents,
    table,
    without_curve,
)
from foreground.errors import UserError, run_main, say
from foreground.evaluation.aggregate import interquartile_mean
from foreground.option import config_class, option
from foreground.training import options
from foreground.training.option_help import Manual

STYLES = {  # what is drawn -> how the legend shows it
    "line": ("return of training episodes, mean of the last 5", {"color": "0.3", "lw": 1.6}),
    "band": ("95 % interval over seeds", {"color": "0.3", "alpha": 0.25, "lw": 8}),
    "evaluation": (
        "held-out return during training",
        {"color": "0.3", "marker": "o", "ms": 3, "lw": 0.8, "ls": ":"},
    ),
    "end": ("held-out return at the end", {"color": "0.3", "marker": "o", "ms": 6, "ls": "none"}),
    "random": ("random policy", {"color": "0.6", "ls": "--", "lw": 0.8}),
}

SUFFIXES = (".png", ".pdf", ".svg", ".jpg")


@config_class
class PlotConfig:
    """Options of the program."""

    places: tuple[str, ...] = option(
        help="Folders of result files and run folders; the last one is the picture that is "
        "written.",
        path=True,
    )


def arguments(argv: list[str], description: str | None) -> tuple[list[str], str]:
    """Return the places that are read and the picture that is written, from a command line.

    description   what --help says first
    Errors: UserError for a command line without both.
    """
    manual = Manual(usage=f"python -m benchmarks.{Path(sys.argv[0]).stem} PLACE OUTPUT.png")
    config = options.parse(
        PlotConfig, argv, None, "places", (description or "").strip(), manual=manual
    )
    *places, picture = config.places
    if not places or not picture.endswith(SUFFIXES):
        what = "places to read and, last, a picture to write are expected"
        raise UserError(
            what, "command line", "write results/SUITE OUTPUT.png behind the program's name"
        )
    return places, picture


def colours(panels: Panels) -> dict[str, str]:
    """Return a colour per agent, the same in every panel; others take matplotlib's in turn."""
    others = sorted({agent for results in panels.values() for agent in results} - set(COLOURS))
    return COLOURS | {agent: f"C{index}" for index, agent in enumerate(others)}


def line(axes, agent: str, grid: np.ndarray, tasks: list[np.ndarray], colour: str) -> set[str]:
    """Draw the interquartile mean over seeds and tasks at every frame; `tasks`: one (seeds, n) a
    task.

    Return which of `STYLES` were drawn: nothing where there is no frame.
    """
    if not len(grid):
        return set()
    rows = [estimate([curve[:, index] for curve in tasks], draws=300) for index in range(len(grid))]
    middle, low, high = np.array(rows).T
    # A line of one point is not seen.
    axes.plot(grid, middle, "." if len(grid) == 1 else "-", color=colour, lw=1.6, label=agent)
    if max(len(curve) for curve in tasks) < 2:
        return {"line"}
    axes.fill_between(grid, low, high, color=colour, alpha=0.2, lw=0)
    return {"line", "band"}


def draw(axes, name: tuple[str, str], panel: Panel, colour: dict[str, str]) -> set[str]:
    """Draw one task and background; return which of `STYLES` were drawn."""
    drawn = set()
    for agent, results in panel.items():
        xs, ys = curves(results)
        drawn |= line(axes, agent, xs, [ys], colour[agent])
        name_of = {} if len(xs) else {"label": agent}  # of the dots, where there is no line
        frames, returns = evaluations(results)
        if len(frames):
            middle = [interquartile_mean(column) for column in returns.T]
            axes.plot(frames, middle, **STYLES["evaluation"][1] | {"color": colour[agent]})
            drawn.add("evaluation")
        if scored := [result for result in results if result["scores"]]:
            side = next(iter(scored[0]["scores"]))
            frame = np.mean([result["env_frame"] for result in scored])
            axes.plot(
                [frame],
                [interquartile_mean(seed_means(scored)[side])],
                "o",
                color=colour[agent],
                clip_on=False,
                **name_of,
            )
            drawn.add("end")
    random = seed_means([result for results in panel.values() for result in results])[
        "random policy"
    ]
    if random:
        axes.axhline(np.mean(random), **STYLES["random"][1])
        drawn.add("random")
    finish(axes, f"{name[0]}, {name[1]}")
    return drawn


def explain(figure, drawn: set[str]) -> None:
    """Put a legend below the panels that says what each style means."""
    shown = [(words, style) for name, (words, style) in STYLES.items() if name in drawn]
    handles = [Line2D([], [], label=words, **style) for words, style in shown]
    columns = max(1, int(figure.get_figwidth() / 3.4))  # inches that the longest words take
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8
    )


def draw_all(axes, panels: Panels, colour: dict[str, str]) -> set[str]:
    """Draw all tasks of one background together, for the agents that every one of them has; return
    what was drawn.
    """
    drawn = set()
    for agent in shared_agents(panels):
        pairs = [curves(panel[agent]) for panel in panels.values()]
        if not all(len(xs) for xs, _ in pairs):
            continue
        grid = np.unique(np.concatenate([xs for xs, _ in pairs]))
        grid = grid[
            (grid >= max(xs[0] for xs, _ in pairs)) & (grid <= min(xs[-1] for xs, _ in pairs))
        ]
        tasks = [np.stack([np.interp(grid, xs, row) for row in ys]) / 1000 for xs, ys in pairs]
        drawn |= line(axes, agent, grid, tasks, colour[agent])
    finish(axes, f"{len(panels)} tasks, share of the largest return")
    return drawn


def finish(axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("env frames")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)


def main(argv: list[str]) -> None:
    places, picture = arguments(argv, __doc__)
    panels = read(*map(Path, places))
    for text in without_curve(panels):
        say(f"warning: {text}")
    groups, colour = by_background(finished(panels)), colours(panels)
    number = len(panels) + len(groups)
    columns = number if number < 4 else 3 if number in (3, 5, 6, 9) else 2
    rows = -(-number // columns)
    size = (4.2 * columns, 3.2 * rows + (1.0 if columns == 1 else 0.6))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    drawn = set()
    for ax, (name, panel) in zip(axes.flat, panels.items()):
        drawn |= draw(ax, name, panel, colour)
    for ax, chosen in zip(axes.flat[len(panels) :], groups.values()):
        drawn |= draw_all(ax, chosen, colour)
    for ax in axes.flat[number:]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("return")
    explain(figure, drawn)
    figure.savefig(picture, dpi=130)
    print(table(panels))
    for text in (
        *map(aggregate_table, groups.values()),
        latent_table(panels),
        *map(latent_pairs, groups.values()),
    ):
        if text:
            print(f"\n{text}")
    runs = sum(len(results) for panel in panels.values() for results in panel.values())
    print(json.dumps({"runs": runs, "picture": picture}))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
