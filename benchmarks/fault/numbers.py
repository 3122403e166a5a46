"""Numbers that are none, planted at the door of the replay or in a loss, gradient or weight: stopped before it can spread."""

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch

from benchmarks.fault import Tries
from benchmarks.fault.runs import SMALL, trained
from foreground import build, saved
from foreground.agents import optimiser
from foreground.agents.agent import WorldModelAgent
from foreground.agents.optimiser import Divergence, guard
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training.replay import Replay
from foreground.training.rollout import Policy, Rollout, layout_of, random_policy

# Of each kind of agent those with parts of their own.
AGENTS = ("infopower", "dreamer", "c_dreamer", "r2dreamer", "repo", "slim", "diayn", "mra", "hierarchical", "finetune")
ROWS = 60
ROUND = 30  # updates within which every module learns
BAD = (float("nan"), float("inf"), float("-inf"))


class Learner(NamedTuple):
    """A small agent at work; `act` plays at random while it looks on."""

    agent: WorldModelAgent
    replay: Replay
    rollout: Rollout
    act: Policy


def nan(folder: Path, chance: random.Random) -> Tries:
    """One agent after another, on experience of the real environment; of each every place once, in an order by chance."""
    made, left, number = {}, {}, 0
    while True:
        name = AGENTS[number % len(AGENTS)]
        number += 1
        if name not in made:
            made[name] = learner(name, folder)
        if not left.get(name):
            left[name] = chance.sample(places := places_of(made[name]), len(places))
        kind, place = left[name].pop()
        tried = at_the_door if kind == "door" else in_update
        lost = tried(made[name], kind, place, chance)
        if lost:
            made.pop(name)
        yield lost and f"{name}, {kind} {place}: {lost}"


def places_of(made: Learner) -> list[tuple[str, str]]:
    """(kind, name) of all that a bad number can come through; a picture has whole numbers, which are never bad."""
    weights = [name for name, _ in learned(made.agent)]
    doors = "action", "reward", *made.rollout.envs.metadata["told"]
    places = [("door", name) for name in doors] + [("loss", name) for name in made.agent.optimisers]
    return places + [(kind, name) for kind in ("gradient", "weight") for name in weights]


def in_update(made: Learner, kind: str, place: str, chance: random.Random) -> str:
    """A loss, gradient or weight: the module is named, none of its weights moves and all are finite."""
    agent, batch = made.agent, made.replay.sample(2, 8)
    torch.manual_seed(chance.randrange(10**6))
    first, module, lost = copies(agent), None, "the update went through"
    for _ in range(ROUND):  # some modules do not learn at every update
        before = copies(agent)
        with PLANTS[kind](agent, place, chance.choice(BAD), chance):
            try:
                agent.update(batch)
            except Divergence as error:
                module = error.module
                lost = "" if str(error).endswith("is not finite") else f"said {error}"
                break
    named = {id(parameter) for parameter in agent.optimisers[module].parameters} if module else set()
    for name, value in agent.named_parameters():
        moved = not torch.equal(value, before[name])
        if name != (place if kind == "weight" else None) and moved and (id(value) in named or not value.isfinite().all()):
            lost = lost or f"{name} moved"
    restore(agent, first)
    return lost


def at_the_door(made: Learner, _: str, kind: str, chance: random.Random) -> str:
    """What the policy does or an environment gives: one line with its exit code, and no row of it."""
    rollout, bad = made.rollout, chance.choice(BAD)
    real = rollout.envs.step

    def spoilt(action):
        image, reward, terminated, truncated, info = real(action)
        if kind in info:
            return image, reward, terminated, truncated, info | {kind: info[kind] * 0 + bad}
        return image, reward * 0 + bad, terminated, truncated, info

    def act(memory, image, is_first):
        action, memory = made.act(memory, image, is_first)
        return (action * 0 + bad if kind == "action" else action), memory

    rows = rollout.row
    with mock.patch.object(rollout.envs, "step", real if kind == "action" else spoilt):
        try:
            rollout.step(act)
            lost = "the row was given"
        except UserError as error:
            code = 3 if kind == "action" else 5
            lost = "" if error.exit_code == code and "not finite" in str(error) else f"said {error}"
    return lost or ("" if rollout.row is rows else "a row of it is there")


def learner(name: str, folder: Path) -> Learner:
    """A small agent and the replay of some steps with random actions; some begin with a run of slim in the folder."""
    words = ["--task", "walker-walk", "--agent", name, "--optimiser.warmup", "0"]
    if name in runs.FOLLOWING:
        skills = folder / "skills"
        if not skills.exists():
            trained(skills, "--task", "walker-walk", "--agent", "slim", "--evaluation.num_skills", "0")
        words += ["--init_from", str(skills)]
    config, _ = runs.read(words, cuda=False, ours=SMALL)
    envs = build.training_environments(config)
    agent = build.make_agent(config, envs.single_action_space, torch.device("cpu"))
    if config.init_from:
        saved.begin_with(agent, config)
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
    """Of its weights."""
    return {name: value.detach().clone() for name, value in agent.named_parameters()}


def restore(agent: WorldModelAgent, weights: dict[str, torch.Tensor]) -> None:
    """The weights as they were, and moving statistics without what was planted."""
    with torch.no_grad():
        for name, value in agent.named_parameters():
            value.copy_(weights[name])
        for value in agent.buffers():
            if value.is_floating_point():
                torch.nan_to_num_(value, 0.0, 0.0, 0.0)


@contextlib.contextmanager
def in_loss(agent: WorldModelAgent, place: str, bad: float, chance: random.Random) -> Iterator[None]:
    """What a module descends."""

    def spoilt(losses):
        losses.update({name: loss * 0 + bad for name, loss in losses.items() if name == place})
        guard(losses)

    with mock.patch.object(optimiser, "guard", spoilt):
        yield


@contextlib.contextmanager
def in_gradient(agent: WorldModelAgent, place: str, bad: float, chance: random.Random) -> Iterator[None]:
    """The gradient of one weight of one module."""
    hook = dict(learned(agent))[place].register_hook(lambda gradient: gradient * 0 + bad)
    try:
        yield
    finally:
        hook.remove()


@contextlib.contextmanager
def in_weight(agent: WorldModelAgent, place: str, bad: float, chance: random.Random) -> Iterator[None]:
    """One number of a weight, as a bad memory would leave it."""
    parameter = dict(learned(agent))[place]
    with torch.no_grad():
        parameter[tuple(chance.randrange(size) for size in parameter.shape)] = bad
    yield


def learned(agent: WorldModelAgent) -> list[tuple[str, torch.nn.Parameter]]:
    """The weights that an optimiser moves."""
    moved = {id(parameter) for optimiser in agent.optimisers.values() for parameter in optimiser.parameters}
    return [(name, parameter) for name, parameter in agent.named_parameters() if id(parameter) in moved]


PLANTS = {"loss": in_loss, "gradient": in_gradient, "weight": in_weight}
