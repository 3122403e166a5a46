"""Test that each loss of an update compiles to one graph, as CUDA graphs require.

No tensor size and no branch depends on a value. Masked means replace selections; they are equal.
"""

import shutil
import sys
import sysconfig

import pytest
import torch

from foreground.agents.actor_critic import ActorCritic, ActorCriticConfig
from foreground.agents.agent import WorldModelAgent
from foreground.world_models import world_model as w
from foreground.world_models.distributions import clipped_normal_log_prob
from foreground.world_models.terms import EmpowermentTerm, TrainSequence
from foreground.world_models.world_model import Spaces, WorldModel
from tests.support.small import INFOPOWER, make_agent, make_batch, world_config


def whole(function):
    """Compiled with an error where the graph breaks."""
    torch.compiler.reset()
    return torch.compile(function, backend="aot_eager", fullgraph=True)


@pytest.mark.slow
@pytest.mark.parametrize("bound", ["nce", "wasserstein"])
def test_the_loss_of_the_world_model_is_one_graph(bound):
    contrastive = w.ContrastiveConfig(estimator=bound, projection=16)
    model = WorldModel(world_config(INFOPOWER, contrastive=contrastive), Spaces(32, 2))
    losses, *_ = whole(model.loss)(make_batch())
    losses["world_model"].backward()
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["dynamics", "reinforce"])
def test_the_loss_of_the_policy_is_one_graph(gradient):
    agent = make_agent()
    config = ActorCriticConfig(
        rewards={"task": 1.0, "empowerment": 0.1},
        units=32,
        layers=1,
        horizon=3,
        actor_grad=gradient,
    )
    policy = ActorCritic(config, agent.world_model.rssm.feature_size, 2)
    _, states, *_ = agent.world_model.loss(make_batch())
    start = states.state.detach().map(lambda x: x.flatten(0, 1))
    losses, _ = whole(policy.loss)(agent.world_model, start, agent.learners["imagination"].rewards)
    losses["actor"].backward()
    assert all(torch.isfinite(loss) for loss in losses.values())


def by_picking(term: EmpowermentTerm, rollout: TrainSequence) -> dict[str, torch.Tensor]:
    """The slow reference: select the valid steps and fit the Gaussian to them only."""
    valid = ~rollout.is_first[:, 1:]
    sampled = rollout.states.state.stochastic
    previous, following, action = (
        sampled[:, :-1][valid],
        sampled[:, 1:][valid],
        rollout.action[:, 1:][valid],
    )
    chance = clipped_normal_log_prob(
        action, action.mean(0), action.std(0, correction=0).clamp(min=1e-2)
    )
    imagined = term.sample_prior(rollout.states.prior[:, 1:][valid])
    error = (term.inverse(previous, following)[0] - action).square().mean() / action.var(0).mean()
    return {
        "value": (term.inverse.log_prob(previous, following, action) - chance).mean(),
        "on_prior": (term.inverse.log_prob(previous, imagined, action) - chance).mean(),
        "inverse_error": error,
    }


def rollout_of(model: WorldModel, first: float) -> TrainSequence:
    batch = make_batch()
    batch["is_first"] = torch.rand(4, 8, generator=torch.Generator().manual_seed(1)) < first
    # At the clip, where a tail stands for the density.
    batch["action"][0, 1:3] = torch.tensor([1.0, -1.0])
    embedding, states = model.observe(batch)
    return TrainSequence(
        batch["image"], batch["action"], batch["reward"], batch["is_first"], embedding, states
    )


@pytest.mark.parametrize("first", [0.0, 0.3, 0.8])
def test_steps_that_start_an_episode_weigh_nothing_in_the_empowerment(first):
    """Values and gradients are those of the valid steps alone, the fitted Gaussian's included."""
    model = make_agent().world_model
    term, rollout = model.terms["empowerment"], rollout_of(model, first)
    term.sample_prior = model.rssm.latent.mode  # no chance left
    value, metrics = term(rollout)
    slow = by_picking(term, rollout)
    for key, fast in {"value": value, **metrics}.items():
        assert torch.allclose(fast, slow[key], atol=1e-5), key
    weights = list(term.inverse.parameters())
    ours = torch.autograd.grad(value, weights, retain_graph=True)
    theirs = torch.autograd.grad(slow["value"] + slow["on_prior"], weights)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs))


def test_a_batch_without_a_valid_step_is_worth_nothing_and_stays_finite():
    model = make_agent().world_model
    value, metrics = model.terms["empowerment"](rollout_of(model, 1.1))
    assert value.item() == 0.0
    assert all(torch.isfinite(number) for number in metrics.values())


@pytest.mark.parametrize(
    ("compiler", "header", "expected"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
def test_compiling_asks_for_a_compiler_and_the_headers_of_python(
    monkeypatch, tmp_path, compiler, header, expected
):
    agent = make_agent()
    agent.device = torch.device("cuda")
    monkeypatch.setattr(shutil, "which", lambda name: sys.executable if compiler else None)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    if header:
        (tmp_path / "Python.h").touch()
    if expected:
        assert WorldModelAgent._compiles(agent, "auto", records=True)
        assert not WorldModelAgent._compiles(agent, "auto", records=False)
        return
    with pytest.warns(UserWarning, match="runs uncompiled"):
        assert not WorldModelAgent._compiles(agent, "auto", records=True)
