"""Studies that look at a world model: what it knows by heart, and where it is too hopeful."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.studies import memory, optimism
from foreground.errors import UserError
from foreground.evaluation.record import Record
from foreground.world_models.rssm import State
from tests.support.small import make_agent, make_batch


def test_terms_are_read_without_augmentation():
    agent = make_agent(random_shift=3)
    config = agent.world_model.config
    batch = make_batch()
    replay = SimpleNamespace(sample=lambda *rows: batch)
    torch.manual_seed(0)
    found = memory.values(agent, replay, (4, 8))
    agent.world_model.config = make_agent(random_shift=0).world_model.config
    torch.manual_seed(0)
    expected = []
    with torch.no_grad():
        for _ in range(memory.BATCHES):
            loss = agent.world_model.loss(batch)
            expected.append((float(loss.values["reward"]), float(loss.metrics[memory.KL])))
    wanted = np.mean(expected, 0)
    assert (found["reward"], found["kl"]) == pytest.approx(tuple(wanted), abs=1e-3)
    agent.world_model.config = config
    memory.values(agent, replay, (4, 8))
    assert agent.world_model.config is config


class Walks:
    """A world model whose state is the sum of the actions, and whose reward is half of it."""

    rssm = SimpleNamespace(config=SimpleNamespace(deterministic=1), latent=SimpleNamespace(size=1))

    def imagine(self, state, action):
        return State(state.deterministic + action, state.stochastic)

    def reward(self, feature):
        return feature[..., 0] / 2


class Stays:
    """A policy that does not move."""

    def __call__(self, feature):
        return SimpleNamespace(sample=lambda: torch.zeros(len(feature), 1))


def test_each_kind_of_reward_is_of_the_row_that_it_belongs_to():
    """In an episode of unit steps the real reward is the place; the model's is half of it."""
    rows = 20
    place = np.arange(rows, dtype=np.float32)
    empty = np.zeros(2 * rows, np.float32)
    twice = np.tile(place, 2)
    record = Record(
        latent=np.stack([twice, empty], 1),
        state=np.zeros((2 * rows, 0), np.float32),
        names=(),
        action=np.ones((2 * rows, 1), np.float32),
        reward=twice,
        predicted=twice / 2,
        clip=empty,
        phase=empty,
        pixels=np.zeros((2 * rows, 3), np.float32),
        episode=np.repeat([0, 2], rows),
    )
    begin = optimism.starts(record, 3)
    first = np.arange(optimism.HISTORY, rows - 3)
    assert begin.tolist() == [*first, *(rows + first)]
    agent = SimpleNamespace(world_model=Walks(), actor=Stays())
    found = optimism.ahead(agent, record, 3)
    start = first.mean()
    np.testing.assert_allclose(found["real"], start + np.arange(1, 4))
    np.testing.assert_allclose(found["seen"], (start + np.arange(1, 4)) / 2)
    np.testing.assert_allclose(found["along"], (start + np.arange(1, 4)) / 2)
    np.testing.assert_allclose(found["imagined"], [start / 2] * 3)
    with pytest.raises(UserError, match="no episode has 39 rows"):
        optimism.ahead(agent, record, 30)
