"""Compare actors in one world model.

    python -m benchmarks.studies.policy RUN --actor_critic.entropy_coef 0.01

Trains a new actor and critics in the world model of a finished run, from states of its replay,
without new experience. Then plays with the deterministic policy. Options are those of train.py;
RUN's task, background, distractions, frames, size and world model are kept. So actors are compared
on one model; returns of whole runs would also depend on the data that each actor collects. One line
per `--every` updates, one JSON line last.

With `--model_updates N` a new world model is first trained on RUN's replay for N updates. Options
of the world model are then allowed: what a policy reaches in it judges a model by its use.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

import torch

from benchmarks import result_files
from benchmarks.studies import experience, representation
from foreground import build
from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import Step
from foreground.configs import run as runs
from foreground.errors import UserError, run_main
from foreground.evaluation.episodes import play
from foreground.evaluation.report import agent_policy
from foreground.training.replay import Replay

# Of the metrics of policy/.
SHOWN = ("task/return", "task/reward", "task/scale", "std", "saturation")


def learn(
    agent: WorldModelAgent, replay: Replay, config: runs.RunConfig, updates: int
) -> dict[str, float]:
    """Run the learner `imagination` alone; return mean metrics of the last ten updates."""
    rows = []
    for update in range(updates):
        batch = replay.sample(config.training.batch_size, config.training.batch_length)
        with torch.no_grad():
            _, states = agent.world_model.observe(batch)
        metrics = agent.learners["imagination"](Step(batch, states.state))
        agent.average.update()
        if update >= updates - 10:
            rows.append([float(metrics[f"policy/{key}"]) for key in SHOWN])
    return dict(zip(SHOWN, torch.tensor(rows).mean(0).tolist()))


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--updates", type=int, default=600, help="of actor and critics")
    parser.add_argument("--every", type=int, default=150, help="updates between two looks")
    parser.add_argument(
        "--episodes", type=int, default=5, help="played at each look, on the training side"
    )
    parser.add_argument(
        "--model_updates",
        type=int,
        default=0,
        help="of a new world model, before the actor; 0: RUN's own model",
    )
    asked, words = parser.parse_known_args(argv)
    if asked.model_updates < 1 and any(word.startswith("--world_model.") for word in words):
        raise UserError(
            "the world model is the run's",
            "--world_model",
            "leave these options out, or train a new model with --model_updates",
        )
    if not 0 < asked.every <= asked.updates:
        raise UserError(
            f"no look in {asked.updates} updates", "--every", f"choose 1 to {max(asked.updates, 1)}"
        )
    had = experience.of_run(asked.run, words)
    if "task" not in had.config.actor_critic.rewards or had.config.hierarchy.duration:
        raise UserError(
            f"{had.config.agent} has no policy of its own for the task",
            str(asked.run),
            "choose a run of another agent",
        )
    config = had.config
    if asked.model_updates < 1:
        config = replace(config, world_model=had.own.world_model)
    began = time.monotonic()
    rows = []
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    agent = build.make_agent(config, had.space, "cpu")
    replay = had.replay()
    model = {}
    if asked.model_updates < 1:
        agent.world_model.load_state_dict(had.agent().world_model.state_dict())
    else:
        metrics = representation.learn(agent, replay, config, asked.model_updates)
        model = {key: round(value, 3) for key, value in metrics.items()}
        print(json.dumps(model), flush=True)
        agent.average.load({})  # of a fresh actor
    make_env = build.environment_maker(config, config.training_side)
    for update in range(asked.every, asked.updates + 1, asked.every):
        row = learn(agent, replay, config, asked.every)
        with agent.average.applied():  # as in an evaluation of a run
            row["played"] = play(make_env, agent_policy(agent), asked.episodes, 777).mean
        rows.append({"updates": update} | {key: round(value, 3) for key, value in row.items()})
        print(json.dumps(rows[-1]), flush=True)
    row = {
        "task": config.task,
        "agent": config.agent,
        "options": " ".join(words),
        "seed": config.seed,
        "model_updates": asked.model_updates,
        "model": model,
        "looks": rows,
    }
    row["seconds"] = round(time.monotonic() - began)
    print(json.dumps(row | result_files.origin("studies.policy RUN", argv[1:])))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
