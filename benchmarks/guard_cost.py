"""Cost of saving, guarding and evaluating, as shares of training time.

    python -m benchmarks.guard_cost

It is a real run of the default agent. Trainer.save is timed, and the checks for non-finite losses,
gradients, weights, actions and rewards. Both shares are of the seconds of the same run: saving as
often as the run's options say, at its training speed. The share of evaluations during training is
the CPU seconds of one of them, videos included, in those of as many frames of training as are
between two. One JSON line last.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

import torch

from benchmarks import result_files
from foreground import build
from foreground.agents import optimiser
from foreground.configs import run as runs
from foreground.envs import backgrounds
from foreground.errors import run_main
from foreground.evaluation import report
from foreground.option import config_class, option
from foreground.training import options, rollout
from foreground.training.logger import Logger
from foreground.training.rollout import Rollout, layout_of
from foreground.training.trainer import Trainer

WATCHED = (
    (optimiser, "guard"),
    (optimiser.Optimiser, "guard"),
    (rollout, "_narrowed"),
    (rollout, "check_action"),
)


@config_class
class CostConfig:
    """Foreground: what saving, guarding and evaluating cost of a training hour."""

    size: str = option("cpu", "Size of the agent.", choices=runs.SIZES)
    updates: int = option(120, "Updates that are timed.", ge=1)
    saves: int = option(
        4, "Saves that are timed, as many frames apart as in a run; their mean counts.", ge=1
    )
    evaluations: int = option(1, "Evaluations that are timed; their mean counts.", ge=1)
    held: int = option(5000, "Agent steps in the replay before, of random actions.", ge=1000)


class Clock:
    """CPU seconds within functions that it is put around: what others do on the machine does not
    count.
    """

    def __init__(self):
        self.seconds = 0.0

    def put(self, owner, name: str) -> None:
        function = getattr(owner, name)

        def timed(*arguments):
            began = time.thread_time()
            try:
                return function(*arguments)
            finally:
                self.seconds += time.thread_time() - began

        setattr(owner, name, timed)


def make(config: CostConfig, folder: Path) -> tuple[runs.RunConfig, Trainer]:
    """Return options and trainer of the default agent on the default task, on one thread."""
    words = [
        "--size",
        config.size,
        "--device",
        "cpu",
        "--background.source",
        "starter",
        "--folder",
        str(folder),
    ]
    run = runs.read(words, cuda=False)
    envs = build.training_environments(run)
    agent = build.make_agent(run, envs.single_action_space, torch.device("cpu"))
    layout = layout_of(envs) | agent.spec.layout
    replay, _ = build.make_replay(run, layout, "cpu")
    steps = Rollout(envs, agent.initial_state(1), run.seed, layout)
    repeat = run.environment.action_repeat
    return run, Trainer(run.training, 0, repeat, agent, steps, replay, folder, 20, lambda _: {})


def measure(config: CostConfig, folder: Path) -> dict:
    """Return all shares, in percent of the seconds of training."""
    torch.set_num_threads(1)
    run, trainer = make(config, folder)
    silent = SimpleNamespace(scalars=lambda *_: None, message=print)
    fill(trainer, config.held, silent)
    clock = Clock()
    trained(trainer, 3, silent)  # warm
    for owner, name in WATCHED:
        clock.put(owner, name)
    began, busy, spent, frame = (
        time.perf_counter(),
        time.thread_time(),
        time.process_time(),
        trainer.env_frame,
    )
    trained(trainer, config.updates, silent)
    seconds, guarding = time.perf_counter() - began, clock.seconds / (time.thread_time() - busy)
    spent_per_frame = (time.process_time() - spent) / (trainer.env_frame - frame)
    speed = (trainer.env_frame - frame) / seconds  # env frames a second
    saves = []
    for _ in range(config.saves):
        fill(trainer, trainer.config.checkpoint_every // trainer.action_repeat, silent)
        began = time.perf_counter()
        trainer.save(silent)
        saves.append(time.perf_counter() - began)
    evaluation = evaluation_seconds(config, run, trainer, folder)
    every = run.training.evaluate_every
    save, period = statistics.mean(saves), trainer.config.checkpoint_every / speed
    return {
        "size": config.size,
        "frames_per_s": round(speed, 1),
        "save_seconds": round(save, 3),
        "saves_per_hour": round(3600 / period, 1),
        "saving_percent": round(100 * save / period, 3),
        "guarding_percent": round(100 * guarding, 3),
        "percent": round(100 * (save / period + guarding), 3),
        "evaluation_episodes": run.evaluation.training_episodes,
        "evaluation_cpu_seconds": round(evaluation, 1),
        "frames_between_evaluations": every,
        "training_cpu_seconds_between": round(spent_per_frame * every, 1),
        "evaluating_percent": round(100 * evaluation / (spent_per_frame * every), 2),
    }


def evaluation_seconds(
    config: CostConfig, run: runs.RunConfig, trainer: Trainer, folder: Path
) -> float:
    """Return the CPU seconds of an evaluation during training, with the default episodes."""
    backgrounds.sources(run.background, run.environment.image_size)  # decoded at a run's start
    evaluator = report.Evaluator(run, trainer.agent, folder)
    with Logger(folder) as evaluator.logger:
        began = time.process_time()
        for _ in range(config.evaluations):
            evaluator.looked_at(trainer.env_frame, evaluator.fresh_side)
        return (time.process_time() - began) / config.evaluations


def fill(trainer: Trainer, steps: int, logger) -> None:
    """Take agent steps of random actions into the replay, without updates for them."""
    space = trainer.rollout.envs.action_space
    for _ in range(steps):
        trainer.act(
            lambda memory, image, is_first: (torch.from_numpy(space.sample()), memory), logger
        )
    trainer.steps_to_replay = 0.0


def trained(trainer: Trainer, updates: int, logger) -> None:
    """Take updates, with the steps that belong to them."""
    end = trainer.update + updates
    while trainer.update < end:
        trainer.act(trainer.agent.act, logger)
        trainer.learn()
        trainer.metrics.flush()


def main(argv: list[str]) -> None:
    config = options.parse(CostConfig, argv, None, description=CostConfig.__doc__)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(config, Path(folder))
    print(json.dumps(measured | result_files.origin("guard_cost", argv)))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
