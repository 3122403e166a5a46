"""What a world model has learned by heart.

    python -m benchmarks.studies.memory RUN

RUN's policy plays new episodes with its noise, behind clips of the training side. The program gives
the values of the information terms on batches of RUN's replay and on batches of the new episodes,
with the same number of rows and without augmentation. A value that is larger on the replay is
learned by heart: acting meets new images only. Prints one JSON line.
"""

import argparse
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from benchmarks import result_files
from benchmarks.studies import experience
from foreground import build
from foreground.agents.agent import WorldModelAgent
from foreground.configs import run as runs
from foreground.envs.workers import in_process
from foreground.errors import UserError, run_main
from foreground.training.replay import Replay
from foreground.training.rollout import Rollout

BATCHES = 16  # of each kind
KL = "predictability/kl"


def new_episodes(agent: WorldModelAgent, config: runs.RunConfig, number: int) -> Replay:
    """Return a replay of `number` whole episodes that the agent plays, with its noise."""
    make_env = build.environment_maker(config, config.training_side)
    envs = SyncVectorEnv([partial(in_process, make_env)], autoreset_mode=AutoresetMode.NEXT_STEP)
    layout = build.layout_of(config)
    replay = Replay(layout, number * (config.environment.time_limit + 2), seed=config.seed)
    rollout = Rollout(envs, agent.initial_state(1), 777, layout)
    ended = 0
    try:
        while ended < number:
            replay.add(rollout.step(agent.act))
            ended += len(rollout.finished)
    finally:
        envs.close()
    return replay


@torch.no_grad()
def values(agent: WorldModelAgent, replay: Replay, rows: tuple[int, int]) -> dict[str, float]:
    """Return the mean value of each term in nats, and the KL, over batches of rows (B, T)."""
    model, config = agent.world_model, agent.world_model.config
    model.config = replace(config, random_shift=0)
    found: dict[str, list[float]] = {}
    try:
        for _ in range(BATCHES):
            _, _, terms, metrics = model.loss(replay.sample(*rows))
            read = terms | {"kl": metrics[KL]} if KL in metrics else terms
            for name, value in read.items():
                found.setdefault(name, []).append(float(value))
    finally:
        model.config = config
    return {name: round(sum(each) / len(each), 3) for name, each in found.items()}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--episodes", type=int, default=8, help="that the policy plays")
    asked = parser.parse_args(argv)
    if asked.episodes < 1:
        raise UserError("no episode is asked for", "--episodes", "choose 1 or more")
    torch.set_num_threads(1)
    had = experience.of_run(asked.run, [])
    config, agent = had.own, had.agent()
    new = new_episodes(agent, config, asked.episodes)
    torch.manual_seed(config.seed)
    rows = config.training.batch_size, config.training.batch_length
    row = {"task": config.task, "agent": config.agent, "seed": config.seed}
    row |= {"replay": values(agent, had.replay(), rows), "new": values(agent, new, rows)}
    print(json.dumps(row | result_files.origin("studies.memory RUN", argv[1:])))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
