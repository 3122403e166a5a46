"""Charts of measurements: bars by background, with the level of chance and the upper bound."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from foreground.evaluation.verdicts import VIOLATIONS, side_in_words

COLOURS = ("#0b6e4f", "#d9822b", "#5b5ea6", "#8c8c8c", "#b23a48", "#3a86b2")
Row = Mapping[str, float]


def bars(
    axes, groups: Sequence[str], columns: Mapping[str, Sequence[float]], unit: str, title: str
) -> None:
    """Draw horizontal bars: a group of bars a measure, a colour a column; NaN is left out, each bar
    has its number.
    """
    height = 0.8 / max(len(columns), 1)
    for index, (name, values) in enumerate(columns.items()):
        places = np.arange(len(groups)) + (index - (len(columns) - 1) / 2) * height
        drawn = axes.barh(
            places, values, 0.9 * height, color=COLOURS[index % len(COLOURS)], label=name
        )
        numbers = ["" if np.isnan(value) else f"{value:.2f}" for value in values]
        box = {"facecolor": "white", "lw": 0, "pad": 0.5}  # covers the line of the upper bound
        axes.bar_label(drawn, numbers, padding=3, fontsize=7, bbox=box, zorder=3)
    axes.set_yticks(range(len(groups)), groups, fontsize=8)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel(unit, fontsize=8)
    axes.set_title(title, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def marks(axes, places: Sequence[float], values: Sequence[float], label: str, style: str) -> None:
    """Draw a short upright line at each group of bars: chance, or the upper bound."""
    for place, value in zip(places, values):
        if np.isfinite(value):
            axes.plot([value, value], [place - 0.42, place + 0.42], style, lw=1.4, label=label)
            label = "_nolegend_"


def _column(results: Mapping[str, Row], keys: Sequence[str]) -> dict[str, list[float]]:
    return {
        side_in_words(side): [row.get(key, np.nan) for key in keys] for side, row in results.items()
    }


def _first(results: Mapping[str, Row], key: str) -> float:
    return next((row[key] for row in results.values() if key in row), np.nan)


def blank(title: str, panels: int, height: float) -> tuple[Figure, list]:
    """Return a figure with panels side by side, and their axes."""
    figure = Figure(figsize=(5.2 * panels, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    return figure, list(np.atleast_1d(figure.subplots(1, panels)))


def _picture(figure: Figure, axes) -> np.ndarray:
    """Return the figure as uint8 (H, W, 3), a legend of `axes` below it."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if len(figure.axes) == 1 else 4
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8
    )
    return finished(figure)


