"""Learn a policy of goals in imagination from the replay of any run, without new experience.

    python -m benchmarks.studies.goals RUN --updates 4000 --output FOLDER

RUN may be of any agent without proprioception. Its task, background, distractions, frames and sizes
stay; options are those of train.py. FOLDER then holds the checkpoint of an agent of goals, which
eval.py takes for a run: ``python eval.py FOLDER --reach``. It cannot be trained further. With
--from_model the world model begins as RUN's; without it everything is learned anew. Prints one JSON
line.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

import torch

from benchmarks import result_files
from benchmarks.studies import experience
from foreground import build, saved
from foreground.agents.agent import WorldModelAgent
from foreground.configs import run as runs
from foreground.errors import UserError, run_main
from foreground.training import checkpoint, identity, options
from foreground.training.files import write_atomic
from foreground.training.replay import Replay
from foreground.training.state import SCHEMA

SHOWN = ("discovery/nats", "policy/discovery/reward", "policy/std")
LAST = 10  # updates whose mean is shown


def learn(
    agent: WorldModelAgent, replay: Replay, config: runs.RunConfig, updates: int
) -> dict[str, float]:
    """Run all learners; return mean metrics of the last updates."""
    rows = []
    for update in range(updates):
        batch = replay.sample(config.training.batch_size, config.training.batch_length)
        metrics = agent.update(batch)
        if update >= updates - LAST:
            rows.append([float(metrics[key]) for key in SHOWN])
    return dict(zip(SHOWN, torch.tensor(rows).mean(0).tolist()))


def keep(agent: WorldModelAgent, had: experience.Experience, updates: int, folder: Path) -> None:
    """Write a folder that eval.py takes for a run: options, clips and a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "config.yaml", options.to_yaml(had.config).encode())
    if (had.folder / identity.SOURCES).exists():
        shutil.copy(had.folder / identity.SOURCES, folder)
    state = had.state | {
        "schema": SCHEMA,
        "agent": agent.training_state(),
        "clocks": had.state["clocks"] | {"update": updates},
    }
    checkpoint.save(folder / "checkpoints", saved.frame_of(had.state, had.config), state)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--updates", type=int, default=4000, help="of all learners")
    parser.add_argument("--output", type=Path, required=True, help="folder of the agent of goals")
    parser.add_argument("--from_model", action="store_true", help="begin with RUN's world model")
    asked, words = parser.parse_known_args(argv)
    if asked.updates < 1:
        raise UserError("nothing is learned in 0 updates", "--updates", "choose 1 or more")
    if asked.output.exists():
        raise UserError("it exists already", f"--output {asked.output}", "choose a new folder")
    begin = ["--agent", "goal"]
    if asked.from_model:
        begin = ["--agent", "goal_from", "--init_from", str(asked.run)]
    if any(word.partition("=")[0] == "--agent" for word in words):
        raise UserError("the agent is one of goals", "--agent", "leave it out")
    had = experience.of_run(asked.run, [*begin, *words])
    began = time.monotonic()
    torch.set_num_threads(1)
    torch.manual_seed(had.config.seed)
    agent = build.make_agent(had.config, had.space, "cpu")
    replay = had.replay()
    if asked.from_model:
        saved.load_pretrained(agent, had.config)
    metrics = learn(agent, replay, had.config, asked.updates)
    keep(agent, had, asked.updates, asked.output)
    row = {"task": had.config.task, "experience": had.own.agent, "steps": len(replay)}
    row |= {"seed": had.config.seed, "updates": asked.updates}
    row |= {key: round(value, 3) for key, value in metrics.items()}
    row["seconds"] = round(time.monotonic() - began)
    print(json.dumps(row | result_files.origin("studies.goals RUN", argv[1:])))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
