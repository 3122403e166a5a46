"""The representation that another objective learns from the same experience.

    python -m benchmarks.studies.representation RUN --agent repo

Trains a new world model, without a policy, on the replay of a finished run, and probes its latent
on new episodes, with held-out clips where the run has clips. Options are those of train.py and
replace the run's own. RUN's task, background, distractions, frames and sizes stay. So objectives
are compared on one set of episodes; returns would also depend on the policy's luck. Prints one JSON
line.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

import torch

from benchmarks.studies import experience
from foreground import build
from foreground.agents.agent import WorldModelAgent
from foreground.agents.optimiser import descend
from foreground.configs import run as runs
from foreground.errors import run_main
from foreground.evaluation import probes
from foreground.training.replay import Replay


def learn(
    agent: WorldModelAgent, replay: Replay, config: runs.RunConfig, updates: int
) -> dict[str, float]:
    """Run the learner `model` alone, with averaged weights at the end; return the last metrics."""
    chosen = {
        name: optimiser
        for name, optimiser in agent.optimisers.items()
        if name in ("world_model", "pictures")
    }
    for _ in range(updates):
        batch = replay.sample(config.training.batch_size, config.training.batch_length)
        losses, _, values, metrics = agent.world_model.loss(batch)
        descend(chosen, {name: losses[name] for name in chosen if name in losses})
        agent.world_model.dual_step(values)
        agent.average.update()
    agent.average.apply()  # as evaluation has them
    return {key: float(value) for key, value in metrics.items()}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--updates", type=int, default=600, help="of the world model")
    parser.add_argument(
        "--episodes",
        type=int,
        default=24,
        help="to read the latent from, half to fit, half to score",
    )
    parser.add_argument(
        "--policy", action="store_true", help="RUN's policy acts in them; else a fresh one"
    )
    asked, words = parser.parse_known_args(argv)
    had = experience.of_run(asked.run, words)
    config = had.config
    began = time.monotonic()
    torch.set_num_threads(1)
    agent = build.make_agent(config, had.space, "cpu")
    replay = had.replay()
    actors = [had.agent()] if asked.policy else []
    torch.manual_seed(config.seed)
    metrics = learn(agent, replay, config, asked.updates)
    make_env = build.environment_maker(config, config.fresh_side)
    reading = probes.summary(probes.inspect(agent, make_env, asked.episodes, 777, actors))
    row = {
        "task": config.task,
        "agent": config.agent,
        "options": " ".join(words),
        "seed": config.seed,
        "updates": asked.updates,
        "policy": asked.policy,
    }
    row |= {"seconds": round(time.monotonic() - began)}
    row |= {key: round(value, 3) for key, value in (reading | metrics).items()}
    print(json.dumps(row))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
