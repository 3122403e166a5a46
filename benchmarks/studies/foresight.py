"""How far ahead a world model sees the first reward of an episode.

    python -m benchmarks.studies.foresight RUN

For tasks with rare rewards. Takes the rows of RUN's replay around the first reward of each episode.
The model sees the images until `ahead` steps before it, then the recorded actions alone. Gives the
reward that it imagines for the three rows from the first reward on. Rows of episodes without a
reward, at the same place, show what it imagines of nothing. `auc` is the probability that the
former is larger than the latter: 0.5 is chance. Prints one JSON line.

Shapes: M windows, T rows, K ahead.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

import numpy as np
import torch
from torch import Tensor

from benchmarks import result_files
from benchmarks.studies import experience
from foreground.agents.agent import WorldModelAgent
from foreground.errors import UserError, run_main
from foreground.evaluation.aggregate import probability_of_improvement
from foreground.training.replay import Replay

SEEN = 24  # rows with images before the imagined ones
JUDGED = 3  # rows whose imagined rewards are averaged, from the first reward on
SAMPLES = 8  # imagined futures of each window


def episodes(replay: Replay) -> list[dict[str, Tensor]]:
    """Return the rows of each whole episode, (T, ...) by name."""
    found = []
    for stream in range(replay.num_envs):
        rows = replay.rows(stream, replay.first_row, replay.row_count)
        begins = np.flatnonzero(rows["is_first"].numpy()).tolist()
        found += [
            {name: value[begin:end] for name, value in rows.items()}
            for begin, end in itertools.pairwise(begins)
        ]
    return found


def windows(
    whole: list[dict[str, Tensor]], ahead: int
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Return windows of SEEN + ahead + JUDGED rows whose first reward is row SEEN + ahead.

    Also return windows at the same places of episodes without a reward.
    """
    places, first = [], []
    nothing = [episode for episode in whole if not episode["reward"].any()]
    for episode in whole:
        rewards = torch.nonzero(episode["reward"])
        begin = int(rewards[0]) - ahead - SEEN if len(rewards) else -1
        length = SEEN + ahead + JUDGED
        if begin >= 0 and begin + length <= len(episode["reward"]):
            places.append(slice(begin, begin + length))
            first.append({name: value[places[-1]] for name, value in episode.items()})
    others = [
        {name: value[place] for name, value in episode.items()}
        for place, episode in zip(places, nothing)
        if place.stop <= len(episode["reward"])
    ]
    return first, others


@torch.no_grad()
def imagined(agent: WorldModelAgent, taken: list[dict[str, Tensor]], ahead: int) -> Tensor:
    """Return the mean imagined reward of the JUDGED rows of each window, (M,)."""
    rows = {name: torch.stack([one[name] for one in taken]) for name in taken[0]}  # (M, T, ...)
    _, states = agent.world_model.observe({name: value[:, :SEEN] for name, value in rows.items()})
    state = states.state.map(lambda part: part[:, -1].repeat_interleave(SAMPLES, 0))
    rewards = []
    for row in range(SEEN, SEEN + ahead + JUDGED):
        action = rows["action"][:, row].float().repeat_interleave(SAMPLES, 0)
        state = agent.world_model.imagine(state, action)
        rewards.append(agent.world_model.reward(state.feature))
    judged = torch.stack(rewards[ahead:]).mean(0)  # (M * SAMPLES,)
    return judged.reshape(len(taken), SAMPLES).mean(1)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--ahead", type=int, nargs="+", default=[3, 6, 10, 15], help="steps")
    asked = parser.parse_args(argv)
    if min(asked.ahead) < 1:
        raise UserError(f"{min(asked.ahead)} is no future", "--ahead", "choose 1 or more")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    had = experience.of_run(asked.run, [])
    agent, whole = had.agent(), episodes(had.replay())
    found = []
    for ahead in asked.ahead:
        first, others = windows(whole, ahead)
        if not first or not others:
            raise UserError(
                f"of {len(whole)} episodes {len(first)} have a first reward late enough, and"
                f" {len(others)} have none",
                str(asked.run),
                "choose a run with some of both",
            )
        of_first, of_none = imagined(agent, first, ahead), imagined(agent, others, ahead)
        found.append(
            {
                "ahead": ahead,
                "windows": [len(first), len(others)],
                "real": float(torch.stack([one["reward"][-JUDGED:] for one in first]).mean()),
                "imagined": float(of_first.mean()),
                "of_nothing": float(of_none.mean()),
                "auc": probability_of_improvement([of_first.numpy()], [of_none.numpy()]),
            }
        )
        print(json.dumps(found[-1]), flush=True)
    row = {"task": had.config.task, "agent": had.config.agent, "episodes": len(whole)}
    row |= {"foresight": found}
    print(json.dumps(row | result_files.origin("studies.foresight RUN", argv[1:])))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
