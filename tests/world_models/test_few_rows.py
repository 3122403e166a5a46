"""Test which estimates are bounds where a block has few rows: of a die, over all draws."""

import math

import pytest
import torch
from torch.nn import functional

from foreground.world_models.information import CosineCritic, cmim, mi_alpha, nce, nwj


def draws(sides: int, number: int) -> torch.Tensor:
    """All draws (sides^N, N)."""
    return torch.cartesian_prod(*[torch.arange(sides)] * number)


def of_a_die(bound, sides: int, number: int) -> float:
    """Expectation over all draws where right is left: an even die of ln(sides) nats."""
    rows = draws(sides, number)
    scores = torch.where(rows[:, :, None] == rows[:, None], 19.0, -30.0)
    return float(bound(scores).mean())


@pytest.mark.parametrize(("sides", "number", "alpha"), [(2, 2, 0.5), (4, 4, 0.5), (8, 4, 0.5)])
def test_mi_alpha_exceeds_the_information_by_at_most_1_over_alpha_n(sides, number, alpha):
    """NCE and cMIM are at most the information."""
    truth = math.log(sides)
    value = of_a_die(lambda scores: mi_alpha(scores, alpha), sides, number)
    assert truth < value < truth + 1 / (alpha * number)
    for bound in (nce, cmim):
        assert 0 < of_a_die(bound, sides, number) < truth


def test_two_rows_of_a_coin():
    """With one negative cMIM is NCE. Half of the draws tell the rows apart."""
    assert of_a_die(cmim, 2, 2) == pytest.approx(math.log(2) / 2)
    assert of_a_die(nce, 2, 2) == pytest.approx(math.log(2) / 2)
    # alpha 0.5: 1 + ln 4 where the rows differ, 1 + ln 2 - 2 where they are alike
    value = of_a_die(lambda scores: mi_alpha(scores, 0.5), 2, 2)
    assert value == pytest.approx(1.5 * math.log(2), abs=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("number", "is_bound"), [(2, False), (3, True), (6, True)])
def test_centred_cosines_of_three_rows_and_more_give_bounds(number, is_bound):
    """By the best offset. Two rows that are alike are zero when centred: the critic abstains."""
    sides = 4
    critic = CosineCritic(sides, sides, sides, 0.1)
    for projection in (critic.left, critic.right):
        projection.weight.copy_(torch.eye(sides))
    rows = functional.one_hot(draws(sides, number), sides).float()
    scores = critic(rows, rows)
    best = max(float(nwj(scores + offset).mean()) for offset in torch.linspace(-15, 3, 73))
    assert (best < math.log(sides)) == is_bound
    assert 0.4 < float(cmim(scores).mean()) <= float(nce(scores).mean()) < math.log(sides)
