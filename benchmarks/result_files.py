"""The result files of the programs here: one JSON object each, written whole, read with a line for
one that is not.
"""

import json
from pathlib import Path

from foreground.errors import UserError
from foreground.training import system
from foreground.training.presets import load_yaml


def origin(program: str, argv: list[str]) -> dict:
    """Return the origin of a figure: the command, the commit and the machine."""
    command = " ".join(["python", "-m", f"benchmarks.{program}", *argv])
    return {"command": command, "commit": system.git_commit(), "hardware": system.hardware()}


def write(path: Path, row: dict) -> None:
    """Write the whole file at once, so that a stopped program leaves no partial one."""
    # here: it imports torch, and benchmarks/plot.py only reads.
    from foreground.training.files import write_atomic

    write_atomic(path, json.dumps(row).encode())


def read(path: Path) -> dict:
    """Return a result.

    Raises: UserError for a file that is not a JSON object, such as a partial one.
    """
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise UserError("this is no whole result", str(path), "delete it, and it is measured again")
    return row


def of_run(folder: Path) -> dict:
    """Return a run folder as a result: its scores, the returns of training and the evaluations
    during it.

    A run that is not finished, or that went on since, has no scores yet; task, agent, seed and
    background then come from its config.

    xs, ys        env frames and returns of training episodes
    evaluations   name of a metric -> {"xs": env frames, "ys": values}, of every evaluation of the
                  run
    clips         what played in each score: number of clips and the SHA-256 of each
    """
    scores = folder / "scores.json"
    metrics = folder / "metrics.jsonl"
    lines = (
        [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
        if metrics.exists()
        else []
    )
    row = read(scores) if scores.exists() else {"complete": False}
    if not row.get("complete", True):
        config = load_yaml(folder / "config.yaml")
        row = {key: config[key] for key in ("task", "agent", "seed")} | {"scores": {}}
        row |= {
            "background": config["background"]["source"],
            "env_frame": max([line["step"] for line in lines], default=0),
        }
        if kinds := kinds_in(config):
            row["distraction"] = kinds
    for key in ("complete", "files", "changed"):  # of the folder, not of the result
        row.pop(key, None)
    row["method"] = row.pop("agent")
    row["xs"], row["ys"] = curve(lines, "episode/return")
    row["evaluations"] = evaluations(lines)
    row["clips"] = {name: sums(source) for name, source in row.pop("sources", {}).items()}
    return row


def kinds_in(config: dict) -> dict:
    """Return the distractions that are on in a config as YAML holds it."""
    kinds = {key: value for key, value in config.get("distraction", {}).items() if key != "dynamic"}
    return {kind: value for kind, value in kinds.items() if value and value != "none"}


def curve(lines: list[dict], key: str) -> tuple[list[int], list[float]]:
    """Return env frames and values of a metric."""
    points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    return [step for step, _ in points], [value for _, value in points]


def background_of(row: dict) -> str:
    """Return what distracted a run in training: "video", "distractions" without one, or "clean"."""
    if row["background"] != "none":
        return "video"
    return "distractions" if row.get("distraction") else "clean"


EVALUATION = "evaluation/"  # what the metrics of an evaluation begin with


def evaluations(lines: list[dict]) -> dict[str, dict[str, list]]:
    """Return the curve of every metric of the evaluations; of two at one frame the last, since a
    resumed run repeats it.
    """
    found: dict[str, dict[int, float]] = {}
    for line in lines:
        for key, value in line.items():
            if key.startswith(EVALUATION) and value is not None:
                found.setdefault(key.removeprefix(EVALUATION), {})[line["step"]] = value
    return {key: {"xs": list(points), "ys": list(points.values())} for key, points in found.items()}


def sums(source: dict) -> dict:
    """Return what a result keeps of a background: not its path, which is the user's own."""
    each = sorted(source["clips"].values())
    return {key: source[key] for key in ("sha256", "trained_on") if key in source} | {
        "number": len(each),
        "sums": each,
    }


def read_all(folder: Path, pattern: str = "*.json") -> list[dict]:
    """Return the results of a folder, by name; hidden files are unfinished ones."""
    return [read(path) for path in sorted(folder.glob(pattern)) if not path.name.startswith(".")]


def means_table(scores: dict[str, dict[str, float]]) -> str:
    """Return a Markdown table: a line per run, the mean return on each background."""
    sides = list(dict.fromkeys(side for row in scores.values() for side in row))
    rows = [["run", *sides], ["---", *["---:"] * len(sides)]]
    rows += [[name, *(str(row.get(side, "")) for side in sides)] for name, row in scores.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def means(row: dict) -> dict[str, float]:
    """Return the mean of each background of a result."""
    return {side: round(scores["mean"], 1) for side, scores in row["scores"].items()}
