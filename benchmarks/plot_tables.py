"""Results of suites and runs as panels and Markdown tables, for plot.py.

A panel holds the results of one task and background, by agent.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks import result_files
from foreground.errors import UserError
from foreground.evaluation.aggregate import (
    interquartile_mean,
    probability_of_improvement,
    stratified_interval,
)

COLOURS = {
    "infopower": "#0b6e4f",
    "c_dreamer": "#d9822b",
    "dreamer": "#5b5ea6",
    "infopower_paper": "#8c8c8c",
}
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
    "(compressed)": "state/nats/compressed",
    "background nats (kNN)": "background/nats/knn",
    "(diffusion) ": "background/nats/diffusion",
    "(compressed) ": "background/nats/compressed",
}
Panel = dict[str, list[dict]]  # agent -> results, one a seed
Panels = dict[tuple[str, str], Panel]  # by (task, background)


def read(*places: Path) -> Panels:
    """Return the results of folders of result files, and of run folders, by (task, background) and
    agent.

    Raises: UserError for a place that has none.
    """
    panels: Panels = defaultdict(lambda: defaultdict(list))
    for place in places:
        is_run = (place / "config.yaml").is_file()
        rows = [result_files.of_run(place)] if is_run else result_files.read_all(place)
        if not rows:
            raise UserError(
                "no result files and no run",
                str(place),
                "run benchmarks/returns.py first, or give a run folder",
            )
        if is_run and not any(rows[0][key] for key in ("xs", "scores", "evaluations")):
            raise UserError(
                "this run has not ended an episode yet", str(place), "wait for one, or leave it out"
            )
        for row in rows:
            panels[row["task"], result_files.background_of(row)][row["method"]].append(row)
    return panels


def finished(panels: Panels) -> Panels:
    """Return the results that have scores: a run that is not finished has none."""
    found: Panels = defaultdict(dict)
    for name, panel in panels.items():
        for agent, results in panel.items():
            if scored := [result for result in results if result["scores"]]:
                found[name][agent] = scored
    return found


def running_mean(values: list[float], width: int = 5) -> np.ndarray:
    return np.array([np.mean(values[max(0, i - width + 1) : i + 1]) for i in range(len(values))])


def curves(results: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Return env frames (n,) that all seeds have, and their returns there, (seeds, n).

    Seeds without a training episode are left out. n is 0 where no frame is left.
    """
    results = [result for result in results if result["xs"]]
    if not results:
        return np.empty(0), np.empty((0, 0))
    grid = np.array(results[0]["xs"])
    first = max(result["xs"][0] for result in results)
    last = min(result["xs"][-1] for result in results)
    grid = grid[(grid >= first) & (grid <= last)]
    return grid, np.stack(
        [np.interp(grid, result["xs"], running_mean(result["ys"])) for result in results]
    )


def without_curve(panels: Panels) -> list[str]:
    """Return a line for each run without a curve of training, and for seeds that share no frame."""
    lines = []
    for name, panel in panels.items():
        for agent, results in panel.items():
            run = ", ".join((*name, agent))
            bare = [result for result in results if not result["xs"]]
            lines += [
                f"{run}, seed {result['seed']}: no curve, since no training episode has ended"
                for result in bare
            ]
            if len(bare) < len(results) and not len(curves(results)[0]):
                lines.append(f"{run}: no curve, since its seeds have no frame in common")
    return lines


def estimate(scores: list[np.ndarray], draws: int = 1000) -> tuple[float, float, float]:
    """Return the interquartile mean over runs and tasks, and its interval, of one array (seeds,)
    per task.
    """
    return interquartile_mean(np.concatenate(scores)), *stratified_interval(scores, draws=draws)


def seed_means(results: list[dict]) -> dict[str, list[float]]:
    """Return background -> mean return of each seed; `random policy`: its return on any side."""
    means = defaultdict(list)
    for result in results:
        for side, row in result["scores"].items():
            means["random policy" if side.startswith("random") else side].append(row["mean"])
    return means


