"""The value of skills on their task without learning, after returns.py.

    python -m benchmarks.downstream SUITE.yaml

Runs ``eval.py RUN --skills --best_of 16 --plan`` without goals for every finished run whose folder
still exists, on the task without a video and, where the run has clips, on held-out ones. It
measures the best of 16 skills, on other episodes than those that chose it; the mean of all skills;
and planning over them, with a reward head fitted on 8 episodes. All are shares of URLB's expert (1
per frame where there is none), and go into the run's result file as "downstream". A stopped program
continues where it was. Prints a table of means and ranges over seeds, with the distractor gap; one
JSON line last.
"""

import json
import sys
from pathlib import Path

from benchmarks import reading, result_files
from benchmarks.skills import cell
from foreground.configs import run as runs
from foreground.errors import run_main
from foreground.evaluation.downstream import normalised

# Few rollouts of skills: the measures that need many are those of benchmarks/skills.py.
WORDS = [
    "--skills",
    "--best_of",
    "16",
    "--goals",
    "0",
    "--skill_number",
    "4",
    "--plan",
    "--episodes",
    "3",
]
COLUMNS = ("best_skill", "mean_skill", "planned")


def to_read(suite: dict, results: Path) -> dict[str, reading.Job]:
    """Return name -> (run, arguments of eval.py) of the runs that are not read yet."""
    todo = {}
    for name, run, _ in reading.unread(suite, results, "downstream"):
        distracted = runs.load(run).distracted
        todo[name] = (run, [*WORDS, "--background", "clean,heldout" if distracted else "clean"])
    return todo


def tables(rows: list[dict]) -> str:
    """Return a Markdown table: a line per agent and background, and (clean - held-out) / clean of
    the means.
    """
    groups: dict[tuple[str, ...], list[dict]] = {}
    for row in rows:
        if "downstream" in row:
            trained = result_files.background_of(row)
            groups.setdefault((row["task"], trained, row["method"]), []).append(row["downstream"])
    sides = [
        f"{column.replace('_', ' ')}, {side}"
        for side in ("clean", "held-out")
        for column in COLUMNS
    ]
    lines = [
        f"| task | trained on | agent | seeds | {' | '.join(sides)} | gap of the best |",
        "|---" * (5 + len(sides)) + "|",
    ]
    for group, measured in sorted(groups.items()):
        columns = {
            (side, column): [one[side][column] for one in measured if column in one.get(side, {})]
            for side in ("clean", "heldout")
            for column in COLUMNS
        }
        clean = columns["clean", "best_skill"]
        held = columns["heldout", "best_skill"]
        gap = f"{(sum(clean) - sum(held)) / sum(clean):.2f}" if held and sum(clean) else "-"
        cells = [cell(values) for values in columns.values()]
        lines.append(f"| {' | '.join(group)} | {len(measured)} | {' | '.join(cells)} | {gap} |")
    return "\n".join(lines)


def measured(folder: Path, result: dict) -> tuple[dict, dict]:
    """Return the shares of each background."""
    sides = json.loads((folder / "skills.json").read_text())["skills"].items()
    task = result["task"]
    row = {
        side: {column: round(one[f"downstream/{task}/{column}"], 4) for column in COLUMNS[:2]}
        for side, one in sides
    }
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    config = result["settings"]
    for side, shares in row.items():
        shares["planned"] = round(
            normalised(task, scores[f"planned, {side}"]["mean"], config["environment.time_limit"]),
            4,
        )
    return {"downstream": row}, row


def main(argv: list[str]) -> None:
    reading.keep(argv, __doc__, "downstream", to_read, measured, tables)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
