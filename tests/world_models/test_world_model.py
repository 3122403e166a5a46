"""Test the world model: alignment, resets, gradients, and overfitting one batch."""

import math

import pytest
import torch
from torch.nn import functional as F

from foreground.agents.optimiser import descend
from foreground.errors import UserError
from foreground.world_models import world_model as w
from foreground.world_models.networks import (
    OPPONENT_COLOURS,
    BlockLinear,
    Encoder,
    FirstConvolution,
    image_to_float,
)
from foreground.world_models.rssm import RSSM, ObserveOutput, RSSMConfig
from foreground.world_models.terms import PredictabilityTerm, TrainSequence
from foreground.world_models.world_model import Spaces, WorldModel, WorldModelConfig
from tests.support.marks import slow
from tests.support.small import DREAMER, FIXED, make_agent, make_batch, moving_square, world_config

DIVERGENCES = ("kl", "cauchy_schwarz")


@pytest.fixture(params=[("image", "gated"), ("filtering", "gated"), ("image", "linear")])
def rssm(request) -> RSSM:
    torch.manual_seed(0)
    posterior, dynamics = request.param
    sizes = {"deterministic": 16, "hidden": 16, "blocks": 2, "groups": 3, "classes": 4}
    return RSSM(RSSMConfig(**sizes, posterior=posterior, dynamics=dynamics), 12, 2)


def test_the_unrolled_recurrence_is_the_cell_step_after_step():
    """Values and gradients equal those of the plain loop, with a reset within; gradcheck agrees."""
    torch.manual_seed(0)
    cell = (
        RSSM(RSSMConfig(deterministic=8, hidden=8, groups=3, classes=4), 12, 2).double().recurrence
    )
    weights = [
        *cell.recurrent.parameters(),
        *cell.recurrent_norm.parameters(),
        *cell.gates.parameters(),
    ]
    for weight in weights:
        torch.nn.init.normal_(weight, std=0.7)
    drive = torch.randn(5, 3, 8, dtype=torch.float64, requires_grad=True)
    keep = torch.ones(5, 3, 1, dtype=torch.float64)
    keep[0], keep[3, 1] = 0, 0
    state, rows = torch.zeros(3, 8, dtype=torch.float64), []
    for t in range(5):
        state = cell(state * keep[t], drive[t])
        rows.append(state)
    states, slow = cell.unroll(drive, keep), torch.stack(rows)
    assert torch.allclose(states, slow)
    gradient = torch.randn_like(states)
    ours, theirs = (torch.autograd.grad(x, [drive, *weights], gradient) for x in (states, slow))
    assert all(torch.allclose(one, other) for one, other in zip(ours, theirs))
    assert torch.autograd.gradcheck(lambda drive, *_: cell.unroll(drive, keep), (drive, *weights))


def test_observe_equals_filtering_step_by_step(rssm):
    rssm.latent.sample = rssm.latent.mode  # no chance left
    embedding, action = torch.randn(3, 6, 12), torch.randn(3, 6, 2)
    is_first = torch.zeros(3, 6, dtype=torch.bool)
    is_first[1, 3] = True
    whole = rssm.observe(embedding, action, is_first).state
    state = rssm.initial(3)
    for t in range(6):
        first = torch.ones(3, dtype=torch.bool) if t == 0 else is_first[:, t]
        state = rssm.filter(state, embedding[:, t], action[:, t], first)
        assert torch.allclose(whole.feature[:, t], state.feature, atol=1e-5), t


def test_state_is_cut_at_is_first(rssm):
    rssm.latent.sample = rssm.latent.mode
    embedding, action = torch.randn(1, 6, 12), torch.randn(1, 6, 2)
    is_first = torch.zeros(1, 6, dtype=torch.bool)
    is_first[0, 3] = True
    first = rssm.observe(embedding, action, is_first).state.feature[:, 3:]
    embedding[:, :3] += 1.0
    action[:, :4] += 1.0
    assert torch.allclose(first, rssm.observe(embedding, action, is_first).state.feature[:, 3:])
    open_state = rssm.observe(embedding, action, torch.zeros_like(is_first)).state.feature[:, 3:]
    assert not torch.allclose(first, open_state)


def test_action_at_t_acts_on_the_state_at_t(rssm):
    rssm.latent.sample = rssm.latent.mode
    embedding, action, none = (
        torch.randn(1, 5, 12),
        torch.randn(1, 5, 2),
        torch.zeros(1, 5, dtype=torch.bool),
    )
    before = rssm.observe(embedding, action, none)
    action[:, 3] += 1.0
    after = rssm.observe(embedding, action, none)
    assert torch.equal(before.prior[:, :3], after.prior[:, :3])
    assert not torch.allclose(before.prior[:, 3], after.prior[:, 3])


