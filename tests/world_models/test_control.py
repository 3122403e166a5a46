"""Test the term `control`: what two successive images show of the action between them."""

import pytest
import torch

from foreground.agents.optimiser import descend
from foreground.world_models.terms import TrainSequence
from tests.support.small import make_agent, make_batch, moving_square

TERMS = {"control": 1.0, "predictability": 1.0, "reward": 1.0}


def value_of(model, batch) -> torch.Tensor:
    """Return the term's value on a batch: scalar, in nats."""
    embedding, states = model.observe(batch)
    seen = batch["image"], batch["action"], batch["reward"], batch["is_first"]
    return model.terms["control"](TrainSequence(*seen, embedding, states))[0]


def trained_value(shuffled: bool) -> float:
    """Return the value on a fresh batch after 150 updates on squares that the actions move."""
    agent = make_agent(TERMS, ())
    optimisers = {"world_model": agent.optimisers["world_model"]}
    for seed in range(151):
        batch = moving_square(seed=seed)
        if shuffled:
            order = torch.randperm(
                len(batch["image"]), generator=torch.Generator().manual_seed(seed)
            )
            batch["image"] = batch["image"][order]
        value = value_of(agent.world_model, batch)
        if seed < 150:
            descend(optimisers, {"world_model": -value})
    return float(value.detach())


@pytest.mark.slow
def test_images_tell_the_action_and_nothing_else_does():
    assert trained_value(shuffled=False) > 0.5
    assert trained_value(shuffled=True) < 0.05


def test_it_shapes_the_encoder_and_no_part_of_the_recurrent_model():
    model = make_agent(TERMS, ()).world_model
    value = value_of(model, make_batch())
    parts = [*model.encoder.parameters()], [*model.rssm.parameters()]
    encoder, recurrent = (
        torch.autograd.grad(value, part, allow_unused=True, retain_graph=True) for part in parts
    )
    assert all(gradient is not None and gradient.any() for gradient in encoder)
    assert all(gradient is None for gradient in recurrent)


def test_steps_that_start_an_episode_weigh_nothing():
    model, batch = make_agent(TERMS, ()).world_model, make_batch()
    before = value_of(model, batch)
    batch["action"][batch["is_first"]] = 0.9
    assert torch.equal(value_of(model, batch), before)
