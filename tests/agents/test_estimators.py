"""Test the estimators of the actor's gradient against autograd, and what both together gain."""

from types import SimpleNamespace

import pytest
import torch

from foreground.agents import estimators
from foreground.agents.estimators import OwnReturn, path_gradient, path_share, score_gradient
from foreground.agents.policy import Policy
from foreground.agents.returns import lambda_returns
from foreground.errors import UserError
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


def rollouts(number: int, going=1.0) -> tuple[torch.Tensor, torch.Tensor, list[Policy]]:
    """Actions (H, N, 1), their lambda-returns (H, N) and policies of a world where each action
    changes what the later ones are worth.

    going   (H, N), the probability that the episode continues after each following state
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
    returns = lambda_returns(torch.stack(rewards), DISCOUNT * going, torch.stack(values), TRACE)
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


def own_slopes(returns: torch.Tensor, policies: list[Policy], decay: float) -> torch.Tensor:
    """The slopes of `OwnReturn` by the outputs of each step's policy, (H, N, 2)."""
    columns = [torch.stack(column).detach().requires_grad_() for column in zip(*policies)]
    rollout = SimpleNamespace(policies=policies)
    objective, _ = OwnReturn(decay)(rollout, Policy(*columns), returns, torch.zeros(()))
    assert objective.shape == returns.shape
    return torch.cat(torch.autograd.grad(objective.sum(), columns), -1)


def test_of_every_action_own_return_and_score_estimate_one_slope_up_to_a_constant():
    action, returns, policies = rollouts(400_000)
    policy = Policy(*(torch.stack(column).detach() for column in zip(*policies)))
    score = score_gradient(policy, action, (returns - returns.mean(1, keepdim=True)).detach())
    own = own_slopes(returns, policies, DISCOUNT * TRACE)
    factor = sum((DISCOUNT * TRACE) ** step for step in range(STEPS))
    assert float(own.mean(1).abs().amax(-1).min()) > 0.1
    torch.testing.assert_close(own.mean(1), factor * score.mean(1), atol=0.06, rtol=0.0)


def test_own_return_against_a_backward_pass_for_each_return():
    """Where the episode may end: an action counts as far as the episode reaches it."""
    torch.manual_seed(1)
    going = torch.rand(STEPS + 1, 5)
    _, returns, policies = rollouts(5, going[1:])
    alive = going.cumprod(0)[:-1]
    factor = sum((DISCOUNT * TRACE) ** step for step in range(STEPS))
    wanted = []
    for step, policy in enumerate(policies):
        total = (alive[step] * returns[step]).sum()
        slopes = torch.autograd.grad(total, [*policy], retain_graph=True)
        wanted.append(factor * torch.cat(slopes, -1))
    found = own_slopes(alive * returns, policies, DISCOUNT * TRACE)
    torch.testing.assert_close(found, torch.stack(wanted))


class EveryReturn:
    """The slow reference of `OwnReturn`: a backward pass for each return."""

    along_path = True

    def __init__(self, decay: float):
        self.decay = decay

    def __call__(self, rollout, policy, returns, advantage):
        slopes = [
            torch.cat(torch.autograd.grad(own.sum(), [*chosen], retain_graph=True), -1)
            for own, chosen in zip(returns, rollout.policies)
        ]
        factor = sum(self.decay**step for step in range(len(slopes)))
        return factor * (torch.stack(slopes) * torch.cat([*policy], -1)).sum(-1), {}


class Mortal(Point):
    """The further the coordinate is from 0, the likelier the episode ends."""

    def continuation(self, feature: torch.Tensor) -> torch.Tensor:
        return torch.exp(-feature[..., 0].square())


@pytest.mark.parametrize("world", [Point, Mortal])
@pytest.mark.parametrize("feedback", [0.0, 0.3, 1.0])
def test_own_return_in_whole_rollouts(world, feedback):
    """With two rewards, weights of the rollouts, an entropy and a policy that sees what it did."""
    fields = {"policy_input_grad": feedback, "entropy_coef": 0.02, "return_norm_min": 1e-3}
    rewards = {"task": towards(0.3), "other": scaled(towards(-0.8), 3.0)}
    found = []
    for slow in (False, True):
        agent = make(actor_grad="own_return", rewards={"task": 1.0, "other": 0.5}, **fields)
        with torch.no_grad():
            agent.actor.network[-1].weight.normal_()
        if slow:
            agent.estimator = EveryReturn(agent.config.discount * agent.config.lam)
        torch.manual_seed(1)
        weight = torch.rand(64)
        losses, _ = agent.loss(world(), start(), rewards, weight=weight)
        slopes = torch.autograd.grad(losses["actor"], list(agent.actor.parameters()))
        found.append(torch.cat([slope.flatten() for slope in slopes]))
    assert float(found[1].norm()) > 1e-3
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("lam", "horizon"), [(0.0, 4), (1e-4, 15), (0.95, 2000)])
def test_own_return_refuses_a_last_action_that_the_first_return_does_not_see(lam, horizon):
    with pytest.raises(UserError, match=r"actor_critic.lam.*choose --actor_critic.actor_grad"):
        make(actor_grad="own_return", lam=lam, horizon=horizon)
    make(actor_grad="dynamics", lam=lam, horizon=horizon)


@pytest.mark.parametrize("way", ["own_return", "both"])
def test_the_gradient_is_linear_in_the_weights_of_the_rollouts(way, monkeypatch):
    half = torch.arange(64).lt(32).float()
    fields = {"share": 0.5, "entropy_coef": 0.02}
    one, other, whole = (
        gradient(way, monkeypatch, weight=weight, **fields)
        for weight in (half, 1 - half, torch.ones(64))
    )
    assert float(one.norm()) > 0.1 * float(whole.norm())
    torch.testing.assert_close(one + other, whole, rtol=1e-4, atol=1e-6)
    assert not gradient(way, monkeypatch, weight=torch.zeros(64), **fields).any()


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


@pytest.mark.parametrize("way", ["reinforce", "dynamics", "own_return", "both"])
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
