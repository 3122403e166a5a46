"""Draw returns over env frames: ``python -m benchmarks.plot results/SUITE runs/RUN OUTPUT.png``.

One panel a task and background. Reads folders with the result files of benchmarks/returns.py, and run folders, also of runs
that are not finished. The legend below the panels says what is drawn. A line is the interquartile mean over seeds of the
returns of training episodes (mean of the last five), in a band of the 95 % stratified bootstrap interval. Small dots are the
held-out return of the deterministic policy in evaluations during training, the large dot is that at the end. The dashed line
is the random policy. Where there are several tasks the last panel is over all of them, in thousandths of the largest possible
return. Prints the tables in Markdown, also what the latents hold where the files say it (benchmarks/latent.py), and one JSON
line last.
"""

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from benchmarks import result_files
from foreground.errors import UserError, run_main
from foreground.evaluation.aggregate import interquartile_mean, probability_of_improvement, stratified_interval
from foreground.option import option
from foreground.training import options
from foreground.training.option_help import Manual

COLOURS = {"infopower": "#0b6e4f", "c_dreamer": "#d9822b", "dreamer": "#5b5ea6", "infopower_paper": "#8c8c8c"}
LATENT = {  # what the latents hold: title -> key of evaluation/probes.py
    "state R2": "state/network/mean",
    "state nats": "state/nats/knn",
    "background R2": "background/network/pixels",
    "background nats": "background/nats/knn",
    "clip told": "background/network/clip_accuracy",
    "similarity": "similarity",
    "reward explained": "reward_explained",
}
PAIRED = {  # the same, over all tasks
    "state R2 (linear)": "state/linear/mean",
    "(network)": "state/network/mean",
    "state nats (kNN)": "state/nats/knn",
    "(diffusion)": "state/nats/diffusion",
    "background nats (kNN)": "background/nats/knn",
    "(diffusion) ": "background/nats/diffusion",
}

STYLES = {  # what is drawn -> how the legend shows it
    "line": ("return of training episodes, mean of the last 5", {"color": "0.3", "lw": 1.6}),
    "band": ("95 % interval over seeds", {"color": "0.3", "alpha": 0.25, "lw": 8}),
    "evaluation": ("held-out return during training", {"color": "0.3", "marker": "o", "ms": 3, "lw": 0.8, "ls": ":"}),
    "end": ("held-out return at the end", {"color": "0.3", "marker": "o", "ms": 6, "ls": "none"}),
    "random": ("random policy", {"color": "0.6", "ls": "--", "lw": 0.8}),
}

SUFFIXES = (".png", ".pdf", ".svg", ".jpg")
Panel = dict[str, list[dict]]  # agent -> results, one a seed
Panels = dict[tuple[str, str], Panel]  # by (task, background)


@dataclass(frozen=True)
class PlotConfig:
    """Options of the program."""

    places: tuple[str, ...] = option(
        help="Folders of result files and run folders; the last one is the picture that is written.", path=True
    )


def arguments(argv: list[str], description: str | None) -> tuple[list[str], str]:
    """Return the places that are read and the picture that is written, from a command line.

    description   what --help says first
    Errors: UserError for a command line without both.
    """
    manual = Manual(usage=f"python -m benchmarks.{Path(sys.argv[0]).stem} PLACE OUTPUT.png")
    config, _ = options.parse(PlotConfig, argv, None, "places", (description or "").strip(), manual=manual)
    *places, picture = config.places
    if not places or not picture.endswith(SUFFIXES):
        what = "places to read and, last, a picture to write are expected"
        raise UserError(what, "command line", "write results/SUITE OUTPUT.png behind the program's name")
    return places, picture


def read(*places: Path) -> Panels:
    """Return the results of folders of result files, and of run folders, by (task, background) and agent.

    Errors: UserError for a place that has none.
    """
    panels: Panels = defaultdict(lambda: defaultdict(list))
    for place in places:
        is_run = (place / "config.yaml").is_file()
        rows = [result_files.of_run(place)] if is_run else result_files.read_all(place)
        if not rows:
            raise UserError("no result files and no run", str(place), "run benchmarks/returns.py first, or give a run folder")
        if is_run and not rows[0]["xs"]:
            raise UserError("this run has not ended an episode yet", str(place), "wait for one, or leave it out")
        for row in rows:
            background = "clean" if row["background"] == "none" else "video"
            panels[row["task"], background][row["method"]].append(row)
    return panels


