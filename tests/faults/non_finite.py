"""NaN and infinity in an action, a reward, a loss, a gradient or a weight: stopped before they
spread.
"""

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch

from foreground import build, saved
from foreground.agents import optimiser
from foreground.agents.agent import WorldModelAgent
from foreground.agents.optimiser import Divergence, guard
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training.replay import Replay
from foreground.training.rollout import ActFn, Rollout, layout_of, random_policy
from tests.faults import Tries
from tests.faults.runs import SMALL, trained

# The agents with different parts.
AGENTS = (
    "infopower",
    "dreamer",
    "c_dreamer",
    "r2dreamer",
    "repo",
    "slim",
    "diayn",
    "mra",
    "hierarchical",
    "finetune",
)
ROWS = 60
ROUND = 30  # updates within which every module takes a step
BAD = (float("nan"), float("inf"), float("-inf"))


class Learner(NamedTuple):
    """A small agent with its replay; `act` plays random actions while the agent filters."""

    agent: WorldModelAgent
    replay: Replay
    rollout: Rollout
    act: ActFn


def plant(folder: Path, chance: random.Random) -> Tries:
    """Agent by agent, on experience of the real environment: every place once, in random order."""
    made: dict[str, Learner] = {}
    left: dict[str, list[tuple[str, str]]] = {}
    number = 0
    while True:
        name = AGENTS[number % len(AGENTS)]
        number += 1
        if name not in made:
            made[name] = learner(name, folder)
        if not left.get(name):
            left[name] = chance.sample(places := places_of(made[name]), len(places))
        kind, place = left[name].pop()
        tried = in_row if kind == "row" else in_update
        lost = tried(made[name], kind, place, chance)
        if lost:
            made.pop(name)
        yield lost and f"{name}, {kind} {place}: {lost}"


def places_of(made: Learner) -> list[tuple[str, str]]:
    """Return (kind, name) of every place for a non-finite number.

    Images are integers, which are finite.
    """
    weights = [name for name, _ in learned(made.agent)]
    fields = "action", "reward", *made.rollout.envs.metadata["info_fields"]
    places = [("row", name) for name in fields] + [("loss", name) for name in made.agent.optimisers]
    return places + [(kind, name) for kind in ("gradient", "weight") for name in weights]


def in_update(made: Learner, kind: str, place: str, chance: random.Random) -> str:
    """Plant in a loss, gradient or weight: its module must be named, and its weights unchanged and
    finite.
    """
    agent = made.agent
    batch = made.replay.sample(2, 8)
    torch.manual_seed(chance.randrange(10**6))
    first = copies(agent)
    module = None
    lost = "the update succeeded"
    for _ in range(ROUND):  # some modules have no step at every update
        before = copies(agent)
        with PLANTS[kind](agent, place, chance.choice(BAD), chance):
            try:
                agent.update(batch)
            except Divergence as error:
                module = error.module
                lost = "" if str(error).endswith("is not finite") else f"said {error}"
                break
    named = (
        {id(parameter) for parameter in agent.optimisers[module].parameters} if module else set()
    )
    for name, value in agent.named_parameters():
        changed = not torch.equal(value, before[name])
        if (
            name != (place if kind == "weight" else None)
            and changed
            and (id(value) in named or not value.isfinite().all())
        ):
            lost = lost or f"{name} changed"
    restore(agent, first)
    return lost


def in_row(made: Learner, _: str, kind: str, chance: random.Random) -> str:
    """Plant in an action or a field of the environment: one line with its exit code, and no row."""
    rollout = made.rollout
    bad = chance.choice(BAD)
    real = rollout.envs.step

    def planted(action):
        image, reward, terminated, truncated, info = real(action)
        if kind in info:
            return image, reward, terminated, truncated, info | {kind: info[kind] * 0 + bad}
        return image, reward * 0 + bad, terminated, truncated, info

    def act(memory, image, is_first):
        action, memory = made.act(memory, image, is_first)
        return (action * 0 + bad if kind == "action" else action), memory

    rows = rollout.row
    with mock.patch.object(rollout.envs, "step", real if kind == "action" else planted):
        try:
            rollout.step(act)
            lost = "the row was returned"
        except UserError as error:
            code = 3 if kind == "action" else 5
            lost = "" if error.exit_code == code and "not finite" in str(error) else f"said {error}"
    return lost or ("" if rollout.row is rows else "a row was kept")


