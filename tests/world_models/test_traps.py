"""Test known faults of learning a latent: code that looks right and is not."""

import math
from dataclasses import replace

import pytest
import torch

from foreground.agents.optimiser import descend
from foreground.world_models import world_model as w
from foreground.world_models.empowerment import EmpowermentConfig
from foreground.world_models.rssm import RSSMConfig
from foreground.world_models.world_model import Spaces, WorldModel
from tests.support.small import INFOPOWER, make_agent, make_batch, moving_square, world_config


def trained_inverse_error(shuffled: bool) -> float:
    """Error of the inverse model over the action variance after training on moving squares."""
    terms = {"empowerment": 1.0, "predictability": 0.1, "reward": 1.0}
    rssm = RSSMConfig(deterministic=32, hidden=64, groups=8, classes=8)
    agent = make_agent(terms, (), rewards={"task": 1.0}, seed=1, rssm=rssm, depth=8, embedding=64)
    data, errors = [moving_square(seed=seed, background=False) for seed in range(24)], []
    for step in range(120):
        batch = dict(data[step % 24])
        if shuffled:
            batch["image"] = batch["image"][:, torch.randperm(16)]
        losses, *_, metrics = agent.world_model.loss(batch)
        descend(agent.optimisers, losses)
        errors.append(metrics["empowerment/inverse_error"].detach())
    return float(torch.stack(errors[-20:]).mean())


@pytest.mark.slow
def test_trap_1_the_inverse_model_reads_the_image_and_nothing_else():
    """With the images shuffled it falls to chance; with them in order it does better: no action
    leaks.
    """
    assert trained_inverse_error(shuffled=False) < 0.6
    assert trained_inverse_error(shuffled=True) > 0.95


def test_trap_1_the_stochastic_state_holds_no_action():
    model = make_agent().world_model
    batch = make_batch()
    torch.manual_seed(3)
    before = model.observe(batch)[1]
    torch.manual_seed(3)
    after = model.observe(batch | {"action": -batch["action"]})[1]
    assert torch.equal(before.state.stochastic, after.state.stochastic)
    assert not torch.allclose(before.state.deterministic, after.state.deterministic)


def test_trap_2_no_density_is_unbounded():
    inverse = make_agent().world_model.terms["empowerment"].inverse
    with torch.no_grad():
        inverse.network[-1].bias.fill_(-1e6)  # the network asks for a deviation of zero
    z = torch.randn(100, 16)
    _, std = inverse(z, z)
    assert float(std.detach().min()) >= inverse.min_std


def test_trap_3_one_value_is_logged_for_every_term():
    agent = make_agent()
    metrics = agent.update(make_batch())
    for name in (
        "contrastive",
        "predictability",
        "reward",
        "empowerment",
        "multiplier",
        "constraint",
        "threshold",
    ):
        assert f"model/objective/{name}" in metrics


@pytest.mark.parametrize(
    ("negatives", "anchor"), [("batch", "posterior"), ("sequence", "posterior"), ("batch", "prior")]
)
def test_trap_4_negatives_and_targets_can_be_chosen(negatives, anchor):
    contrastive = w.ContrastiveConfig(projection=16, negatives=negatives, anchor=anchor)
    torch.manual_seed(0)
    model = WorldModel(world_config(contrastive=contrastive), Spaces(32, 2))
    batch = make_batch()
    _, _, values, _ = model.loss(batch)
    limit = math.log(8 if negatives == "sequence" else 32)
    assert values["contrastive"].item() <= limit + 1e-5
    rollout_state = model.terms["contrastive"].bound.critic.left.in_features
    assert rollout_state == (32 if anchor == "prior" else 48)


@pytest.mark.parametrize("bound", ["nce", "nwj", "wasserstein", "redundancy_reduction"])
@pytest.mark.parametrize("negatives", ["batch", "sequence"])
def test_every_bound_is_one_line_of_configuration(bound, negatives):
    agent = make_agent(
        contrastive=w.ContrastiveConfig(estimator=bound, negatives=negatives, projection=16)
    )
    before = agent.world_model.encoder.project.weight.clone()
    metrics = [agent.update(moving_square(4, 8, seed=index)) for index in range(8)]
    assert all(torch.isfinite(value).all() for row in metrics for value in row.values())
    assert not torch.equal(before, agent.world_model.encoder.project.weight)


@pytest.mark.parametrize("shapes", [True, False])
def test_the_inverse_model_shapes_the_representation_or_only_reads_it(shapes):
    empowerment = EmpowermentConfig(units=32, layers=1, train_representation=shapes)
    config = replace(world_config({"empowerment": 1.0}, ()), empowerment=empowerment)
    model = WorldModel(config, Spaces(32, 2))
    losses, *_ = model.loss(make_batch())
    losses["world_model"].backward()
    gradient = model.encoder.project.weight.grad
    assert (gradient is not None and bool(gradient.abs().sum() > 0)) == shapes
    assert float(model.terms["empowerment"].inverse.network[-1].weight.grad.abs().sum()) > 0


def test_trap_8_constraint_terms_are_float32_under_autocast():
    model = make_agent().world_model
    with torch.autocast("cpu", torch.bfloat16):
        losses, _, values, _ = model.loss(make_batch())
    assert losses["world_model"].dtype == torch.float32
    assert {value.dtype for value in values.values()} == {torch.float32}


def noise_with_a_patch(seed: int) -> dict[str, torch.Tensor]:
    """Images of noise; the reward is the brightness of a patch of 4x4 pixels of 32x32."""
    batch = make_batch(4, 8, seed=seed)
    batch["is_first"][:] = False
    batch["reward"] = torch.rand(4, 8, generator=torch.Generator().manual_seed(100 + seed))
    batch["image"][:, :, 8:12, 8:12] = (255 * batch["reward"]).to(torch.uint8)[
        ..., None, None, None
    ]
    return batch


@pytest.mark.slow
def test_trap_9_a_reward_of_a_small_patch_is_learned_under_noise():
    """With the weights of the presets; a few batches over and over.

    The picture is all noise but for a 64th.
    """
    agent = make_agent(INFOPOWER | {"reward": 20.0})
    batches, explained = [noise_with_a_patch(seed) for seed in range(4)], []
    for step in range(200):
        losses, _, values, metrics = agent.world_model.loss(batches[step % 4])
        descend(agent.optimisers, losses)
        agent.world_model.dual_step(values)
        explained.append(1 - (metrics["reward/residual"] / metrics["reward/variance"]).item())
    assert sum(explained[-4:]) / 4 > 0.5


@pytest.mark.slow
def test_trap_10_nothing_collapses_on_clean_pictures():
    """A black picture but for a square that moves: each alarm is off its trivial value, the second
    off the free nats.
    """
    agent = make_agent()
    batches = [moving_square(seed=seed, background=False) for seed in range(4)]
    for step in range(120):
        losses, _, values, metrics = agent.world_model.loss(batches[step % 4])
        descend(agent.optimisers, losses)
        agent.world_model.dual_step(values)
    assert values["contrastive"].item() > 1.0
    assert metrics["predictability/kl"].item() > agent.world_model.config.free_nats
    assert metrics["empowerment/inverse_error"].item() < 0.85
    assert metrics["reward/residual"] < 0.3 * metrics["reward/variance"]


def test_trap_10_trivial_values_stand_beside_what_they_alarm_of():
    metrics = make_agent().update(make_batch())
    expected = {
        "predictability/kl",
        "empowerment/inverse_error",
        "contrastive/accuracy",
        "reward/residual",
    }
    assert {f"model/{name}" for name in expected} <= set(metrics)
