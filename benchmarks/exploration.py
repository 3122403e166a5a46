"""What noise alone comes upon: returns of the actions that fill a replay, by the correlation of one with the next.

python benchmarks/exploration.py [--episodes 50]

No pictures and no agent: dm_control's tasks, the action repeat of the `cpu` size. The last line is JSON: task -> correlation ->
mean return, its standard error, and the share of agent steps with more than half of the largest reward.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from dm_control import suite

from agents.memory import next_noise

TASKS = ("cartpole-swingup", "cheetah-run", "walker-stand", "walker-walk", "ball_in_cup-catch", "reacher-easy", "hopper-stand")
CORRELATIONS = (0.0, 0.5, 0.8, 0.95)
REPEAT, STEPS = 4, 250  # frames an action, actions an episode


def rewards(task: str, correlation: float, episodes: int) -> np.ndarray:
    """(episodes, STEPS), each the mean over the frames of an action."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=50, help="episodes of each task and correlation")
    arguments = parser.parse_args()
    table: dict[str, dict] = {}
    for task in TASKS:
        for correlation in CORRELATIONS:
            found = rewards(task, correlation, arguments.episodes)
            returns = 1000 * found.mean(1)
            row = {
                "return": round(float(returns.mean()), 1),
                "error": round(float(returns.std(ddof=1)) / len(returns) ** 0.5, 1),
                "above_half": round(float((found > 0.5).mean()), 4),
            }
            table.setdefault(task, {})[str(correlation)] = row
            print(f"{task:20} {correlation:5} {row['return']:7.1f} +- {row['error']:5.1f}  {row['above_half']:.4f}", flush=True)
    print(json.dumps({"episodes": arguments.episodes, "returns": table}))


if __name__ == "__main__":
    main()
