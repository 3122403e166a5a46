"""Linear latent dynamics, and the von Neumann entropy of the latent's covariance."""

import math

import pytest
import torch

from foreground.errors import UserError
from foreground.world_models.rssm import LinearRecurrence, RSSMConfig
from foreground.world_models.terms import von_neumann_entropy
from tests.support.small import INFOPOWER, make_agent, make_batch


def cell(size: int = 8) -> LinearRecurrence:
    torch.manual_seed(0)
    return LinearRecurrence(RSSMConfig(deterministic=size, dynamics="linear"), 5, 1.0, 2)


def test_an_impulse_turns_and_decays_by_the_eigenvalues():
    """h_t = r^t (cos(t angle), sin(t angle)) of a mode that began with (1, 0)."""
    linear, eigenvalues = cell(), [(0.5, 0.3), (0.9, 1.0), (0.99, 0.0), (0.7, 3.0)]
    decays, angles = torch.tensor(eigenvalues).T
    linear.raw_decay.data, linear.angle.data = torch.log(-torch.log(decays)), angles
    drive = torch.zeros(6, 1, 8)
    drive[0, 0, :4] = 1.0
    states = linear.unroll(drive, torch.ones(6, 1, 1))[:, 0].detach()
    for t in range(6):
        for mode, (decay, angle) in enumerate(eigenvalues):
            expected = decay**t * math.cos(t * angle), decay**t * math.sin(t * angle)
            assert states[t, [mode, mode + 4]].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_response_to_a_sum_is_the_sum_of_the_responses():
    linear, keep = cell(), torch.ones(9, 3, 1)
    keep[4, 1] = 0
    one, other = torch.randn(2, 9, 3, 8)
    both = linear.unroll(one + 2 * other, keep)
    apart = linear.unroll(one, keep) + 2 * linear.unroll(other, keep)
    assert torch.allclose(both, apart, atol=1e-4)


def test_the_state_keeps_the_variance_of_its_input_for_a_thousand_steps():
    linear = cell(64)
    inputs = torch.randn(1000, 16, 64)
    gain = torch.sqrt(1 - linear.decay().square()).repeat(2)
    states = linear.unroll(inputs * gain, torch.ones(1000, 16, 1))[200:].detach()
    assert float(states.var()) == pytest.approx(1.0, abs=0.05)
    # What `input_projection` gives is scaled by that gain.
    sample, action = torch.randn(3, 5), torch.randn(3, 2)
    plain = linear.input(torch.cat([sample, action * linear.gain], -1))
    assert torch.allclose(linear.input_projection(sample, action), plain * gain)


def test_an_odd_number_has_no_pairs():
    with pytest.raises(UserError, match="pairs"):
        RSSMConfig(deterministic=9, dynamics="linear")


def test_the_entropy_of_known_covariances():
    even = torch.eye(6).repeat(50, 1) * 3
    even = torch.cat([even, -even])  # six directions alike
    assert float(von_neumann_entropy(even)) == pytest.approx(math.log(6), abs=1e-3)
    line = torch.linspace(-1, 1, 40)[:, None] * torch.tensor([[1.0, 2.0, -1.0]])
    assert float(von_neumann_entropy(line)) == pytest.approx(0.0, abs=1e-3)
    # Variances 3 and 1: shares 3/4 and 1/4.
    two = torch.tensor([[3**0.5, 0.0], [-(3**0.5), 0.0], [0.0, 1.0], [0.0, -1.0]])
    expected = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert float(von_neumann_entropy(two)) == pytest.approx(expected, abs=1e-4)
    wide = torch.cat([two, torch.zeros(4, 30)], 1) + 7.0  # fewer rows than columns, and a mean
    assert float(von_neumann_entropy(wide)) == pytest.approx(expected, abs=1e-3)


def test_the_term_opens_a_latent_that_has_collapsed():
    """Trained by itself, it fills more directions; its gradient reaches the encoder."""
    agent = make_agent(
        INFOPOWER | {"von_neumann": 1.0}, constraint=("predictability", "von_neumann")
    )
    model, batch = agent.world_model, make_batch()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    directions = []
    for _ in range(30):
        optimiser.zero_grad()
        _, _, values, metrics = model.loss(batch)
        (-values["von_neumann"]).backward()
        assert model.encoder.first.weight.grad is not None
        optimiser.step()
        directions.append(float(metrics["von_neumann/directions"]))
    assert directions[-1] > 1.3 * directions[0]
    assert not model.terms["von_neumann"].recordable
