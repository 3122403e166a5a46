"""The result files of the programs here: one JSON object each, written whole, read with a line for one that is not."""

import json
from pathlib import Path

from errors import UserError
from training import system


def origin(program: str, argv: list[str]) -> dict:
    """Where a figure comes from: the command of a program here, the commit and the machine."""
    command = " ".join([f"python benchmarks/{program}", *argv])
    return {"command": command, "commit": system.git_commit(), "hardware": system.hardware()}


def write(path: Path, row: dict) -> None:
    """The file appears only with all of it, so that a stopped program leaves none by halves."""
    from training.files import write_atomic  # here: it imports torch, and benchmarks/plot.py only reads

    write_atomic(path, json.dumps(row).encode())


def read(path: Path) -> dict:
    """Errors: UserError for a file that holds something else than a JSON object, as one cut off does."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise UserError("this is no whole result", str(path), "delete it, and it is measured again")
    return row


def read_all(folder: Path, pattern: str = "*.json") -> list[dict]:
    """Those of a folder, by name; what has a hidden name was being written when a program was stopped."""
    return [read(path) for path in sorted(folder.glob(pattern)) if not path.name.startswith(".")]
