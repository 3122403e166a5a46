"""What a suite's latent policies do in each game: ``python -m benchmarks.games SUITE.yaml``, after
benchmarks/returns.py.

Runs ``eval.py RUN --games`` for every finished run whose folder is still there, on held-out clips
where the run has clips. Where the family has held-out games it also adapts the whole actor to the
first of them: with one mode, adapting the relation alone changes hardly anything. What was measured
goes into the run's result file as "games" and "adaptation". A stopped program continues where it
was. Prints a table, a mean and the range over seeds each, with the env frames that a choice or an
adaptation took; one JSON line last.
"""

import json
import sys
from pathlib import Path

from benchmarks import reading, result_files
from benchmarks.skills import cell
from foreground.configs import run as runs
from foreground.errors import run_main

WORDS = ["--games", "--episodes", "10"]
ADAPT = ["--steps", "0,1,5,10,50", "--adapt_scope", "actor", "--adapt"]


def to_read(suite: dict, results: Path) -> dict[str, reading.Job]:
    """Return name -> (run, arguments of eval.py) of the runs that are not read yet."""
    todo = {}
    for name, run, _ in reading.unread(suite, results, "games"):
        config = runs.load(run)
        adapt = [*ADAPT, config.games.heldout[0].name] if config.games.heldout else []
        todo[name] = (run, [*WORDS, "--background", config.fresh_side, *adapt])
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
    if tried := [game["tried_frames"] for game in games if "tried_frames" in game]:
        found["frames of best_of"] = max(tried)
    found |= {f"nats, {key}": told[key] for key in ("action", "game")}
    adapted = row.get("adaptation", {"returns": {}})
    found |= {f"adapted, {steps}": value for steps, value in adapted["returns"].items()}
    return found | ({"frames of adapted": adapted["frames"]} if "frames" in adapted else {})


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
    row = {}
    for key in ("games", "adaptation"):
        if (path := folder / f"{key}.json").exists():
            row[key] = next(iter(json.loads(path.read_text())[key].values()))
    return row, summary(result | row)


def main(argv: list[str]) -> None:
    reading.keep(argv, __doc__, "games", to_read, measured, tables)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