def test_imagine_is_the_prior_of_observe(rssm):
    rssm.latent.sample = rssm.latent.mode
    embedding, action, none = (
        torch.randn(2, 3, 12),
        torch.randn(2, 3, 2),
        torch.zeros(2, 3, dtype=torch.bool),
    )
    seen = rssm.observe(embedding, action, none)
    start = seen.state.map(lambda x: x[:, 1])
    imagined = rssm.imagine(start, action[:, 2])
    assert torch.allclose(imagined.deterministic, seen.state.deterministic[:, 2], atol=1e-5)
    assert torch.equal(imagined.stochastic, rssm.latent.mode(seen.prior[:, 2]))


def test_kl_value_gradient_split_and_free_nats(rssm):
    posterior = torch.randn(5, 12, requires_grad=True)
    prior = torch.randn(5, 12, requires_grad=True)
    plain = rssm.latent.kl(posterior, prior)
    clipped, kl = rssm.kl(posterior, prior, 0.7, 100.0)
    assert torch.equal(kl, plain)
    assert torch.equal(clipped, torch.full((5,), 100.0))
    assert not any(
        gradient.any() for gradient in torch.autograd.grad(clipped.sum(), (posterior, prior))
    )
    whole = torch.autograd.grad(plain.sum(), (posterior, prior))
    split = torch.autograd.grad(rssm.kl(posterior, prior, 0.7, 0.0)[0].sum(), (posterior, prior))
    for ours, full, share in zip(split, whole, (0.3, 0.7)):
        assert torch.allclose(ours, share * full, atol=1e-6)


def test_predictability_by_another_divergence_still_tells_the_kl():
    torch.manual_seed(0)
    values = {}
    for name in DIVERGENCES:
        agent = make_agent(divergence=name, free_nats=0.0, kl_balance=0.75)
        torch.manual_seed(1)
        _, states, values[name], metrics = agent.world_model.loss(make_batch())
        latent, both = agent.world_model.rssm.latent, (states.posterior, states.prior)
        kl, other = (float(getattr(latent, key)(*both).detach().mean()) for key in DIVERGENCES)
        assert float(metrics["predictability/kl"]) == pytest.approx(kl, rel=1e-4)
        wanted = kl if name == "kl" else 0.75 * kl + 0.25 * other
        assert float(values[name]["predictability"].detach()) == pytest.approx(-wanted, rel=1e-4)
    assert float(metrics["predictability/divergence"]) == pytest.approx(other, rel=1e-4)
    assert kl != pytest.approx(other, rel=0.01)


def test_the_prior_of_many_posteriors_is_their_mean_whatever_the_posterior_minimises():
    """A prior without inputs, before posteriors of which 0.9 are of one class: the Cauchy-Schwarz
    divergence would lead it to 0.75, in proportion to the square root.
    """
    rssm = RSSM(RSSMConfig(groups=1, classes=2, unimix=0.0), 4, 1)
    posterior = torch.tensor([[20.0, -20.0]] * 9 + [[-20.0, 20.0]]).unsqueeze(0)  # (1, 10, P)
    for divergence in DIVERGENCES:
        config = WorldModelConfig(divergence=divergence, free_nats=0.0)
        term = PredictabilityTerm(config, rssm)
        logits = torch.zeros(2, requires_grad=True)
        optimiser = torch.optim.Adam([logits], 0.1)
        for _ in range(200):
            states = ObserveOutput(None, posterior, logits.expand(1, 10, 2))
            loss = -term(TrainSequence(*[None] * 5, states))[0]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert float(logits.softmax(-1)[0].detach()) == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize(
    ("latent", "action"),
    [("categorical", 1), ("categorical", 6), ("gaussian", 1), ("gaussian", 21)],
)
def test_state_and_action_begin_with_the_same_say_in_the_recurrence(latent, action):
    torch.manual_seed(0)
    rssm = RSSM(
        RSSMConfig(deterministic=16, hidden=1024, latent=latent, groups=16, classes=16), 12, action
    )
    sample = rssm.latent.sample(torch.zeros(200, rssm.latent.parameter_size))
    seen, layer = [], rssm.recurrence.input
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    rssm.recurrence.input_projection(sample, torch.rand(200, action) * 2 - 1)
    of_state, of_action = (
        F.linear(*pair)
        for pair in zip(
            seen[0].tensor_split([-action], -1), layer.weight.tensor_split([-action], -1)
        )
    )
    ratio = (of_action.square().mean() / of_state.square().mean()).sqrt()
    assert float(ratio.detach()) == pytest.approx(1, rel=0.35)


