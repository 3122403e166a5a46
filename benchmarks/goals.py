"""How near a suite's runs come to goal pictures, after benchmarks/returns.py.

    python -m benchmarks.goals SUITE.yaml

Runs ``eval.py RUN --reach`` for every finished run whose folder still exists, on the task without a
video and, where the run has clips, on both sides of them; for seed 0 of each agent also before
learning. The measures go into the run's result file as "goals", by background. A stopped program
continues where it was. Prints a table of means and ranges over seeds, where `others` are goals that
the robot was not sent to: what the same moves reach by chance. One JSON line last.
"""

import json
import sys
from pathlib import Path

from benchmarks import reading, skills
from foreground.errors import run_main

COLUMNS = {  # of the table: title -> key of evaluation/goals.py
    "within 3 bins": "hit_3",
    "at the end": "end_3",
    "share of steps": "stay_3",
    "within 1 bin": "hit_1",
    "at the end ": "end_1",
    "share of steps ": "stay_1",
    "nearest, bins": "distance",
    "others within 3 bins": "other_hit_3",
    "others at the end": "other_end_3",
    "others within 1 bin": "other_hit_1",
    "others at the end ": "other_end_1",
    "the goal's clip plays": "same_clip",
}
WORDS = ("--reach", "--episodes", "1")


def to_read(suite: dict, results: Path) -> dict[str, reading.Job]:
    """Return name -> (run, arguments of eval.py) of the runs that are not read yet."""
    return skills.to_read(suite, results, "goals", WORDS)


def tables(rows: list[dict]) -> str:
    """Return a Markdown table: a line per agent and background."""
    return skills.table(rows, "goals", COLUMNS)


def measured(folder: Path, result: dict) -> tuple[dict, dict]:
    """Return all measures of each background, and the share within 3 bins to print."""
    sides = json.loads((folder / "goals.json").read_text())["goals"].items()
    row = {side: {key: round(value, 4) for key, value in one.items()} for side, one in sides}
    return {"goals": row}, {side: one["hit_3"] for side, one in row.items()}


def main(argv: list[str]) -> None:
    reading.keep(argv, __doc__, "goals", to_read, measured, tables)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
