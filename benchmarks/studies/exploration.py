"""Returns of pure exploration noise, by the correlation of successive actions.

    python -m benchmarks.studies.exploration [--episodes 50]

There are no images and no agent: dm_control's tasks with the action repeat of the `cpu` size. The
last line is JSON: task -> correlation -> mean return, its standard error, and the share of agent
steps with more than half of the largest reward.
"""

import json
import sys

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

import numpy as np
import torch

from benchmarks import result_files
from foreground.agents.memory import next_noise
from foreground.errors import run_main
from foreground.option import config_class, option
from foreground.training import options

TASKS = (
    "cartpole-swingup",
    "cheetah-run",
    "walker-stand",
    "walker-walk",
    "ball_in_cup-catch",
    "reacher-easy",
    "hopper-stand",
)
CORRELATIONS = (0.0, 0.5, 0.8, 0.95)
REPEAT, STEPS = 4, 250  # frames an action, actions an episode


@config_class
class ExplorationConfig:
    """Foreground: what noise alone comes upon."""

    episodes: int = option(50, "Episodes of each task and correlation.", ge=2)


def rewards(task: str, correlation: float, episodes: int) -> np.ndarray:
    """Return rewards (episodes, STEPS), each the mean over the frames of an action."""
    from foreground.envs.simulator import suite  # imports MuJoCo, whose failure is told by run_main

    domain, name = task.split("-")
    env = suite.load(domain, name, task_kwargs={"random": 0})
    torch.manual_seed(0)
    noise, rows = torch.randn(env.action_spec().shape), []
    for _ in range(episodes):
        env.reset()
        for _ in range(STEPS):
            noise = next_noise(noise, correlation)
            action = noise.clamp(-1, 1).numpy()
            rows.append(np.mean([env.step(action).reward or 0.0 for _ in range(REPEAT)]))
    return np.array(rows).reshape(episodes, STEPS)


def main(argv: list[str]) -> None:
    config = options.parse(ExplorationConfig, argv, None, description=ExplorationConfig.__doc__)
    table: dict[str, dict] = {}
    for task in TASKS:
        for correlation in CORRELATIONS:
            found = rewards(task, correlation, config.episodes)
            returns = 1000 * found.mean(1)
            row = {
                "return": round(float(returns.mean()), 1),
                "error": round(float(returns.std(ddof=1)) / len(returns) ** 0.5, 1),
                "above_half": round(float((found > 0.5).mean()), 4),
            }
            table.setdefault(task, {})[str(correlation)] = row
            print(
                f"{task:20} {correlation:5} {row['return']:7.1f} +- {row['error']:5.1f}  "
                f"{row['above_half']:.4f}",
                flush=True,
            )
    row = {"episodes": config.episodes, "returns": table, "seed": 0}
    print(json.dumps(row | result_files.origin("studies.exploration", argv)))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