def test_block_linear_is_block_diagonal():
    layer = BlockLinear(6, 9, 3)
    x = torch.randn(4, 6)
    dense = torch.block_diag(*layer.weight)
    assert torch.allclose(layer(x), x @ dense + layer.bias, atol=1e-6)


def test_two_images_never_cross_an_episode():
    """Against the slow way: stack each image behind the one before it, in opponent colours, and
    convolve once.
    """
    first = torch.tensor([[False, False, False, True, False, False]])
    image = torch.randint(0, 256, (1, 6, 16, 16, 3), dtype=torch.uint8)
    layer = FirstConvolution(frames=2, outputs=5, stride=2, padding=1)
    torch.nn.init.normal_(layer.bias)
    before = torch.tensor([0, 0, 1, 3, 3, 4])
    colours = torch.stack(
        [image_to_float(image).permute(0, 2, 3, 1) @ row for row in torch.tensor(OPPONENT_COLOURS)],
        1,
    )
    stacked = torch.cat([colours, colours[before]], 1)  # (6, 2*3, H, W)
    weight = torch.cat(layer.weight.chunk(2, 0), 1)  # (5, 2*3, k, k)
    expected = F.silu(F.conv2d(stacked, weight, layer.bias, stride=2, padding=1))
    assert torch.allclose(layer(image, first), expected, atol=1e-4)


def test_the_first_layer_prefers_colour_to_brightness():
    """Grey answers to luminance alone, and the matrix of colours can be undone: nothing of an image
    is lost.
    """
    colours = torch.tensor(OPPONENT_COLOURS)
    assert torch.allclose(colours @ torch.ones(3), torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)
    assert torch.linalg.det(colours).abs() > 1


def test_the_gradient_of_the_first_layer_is_that_of_its_slow_form():
    first = torch.tensor([[True, False, False], [False, True, False]])
    layer = FirstConvolution(frames=2, outputs=2, stride=4, padding=0)
    image = torch.randint(0, 256, (2, 3, 8, 8, 3), dtype=torch.uint8)
    (gradient,) = torch.autograd.grad(layer(image, first).square().sum(), layer.weight)
    index, step = (0, 1, 2, 3), 1e-2
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            layer.weight[index] += sign * step
            values.append(layer(image, first).square().sum())
            layer.weight[index] -= sign * step
    assert float(gradient[index]) == pytest.approx(
        float(values[0] - values[1]) / (2 * step), rel=2e-2, abs=1e-3
    )


def test_acting_sees_the_same_two_images_as_learning():
    model = make_agent().world_model
    model.rssm.latent.sample = model.rssm.latent.mode
    batch = make_batch()
    _, seen = model.observe(batch)
    state, before = model.initial(4), torch.zeros_like(batch["image"][:, 0])
    for t in range(8):
        first = torch.ones(4, dtype=torch.bool) if t == 0 else batch["is_first"][:, t]
        state = model.filter(state, before, batch["image"][:, t], batch["action"][:, t], first)
        before = batch["image"][:, t]
        assert torch.allclose(seen.state.feature[:, t], state.feature, atol=1e-5), t


@pytest.mark.parametrize(("size", "stem"), [(32, 2), (64, 4), (84, 4), (96, 2)])
def test_encoder_takes_any_size(size, stem):
    images = torch.randint(0, 256, (2, 3, size, size, 3), dtype=torch.uint8)
    first = torch.zeros(2, 3, dtype=torch.bool)
    for frames in (1, 2):
        assert Encoder(size, 4, 10, stem, frames)(images, first).shape == (2, 3, 10)


def test_random_shift_is_one_a_sequence_and_moves_pixels():
    torch.manual_seed(0)
    frame = torch.randint(0, 256, (1, 1, 16, 16, 3), dtype=torch.uint8)
    shifted = w.random_shift(frame.expand(6, 5, 16, 16, 3), 3)
    for sequence in shifted:
        assert all(torch.equal(sequence[0], image) for image in sequence)
        options = [
            torch.roll(frame[0, 0], (-r, -c), (0, 1)) for r in range(-3, 4) for c in range(-3, 4)
        ]
        assert any(torch.equal(sequence[0, 4:12, 4:12], option[4:12, 4:12]) for option in options)
    assert not torch.equal(shifted[0], shifted[1]) or not torch.equal(shifted[1], shifted[2])


