"""Test the empowerment bonus: its two halves, what it reads, what its model learns."""

import torch

from foreground.agents.actor_critic import Imagined
from foreground.agents.rewards import make_rewards
from foreground.world_models.distributions import clipped_normal_log_prob
from foreground.world_models.rssm import State
from foreground.world_models.terms import TrainSequence
from tests.support.small import (
    make_agent,
    make_batch,
)


def imagined(action: torch.Tensor, log_prob: torch.Tensor, z: int = 16) -> Imagined:
    torch.manual_seed(0)
    state = State(torch.zeros(2, len(action), 32), torch.randn(2, len(action), z))
    return Imagined(state, state.feature, action[None], log_prob[None])


def test_trap_6_the_bonus_has_its_entropy_half():
    """bonus = log q(a|z,z') - log pi(a|z): a surer policy earns less, a readable action more."""
    agent = make_agent()
    reward = make_rewards(["empowerment"], agent.world_model)["empowerment"]
    inverse = agent.world_model.terms["empowerment"].inverse
    action = torch.rand(5, 2) * 2 - 1
    for log_prob in (torch.zeros(5), torch.ones(5)):
        row = imagined(action, log_prob)
        with torch.no_grad():
            expected = (
                inverse.log_prob(row.state.stochastic[0], row.state.stochastic[1], action)
                - log_prob
            )
            assert torch.allclose(reward(row)[0], expected, atol=1e-6)


def test_trap_1_the_bonus_reads_stochastic_states_only():
    agent = make_agent()
    reward = make_rewards(["empowerment"], agent.world_model)["empowerment"]
    row = imagined(torch.rand(5, 2), torch.zeros(5))
    moved = row._replace(state=row.state._replace(deterministic=torch.randn(2, 5, 32)))
    assert torch.equal(reward(row), reward(moved))


def test_trap_1_the_inverse_model_learns_on_prior_samples_without_touching_the_dynamics():
    """With the posterior detached, the term has a gradient for the inverse model only."""
    agent = make_agent(
        {"empowerment": 1.0, "reward": 1.0, "predictability": 1.0}, (), rewards={"task": 1.0}
    )
    model, batch = agent.world_model, make_batch()
    embedding, states = model.observe(batch)
    cut = states._replace(state=states.state.detach())
    rollout = TrainSequence(
        batch["image"], batch["action"], batch["reward"], batch["is_first"], embedding, cut
    )
    value, _ = model.terms["empowerment"](rollout)
    reached = torch.autograd.grad(
        value, list(model.rssm.parameters()), allow_unused=True, retain_graph=True
    )
    assert all(gradient is None for gradient in reached)
    # half of its samples are from the prior: without them the value differs
    without = model.terms["empowerment"](
        rollout._replace(states=cut._replace(prior=torch.zeros_like(states.prior)))
    )[0]
    parameters = list(model.terms["empowerment"].parameters())
    one, two = (torch.autograd.grad(v, parameters, retain_graph=True)[0] for v in (value, without))
    assert not torch.allclose(one, two)


def test_trap_6_a_policy_that_tells_nothing_earns_nothing():
    """The bonus is 0 if the model equals the clipped Gaussian policy, and below 0 otherwise."""
    torch.manual_seed(0)
    for mean, std in ((0.0, 0.3), (0.0, 1.0), (0.99, 1.0), (0.99, 0.3)):
        mean, std = torch.tensor([mean]), torch.tensor([std])
        action = (mean + std * torch.randn(200_000, 1)).clamp(-1, 1)
        own = clipped_normal_log_prob(action, mean, std)
        for other_mean, other_std in ((0.9, 0.1), (0.5, 0.7), (0.99, 0.3), (0.0, 1.0)):
            other = clipped_normal_log_prob(
                action, torch.tensor([other_mean]), torch.tensor([other_std])
            )
            assert float((other - own).mean()) < 0.01
