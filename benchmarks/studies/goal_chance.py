"""How many goals are hit by moves that know of no goal.

    python -m benchmarks.studies.goal_chance --task reacher-easy

Goals, starts and steps are those of ``eval.py RUN --reach`` at the options of train.py, without a
video and without an agent. Moves are none, and noise of each correlation of CORRELATIONS. The last
line is JSON: moves -> the measures of evaluation/goals.py, without those of other goals.
"""

import json
import sys

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()

import numpy as np
import torch

from benchmarks import result_files
from foreground import build
from foreground.agents.memory import next_noise
from foreground.configs import run as runs
from foreground.envs.offers import Simulated, offered
from foreground.errors import run_main
from foreground.evaluation import goal_report, goals, posture
from foreground.evaluation.driver import Driver

NUMBER = 50  # goals
CORRELATIONS = (0.5, 0.9)
SHOWN = ("hit_3", "hit_1", "end_3", "end_1")


def moving(scale: float, correlation: float):
    """Return a policy of Driver whose memory is the noise (1, A) of the last action."""

    def act(noise: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        noise = next_noise(noise, correlation)
        return (scale * noise).clamp(-1, 1), noise

    return act


def measured(make_env, aims: list[goals.Goal], steps: int, seed: int, act) -> dict[str, float]:
    """Return the measures of one attempt at each goal."""
    env = make_env()
    body = posture.body(offered(env, Simulated).physics)
    rows = []
    torch.manual_seed(seed)
    for index, aim in enumerate(aims):
        distances = goals.Distances(body, aim.state[None])
        noise = torch.randn(1, *env.action_space.shape)
        driver = Driver([env], act, lambda _, noise=noise: noise, [distances])
        driver.run([seed + 10_000 + index], steps)
        rows.append(np.concatenate(distances.rows))
    env.close()
    attempts = goals.Attempts(
        np.stack(rows), np.stack(rows), np.zeros(len(aims), bool), np.zeros(0)
    )
    return {key: round(goals.measures(attempts)[key], 3) for key in SHOWN}


def main(argv: list[str]) -> None:
    config = runs.read(["--agent", "goal", "--background.source", "none", *argv], cuda=False)
    goal_report.check(config)
    make_env = build.environment_maker(config, "clean")
    steps, seed = config.skill.duration, config.evaluation.seed
    aims = goals.draw(make_env, NUMBER, steps, seed)
    table = {"none": measured(make_env, aims, 2 * steps, seed, moving(0.0, 0.0))}
    for correlation in CORRELATIONS:
        moves = moving(1.0, correlation)
        table[f"noise {correlation}"] = measured(make_env, aims, 2 * steps, seed, moves)
    row = {"task": config.task, "goals": NUMBER, "moves": table}
    print(json.dumps(row | result_files.origin("studies.goal_chance", argv)))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