def test_pictures_draw_what_is_painted():
    """To leave out an orange square costs more than to leave out a grey one of the same size: it is
    drawn first.
    """
    model = WorldModel(world_config(), Spaces(32, 2))
    for parameter in model.decoder.parameters():
        parameter.data.zero_()  # draws an even grey
    feature = model.initial(2).map(lambda x: x.unsqueeze(1))

    def error(square: list[int]) -> float:
        image = torch.full((2, 1, 32, 32, 3), 128, dtype=torch.uint8)
        image[..., 8:16, 8:16, :] = torch.tensor(square, dtype=torch.uint8)
        return float(model.decoder_loss(feature, image).detach())

    assert error([228, 148, 28]) > 10 * error([228, 228, 228]) > 10 * error([128, 128, 128])


def test_pictures_are_off_the_gradient_path():
    torch.manual_seed(0)
    model = make_agent(constraint=()).world_model
    losses, *_ = model.loss(make_batch())
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(
        losses["pictures"], list(parameters.values()), allow_unused=True
    )
    touched = {
        name.split(".")[0] for name, gradient in zip(parameters, gradients) if gradient is not None
    }
    assert touched == {"decoder"}
    losses, *_ = model.loss(make_batch())
    gradients = torch.autograd.grad(
        losses["world_model"], list(parameters.values()), allow_unused=True
    )
    touched = {
        name.split(".")[0] for name, gradient in zip(parameters, gradients) if gradient is not None
    }
    assert "decoder" not in touched


@pytest.mark.parametrize(
    ("terms", "constraint"),
    [slow((FIXED, ())), slow((DREAMER, ())), (None, ("predictability", "reward", "empowerment"))],
)
def test_overfits_one_batch(terms, constraint):
    """The reward is explained; images are distinguished or reconstructed, as the terms require."""
    agent = make_agent(terms, constraint) if terms else make_agent()
    batch = moving_square(batch=4, length=8)
    for _ in range(150):
        losses, _, values, metrics = agent.world_model.loss(batch)
        descend(agent.optimisers, losses)
        agent.world_model.dual_step(values)
    assert metrics["reward/residual"] < 0.2 * metrics["reward/variance"]
    if terms == DREAMER:
        assert float(metrics["reconstruction/pixel_error"]) < 0.02
    else:
        assert float(values["contrastive"]) > 0.7 * math.log(32)


def test_unknown_term_and_reward_are_refused():
    with pytest.raises(UserError, match="did you mean contrastive"):
        make_agent({"contrastiv": 1.0}, ())
    with pytest.raises(UserError, match="needs the information term"):
        make_agent(FIXED, (), rewards={"empowerment": 1.0})
    with pytest.raises(UserError, match="the constraint names"):
        make_agent(FIXED, ("empowerment",))


def test_rows_with_history():
    is_first = torch.zeros(3, 6, dtype=torch.bool)
    is_first[1, 2] = is_first[2, 0] = True
    expected = [[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]
    assert w.known_rows(is_first, 4).int().tolist() == expected
    assert w.known_rows(is_first, 0).all()
    # One row is always left.
    assert w.known_rows(is_first, 50).int().tolist()[0] == [0, 0, 0, 0, 0, 1]


def test_rows_without_history_are_context_of_the_others():
    """Rewards in context rows have no gradient; those of later rows have."""
    torch.manual_seed(0)
    agent = make_agent(context=3)
    batch = make_batch()
    batch["is_first"][:] = False

    def value(**changed) -> dict[str, float]:
        torch.manual_seed(1)
        values = agent.world_model.loss(batch | changed)[2]
        return {name: number.item() for name, number in values.items()}

    before, reward = value(), batch["reward"].clone()
    reward[:, :3] += 0.5
    assert value(reward=reward) == before
    reward[:, 3] += 0.5
    assert value(reward=reward)["reward"] != before["reward"]
    torch.manual_seed(1)
    _, states, values, _ = agent.world_model.loss(batch)
    kl, _ = agent.world_model.rssm.kl(
        states.posterior, states.prior, 0.9, agent.config.world_model.free_nats
    )
    assert values["predictability"].item() == pytest.approx(-kl[:, 3:].mean().item(), rel=1e-5)


def test_imagination_starts_from_rows_with_history():
    agent = make_agent(context=5)
    batch = make_batch()
    batch["is_first"][:] = False
    state = agent.world_model.observe(batch)[1].state
    start = agent.commander.starts(state, batch).state
    known = state.deterministic[:, 5:].flatten(0, 1)  # 12 of the 32 rows, and 16 are asked for
    found = (start.deterministic[:, None] == known[None]).all(-1).any(-1)
    assert found.tolist() == [True] * 12 + [False] * 4
