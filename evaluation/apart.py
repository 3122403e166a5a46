"""Evaluate a run in a separate process (training/evaluating.py)."""

import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import torch

from foreground import build
from foreground.agents.optimiser import load_training_state
from foreground.configs.run import RunConfig
from foreground.evaluation import interrupt, progress
from foreground.evaluation.report import Evaluator
from foreground.training import checkpoint, system
from foreground.training.evaluating import Evaluate, Outcome
from foreground.training.state import completed


class Told:
    """Record the calls of a logger."""

    def __init__(self):
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def video(self, *words) -> None:
        self.calls.append(("video", words))

    def image(self, *words) -> None:
        self.calls.append(("image", words))


@dataclass(frozen=True)
class Making:
    """Make, in the separate process, the function that evaluates checkpoints of a run.

    Figures and films are those of `Evaluator.during_training`.

    space     actions of the task
    threads   of torch
    folder    of the run, where films are written
    """

    config: RunConfig
    space: gymnasium.spaces.Box
    device: torch.device
    threads: int
    folder: Path

    def __call__(self) -> Evaluate:
        signal.signal(signal.SIGTERM, lambda *_: interrupt.ask())
        progress.hide()
        torch.set_num_threads(self.threads)
        system.set_matmul(self.config.matmul)
        # Neither concerns an evaluation.
        config = replace(self.config, compile="false", cuda_graphs="false")
        agent = build.make_agent(config, self.space, self.device)
        evaluator = Evaluator(config, agent, self.folder)

        def evaluate(frame: int, path: Path) -> Outcome:
            with checkpoint.fits(path):
                state = completed(checkpoint.load(path))["agent"]
                # Without optimisers. The average stays apart from the weights, as in training.
                load_training_state(agent, {}, state)
                agent.average.load(state)
            evaluator.logger = told = Told()
            row = evaluator.during_training(frame)
            if row is None:  # it was interrupted
                raise SystemExit
            return Outcome(row, told.calls)

        return evaluate