def learner(name: str, folder: Path) -> Learner:
    """Return a small agent with a replay of random actions; some agents start from a run of slim in
    the folder.
    """
    words = ["--task", "walker-walk", "--agent", name, "--optimiser.warmup", "0"]
    if name in runs.FOLLOWING:
        skills = folder / "skills"
        if not skills.exists():
            trained(
                skills, "--task", "walker-walk", "--agent", "slim", "--evaluation.num_skills", "0"
            )
        words += ["--init_from", str(skills)]
    config = runs.read(words, cuda=False, ours=SMALL)
    envs = build.training_environments(config)
    agent = build.make_agent(config, envs.single_action_space, torch.device("cpu"))
    if config.init_from:
        saved.load_pretrained(agent, config)
    layout = layout_of(envs) | agent.spec.layout
    replay, _ = build.make_replay(config, layout, "cpu")
    rollout = Rollout(envs, agent.initial_state(1), 0, layout)
    random_actions = random_policy(envs, np.random.default_rng(0))

    def act(memory, image, is_first):
        action, _ = random_actions(memory, image, is_first)
        _, memory = agent.act(memory, image, is_first)
        return action, memory.with_action(action)

    for _ in range(ROWS):
        replay.add(rollout.step(act))
    return Learner(agent, replay, rollout, act)


def copies(agent: WorldModelAgent) -> dict[str, torch.Tensor]:
    """Return copies of its weights."""
    return {name: value.detach().clone() for name, value in agent.named_parameters()}


def restore(agent: WorldModelAgent, weights: dict[str, torch.Tensor]) -> None:
    """Restore the weights, and remove non-finite numbers from moving statistics."""
    with torch.no_grad():
        for name, value in agent.named_parameters():
            value.copy_(weights[name])
        for value in agent.buffers():
            if value.is_floating_point():
                torch.nan_to_num_(value, 0.0, 0.0, 0.0)


@contextlib.contextmanager
def in_loss(
    agent: WorldModelAgent, place: str, bad: float, chance: random.Random
) -> Iterator[None]:
    """Plant in the loss of a module."""

    def planted(losses):
        losses.update({name: loss * 0 + bad for name, loss in losses.items() if name == place})
        guard(losses)

    with mock.patch.object(optimiser, "guard", planted):
        yield


@contextlib.contextmanager
def in_gradient(
    agent: WorldModelAgent, place: str, bad: float, chance: random.Random
) -> Iterator[None]:
    """Plant in the gradient of one weight."""
    hook = dict(learned(agent))[place].register_hook(lambda gradient: gradient * 0 + bad)
    try:
        yield
    finally:
        hook.remove()


@contextlib.contextmanager
def in_weight(
    agent: WorldModelAgent, place: str, bad: float, chance: random.Random
) -> Iterator[None]:
    """Plant in one number of a weight, like a memory error."""
    parameter = dict(learned(agent))[place]
    with torch.no_grad():
        parameter[tuple(chance.randrange(size) for size in parameter.shape)] = bad
    yield


def learned(agent: WorldModelAgent) -> list[tuple[str, torch.nn.Parameter]]:
    """Return the weights that an optimiser trains."""
    trained_ids = {
        id(parameter)
        for optimiser in agent.optimisers.values()
        for parameter in optimiser.parameters
    }
    return [
        (name, parameter)
        for name, parameter in agent.named_parameters()
        if id(parameter) in trained_ids
    ]


PLANTS = {"loss": in_loss, "gradient": in_gradient, "weight": in_weight}
