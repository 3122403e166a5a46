"""Test the estimators of the actor's gradient against autograd, and what both together gain."""

import pytest
import torch

from foreground.agents import estimators
from foreground.agents.estimators import ESTIMATORS, path_gradient, path_share, score_gradient
from foreground.agents.policy import Policy
from foreground.agents.returns import lambda_returns
from tests.support.points import Point, learn, make, scaled, start, towards


def test_the_slope_of_the_score_is_that_of_autograd():
    torch.manual_seed(0)
    mean, std = torch.randn(3, 5, 2, requires_grad=True), torch.rand(3, 5, 2).add(0.2)
    policy = Policy(mean, std.requires_grad_())
    action, advantage = torch.randn(3, 5, 2), torch.randn(3, 5)
    total = (advantage * policy.log_prob(action)).sum()
    wanted = torch.cat(torch.autograd.grad(total, [mean, std]), -1)
    torch.testing.assert_close(score_gradient(policy, action, advantage), wanted)


def gradient(way: str, monkeypatch, share=None, weight=None, **fields) -> torch.Tensor:
    """The actor's gradient on one batch of rollouts, flat.

    share    of the path in the gradient of both; none: by the moments
    weight   (64,), of the rollouts
    """
    if share is not None:
        monkeypatch.setattr(estimators, "path_share", lambda *_: torch.full((1, 1, 2), share))
    agent = make(actor_grad=way, return_norm_min=1e-3, **fields)
    with torch.no_grad():
        agent.actor.network[-1].weight.normal_()
    torch.manual_seed(1)
    losses, _ = agent.loss(Point(), start(), {"task": towards(0.3)}, weight=weight)
    slopes = torch.autograd.grad(losses["actor"], list(agent.actor.parameters()))
    return torch.cat([slope.flatten() for slope in slopes])


@pytest.mark.parametrize("feedback", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("share", "alone"), [(1.0, "dynamics"), (0.0, "reinforce")])
def test_both_with_all_weight_on_one_is_that_one(share, alone, feedback, monkeypatch):
    fields = {"policy_input_grad": feedback, "entropy_coef": 0.02}
    both = gradient("both", monkeypatch, share, **fields)
    torch.testing.assert_close(both, gradient(alone, monkeypatch, **fields), rtol=1e-4, atol=1e-6)


STEPS, DISCOUNT, TRACE = 4, 0.9, 0.7


def rollouts(number: int) -> tuple[torch.Tensor, torch.Tensor, list[Policy]]:
    """Actions (H, N, 1), their lambda-returns (H, N) and policies of a world where each action
    changes what the later ones are worth.
    """
    torch.manual_seed(0)
    state, actions, rewards, values, policies = torch.zeros(number, 1), [], [], [], []
    for step in range(STEPS):
        mean, std = torch.full((number, 1), 0.2 * step - 0.3), torch.full((number, 1), 0.3)
        policies.append(Policy(mean.requires_grad_(), std.requires_grad_()))
        actions.append(policies[-1].sample())
        state = torch.sin(state + 2 * actions[-1]) + 0.5 * state
        rewards.append((state * actions[-1]).squeeze(-1))
        values.append(state.square().squeeze(-1))
    returns = lambda_returns(torch.stack(rewards), DISCOUNT, torch.stack(values), TRACE)
    return torch.stack(actions).detach(), returns, policies


def test_the_path_counts_an_action_in_every_return():
    """The slow reference: a backward pass for each return."""
    _, returns, policies = rollouts(5)
    outputs = [output for policy in policies for output in policy]
    wanted = sum(
        torch.stack(
            torch.autograd.grad(row.sum(), outputs, retain_graph=True, materialize_grads=True)
        )
        for row in returns
    )  # (2H, N, 1), mean and deviation by turns
    found = path_gradient(returns, policies)
    torch.testing.assert_close(found, torch.cat([wanted[::2], wanted[1::2]], -1))


def test_of_the_last_action_path_and_score_estimate_multiples_of_one_slope():
    """It counts in the returns of the states before it with powers of discount x lambda."""
    action, returns, policies = rollouts(400_000)
    policy = Policy(*(torch.stack(column).detach() for column in zip(*policies)))
    score = score_gradient(policy, action, (returns - returns.mean(1, keepdim=True)).detach())
    path = path_gradient(returns, policies)
    factor = sum((DISCOUNT * TRACE) ** step for step in range(STEPS))
    last = path[-1].mean(0)
    assert float(last.abs().min()) > 0.1
    torch.testing.assert_close(last, factor * score[-1].mean(0), atol=0.05, rtol=0.0)


def test_the_gradient_is_linear_in_the_weights_of_the_rollouts(monkeypatch):
    half = torch.arange(64).lt(32).float()
    fields = {"share": 0.5, "entropy_coef": 0.02}
    one, other, whole = (
        gradient("both", monkeypatch, weight=weight, **fields)
        for weight in (half, 1 - half, torch.ones(64))
    )
    assert float(one.norm()) > 0.1 * float(whole.norm())
    torch.testing.assert_close(one + other, whole, rtol=1e-4, atol=1e-6)
    assert not gradient("both", monkeypatch, weight=torch.zeros(64), **fields).any()


def test_the_weights_are_those_of_least_variance():
    """Two noisy measurements of a small slope, of deviations 1 and 3: by the moments the path has
    0.9, and the sum of both varies less than either.
    """
    torch.manual_seed(0)
    path, score = 0.05 + torch.randn(1, 200_000, 2), 0.05 + 3 * torch.randn(1, 200_000, 2)
    share = path_share(path, score)
    assert share.shape == (1, 1, 2)
    torch.testing.assert_close(share, torch.full((1, 1, 2), 0.9), atol=0.01, rtol=0)
    both = torch.lerp(score, path, share)
    assert float(both.var()) == pytest.approx(0.9, abs=0.02)  # 1 / (1 + 1 / 9)
    assert float(both.mean()) == pytest.approx(0.05, abs=0.01)
    assert float(path_share(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2)).max()) == 0.0


def test_a_slope_that_explodes_loses_its_weight():
    torch.manual_seed(0)
    path, score = torch.randn(2, 64, 2), torch.randn(2, 64, 2)
    path[1, 7] = 1e6
    share = path_share(path, score).squeeze(1)
    assert share[0].min() > 0.3
    assert share[1].max() < 1e-6


@pytest.mark.parametrize("way", sorted(ESTIMATORS))
def test_every_estimator_learns_where_the_reward_is(way):
    policy = learn(make(actor_grad=way), {"task": scaled(towards(0.5), 10.0)}, updates=200)
    assert float(policy.sample().clamp(-1, 1).mean()) == pytest.approx(0.5, abs=0.2)


class Chaos(Point):
    """A world whose first coordinate is the action plus a fast wave of it: its slope is noise."""

    def imagine(self, state, action):
        following = super().imagine(state, action)
        wave = 0.05 * torch.sin(400 * following.deterministic)
        return following._replace(deterministic=following.deterministic + wave)


def test_where_the_path_is_chaotic_the_score_leads():
    shares = {}
    for world in (Point(), Chaos()):
        agent = make(actor_grad="both", return_norm_min=0.1)
        learn(agent, {"task": towards(0.3)}, updates=30)
        _, metrics = agent.loss(world, start(256), {"task": towards(0.3)})
        shares[type(world)] = float(metrics["path_share"])
    assert shares[Chaos] < 0.3 < 0.5 < shares[Point]
