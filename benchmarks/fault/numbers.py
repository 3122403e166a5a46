"""Numbers that are none, planted in a batch, a loss, a gradient or a weight: the update stops before any weight moves."""

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch

import agents.agent
import build
from agents.optimiser import Divergence, descend
from benchmarks.fault import Tries
from benchmarks.fault.runs import SMALL
from configs import run as runs
from training.rollout import Rollout, random_policy

AGENTS = ("infopower", "dreamer", "c_dreamer", "repo", "slim", "metra", "diayn")
ROWS = 60
BAD = (float("nan"), float("inf"), float("-inf"))


def nan(folder: Path, chance: random.Random) -> Tries:
    """One agent after another, on experience of the real environment."""
    made = {}
    while True:
        name = chance.choice(AGENTS)
        if name not in made:
            made[name] = learner(name)
        agent, replay = made[name]
        batch = replay.sample(2, 8)
        torch.manual_seed(chance.randrange(10**6))
        kind = chance.choice(list(PLANTS))
        before = {key: value.clone() for key, value in agent.named_parameters()}
        with PLANTS[kind](agent, batch, chance) as planted:
            try:
                agent.update(batch)
                lost = "the update went through"
            except Divergence as error:
                lost = "" if str(error).endswith("is not finite") and error.module else f"said {error}"
            moved = [key for key, value in agent.named_parameters() if not torch.equal(value, before[key]) and key != planted]
        lost = lost or (f"{moved[:3]} moved" if moved else "")
        if lost:
            lost, _ = f"{name}, {kind} {planted}: {lost}", made.pop(name)
        else:
            made[name] = (restored(agent, before), replay)
        yield lost


def learner(name: str) -> tuple:
    """A small agent and the replay of some steps with random actions."""
    config, _ = runs.read([*SMALL, "--agent", name, "--optimiser.warmup", "0"], cuda=False)
    envs = build.training_environments(config)
    try:
        agent = build.make_agent(config, envs.single_action_space, torch.device("cpu"))
        replay, _ = build.make_replay(config, envs.single_action_space, "cpu")
        rollout = Rollout(envs, agent.initial_state(1), 0)
        random_actions = random_policy(envs, np.random.default_rng(0))

        def act(memory, image, is_first):
            action, _ = random_actions(memory, image, is_first)
            _, memory = agent.act(memory, image, is_first)
            return action, memory.took(action)

        for _ in range(ROWS):
            replay.add(rollout.step(act))
    finally:
        envs.close()
    return agent, replay


def restored(agent, weights: dict[str, torch.Tensor]):
    """The agent with its weights and without moving statistics that saw what was planted."""
    with torch.no_grad():
        for name, value in agent.named_parameters():
            value.copy_(weights[name])
        for value in agent.buffers():
            if value.is_floating_point():
                torch.nan_to_num_(value, 0.0, 0.0, 0.0)
    return agent


@contextlib.contextmanager
def in_batch(agent, batch: dict, chance: random.Random) -> Iterator[str]:
    """One number of what was acted, paid or signalled."""
    names = [name for name, value in batch.items() if value.is_floating_point() and value.numel() and name != "image"]
    name = chance.choice(sorted(names))
    batch[name][tuple(chance.randrange(size) for size in batch[name].shape)] = chance.choice(BAD)
    yield name


@contextlib.contextmanager
def in_loss(agent, batch: dict, chance: random.Random) -> Iterator[str]:
    """One of the losses that the modules descend."""
    bad, chosen = chance.choice(BAD), []

    def spoilt(optimisers, losses):
        name = chance.choice(sorted(losses))
        chosen.append(name)
        return descend(optimisers, losses | {name: losses[name] * 0 + bad})

    with mock.patch.object(agents.agent, "descend", spoilt):
        yield "of a module"


@contextlib.contextmanager
def in_gradient(agent, batch: dict, chance: random.Random) -> Iterator[str]:
    """The gradient of one weight of one module."""
    name, parameter = chance.choice(learned(agent))
    bad = chance.choice(BAD)
    hook = parameter.register_hook(lambda gradient: gradient * 0 + bad)
    try:
        yield name + " (gradient)"
    finally:
        hook.remove()


@contextlib.contextmanager
def in_weight(agent, batch: dict, chance: random.Random) -> Iterator[str]:
    """One number of a weight, as a bad memory would leave it."""
    name, parameter = chance.choice(learned(agent))
    with torch.no_grad():
        parameter[tuple(chance.randrange(size) for size in parameter.shape)] = chance.choice(BAD)
    yield name


def learned(agent) -> list[tuple[str, torch.nn.Parameter]]:
    """The weights that an optimiser moves."""
    moved = {id(parameter) for optimiser in agent.optimisers.values() for parameter in optimiser.parameters}
    return [(name, parameter) for name, parameter in agent.named_parameters() if id(parameter) in moved]


PLANTS = {"batch": in_batch, "loss": in_loss, "gradient": in_gradient, "weight": in_weight}
