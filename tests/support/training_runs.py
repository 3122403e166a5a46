"""Make a small trainer in this process, and keep its messages."""

from pathlib import Path
from types import SimpleNamespace

import torch

from tests.faults import checkpoint_ablation

OFTEN = [
    *checkpoint_ablation.WORDS,
    "--training.evaluate_every",
    "40",
    "--training.checkpoint_every",
    "40",
]


class Told(SimpleNamespace):
    """A logger and a progress bar; it remembers what a run says."""

    def __init__(self):
        super().__init__(
            rows=[], said=[], video=lambda *_: None, update=lambda *_: None, tick=lambda *_: None
        )

    def scalars(self, frame: int, row: dict, prefix: str = "") -> None:
        if prefix == "evaluation":
            self.rows.append((frame, row))

    def message(self, sentence: str) -> None:
        self.said.append(sentence)


def run(trainer, frames: int) -> Told:
    told = Told()
    trainer.frames = frames
    trainer.run(told, told)
    return told


def small_trainer(folder: Path):
    """Return a trainer that saves and evaluates every 40 env frames."""
    torch.set_num_threads(1)
    return checkpoint_ablation.make(folder, OFTEN)
