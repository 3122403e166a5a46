"""What a checkpoint's state may lack, what it lists, and whether it was saved under other
conditions than those of now.
"""

import contextlib
from pathlib import Path

from foreground.training import checkpoint
from foreground.training.files import Damaged

SCHEMA = 1  # of what `Trainer.state` gives
# Schema -> how the names of weights began in it, and how they begin in the next one.
RENAMED = {0: {"base.": ""}}


def weights_of_today(weights: dict, schema: int) -> dict:
    """Return weights of an older schema under today's names."""
    for number in range(schema, SCHEMA):
        for old, new in RENAMED[number].items():
            weights = {
                new + name.removeprefix(old) if name.startswith(old) else name: v
                for name, v in weights.items()
            }
    return weights


def completed(state: dict) -> dict:
    """Return a checkpoint's state with what earlier versions, or other options, did not keep."""
    parts = {"rollout": {}, "provenance": {}, "schema": 0} | state
    if type(parts["schema"]) is not int or not 0 <= parts["schema"] <= SCHEMA:
        raise ValueError(f"it is of schema {parts['schema']!r}"[:100])
    agent = state["agent"] | {
        "weights": weights_of_today(state["agent"]["weights"], parts["schema"])
    }
    return parts | {
        "agent": agent,
        "clocks": {"evaluated": None} | state["clocks"],
        "episodes": {"score": float("nan")} | state["episodes"],
        "random": {"cuda": []} | state["random"],
    }


def moved(kept: dict, here: dict) -> list[str]:
    """Return a sentence if machine, packages, renderer or commit differ from those of the
    checkpoint.
    """
    if not isinstance(kept, dict):
        raise ValueError("its provenance is none")
    differ = [
        f"{name} {str(kept[name])[:80]} (now {here[name]})"
        for name in here
        if kept.get(name, here[name]) != here[name]
    ]
    if not differ:
        return []
    return [
        (
            f"the checkpoint was saved with {', '.join(differ)}: the run goes on, close to "
            "what it would have been, not to the bit"
        )
    ]


def manifest_of(path: Path) -> dict:
    """Return the replay's manifest in a checkpoint, without its tensors."""
    return checkpoint.peek(path, "replay", "manifest")


def manifests_of_rejected(root: Path) -> list[dict]:
    """Return the replay's manifests of checkpoints that were set aside.

    A person may want to go back to one, with its chunks.
    """
    found = []
    for path in checkpoint.rejected(root):
        with contextlib.suppress(Damaged):  # one that cannot name its chunks needs none
            found.append(manifest_of(path))
    return found