def evaluations(results: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Return the env frames (n,) at which every seed was evaluated during training, and the
    held-out returns (seeds, n).

    On the clean task where there are no clips.
    """
    curves = []
    for result in results:
        found = result.get("evaluations", {})
        curve = found.get("return_heldout") or found.get("return_clean") or {"xs": [], "ys": []}
        curves.append(dict(zip(curve["xs"], curve["ys"])))
    frames = sorted(set.intersection(*(set(curve) for curve in curves)))
    return np.array(frames), np.array([[curve[frame] for frame in frames] for curve in curves])


def shared_agents(panels: Panels) -> list[str]:
    """Return the agents that every panel has, those with their own colour first."""
    order = [*COLOURS, *sorted(next(iter(panels.values())))]
    return [
        agent for agent in dict.fromkeys(order) if all(agent in panel for panel in panels.values())
    ]


def by_background(panels: Panels) -> dict[str, Panels]:
    """Return the panels of each background that has more than one task, and an agent in all."""
    found: dict[str, Panels] = defaultdict(dict)
    for (task, background), panel in panels.items():
        found[background][task, background] = panel
    return {
        background: chosen
        for background, chosen in found.items()
        if len(chosen) > 1 and shared_agents(chosen)
    }


def markdown(heads: tuple, rows: list[tuple]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def interval_text(results: list[dict], side: str) -> str:
    """Return the interquartile mean over seeds and its interval.

    Of a single seed it is the mean and, with enough episodes, the interval over them.
    """
    means = seed_means(results)[side]
    if not means:
        return "-"
    if len(means) == 1:
        scored = next(result for result in results if side in result["scores"])
        interval = scored["scores"][side]["interval"]
        if interval is None:
            return f"{means[0]:.0f}"
        middle = means[0]
        (low, high) = interval
    else:
        middle, low, high = estimate([np.array(means)])
    return f"{middle:.0f} [{low:.0f}, {high:.0f}]"


def table(panels: Panels) -> str:
    """Return a Markdown row per task, background and agent."""
    heads = (
        "task",
        "background",
        "agent",
        "seeds",
        "env frames",
        "held-out [95 %]",
        "train clips",
        "clean",
        "random policy",
    )
    rows = []
    for name, panel in panels.items():
        for agent, results in panel.items():
            random = seed_means(results)["random policy"]
            frames = min(result["env_frame"] for result in results)
            cells = [interval_text(results, side) for side in ("heldout", "train", "clean")]
            rows.append(
                (
                    *name,
                    agent,
                    len(results),
                    frames,
                    *cells,
                    f"{np.mean(random):.0f}" if random else "-",
                )
            )
    return markdown(heads, rows)


def last_scores(panels: Panels, agent: str) -> list[np.ndarray]:
    """Return held-out (or clean) returns at the end, as shares of the largest possible: (seeds,)
    per task.
    """
    found = []
    for panel in panels.values():
        means = seed_means(panel[agent])
        found.append(np.array(means["heldout"] or means["clean"]) / 1000)
    return found


def aggregate_table(panels: Panels) -> str:
    """Return a table over all tasks of one background: interquartile mean, and probability that the
    first agent beats each other one.
    """
    agents = shared_agents(panels)
    heads = ("agent", "tasks", "runs", "IQM at the end [95 %]", f"P({agents[0]} better)")
    scores = {agent: last_scores(panels, agent) for agent in agents}
    rows = []
    for agent, columns in scores.items():
        middle, low, high = estimate(columns)
        better = (
            ""
            if agent == agents[0]
            else f"{probability_of_improvement(scores[agents[0]], columns):.2f}"
        )
        rows.append(
            (
                agent,
                len(columns),
                sum(map(len, columns)),
                # of one seed a task there is no interval over seeds
                f"{middle:.3f} [{low:.3f}, {high:.3f}]"
                if max(map(len, columns)) > 1
                else f"{middle:.3f}",
                better,
            )
        )
    return markdown(heads, rows)


def latent_table(panels: Panels) -> str:
    """Return a table of what the latents hold on held-out clips, means over seeds."""
    rows = []
    for name, panel in panels.items():
        for agent, results in panel.items():
            readings = [result["latent"] for result in results if "latent" in result]
            if readings:
                cells = [
                    np.mean([reading.get(key, np.nan) for reading in readings])
                    for key in LATENT.values()
                ]
                rows.append((*name, agent, len(readings), *(f"{cell:.2f}" for cell in cells)))
    return markdown(("task", "background", "agent", "seeds", *LATENT), rows) if rows else ""


def latent_pairs(panels: Panels) -> str:
    """Return a table over all tasks of one background: means over runs, and in how many (task,
    seed) the first agent holds more, or less.

    It is fair where the runs of a task and seed read the same episodes, as benchmarks/latent.py
    does.
    """
    agents = shared_agents(panels)
    found: dict[str, dict] = {agent: {} for agent in agents}  # agent -> (task, seed) -> reading
    for name, panel in panels.items():
        for agent in agents:
            found[agent] |= {
                (name, result["seed"]): result["latent"]
                for result in panel[agent]
                if "latent" in result
            }
    shared = set.intersection(*(set(readings) for readings in found.values()))
    if not shared:
        return ""
    heads = ("agent", "runs", *PAIRED, f"{agents[0]} holds more state", "less background")

    def column(agent: str, key: str) -> np.ndarray:
        return np.array([found[agent][one].get(key, np.nan) for one in shared])

    def wins(agent: str, key: str, sign: int) -> str:
        ahead = sign * (column(agents[0], key) - column(agent, key))
        return (
            "-"
            if agent == agents[0] or np.isnan(ahead).any()
            else f"{np.sum(ahead > 0)} of {len(shared)}"
        )

    rows = []
    for agent in agents:
        cells = [f"{column(agent, key).mean():.2f}" for key in PAIRED.values()]
        rows.append(
            (
                agent,
                len(shared),
                *cells,
                wins(agent, "state/nats/knn", 1),
                wins(agent, "background/nats/knn", -1),
            )
        )
    return markdown(heads, rows)
