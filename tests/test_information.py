"""Bounds on mutual information against values that are known."""

import math

import pytest
import torch

from world_models.information import Critic, nce, nwj


def exact_scores(dimension: int, information: float, number: int, shift: float = 0.0) -> torch.Tensor:
    """Log density ratio of correlated Gaussians for all pairs (N, N), plus a constant."""
    rho = math.sqrt(1 - math.exp(-2 * information / dimension))
    x = torch.randn(number, dimension, dtype=torch.float64)
    y = rho * x + math.sqrt(1 - rho**2) * torch.randn(number, dimension, dtype=torch.float64)
    left, right = x[:, None], y[None]
    ratio = (2 * rho * left * right - rho**2 * (left**2 + right**2)) / (2 * (1 - rho**2)) - math.log(1 - rho**2) / 2
    return ratio.sum(-1) + shift


def mean_of(bound, *arguments, draws: int = 60, shift: float = 0.0) -> float:
    torch.manual_seed(0)
    return float(torch.stack([bound(exact_scores(*arguments, shift)).mean() for _ in range(draws)]).mean())


@pytest.mark.parametrize(("number", "information", "expected"), [(50, 2, 1.778), (128, 2, 1.887), (128, 6, 4.208)])
def test_nce_of_the_exact_critic(number, information, expected):
    assert mean_of(nce, 20, information, number) == pytest.approx(expected, abs=0.04)


def test_nwj_of_the_exact_critic_is_the_information():
    assert mean_of(nwj, 20, 1.0, 512, shift=1.0) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("number", [8, 512])
def test_nce_never_exceeds_ln_n(number):
    scores = 1000 * torch.eye(number)
    assert float(nce(scores).max()) == pytest.approx(math.log(number), rel=1e-6)


def test_independence_gives_zero():
    constant = torch.full((64, 64), 3.7)
    assert float(nce(constant).mean()) == pytest.approx(0, abs=1e-6)
    assert float(nwj(torch.ones(64, 64)).mean()) == pytest.approx(0, abs=1e-6)


def test_nwj_does_not_overflow():
    value = nwj(torch.full((16, 16), 1e6, dtype=torch.bfloat16, requires_grad=True))
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()


def test_nwj_leaves_the_joint_pair_out_of_the_marginal():
    scores = torch.zeros(4, 4).fill_diagonal_(15.0)
    assert float(nwj(scores).mean()) == pytest.approx(15 - math.exp(-1), rel=1e-5)


def test_batched_scores_are_rows_of_their_own():
    scores = torch.randn(3, 5, 5)
    assert torch.allclose(nce(scores)[1], nce(scores[1]))
    assert torch.allclose(nwj(scores)[1], nwj(scores[1]))


def test_critic_stays_float32_under_autocast():
    critic = Critic(6, 4, 8, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert critic(torch.randn(5, 6), torch.randn(5, 4)).dtype == torch.float32


def test_a_trained_critic_comes_close_to_the_truth_and_not_above():
    torch.manual_seed(1)
    critic = torch.nn.Bilinear(4, 4, 1)
    adam = torch.optim.Adam(critic.parameters(), 0.01)
    rho, number = math.sqrt(1 - math.exp(-0.5)), 256  # I = 1 nat over 4 dimensions

    def estimate() -> torch.Tensor:
        x = torch.randn(number, 4)
        y = rho * x + math.sqrt(1 - rho**2) * torch.randn(number, 4)
        return nce(x @ critic.weight[0] @ y.T).mean()

    for _ in range(300):
        adam.zero_grad()
        (-estimate()).backward()
        adam.step()
    with torch.no_grad():
        found = torch.stack([estimate() for _ in range(50)]).mean()
    assert 0.5 < float(found) < 1.02
