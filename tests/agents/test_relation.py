"""Test the relation: z acts through it only; exact and sampled information with the action."""

import math

import numpy as np
import pytest
import torch

from foreground.agents.actor_critic import Actor
from foreground.agents.relation import ModeChoice, conditional_information, sampled_information
from foreground.world_models.distributions import clipped_normal_log_prob
from tests.support.latent import inputs, make_agent, states

# -------------------------------------------------------------------------------------- information


def log_probs(mean: torch.Tensor, std: float, draws: int) -> torch.Tensor:
    """(draws, K, K) of Gaussian modes with means (K, A)."""
    torch.manual_seed(0)
    action = mean + std * torch.randn(draws, *mean.shape)
    return clipped_normal_log_prob(
        action.unsqueeze(2), mean.expand(draws, 1, *mean.shape), torch.full(mean.shape, std)
    )


def truth_of(mean: list[float], std: float, share: list[float]) -> float:
    """I(mode; action) of Gaussian modes on a line, by quadrature."""
    x = np.linspace(-60, 60, 400_001)
    density = np.stack(
        [np.exp(-0.5 * ((x - m) / std) ** 2) / (std * math.sqrt(2 * math.pi)) for m in mean]
    )
    mixture = np.array(share) @ density
    inner = np.where(density > 1e-300, density * np.log((density + 1e-300) / (mixture + 1e-300)), 0)
    return float(np.array(share) @ np.trapezoid(inner, x, axis=1))


@pytest.mark.parametrize(
    ("distance", "share"),
    [(0.1, (0.2,) * 5), (0.3, (0.2,) * 5), (2.0, (0.2,) * 5), (0.3, (0.6, 0.1, 0.1, 0.1, 0.1))],
)
def test_the_exact_information_is_the_truth_to_a_hundredth(distance, share):
    mean = [distance * 0.1 * (k - 2) for k in range(5)]
    truth = truth_of(mean, 0.03, list(share))
    log_prob = log_probs(torch.tensor(mean)[:, None], 0.03, 40_000)
    found = conditional_information(log_prob, torch.tensor(share).log().expand(40_000, -1)).mean()
    assert float(found) == pytest.approx(truth, rel=0.01)


def test_what_the_sampled_estimate_says_too_much():
    """Five modes that can nearly always be identified: the exact value is ln 5; the sampled
    estimate is far above.
    """
    log_prob = log_probs(torch.tensor([-0.6, -0.3, 0.0, 0.3, 0.6])[:, None], 0.1, 20_000)
    log_modes = torch.full((20_000, 5), -math.log(5))
    exact = float(conditional_information(log_prob, log_modes).mean())
    sampled = float(sampled_information(log_prob, log_modes, alternatives=5).mean())
    assert 0.8 * math.log(5) < exact <= math.log(5)
    assert sampled > exact + 0.5
    assert sampled > math.log(5)


def test_information_is_zero_for_equal_modes_and_all_of_the_modes_for_others():
    log_modes = torch.tensor([0.7, 0.3]).log().expand(5000, -1)
    for distance, entropy in ((0.0, 0.0), (1.2, -(0.7 * math.log(0.7) + 0.3 * math.log(0.3)))):
        log_prob = log_probs(torch.tensor([-distance / 2, distance / 2])[:, None], 0.05, 5000)
        assert float(conditional_information(log_prob, log_modes).mean()) == pytest.approx(
            entropy, abs=1e-3
        )


def test_the_gradient_of_the_information_parts_modes_only_through_the_actions():
    """A detached action has almost none of it (the trap of the method's estimator)."""
    gradients = []
    for keep in (True, False):
        mean = torch.tensor([[-0.05], [0.05]], requires_grad=True)
        torch.manual_seed(0)
        action = mean + 0.1 * torch.randn(20_000, 2, 1)
        action = action if keep else action.detach()
        log_prob = clipped_normal_log_prob(
            action.unsqueeze(2), mean.expand(20_000, 1, 2, 1), torch.tensor(0.1)
        )
        conditional_information(log_prob, torch.full((20_000, 2), -math.log(2))).mean().backward()
        gradients.append(float(mean.grad[1] - mean.grad[0]))
    assert gradients[0] > 1
    assert abs(gradients[1]) < 0.1 * gradients[0]


# ----------------------------------------------------------------------------------------- relation


def test_the_policy_sees_the_mode_through_the_relation_alone():
    agent = make_agent()
    feature = states(agent)
    first, second = (agent.actor(inputs(agent, feature, mode)).mean for mode in (0, 1))
    assert not torch.allclose(first, second)
    with torch.no_grad():  # one head for all
        agent.actor.relation.place.zero_()
        agent.actor.relation.query.weight.zero_()
    first, second = (agent.actor(inputs(agent, feature, mode)).mean for mode in (0, 1))
    assert torch.equal(first, second)


def test_a_relation_without_preference_is_the_plain_actor():
    agent = make_agent()
    with torch.no_grad():
        agent.actor.relation.place.zero_()
        agent.actor.relation.query.weight.zero_()
    feature = states(agent)
    plain = Actor(agent.config.actor_critic, feature.shape[1], 2)
    plain.load_state_dict(agent.actor.policy.state_dict())
    torch.testing.assert_close(agent.actor(inputs(agent, feature, 2)), plain(feature))


@pytest.mark.parametrize("sees", [False, True])
def test_only_the_baseline_sees_the_game(sees):
    agent = make_agent(modes=1, sees_game=sees)
    one, other = (agent.actor(inputs(agent, states(agent), 0, game)).mean for game in (-1.0, 1.0))
    assert torch.equal(one, other) != sees


def test_every_mode_at_once_is_each_alone():
    agent, feature = make_agent(), None
    feature = states(agent)
    rows, policy = agent.actor.every(feature, torch.zeros(len(feature), 1))
    torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:2]))
    for mode in range(3):
        alone = agent.actor(inputs(agent, feature, mode))
        torch.testing.assert_close(policy.mean[:, mode], alone.mean)
        torch.testing.assert_close(policy.std[:, mode], alone.std)


def test_modes_are_chosen_by_how_large_a_descriptor_is():
    """Games along one direction, as speeds are: each can have its own mode."""
    torch.manual_seed(0)
    choice, games = ModeChoice(1, 16, 3), torch.tensor([[0.0], [0.3], [1.0]])
    adam = torch.optim.Adam(choice.parameters(), 1e-2)
    for _ in range(300):
        loss = -choice(games).diagonal().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert choice(games).argmax(-1).tolist() == [0, 1, 2]
    assert (choice(games).diagonal().exp() > 0.8).all()
