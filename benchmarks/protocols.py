"""Gather protocols of distraction of several runs, after ``eval.py RUN --protocol all``.

    python -m benchmarks.protocols EVALUATION [EVALUATION ...] [--into results/protocols]

EVALUATION is the folder that eval.py wrote. Writes one result file a run, with every return, the
command, the commit and the machine; `python -m scripts.doc_tables` makes tables of them. Prints
these tables, and one JSON line last.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks import result_files
from benchmarks.plot_tables import markdown
from foreground.errors import UserError, run_main

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "protocols"
PUBLISHED = ROOT / "results" / "published_protocols.json"
KEPT = ("task", "seed", "env_frame", "background", "hardware", "commit", "checkpoint_sha256")


def gathered(folder: Path) -> dict:
    """Return the result of one evaluation.

    Raises: UserError for a folder without a complete evaluation of a protocol.
    """
    parts = [folder / name for name in ("scores.json", "protocol.json")]
    remedy = "give a folder that eval.py RUN --protocol wrote"
    if not all(path.exists() for path in parts):
        raise UserError("no protocol was evaluated here", str(folder), remedy)
    scores, protocol = map(result_files.read, parts)
    if not scores.get("complete"):
        raise UserError("this evaluation is not complete", str(folder), "wait, or make it again")
    row = {key: scores[key] for key in KEPT if key in scores}
    row["background"] = result_files.background_of(scores)
    options = scores["options"]
    words = [f"--{name} {options[name]}" for name in ("protocol", "episodes", "seed")]
    words += ["--dynamic false"] * (options.get("dynamic") is False)
    words += clips_in_words(next(iter(scores["scores"])), protocol["side"])
    clips = {name: result_files.sums(source) for name, source in scores["sources"].items()}
    return row | {
        "method": scores["agent"],
        "episodes": options["episodes"],
        "command": " ".join(["python eval.py RUN", *words]),
        "clips": clips,
        "side": protocol["side"],
        "rows": protocol["rows"],
    }


def clips_in_words(background: str, side: str) -> list[str]:
    """Return the options that name the clips of an evaluation: none for the run's held-out ones."""
    if background in ("heldout", "clean"):
        return []
    name = background if background == "train" else f"PATH/{Path(background).name}"
    return [f"--background {name}", *["--all_clips true"] * (side == "all")]


def name_of(row: dict) -> str:
    """Return the name of the result file of a run."""
    return f"{row['task']}-{row['method']}-{row['background']}-seed{row['seed']}.json"


def table(rows: Iterable[dict], task: str) -> str:
    """Return a Markdown table of one task: a line for each kind and severity, a column a run."""
    chosen = [row for row in rows if row["task"] == task]
    cells = [{(cell["kind"], cell["severity"]): cell for cell in row["rows"]} for row in chosen]
    keys = dict.fromkeys(key for found in cells for key in found)
    heads = [f"{row['method']}, {row['env_frame']:,} frames, seed {row['seed']}" for row in chosen]
    lines = [[*key, *(_text(found.get(key)) for found in cells)] for key in keys]
    return markdown(["kind", "severity", *heads], lines)


def _text(cell: dict | None) -> str:
    """Return return, interval and share of the clean return of one cell."""
    if cell is None:
        return "-"
    ends = cell["interval"]
    between = f" [{ends[0]:.0f}, {ends[1]:.0f}]" if ends else ""
    if cell["kind"] == "clean" or cell["share"] is None:  # the clean return is 0
        return f"{cell['mean']:.0f}{between}"
    return f"{cell['mean']:.0f}{between}, {100 * cell['share']:.0f} %"


def published(*kinds: str) -> str:
    """Return a Markdown table of published returns: a line for each task and kind, a column a
    method.

    kinds   as color_hard
    """
    rows = json.loads(PUBLISHED.read_text(encoding="utf-8"))["rows"]
    rows = [row for row in rows if f"{row['kind']}_{row['severity']}" in kinds]
    methods = list(dict.fromkeys(method for row in rows for method in row["mean"]))
    lines = []
    for row in rows:
        pairs = [(row["mean"].get(name), row["plus_minus"].get(name)) for name in methods]
        cells = ["-" if mean is None else f"{mean} ± {spread}" for mean, spread in pairs]
        lines.append([row["task"], f"{row['protocol']} {row['kind']}", row["severity"], *cells])
    return markdown(["task", "kind", "severity", *methods], lines)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("evaluations", type=Path, nargs="+", help="folders that eval.py wrote")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the result files")
    asked = parser.parse_args(argv)
    rows = [gathered(folder) for folder in asked.evaluations]
    names = [name_of(row) for row in rows]
    for name in names:
        if names.count(name) > 1:
            what = f"{names.count(name)} evaluations have one result file, {name}"
            raise UserError(what, "command line", "give one evaluation of a run")
    asked.into.mkdir(parents=True, exist_ok=True)
    for name, row in zip(names, rows):
        result_files.write(asked.into / name, row)
    for task in dict.fromkeys(row["task"] for row in rows):
        print(f"{task}\n\n{table(rows, task)}\n")
    print(json.dumps({"written": names}))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