def finished(panels: Panels) -> Panels:
    """Return the results that have scores: a run that is not finished has none."""
    found: Panels = defaultdict(dict)
    for name, panel in panels.items():
        for agent, results in panel.items():
            if scored := [result for result in results if result["scores"]]:
                found[name][agent] = scored
    return found


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


def estimate(scores: list[np.ndarray], draws: int = 1000) -> tuple[float, float, float]:
    """Interquartile mean over runs and tasks, and its interval; one array (seeds,) a task."""
    return interquartile_mean(np.concatenate(scores)), *stratified_interval(scores, draws=draws)


def seed_means(results: list[dict]) -> dict[str, list[float]]:
    """What played behind the robot -> mean return of each seed; `random policy`: its return on any side."""
    means = defaultdict(list)
    for result in results:
        for side, row in result["scores"].items():
            means["random policy" if side.startswith("random") else side].append(row["mean"])
    return means


def evaluations(results: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Return the env frames (n,) at which every seed was evaluated during training, and the held-out returns (seeds, n).

    On the clean task where there are no clips.
    """
    curves = []
    for result in results:
        found = result.get("evaluations", {})
        curve = found.get("return_heldout") or found.get("return_clean") or {"xs": [], "ys": []}
        curves.append(dict(zip(curve["xs"], curve["ys"])))
    frames = sorted(set.intersection(*(set(curve) for curve in curves)))
    return np.array(frames), np.array([[curve[frame] for frame in frames] for curve in curves])


def line(axes, agent: str, grid: np.ndarray, tasks: list[np.ndarray], colour: str) -> set[str]:
    """Draw the interquartile mean over seeds and tasks at every frame; `tasks`: one (seeds, n) a task.

    Return which of `STYLES` were drawn.
    """
    rows = [estimate([curve[:, index] for curve in tasks], draws=300) for index in range(len(grid))]
    middle, low, high = np.array(rows).T
    axes.plot(grid, middle, color=colour, lw=1.6, label=agent)
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
        frames, returns = evaluations(results)
        if len(frames):
            middle = [interquartile_mean(column) for column in returns.T]
            axes.plot(frames, middle, **STYLES["evaluation"][1] | {"color": colour[agent]})
            drawn.add("evaluation")
        if scored := [result for result in results if result["scores"]]:
            side = next(iter(scored[0]["scores"]))
            frame = np.mean([result["env_frame"] for result in scored])
            axes.plot([frame], [interquartile_mean(seed_means(scored)[side])], "o", color=colour[agent], clip_on=False)
            drawn.add("end")
    random = seed_means([result for results in panel.values() for result in results])["random policy"]
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
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def draw_all(axes, panels: Panels, colour: dict[str, str]) -> set[str]:
    """Draw all tasks of one background together, for the agents that every one of them has; return what was drawn."""
    drawn = set()
    for agent in shared_agents(panels):
        pairs = [curves(panel[agent]) for panel in panels.values()]
        grid = np.unique(np.concatenate([xs for xs, _ in pairs]))
        grid = grid[(grid >= max(xs[0] for xs, _ in pairs)) & (grid <= min(xs[-1] for xs, _ in pairs))]
        tasks = [np.stack([np.interp(grid, xs, row) for row in ys]) / 1000 for xs, ys in pairs]
        drawn |= line(axes, agent, grid, tasks, colour[agent])
    finish(axes, f"{len(panels)} tasks, share of the largest return")
    return drawn


def finish(axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("env frames")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def shared_agents(panels: Panels) -> list[str]:
    """Agents that every panel has, those with a colour of their own first."""
    order = [*COLOURS, *sorted(next(iter(panels.values())))]
    return [agent for agent in dict.fromkeys(order) if all(agent in panel for panel in panels.values())]


def by_background(panels: Panels) -> dict[str, Panels]:
    """Panels of each background, where it has more than one task."""
    found: dict[str, Panels] = defaultdict(dict)
    for (task, background), panel in panels.items():
        found[background][task, background] = panel
    return {background: chosen for background, chosen in found.items() if len(chosen) > 1}


def markdown(heads: tuple, rows: list[tuple]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def interval_text(results: list[dict], side: str) -> str:
    """Interquartile mean over seeds and its interval; of a single seed the mean and, of enough, that over its episodes."""
    means = seed_means(results)[side]
    if not means:
        return "-"
    if len(means) == 1:
        scored = next(result for result in results if side in result["scores"])
        interval = scored["scores"][side]["interval"]
        if interval is None:
            return f"{means[0]:.0f}"
        middle, (low, high) = means[0], interval
    else:
        middle, low, high = estimate([np.array(means)])
    return f"{middle:.0f} [{low:.0f}, {high:.0f}]"


def table(panels: Panels) -> str:
    """A row a task, background and agent."""
    heads = ("task", "background", "agent", "seeds", "env frames", "held-out [95 %]", "train clips", "clean", "random policy")
    rows = []
    for name, panel in panels.items():
        for agent, results in panel.items():
            random = seed_means(results)["random policy"]
            frames = min(result["env_frame"] for result in results)
            cells = [interval_text(results, side) for side in ("heldout", "train", "clean")]
            rows.append((*name, agent, len(results), frames, *cells, f"{np.mean(random):.0f}" if random else "-"))
    return markdown(heads, rows)


def last_scores(panels: Panels, agent: str) -> list[np.ndarray]:
    """Held-out (or clean) returns at the end, in shares of the largest possible: one (seeds,) a task."""
    found = []
    for panel in panels.values():
        means = seed_means(panel[agent])
        found.append(np.array(means["heldout"] or means["clean"]) / 1000)
    return found


def aggregate_table(panels: Panels) -> str:
    """Over all tasks of one background: interquartile mean, and how likely the first agent beats each other one."""
    agents = shared_agents(panels)
    heads = ("agent", "tasks", "runs", "IQM at the end [95 %]", f"P({agents[0]} better)")
    scores = {agent: last_scores(panels, agent) for agent in agents}
    rows = []
    for agent, columns in scores.items():
        middle, low, high = estimate(columns)
        better = "" if agent == agents[0] else f"{probability_of_improvement(scores[agents[0]], columns):.2f}"
        rows.append((agent, len(columns), sum(map(len, columns)), f"{middle:.3f} [{low:.3f}, {high:.3f}]", better))
    return markdown(heads, rows)


def latent_table(panels: Panels) -> str:
    """What the latents hold on held-out clips, means over the seeds that were read."""
    rows = []
    for name, panel in panels.items():
        for agent, results in panel.items():
            readings = [result["latent"] for result in results if "latent" in result]
            if readings:
                cells = [np.mean([reading.get(key, np.nan) for reading in readings]) for key in LATENT.values()]
                rows.append((*name, agent, len(readings), *(f"{cell:.2f}" for cell in cells)))
    return markdown(("task", "background", "agent", "seeds", *LATENT), rows) if rows else ""


def latent_pairs(panels: Panels) -> str:
    """Over all tasks of one background: means over runs, and in how many (task, seed) the first agent holds more, or less.

    Fair where the runs of a task and seed read the same episodes, which benchmarks/latent.py sees to.
    """
    agents = shared_agents(panels)
    found: dict[str, dict] = {agent: {} for agent in agents}  # agent -> (task, seed) -> reading
    for name, panel in panels.items():
        for agent in agents:
            found[agent] |= {(name, result["seed"]): result["latent"] for result in panel[agent] if "latent" in result}
    shared = set.intersection(*(set(readings) for readings in found.values()))
    if not shared:
        return ""
    heads = ("agent", "runs", *PAIRED, f"{agents[0]} holds more state", "less background")

    def column(agent: str, key: str) -> np.ndarray:
        return np.array([found[agent][one].get(key, np.nan) for one in shared])

    def wins(agent: str, key: str, sign: int) -> str:
        ahead = sign * (column(agents[0], key) - column(agent, key))
        return "-" if agent == agents[0] or np.isnan(ahead).any() else f"{np.sum(ahead > 0)} of {len(shared)}"

    rows = []
    for agent in agents:
        cells = [f"{column(agent, key).mean():.2f}" for key in PAIRED.values()]
        rows.append((agent, len(shared), *cells, wins(agent, "state/nats/knn", 1), wins(agent, "background/nats/knn", -1)))
    return markdown(heads, rows)


def main(argv: list[str]) -> None:
    places, picture = arguments(argv, __doc__)
    panels = read(*map(Path, places))
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
    for text in (*map(aggregate_table, groups.values()), latent_table(panels), *map(latent_pairs, groups.values())):
        if text:
            print(f"\n{text}")
    runs = sum(len(results) for panel in panels.values() for results in panel.values())
    print(json.dumps({"runs": runs, "picture": picture}))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
