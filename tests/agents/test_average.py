"""Test averaged weights: their values, and that they are evaluated and resumed."""

import contextlib
import dataclasses

import pytest
import torch

from foreground.agents.agent import WorldModelAgent
from foreground.agents.average import WeightAverage
from tests.support.small import make_agent, make_batch


def averaging(decay: float = 0.9) -> WorldModelAgent:
    agent = make_agent()
    optimiser = dataclasses.replace(agent.config.optimiser, ema_decay=decay)
    torch.manual_seed(0)
    return WorldModelAgent(dataclasses.replace(agent.config, optimiser=optimiser), agent.spaces)


def test_the_average_is_that_of_a_slow_reference():
    layer = torch.nn.Linear(2, 1)
    average, expected = WeightAverage(layer, 0.99), None
    for update in range(1, 200):
        with torch.no_grad():
            layer.weight.normal_()
        average.update()
        rate = max(0.01, 10 / (10 + update))
        now = layer.weight.detach().clone()
        expected = now if expected is None else expected + rate * (now - expected)
    torch.testing.assert_close(average.values["weight"], expected)


def test_without_a_decay_nothing_is_kept():
    layer = torch.nn.Linear(2, 1)
    average = WeightAverage(layer, 0.0)
    average.update()
    before = layer.weight.detach().clone()
    with average.applied():
        assert torch.equal(layer.weight, before)
    assert average.state() == {}


def test_it_is_applied_within_a_block_and_gone_after_it_even_if_that_fails():
    layer = torch.nn.Linear(2, 1)
    average = WeightAverage(layer, 0.5)
    for value in (0.0, 1.0):
        torch.nn.init.constant_(layer.weight, value)
        average.update()
    kept = average.values["weight"].clone()
    assert 0 < float(kept[0, 0]) < 1
    with average.applied():
        assert torch.equal(layer.weight, kept)
    with contextlib.suppress(KeyError), average.applied():
        raise KeyError
    assert torch.equal(layer.weight, torch.ones(1, 2))


def test_an_agent_that_is_loaded_for_evaluation_has_the_average_and_one_that_resumes_its_weights():
    agent = averaging()
    for seed in range(3):
        agent.update(make_batch(seed=seed))
    state = agent.training_state()
    resumed, evaluated = averaging(), averaging()
    resumed.load_training_state(state)
    evaluated.load_training_state(state, optimisers=False)
    for name, weight in agent.named_parameters():
        assert torch.equal(weight, dict(resumed.named_parameters())[name])
        assert torch.equal(agent.average.values[name], dict(evaluated.named_parameters())[name])
    moved = [
        name
        for name, weight in agent.named_parameters()
        if not torch.equal(weight, agent.average.values[name])
    ]
    assert len(moved) > 10
    for one in (agent, resumed):
        torch.manual_seed(5)
        one.update(make_batch(seed=9))
    for name, value in agent.average.values.items():
        assert torch.equal(value, resumed.average.values[name])


def test_an_average_of_another_agent_is_refused():
    agent = averaging()
    agent.update(make_batch())
    state = agent.training_state()
    state["average"]["values"].popitem()
    with pytest.raises(ValueError, match="averaged weights"):
        averaging().load_training_state(state)
