"""Test the optimiser: warm-up of learning rates, and resume."""

import pytest
import torch

from foreground.agents.optimiser import Divergence, Optimiser, descend
from foreground.training import checkpoint
from tests.support.small import DREAMER, INFOPOWER, make_agent, make_batch


def make(
    warmup: int, rate: float = 0.1, decay_after: int = 0
) -> tuple[torch.nn.Parameter, Optimiser]:
    weight = torch.nn.Parameter(torch.zeros(1))
    return weight, Optimiser("toy", [weight], rate, 100.0, 1e-8, warmup, decay_after)


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


def test_the_rate_falls_with_the_square_root_of_the_updates():
    expected = [0.05, 0.1, 0.1, 0.1, 0.1 * (4 / 5) ** 0.5, 0.1 * (4 / 6) ** 0.5]
    assert moves(*make(2, decay_after=4), 6) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["infopower", "dreamer"])
def test_a_step_is_that_of_the_slow_adam(name):
    """Whatever the memory of a gradient: fused Adam pairs it with its weight by place, and a
    convolution's may differ.
    """
    terms, constraint = (
        (INFOPOWER, ("reward", "empowerment")) if name == "infopower" else (DREAMER, ())
    )
    agent = make_agent(terms, constraint)
    optimiser = agent.optimisers["world_model"]
    slow = [
        parameter.detach().clone().contiguous().requires_grad_()
        for parameter in optimiser.parameters
    ]
    adam = torch.optim.Adam(slow, lr=optimiser.rate, eps=1e-8, fused=False, foreach=False)
    layouts = set()
    for seed in range(2):
        loss = {"world_model": agent.world_model.loss(make_batch(seed=seed))[0]["world_model"]}
        raw = torch.autograd.grad(
            loss["world_model"], optimiser.parameters, retain_graph=True, allow_unused=True
        )
        norm = torch.nn.utils.get_total_norm([gradient for gradient in raw if gradient is not None])
        for weight, gradient, own in zip(slow, raw, optimiser.parameters):
            layouts.add(gradient is None or gradient.stride() == own.stride())
            weight.grad = (
                None
                if gradient is None
                else (gradient * (optimiser.clip / (norm + 1e-6)).clamp(max=1)).contiguous()
            )
        adam.step()
        descend(agent.optimisers, loss)
    for index, (ours, theirs) in enumerate(zip(optimiser.parameters, slow)):
        assert torch.allclose(ours, theirs, atol=1e-5), index
    assert layouts == {True, False}  # else nothing is tried here


def test_a_resumed_warm_up_goes_on():
    weight, optimiser = make(4)
    moves(weight, optimiser, 2)
    other, resumed = make(4)
    other.data.copy_(weight.data)
    resumed.load_state_dict(optimiser.state_dict())
    assert moves(other, resumed, 3) == pytest.approx(moves(weight, optimiser, 3), rel=1e-5)


def test_moments_come_back_to_the_weights_that_they_are_of(tmp_path):
    """Through a file, where arrays are in the order of their indices: a weight that is channels
    last has moments so.
    """
    torch.manual_seed(0)
    start = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    gradients = torch.randn(6, 4, 3, 2, 2)

    def made():
        weight = torch.nn.Parameter(start.clone(memory_format=torch.preserve_format))
        return weight, Optimiser("toy", [weight], 0.1, 1e6, 1e-8)

    def moved(weight, optimiser, rows):
        for row in rows:
            descend({"toy": optimiser}, {"toy": (weight * row).sum()})
        return weight.detach().clone()

    weight, optimiser = made()
    moved(weight, optimiser, gradients[:3])
    path = checkpoint.save(
        tmp_path, 1, {"optimiser": optimiser.state_dict(), "weight": weight.detach()}
    )
    saved = checkpoint.load(path)
    other, resumed = made()
    resumed.load_state_dict(saved["optimiser"])
    other.data.copy_(saved["weight"])
    assert torch.equal(
        moved(weight, optimiser, gradients[3:]), moved(other, resumed, gradients[3:])
    )


@pytest.mark.parametrize("name", ["step", "exp_avg", "exp_avg_sq", "of another weight", "missing"])
def test_moments_of_other_weights_are_refused(name):
    """Fused Adam does not look at their sizes: it would write beyond them."""
    weight, optimiser = make(0)
    moves(weight, optimiser, 2)
    state = optimiser.state_dict()
    kept = state["adam"]["state"]
    if name == "of another weight":
        kept[1] = kept[0]
    elif name == "missing":
        del kept[0]["exp_avg"]
    else:
        kept[0] = kept[0] | {name: torch.zeros(5)}
    with pytest.raises(ValueError, match="the moments of toy"):
        make(0)[1].load_state_dict(state)


def test_a_weight_that_is_not_finite_stops_its_module():
    weight = torch.nn.Parameter(torch.tensor([1.0, -float("inf")]))
    optimiser = Optimiser("toy", [weight], 0.1, 1.0, 1e-8)
    with pytest.raises(Divergence, match="the norm of the weights of toy"):
        descend({"toy": optimiser}, {"toy": weight[0] * 2})
    assert weight.tolist()[0] == 1.0
