"""The optimiser: rates rise as told, and go on where they were."""

import pytest
import torch

from agents.optimiser import Optimiser, descend


def make(warmup: int, rate: float = 0.1) -> tuple[torch.nn.Parameter, Optimiser]:
    weight = torch.nn.Parameter(torch.zeros(1))
    return weight, Optimiser("toy", [weight], rate, 100.0, 1e-8, warmup)


def moves(weight: torch.nn.Parameter, optimiser: Optimiser, steps: int) -> list[float]:
    """How far each step of a constant gradient goes: with Adam, its rate."""
    rows = []
    for _ in range(steps):
        before = weight.item()
        descend({"toy": optimiser}, {"toy": weight.sum()})
        rows.append(before - weight.item())
    return rows


def test_the_rate_rises_over_the_warm_up_and_stays():
    assert moves(*make(4), 6) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1], rel=1e-4)
    assert moves(*make(0), 2) == pytest.approx([0.1, 0.1], rel=1e-4)


def test_a_resumed_warm_up_goes_on():
    weight, optimiser = make(4)
    moves(weight, optimiser, 2)
    other, resumed = make(4)
    other.data.copy_(weight.data)
    resumed.load_state_dict(optimiser.state_dict())
    assert moves(other, resumed, 3) == pytest.approx(moves(weight, optimiser, 3), rel=1e-5)
