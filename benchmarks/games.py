"""What a suite's latent policies do in each game: ``python -m benchmarks.games SUITE.yaml``, after
benchmarks/returns.py.

Runs ``eval.py RUN --games --adapt`` for every finished run whose folder is still there, on held-out
clips where the run has clips; it adapts to the first held-out game. What was measured goes into the
run's result file as "games" and "adaptation". A stopped program continues where it was. Prints a
table, a mean and the range over seeds each; one JSON line last.
"""

import json
import sys
from pathlib import Path

from benchmarks import reading, result_files
from benchmarks.skills import cell
from foreground.configs import run as runs
from foreground.errors import run_main

WORDS = ["--games", "--episodes", "5", "--steps", "0,1,5,10,50"]


def to_read(suite: dict, results: Path) -> dict[str, reading.Job]:
    """Return name -> (run, arguments of eval.py) of the runs that are not read yet."""
    todo = {}
    for name, run, _ in reading.unread(suite, results, "games"):
        config = runs.load(run)
        todo[name] = (
            run,
            [
                *WORDS,
                "--background",
                config.fresh_side,
                "--adapt",
                (config.games.heldout or config.games.train)[0].name,
            ],
        )
    return todo


def summary(row: dict) -> dict[str, float]:
    """Return a run's measures in short: means over its training games and over held-out games."""
    games = [one for name, one in row["games"].items() if name != "information"]
    told = row["games"]["information"]
    found = {}
    for kind in ("train", "heldout"):
        members = [game for game in games if game["kind"] == kind]
        for key in ("zero_shot", "infer", "best_of", "regret"):
            if members and all(key in game for game in members):
                found[f"{key}, {kind}"] = sum(game[key] for game in members) / len(members)
    found |= {f"nats, {key}": told[key] for key in ("action", "game")}
    return found | {
        f"adapted, {steps}": value for steps, value in row["adaptation"]["returns"].items()
    }


def tables(rows: list[dict]) -> str:
    """Return a Markdown table: a line per task, training background and label."""
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for row in rows:
        if "games" in row:
            group = row["task"], result_files.background_of(row), row["method"]
            groups.setdefault(group, []).append(summary(row))
    titles = list(dict.fromkeys(title for rows in groups.values() for row in rows for title in row))
    lines = [
        "| task | trained on | agent | seeds | " + " | ".join(titles) + " |",
        "|---" * (4 + len(titles)) + "|",
    ]
    for group, found in sorted(groups.items()):
        cells = [cell([one[title] for one in found if title in one]) for title in titles]
        lines.append(f"| {' | '.join(group)} | {len(found)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measured(folder: Path, result: dict) -> tuple[dict, dict]:
    """Return games and adaptation on the one background, and their means to print."""
    files = {
        key: json.loads((folder / f"{key}.json").read_text())[key]
        for key in ("games", "adaptation")
    }
    row = {key: next(iter(found.values())) for key, found in files.items()}
    return row, summary(result | row)


def main(argv: list[str]) -> None:
    reading.keep(argv, __doc__, "games", to_read, measured, tables)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
