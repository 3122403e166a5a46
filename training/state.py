"""What a checkpoint's state may lack, what it lists, and whether it was saved under other
conditions than those of now.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from foreground.training import checkpoint
from foreground.training.chunks import MOST_ROWS
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


@dataclass(frozen=True)
class Clocks:
    """The clocks of a run at a checkpoint.

    steps_to_replay   that train_ratio asks for and no update has replayed yet
    evaluated         env frame of the last evaluation that came to its end
    """

    agent_step: int
    update: int
    steps_to_replay: float
    evaluated: int

    @classmethod
    def of(cls, stored: dict, step: int) -> "Clocks":
        """Return the clocks that a checkpoint of env frame `step` holds.

        A checkpoint calls the steps to replay "owed". Where it does not say when the agent was
        evaluated, no evaluation is due.
        """
        counts = dict(stored)
        owed = counts.pop("owed")
        evaluated = counts.pop("evaluated")
        return cls(
            **counts, steps_to_replay=owed, evaluated=step if evaluated is None else evaluated
        )

    def check(self, step: int, rows: int, action_repeat: int, train_ratio: float) -> None:
        """Compare the clocks with each other and with the replay.

        step   the env frame in the checkpoint's name
        rows   of the replay, of all environments and ranks

        Raises: ValueError.
        """
        counts = (self.agent_step, self.update, self.evaluated)
        right = all(type(count) is int and 0 <= count <= MOST_ROWS for count in counts)
        if not right or not 0 <= self.steps_to_replay <= (self.agent_step + 1) * train_ratio:
            what = f"agent step {self.agent_step}, update {self.update}, evaluation "
            what += f"{self.evaluated}, {self.steps_to_replay} steps to replay"
            raise ValueError(what[:100])
        frame = self.agent_step * action_repeat
        if frame != step or self.evaluated > step or self.agent_step > rows:
            what = f"agent step {self.agent_step} and evaluation {self.evaluated}"
            raise ValueError(f"{what} at frame {step}, of {rows} rows")


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
            f"the checkpoint was saved with {', '.join(differ)}: the run continues, close to "
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
