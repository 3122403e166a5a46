"""What stands for an evaluation in a process of its own; imports little, as each process must."""

import os
import signal
import time
from pathlib import Path

from foreground.errors import UserError
from foreground.training import checkpoint
from foreground.training.evaluating import Evaluate, Outcome


def returned(frame: int, path: Path) -> Outcome:
    """Score a checkpoint by its weights, the earlier the better."""
    state = checkpoint.load(path)
    assert state["clocks"]["agent_step"] * 2 == frame
    weights = next(iter(state["agent"]["weights"].values()))
    row = {"return_clean": 1000.0 - frame, "weights": float(weights.double().sum())}
    return Outcome(row, [("video", (frame, "evaluation/clean"))])


def patient(frame: int, path: Path, go: Path) -> Outcome:
    """Wait for a file before an evaluation ends; another one says that it has begun."""
    go.with_name("began").touch()
    while not go.exists():
        time.sleep(0.01)
    return returned(frame, path)


def mortal(frame: int, path: Path, marks: Path, deaths: int) -> Outcome:
    """Die at the first evaluations."""
    died = len(list(marks.glob("died*")))
    if died < deaths:
        (marks / f"died{died}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return returned(frame, path)


def failing(frame: int, path: Path) -> Outcome:
    raise UserError("no clips", "clips", "put them back")


def made(evaluate: Evaluate | None) -> Evaluate:
    """Return what evaluates, in its process; raise UserError for None."""
    if evaluate is None:
        raise UserError("no renderer", "MUJOCO_GL", "install one")
    return evaluate