def named(axes, title: str, x: str, y: str) -> None:
    """Give a panel its title and the names of its axes."""
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def finished(figure: Figure) -> np.ndarray:
    """Return the figure as uint8 (H, W, 3)."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # ty: ignore[missing-attribute]


def latent(results: Mapping[str, Row], title: str) -> np.ndarray:
    """Draw what a latent holds: background -> reading (probes.read)."""
    keys = {
        "robot's state (R2)": "state/network/mean",
        "reward (share explained)": "reward_explained",
        "clip's pixels (R2)": "background/network/pixels",
        "place in the clip (R2)": "background/network/phase",
        "which clip (share told right)": "background/network/clip_accuracy",
    }
    figure, (left, right) = blank(title, 2, 3.6 + 0.25 * len(results))
    columns = {
        side: np.clip(values, 0, 1)
        for side, values in _column(results, list(keys.values())).items()
    }
    bars(
        left, list(keys), columns, "0: nothing, 1: all of it", "what a probe reads from the latent"
    )
    marks(left, range(5), [0, 0, 0, 0, _first(results, "background/clip_chance")], "chance", "k:")
    marks(left, range(5), [1] * 5, "at most", "k-")
    left.set_xlim(0, 1.15)
    ahead = {}
    for what, key in (("state", "state"), ("reward", "reward_explained")):
        ahead |= {
            f"{what}, imagined steps ahead: {step}": f"ahead/{step}/{key}" for step in (1, 5, 10)
        }
    columns = {
        side: np.clip(values, 0, 1)
        for side, values in _column(results, list(ahead.values())).items()
    }
    bars(right, list(ahead), columns, "0: nothing, 1: all of it", "what imagination foresees")
    right.set_xlim(0, 1.15)
    return _picture(figure, left)


def skills(results: Mapping[str, Row], title: str) -> np.ndarray:
    """Draw what the skills do: background -> measures (skills.measure)."""
    figure, (left, middle, right) = blank(title, 3, 3.4 + 0.3 * len(results))
    bars(
        left,
        ["skills told right"],
        _column(results, ["identifiability/accuracy"]),
        "share",
        "do the skills differ?",
    )
    marks(left, [0], [_first(results, "identifiability/chance")], "chance", "k:")
    marks(left, [0], [1.0], "at most", "k-")
    left.set_xlim(0, 1.2)
    bars(
        middle,
        ["nats of the skill"],
        _column(results, ["identifiability/nats"]),
        "nats",
        "what states tell of the skill",
    )
    marks(middle, [0], [_first(results, "identifiability/cap")], "at most", "k-")
    names = {name: key for key, name in VIOLATIONS.items()} | {"mean": "mean"}
    columns = _column(results, [f"violation/{key}" for key in names.values()])
    bars(right, list(names), columns, "mean a step, at best 0", "violations")
    middle.margins(x=0.15)
    right.set_xlim(0, max(0.1, 1.15 * right.get_xlim()[1]))
    return _picture(figure, left)


def games(results: Mapping[str, Mapping[str, Row]], title: str) -> np.ndarray:
    """Draw the games of a family, a panel a background: every mode, the one chosen without a frame,
    the best by trying.
    """
    number = max(len(rows) for rows in results.values())
    figure, panels = blank(title, len(results), 2.4 + 0.35 * number)
    for axes, (side, rows) in zip(panels, results.items()):
        played = {name: row for name, row in rows.items() if name != "information"}
        for place, row in enumerate(played.values()):
            modes = [value for key, value in row.items() if key.startswith("mode_")]
            axes.plot(
                modes,
                [place] * len(modes),
                "o",
                color="0.75",
                ms=5,
                label="each mode" if place == 0 else "_nolegend_",
            )
        places = range(len(played))
        axes.plot(
            [row["zero_shot"] for row in played.values()],
            places,
            "D",
            color=COLOURS[0],
            label="chosen without a frame",
        )
        axes.plot(
            [row["best_of"] for row in played.values()],
            places,
            "|",
            color="k",
            ms=14,
            label="best mode found by trying",
        )
        inferred = [
            (place, row["infer"]) for place, row in enumerate(played.values()) if "infer" in row
        ]
        if inferred:
            axes.plot(
                [value for _, value in inferred],
                [place for place, _ in inferred],
                "x",
                color=COLOURS[1],
                label="game inferred from rewards",
            )
        names = [
            name + (" (held out)" if row["kind"] == "heldout" else "")
            for name, row in played.items()
        ]
        axes.set_yticks(places, names, fontsize=8)
        axes.set_ylim(len(played) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel("return", fontsize=8)
        axes.set_title(side_in_words(side), fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    return _picture(figure, panels[0])


def adaptation(results: Mapping[str, Mapping], title: str) -> np.ndarray:
    """Draw the return over steps of adaptation with its interval, a line a background.

    Dashed is the best mode found by trying, dotted the policy that infers the game from rewards.
    """
    figure, (axes,) = blank(title, 1, 3.8)
    for index, (side, row) in enumerate(results.items()):
        steps = sorted(map(int, row["returns"]))
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(
            [row["returns"][str(step)] for step in steps],
            "o-",
            color=colour,
            label=side_in_words(side),
        )
        ends = [(row.get("intervals") or {}).get(str(step)) for step in steps]
        for place, interval in enumerate(ends):
            if interval:
                axes.plot([place, place], interval, color=colour, lw=1)
        axes.set_xticks(range(len(steps)), steps)
        if "infer" in row:
            name = f"game inferred from rewards, {side_in_words(side)}"
            axes.axhline(row["infer"], color=colour, ls=":", lw=1, label=name)
        axes.axhline(
            row["best_of"],
            color=colour,
            ls="--",
            lw=1,
            label=f"best mode by trying, {side_in_words(side)}",
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("steps of adaptation", fontsize=8)
    axes.set_ylabel("return", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return _picture(figure, axes)
