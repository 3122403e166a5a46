"""A trainer goes on to the bit from a checkpoint, and not when any one item of it is left out."""

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import build
from benchmarks.fault.checkpoints import leaves_of
from benchmarks.fault.resume import text_of
from benchmarks.fault.runs import SMALL
from configs import run as runs
from training import checkpoint
from training.rollout import Rollout
from training.trainer import Trainer

CUT, END = 150, 230  # env frames; the first 100 are random
WORDS = ["--task", "reacher-easy", "--agent", "slim", "--skill.hold", "7", "--background.redraw_every", "9"]
WORDS += [
    "--training.train_ratio",
    "4",
    "--environment.time_limit",
    "60",
    "--optimiser.warmup",
    "100",
    "--training.log_every",
    "20",
]


def make(folder: Path, seed: int = 0) -> Trainer:
    config, _ = runs.read([*SMALL, *WORDS, "--seed", str(seed)], cuda=False)
    torch.manual_seed(seed)
    envs = build.training_environments(config)
    agent = build.make_agent(config, envs.single_action_space, torch.device("cpu"))
    replay, _ = build.make_replay(config, envs.single_action_space, "cpu")
    rollout = Rollout(envs, agent.initial_state(1), config.seed)
    repeat, fps = config.environment.action_repeat, 20
    return Trainer(config.training, CUT, repeat, agent, rollout, replay, folder, seed, fps, lambda _: {})


def run_to(trainer: Trainer, frames: int) -> dict[str, str]:
    """Everything of the checkpoint there, by place, and what was told of episodes and progress on the way."""
    told = []
    listener = SimpleNamespace(
        scalars=lambda frame, row, prefix="": told.append((frame, row) if prefix == "episode" else None),
        update=lambda frame, episode_return, **_: told.append((frame, episode_return)),
        video=lambda *_: None,
        message=pytest.fail,
    )
    trainer.frames = frames
    trainer.run(listener, listener)
    return described(trainer.folder) | {"told": repr([row for row in told if row])}


def described(folder: Path) -> dict[str, str]:
    state = checkpoint.load(checkpoint.steps(folder / "checkpoints")[-1])
    return {place: text_of(value) for place, value in leaves_of(state)}


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> tuple[dict, dict, dict[str, str]]:
    """(the state at the cut, that of another run there, everything at the end) of a run that is not stopped."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("straight")
    trainer = make(folder / "one")
    run_to(trainer, CUT)
    states = [checkpoint.load(checkpoint.steps(folder / "one" / "checkpoints")[-1])]
    end = run_to(trainer, END)
    run_to(make(folder / "other", seed=5), CUT)
    states.append(checkpoint.load(checkpoint.steps(folder / "other" / "checkpoints")[-1]))
    return *states, end


def resumed(folder: Path, state: dict) -> dict[str, str]:
    checkpoint.save(folder / "checkpoints", CUT, state)
    trainer = make(folder, seed=0)
    torch.manual_seed(77)  # what was drawn before must not matter
    assert trainer.resume() == []
    return run_to(trainer, END)


def test_it_goes_on_to_the_bit(straight, tmp_path):
    state, _, end = straight
    assert resumed(tmp_path, copy.deepcopy(state)) == end
    assert any(place.startswith("/agent/optimisers/discovery") for place in end)


ITEMS = [
    "agent/weights",
    "agent/optimisers/world_model",
    "agent/optimisers/actor",
    "agent/optimisers/critic",
    "agent/optimisers/discovery",
    "agent/optimisers/pictures",
    "replay/tail",
    "replay/manifest/generator",
    "clocks/owed",
    "clocks/update",
    "episodes/count",
    "episodes/score",
    "random/torch",
    "random/numpy",
    "rollout/envs",
    "rollout/memory",
    "rollout/row",
    "rollout/episodes/score",
    "rollout/episodes/length",
    "rollout",
]


@pytest.mark.parametrize("item", ITEMS)
def test_every_item_is_needed(straight, tmp_path, item):
    """With what another run has in its place, or with nothing, the end is another."""
    state, other, end = straight
    state = copy.deepcopy(state)
    *path, last = item.split("/")
    node, from_other = state, other
    for name in path:
        node, from_other = node[name], from_other[name]
    if item == "rollout":
        node[last] = {}
    elif text_of(from_other[last]) == text_of(node[last]):
        node[last] = node[last] + 1  # a number that is the same there
    else:
        node[last] = from_other[last]
    assert resumed(tmp_path, state) != end


def test_every_weight_and_statistic_is_in_the_checkpoint(straight):
    """Buffers, too: multipliers, scales, moving means."""
    state, *_ = straight
    kept = set(state["agent"]["weights"])
    agent = make(Path("unused")).agent
    assert {name for name, _ in agent.named_parameters()} <= kept
    lacking = {name for name, value in agent.named_buffers() if name not in kept}
    constant = {name for name in lacking if np.array_equal(*(_buffer(make(Path("unused"), seed), name) for seed in (0, 1)))}
    assert lacking == constant


def _buffer(trainer: Trainer, name: str) -> np.ndarray:
    return dict(trainer.agent.named_buffers())[name].numpy()
