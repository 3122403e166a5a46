"""Numbers that the latent of the image must predict, and does not read (ITHP)."""

import math

import numpy as np
import pytest
import torch

import foreground
from foreground.agents.actor_critic import ActorCriticConfig
from foreground.agents.agent import WorldModelAgent
from foreground.agents.config import AgentConfig
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.world_models.world_model import Spaces, WorldModel
from tests.support.small import FIXED, make_batch, moving_square, world_config

TERMS = FIXED | {"detector": 1.0}


def model_of(**fields) -> WorldModel:
    torch.manual_seed(0)
    config = world_config(TERMS, ("detector",), proprioception="detector", **fields)
    return WorldModel(config, Spaces(32, 2, proprioception=3))


def test_the_value_of_a_head_that_predicts_zero():
    """- 1/2 sum symlog(x)^2 - 3/2 ln 2 pi."""
    model = model_of()
    for parameter in list(model.terms["detector"].parameters())[-2:]:
        parameter.data.zero_()
    batch = make_batch() | {"proprioception": torch.full((4, 8, 3), math.e - 1)}  # symlog 1
    value = model.loss(batch).values["detector"]
    assert float(value.detach()) == pytest.approx(-1.5 - 1.5 * math.log(2 * math.pi), abs=1e-5)


def test_the_latent_does_not_read_the_numbers():
    model, batch = model_of(), make_batch(numbers=3)
    other = batch | {"proprioception": batch["proprioception"] + 1}
    torch.manual_seed(2)
    one = model.observe(batch)
    torch.manual_seed(2)
    two = model.observe(other)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1].state.feature, two[1].state.feature)
    assert model.numbers == 0
    assert model.no_proprioception(2, "cpu") is None


def test_a_player_needs_none():
    agent = WorldModelAgent(
        AgentConfig(
            world_config(TERMS, ("detector",), proprioception="detector"),
            ActorCriticConfig(units=32, layers=1),
        ),
        Spaces(32, 2, proprioception=3),
    )
    action = foreground.Player(agent)(np.zeros((32, 32, 3), np.uint8))
    assert action.shape == (2,)


def test_only_the_stochastic_state_predicts_them_and_the_gradient_reaches_the_encoder():
    model, batch = model_of(), make_batch(numbers=3)
    model.loss(batch).values["detector"].backward()
    assert float(model.encoder.first.weight.grad.abs().sum()) > 0
    assert all(weight.grad is None for weight in model.rssm.recurrence.parameters())


@pytest.mark.slow
def test_it_reads_from_the_image_what_the_numbers_say():
    """The place of a square: explained after some updates, and not where images are shuffled."""
    shares = {}
    for name in ("true", "shuffled"):
        model = model_of()
        optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
        for step in range(150):
            batch = moving_square(batch=6, length=8, seed=step % 3, background=False)
            numbers = 100 * (batch["reward"] - 0.6)
            batch["proprioception"] = numbers.unsqueeze(-1).expand(-1, -1, 3)
            if name == "shuffled":
                batch["image"] = (
                    batch["image"].flatten(0, 1)[torch.randperm(48)].view(6, 8, 32, 32, 3)
                )
            optimiser.zero_grad()
            found = model.loss(batch)
            (-found.values["detector"]).backward()
            optimiser.step()
        metrics = found.metrics
        residual, variance = (float(metrics[f"detector/{key}"]) for key in ("residual", "variance"))
        shares[name] = 1 - residual / variance
    assert shares["true"] > 0.6
    assert shares["shuffled"] < 0.5 * shares["true"]


def test_the_term_needs_the_numbers():
    words = ["--agent", "infopower_ithp", "--environment.proprioception", "false"]
    with pytest.raises(UserError, match="none are observed"):
        runs.read(words, cuda=False)
