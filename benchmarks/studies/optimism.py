"""Where imagined rewards exceed real ones.

    python -m benchmarks.studies.optimism RUN

RUN's policy plays new episodes with its noise, on the training side or the one of --side. From each
row that has some history the world model then looks ahead. For each horizon the program gives the
mean reward of the same rows, four times:

    real       what the environment paid
    seen       what the reward head predicts from the state that has seen the image
    along      the same, imagined along the actions that were taken
    imagined   the same, imagined with actions of the policy

The head is wrong where `seen` differs from `real`, the dynamics where `along` differs from `seen`.
Where `imagined` is above `along` the policy finds what the model has wrong. Prints a line a horizon
and one JSON line last.

Shapes: m starts, S samples.
"""

import argparse
import json
import sys
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

import numpy as np
import torch

from benchmarks import result_files
from benchmarks.studies import experience
from foreground import build
from foreground.agents.agent import WorldModelAgent
from foreground.errors import UserError, run_main
from foreground.evaluation.record import Record, collect
from foreground.world_models.rssm import State

SAMPLES = 8  # imagined futures of each start
HISTORY = 8  # rows of an episode before the first start


def played(record: Record) -> Record:
    """Return the episodes in which the policy acts: the even ones."""
    return record.part(record.episode % 2 == 0)


def starts(record: Record, longest: int) -> np.ndarray:
    """Return the rows (m,) with HISTORY rows of their episode before them and `longest` after."""
    rows = np.arange(HISTORY, len(record.episode) - longest)
    before, after = record.episode[rows - HISTORY], record.episode[rows + longest]
    return rows[before == after]


@torch.no_grad()
def ahead(agent: WorldModelAgent, record: Record, longest: int) -> dict[str, np.ndarray]:
    """Return the mean reward of each kind after 1 to `longest` steps, (longest,) each.

    Raises: UserError where no episode is long enough.
    """
    begin = starts(record, longest)
    if not len(begin):
        raise UserError(
            f"no episode has {HISTORY + longest + 1} rows", "--ahead", "choose fewer steps"
        )
    model, rssm = agent.world_model, agent.world_model.rssm
    latent = torch.as_tensor(record.latent[begin]).repeat(SAMPLES, 1)  # (S * m, F)
    along = free = State(*latent.split([rssm.config.deterministic, rssm.latent.size], -1))
    found: dict[str, list[float]] = {"real": [], "seen": [], "along": [], "imagined": []}
    for step in range(1, longest + 1):
        action = torch.as_tensor(record.action[begin + step - 1]).repeat(SAMPLES, 1)
        along = model.imagine(along, action)
        free = model.imagine(free, agent.actor(free.feature).sample().clamp(-1, 1))
        found["real"].append(float(record.reward[begin + step].mean()))
        found["seen"].append(float(record.predicted[begin + step].mean()))
        found["along"].append(float(model.reward(along.feature).mean()))
        found["imagined"].append(float(model.reward(free.feature).mean()))
    return {name: np.array(values) for name, values in found.items()}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--episodes", type=int, default=6, help="that the policy plays")
    parser.add_argument("--ahead", type=int, nargs="+", default=[1, 5, 10, 15], help="steps")
    parser.add_argument("--side", default="train", help="the clips: train, heldout or clean")
    asked = parser.parse_args(argv)
    if min(asked.ahead) < 1 or asked.episodes < 1:
        raise UserError("nothing is asked for", "--ahead, --episodes", "choose 1 or more")
    torch.set_num_threads(1)
    had = experience.of_run(asked.run, [])
    agent = had.agent()
    if not agent.world_model.rewarded or agent.spaces.condition:
        raise UserError(
            f"{had.own.agent} has no policy of its own for the task",
            str(asked.run),
            "choose a run of another agent",
        )
    make_env = build.environment_maker(had.own, asked.side)
    record = played(collect(agent, make_env, 2 * asked.episodes - 1, 777))
    torch.manual_seed(0)
    found = ahead(agent, record, max(asked.ahead))
    rows = []
    for step in asked.ahead:
        rows.append({"ahead": step} | {k: round(float(v[step - 1]), 4) for k, v in found.items()})
        print(json.dumps(rows[-1]), flush=True)
    row = {"task": had.own.task, "agent": had.own.agent, "seed": had.own.seed}
    row |= {"side": asked.side, "episodes": asked.episodes, "rewards": rows}
    row["return"] = round(float(record.reward.sum()) / asked.episodes, 1)
    print(json.dumps(row | result_files.origin("studies.optimism RUN", argv[1:])))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
