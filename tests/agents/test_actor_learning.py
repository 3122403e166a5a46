"""Test what the actor learns in a one-dimensional world: saturation, entropy, rewards."""

import math

import pytest
import torch

from foreground.agents.policy import Policy
from foreground.agents.regulariser import TargetDeviation
from tests.support.marks import mostly_slow, slow
from tests.support.points import constant, learn, make, scaled, start, towards


def linear(imagined) -> torch.Tensor:
    """The more of the action the better: the best policy is in the corner."""
    return 10 * imagined.following.deterministic[..., 0]


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics", "own_return"])
@pytest.mark.parametrize("reward", mostly_slow([constant, linear], [linear]))
@pytest.mark.parametrize("entropy", [0.0, 1.0])
def test_trap_11_the_deviation_stays_within_its_bounds_and_its_entropy_pulls_it_up(
    gradient, reward, entropy
):
    agent, rows = make(actor_grad=gradient, entropy_coef=entropy, min_std=0.2, max_std=0.9), []
    policy = learn(agent, {"task": reward}, 100, rows)
    assert 0.2 <= float(policy.std.min()) <= float(policy.std.max()) <= 0.9
    if entropy:
        assert rows[-1]["std"] > rows[0]["std"] + 0.1
        assert rows[-1]["entropy"] > rows[0]["entropy"]
    elif reward is linear:
        assert rows[-1]["std"] < 0.3  # what the weight works against


def test_trap_11_a_constant_reward_does_not_saturate_the_policy():
    """By the score function."""
    rows: list[dict] = []
    learn(make(actor_grad="reinforce"), {"task": constant}, 100, rows)
    assert max(row["saturation"] for row in rows) < 0.05
    assert rows[-1]["entropy"] > rows[0]["entropy"] - 0.05
    cornered: list[dict] = []
    learn(make(actor_grad="reinforce"), {"task": linear}, 100, cornered)
    assert cornered[-1]["saturation"] > 0.9  # and the metric does alarm


@pytest.mark.slow
@pytest.mark.parametrize(("squash", "ends"), [(0.0, (0.9, 1.0)), (1.0, (0.0, 0.1))])
def test_trap_11_a_corner_that_a_rising_critic_drove_into_is_left_again(squash, ends):
    """Along the path, at the weight of the `cpu` size: what pulls the mean back does not vanish
    where tanh is flat.
    """
    rows: list[dict] = []
    learn(
        make(actor_grad="dynamics", entropy_coef=3e-2, tanh_entropy_coef=squash),
        {"task": constant},
        300,
        rows,
    )
    assert max(row["saturation"] for row in rows) > 0.5
    assert ends[0] <= rows[-1]["saturation"] <= ends[1]


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_a_target_deviation_is_held_whatever_the_scale_of_the_rewards(factor):
    """The best action is in the corner; the clipped deviation stays at its target, and the mean
    where that leaves it.
    """
    rows: list[dict] = []
    fields = {"entropy_coef": 3e-2, "target_std": (0.5, 0.2), "target_std_updates": (600, 800)}
    learn(make(actor_grad="dynamics", **fields), {"task": scaled(linear, factor)}, 1600, rows)

    def mean(key: str, first: int, last: int) -> float:
        return sum(row[key] for row in rows[first:last]) / (last - first)

    assert mean("clipped_std", 300, 600) == pytest.approx(0.5, abs=0.1)
    assert mean("clipped_std", 1200, 1600) == pytest.approx(0.2, abs=0.05)
    assert rows[0]["target_std"] == pytest.approx(0.5)
    assert rows[700]["target_std"] == pytest.approx(math.sqrt(0.5 * 0.2), rel=0.01)  # geometric
    assert rows[-1]["target_std"] == pytest.approx(0.2)
    assert rows[-1]["mean_action"] > 0.6


def test_the_bonus_of_a_target_deviation():
    """The learned weight scales its first part alone."""
    policy = Policy(
        torch.tensor([[0.3, -0.9], [0.0, 0.99]]), torch.tensor([[0.5, 0.1], [0.9, 0.3]])
    )
    first = policy.clipped_std().log().sum(-1)
    second = (1 - policy.mean**2).log().sum(-1)
    for weight in (1e-3, 0.1):
        bonus, _ = TargetDeviation(weight, (0.4,), (0, 1))(policy)
        torch.testing.assert_close(bonus, weight * first + 0.003 * second)


def test_trap_11_entropy_alone_keeps_the_mean_in_the_middle():
    rows: list[dict] = []
    learn(
        make(actor_grad="dynamics", entropy_coef=3e-2),
        {"task": lambda imagined: 0 * constant(imagined)},
        150,
        rows,
    )
    assert rows[-1]["mean_action"] < 0.05


@pytest.mark.parametrize("before_tanh", [0.0, -1.0, 3.0, 6.0])
def test_what_tanh_leaves_of_the_entropy(before_tanh):
    """ln(1 - tanh(u)^2) = 2 (ln 2 - |u| - ln(1 + exp(-2 |u|))), its slope -2 tanh(u)."""
    u = torch.full((1, 1), before_tanh, requires_grad=True)
    room = Policy(torch.tanh(u), torch.ones(1, 1)).tanh_correction()
    exact = 2 * (math.log(2) - abs(before_tanh) - math.log1p(math.exp(-2 * abs(before_tanh))))
    assert float(room.detach()) == pytest.approx(exact, abs=0.1)
    (slope,) = torch.autograd.grad(room, u)
    assert float(slope) == pytest.approx(-2 * math.tanh(before_tanh), abs=0.1)


@pytest.mark.parametrize(
    ("gradient", "slow_rate"),
    [("reinforce", 1.0), slow(("reinforce", 0.1)), ("dynamics", 1.0), slow(("dynamics", 0.1))],
)
def test_learns_where_the_reward_is(gradient, slow_rate):
    """Seen from the clipped action: what the environment takes."""
    policy = learn(
        make(actor_grad=gradient, target_tau=slow_rate), {"task": scaled(towards(0.5), 10.0)}
    )
    assert float(policy.sample().clamp(-1, 1).mean()) == pytest.approx(0.5, abs=0.2)
    assert float(policy.std.mean()) < 0.5


def test_critic_learns_the_value():
    agent = make(discount=0.5)
    learn(agent, {"task": lambda imagined: torch.ones_like(imagined.log_prob)}, 300)
    _, value = agent.critics["task"](start().feature)
    assert float(value.mean()) == pytest.approx(2.0, rel=0.05)
