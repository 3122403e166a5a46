"""Measures of the skills of a suite's runs, after benchmarks/returns.py.

    python -m benchmarks.skills SUITE.yaml

Runs ``eval.py RUN --skills`` for every finished run whose folder still exists, on the task without
a video and, where the run has clips, on both sides of them; for seed 0 of each agent also before
learning. The measures go into the run's result file as "skills", by background. A stopped program
continues where it was. Prints a table of means and ranges over seeds, the places that skills cover
at each evaluation during training, and the distractor gaps; one JSON line last.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks import reading, result_files
from foreground.configs import run as runs
from foreground.errors import run_main

COLUMNS = {  # of the table: title -> key of evaluation/skills.py and goals.py
    "nats": "identifiability/nats",
    "accuracy": "identifiability/accuracy",
    "postures": "coverage/postures",
    "places": "coverage/places",
    "least x, m": "travel/x_least",
    "most x, m": "travel/x_most",
    "goals hit, 3 bins": "goals/hit_3",
    "at the end": "goals/end_3",
    "other goals hit": "goals/other_hit_3",
    "other goals, at the end": "goals/other_end_3",
    "falls": "violation/fall",
    "violations": "violation/mean",
    "use": "return/use",
    "safety": "return/safety",
    "discovery": "return/discovery",
    "way explained": "discovery_explained/way",
}
GROWING = "skills/coverage/places"  # of the evaluations during training
GAPS = ("nats", "accuracy", "postures", "goals hit, 3 bins")
WORDS = ["--skills", "--episodes", "1", "--best_of", "0"]


def to_read(
    suite: dict, results: Path, key: str = "skills", own: Iterable[str] = WORDS
) -> dict[str, reading.Job]:
    """Return name -> (run, arguments of eval.py) of the runs that are not read yet.

    key   where a result has what is read
    own   arguments that say what is measured
    """
    todo = {}
    for name, run, words in reading.unread(suite, results, key):
        config = runs.load(run)
        sides = ["clean", config.fresh_side] if config.distracted else ["clean"]
        sides[1:1] = ["train"] if config.has_clips else []
        floor = ["--random"] if words[words.index("--seed") + 1] == "0" else []
        todo[name] = (run, [*own, *floor, "--background", ",".join(sides)])
    return todo


def table(rows: list[dict], key: str = "skills", columns: dict[str, str] = COLUMNS) -> str:
    """Return a Markdown table: a line per agent, its training background, and the measured
    background.
    """
    groups: dict[tuple[str, ...], list[dict]] = {}
    for row in rows:
        trained = result_files.background_of(row)
        for side, measured in row.get(key, {}).items():
            agent = f"{row['method']}, untrained" if side.startswith("untrained") else row["method"]
            groups.setdefault(
                (row["task"], trained, agent, side.removeprefix("untrained, ")), []
            ).append(measured)
    lines = [
        "| task | trained on | agent | measured on | seeds | " + " | ".join(columns) + " |",
        "|---" * (5 + len(columns)) + "|",
    ]
    for group, measured in sorted(groups.items()):
        cells = [cell([one[key] for one in measured if key in one]) for key in columns.values()]
        lines.append(f"| {' | '.join(group)} | {len(measured)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def growth(rows: list[dict]) -> str:
    """Return a Markdown table of the places that skills cover at each evaluation during training, a
    line per agent; "" where none was measured.
    """
    groups: dict[tuple[str, ...], dict[int, list[float]]] = {}
    for row in rows:
        curve = row.get("evaluations", {}).get(GROWING, {"xs": [], "ys": []})
        key = (row["task"], result_files.background_of(row), row["method"])
        for frame, value in zip(curve["xs"], curve["ys"]):
            groups.setdefault(key, {}).setdefault(frame, []).append(value)
    frames = sorted({frame for found in groups.values() for frame in found})
    if not frames:
        return ""
    lines = [
        f"| task | trained on | agent | {' | '.join(f'places at {x:,}' for x in frames)} |",
        "|---" * (3 + len(frames)) + "|",
    ]
    for group, found in sorted(groups.items()):
        cells = [cell(found.get(frame, [])) for frame in frames]
        lines.append(f"| {' | '.join([*group, *cells])} |")
    return "\n".join(lines)


def tables(rows: list[dict]) -> str:
    """Return all tables of the program."""
    return "\n\n".join(filter(None, (table(rows), growth(rows), gaps(rows))))


def gaps(rows: list[dict]) -> str:
    """Return a Markdown table of (clean - held-out) / clean of the means over seeds, a line per
    agent trained behind video.
    """
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        if "heldout" in row.get("skills", {}):
            groups.setdefault((row["task"], row["method"]), []).append(row["skills"])
    lines = ["| task | agent | " + " | ".join(GAPS) + " |", "|---" * (2 + len(GAPS)) + "|"]
    for group, measured in sorted(groups.items()):
        sums = {
            side: [sum(one[side][COLUMNS[name]] for one in measured) for name in GAPS]
            for side in ("clean", "heldout")
        }
        cells = [
            f"{(clean - held) / clean:.2f}" if clean else "-"
            for clean, held in zip(sums["clean"], sums["heldout"])
        ]
        lines.append(f"| {' | '.join(group)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(values: list[float]) -> str:
    """Return mean and range, as whole numbers where they are large."""
    if not values:
        return "-"
    digits = 0 if max(map(abs, values)) >= 10 else 2
    low = min(values)
    high = max(values)
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f}" + (
        f" [{low:.{digits}f}, {high:.{digits}f}]" if len(values) > 1 else ""
    )


def measured(folder: Path, result: dict) -> tuple[dict, dict]:
    """Return all measures of each background, and the nats to print."""
    sides = json.loads((folder / "skills.json").read_text())["skills"].items()
    row = {side: {key: round(value, 4) for key, value in one.items()} for side, one in sides}
    return {"skills": row}, {side: one["identifiability/nats"] for side, one in row.items()}


def main(argv: list[str]) -> None:
    reading.keep(argv, __doc__, "skills", to_read, measured, tables)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
