"""Compare distributions with known values, slow references and torch.distributions."""

import math

import pytest
import torch

from foreground.world_models import distributions as d


def test_symlog_values_and_inverse():
    x = torch.tensor([1.0, 10.0, 1000.0, -10.0, 0.0])
    assert torch.allclose(d.symlog(x)[:3], torch.tensor([0.6931472, 2.3978953, 6.9087548]))
    assert torch.allclose(d.symexp(d.symlog(x)), x, rtol=1e-5)


def test_two_hot_uniform_logits_decode_to_exactly_zero():
    head = d.TwoHot()
    assert float(head.mean(torch.zeros(3, head.parameter_size)).abs().max()) == 0.0


def test_two_hot_weights_of_the_neighbours():
    head = d.TwoHot(5.0, 11)  # unit bins from -5 to 5 in symlog
    value = torch.tensor(0.7 * math.expm1(2) + 0.3 * math.expm1(3))
    logits = torch.randn(11)
    log = logits.log_softmax(-1)
    assert float(head.log_prob(logits, value)) == pytest.approx(
        float(0.7 * log[7] + 0.3 * log[8]), abs=1e-5
    )


def test_the_weights_of_a_value_have_it_as_their_mean():
    """The slope of the cross-entropy at uniform logits is the target less 1 / bins."""
    head = d.TwoHot()
    value = torch.cat([torch.linspace(-5, 5, 41), torch.tensor([0.05, 300.0, -2900.0])])
    logits = torch.zeros(len(value), head.parameter_size, requires_grad=True)
    (slope,) = torch.autograd.grad(head.log_prob(logits, value).sum(), logits)
    weights = slope + 1 / head.parameter_size
    assert (weights > 1e-6).sum(-1).max() <= 2
    torch.testing.assert_close(weights @ (2 * head.values), value, rtol=1e-4, atol=1e-4)


def test_two_hot_learns_a_value():
    head = d.TwoHot()
    logits = torch.zeros(head.parameter_size, requires_grad=True)
    adam = torch.optim.Adam([logits], 0.5)
    for _ in range(200):
        adam.zero_grad()
        (-head.log_prob(logits, torch.tensor(7.3))).backward()
        adam.step()
    assert float(head.mean(logits.detach())) == pytest.approx(7.3, rel=0.02)


def test_two_hot_has_the_mean_of_a_rare_large_value():
    """30 with a probability of 0.1: 3, where the symexp of the mean symlog is 0.41."""
    head = d.TwoHot(limit=5.2)
    logits = torch.zeros(head.parameter_size, requires_grad=True)
    adam = torch.optim.Adam([logits], 0.1)
    for _ in range(800):
        adam.zero_grad()
        likelihood = 0.1 * head.log_prob(logits, torch.tensor(30.0)) + 0.9 * head.log_prob(
            logits, torch.tensor(0.0)
        )
        (-likelihood).backward()
        adam.step()
    assert float(head.mean(logits.detach())) == pytest.approx(3.0, abs=0.2)


@pytest.mark.parametrize(
    ("mean", "std"), [(0.0, 0.6), (0.7, 0.7), (-0.95, 0.1), (0.9, 0.6), (0.0, 0.1)]
)
def test_clipped_normal_std_is_that_of_samples(mean, std):
    torch.manual_seed(0)
    samples = (mean + std * torch.randn(400_000)).clamp(-1, 1)
    found = d.clipped_normal_std(torch.tensor(mean), torch.tensor(std))
    assert float(found) == pytest.approx(float(samples.std()), rel=0.01)


def test_clipped_normal_std_has_the_slopes_of_finite_differences():
    mean = torch.tensor([0.0, 0.5, -0.9, 0.99], dtype=torch.float64, requires_grad=True)
    std = torch.tensor([0.6, 0.3, 0.5, 0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(d.clipped_normal_std, (mean, std))


def test_two_hot_at_the_ends_is_finite():
    head = d.TwoHot(2.0, 11)
    values = torch.tensor([-1e6, -7.0, 0.0, 7.0, 1e6])
    assert torch.isfinite(head.log_prob(torch.zeros(5, 11), values)).all()
    assert torch.isnan(head.log_prob(torch.zeros(11), torch.tensor(torch.nan)))
    log = torch.randn(11).log_softmax(-1)
    for value, end in ((-1e6, 0), (-float("inf"), 0), (1e6, -1), (float("inf"), -1)):
        assert head.log_prob(log, torch.tensor(value)) == pytest.approx(float(log[end]), abs=1e-6)


def test_categorical_kl_and_entropy_agree_with_torch():
    latent = d.Categorical(3, 5, unimix=0.0)
    left, right = torch.randn(7, 15), torch.randn(7, 15)
    reference = [torch.distributions.Categorical(logits=x.view(7, 3, 5)) for x in (left, right)]
    kl = torch.distributions.kl_divergence(*reference).sum(-1)
    assert torch.allclose(latent.kl(left, right), kl, atol=1e-5)
    assert torch.allclose(latent.entropy(left), reference[0].entropy().sum(-1), atol=1e-5)


def test_categorical_samples_follow_the_probabilities():
    torch.manual_seed(0)
    latent = d.Categorical(2, 4, unimix=0.1)
    logits = torch.randn(8)
    samples = latent.sample(logits.expand(40_000, 8)).view(-1, 2, 4)
    assert torch.equal(samples.sum(-1), torch.ones(40_000, 2))
    assert torch.allclose(samples.mean(0), latent.log_probabilities(logits).exp(), atol=0.01)


def test_unimix_bounds_the_kl():
    latent = d.Categorical(1, 4, unimix=0.01)
    sure, other = torch.tensor([1e4, 0, 0, 0.0]), torch.tensor([0, 1e4, 0, 0.0])
    assert float(latent.kl(sure, other)) < -math.log(0.01 / 4)


def test_straight_through_gradient_reaches_the_logits():
    latent = d.Categorical(2, 4)
    logits = torch.randn(3, 8, requires_grad=True)
    sample = latent.sample(logits)
    assert set(sample.detach().round(decimals=5).unique().tolist()) <= {0.0, 1.0}
    (sample * torch.randn_like(sample)).sum().backward()
    assert float(logits.grad.abs().sum()) > 0


def test_gaussian_kl_and_log_prob_agree_with_torch():
    latent = d.Gaussian(4)
    left, right = torch.randn(6, 8), torch.randn(6, 8)
    reference = [torch.distributions.Normal(*latent.split(x)) for x in (left, right)]
    assert torch.allclose(
        latent.kl(left, right), torch.distributions.kl_divergence(*reference).sum(-1), atol=1e-4
    )
    value = torch.randn(6, 4)
    mean, std = latent.split(left)
    assert torch.allclose(
        d.normal_log_prob(value, mean, std), reference[0].log_prob(value).sum(-1), atol=1e-4
    )
    assert torch.allclose(d.normal_entropy(std), reference[0].entropy().sum(-1), atol=1e-4)


def test_clipped_normal_is_a_distribution():
    """Density inside plus mass at both ends is one."""
    mean, std = torch.tensor([0.4]), torch.tensor([0.7])
    inside = torch.linspace(-1, 1, 4001)[1:-1, None]
    density = d.clipped_normal_log_prob(inside, mean, std).exp().sum() * (2 / 4000)
    ends = d.clipped_normal_log_prob(torch.tensor([[-1.0], [1.0]]), mean, std).exp().sum()
    assert float(density + ends) == pytest.approx(1.0, abs=1e-3)
    assert torch.isfinite(
        d.clipped_normal_log_prob(torch.ones(1, 1), torch.tensor([[-1.0]]), torch.tensor([[0.1]]))
    )


def test_unit_normal_cannot_be_made_dense():
    """Its best log-density is that of deviation one, whatever the network does."""
    assert float(
        d.UnitNormal().log_prob(torch.tensor([[2.0]]), torch.tensor([2.0]))
    ) == pytest.approx(-0.9189385)


def test_cauchy_schwarz_of_known_categoricals():
    """A one-hot and a uniform variable of K classes: ln K a group; of itself: zero."""
    latent = d.Categorical(2, 4, unimix=0.0)
    sure = torch.tensor([[50.0, 0, 0, 0, 0, 50.0, 0, 0]])
    flat = torch.zeros(1, 8)
    assert float(latent.cauchy_schwarz(sure, flat)) == pytest.approx(2 * math.log(4), abs=1e-4)
    p, q = torch.randn(2, 5, 8)
    assert torch.allclose(latent.cauchy_schwarz(p, p), torch.zeros(5), atol=1e-5)
    assert torch.allclose(latent.cauchy_schwarz(p, q), latent.cauchy_schwarz(q, p), atol=1e-5)
    assert (latent.cauchy_schwarz(p, q) > 0).all()


def test_cauchy_schwarz_of_gaussians_is_the_integral_and_the_kl_at_equal_deviations():
    latent = d.Gaussian(1, min_std=0.0)
    raw = lambda std: math.log(math.expm1(std))  # noqa: E731
    one, other = torch.tensor([[0.3, raw(0.5)]]), torch.tensor([[-0.7, raw(1.2)]])
    x = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    p, q = (
        torch.distributions.Normal(mean, std).log_prob(x).exp()
        for mean, std in ((0.3, 0.5), (-0.7, 1.2))
    )
    slow = -torch.log((p * q).sum() ** 2 / (p.square().sum() * q.square().sum()))
    assert float(latent.cauchy_schwarz(one, other)) == pytest.approx(float(slow), abs=1e-4)
    same = torch.tensor([[1.0, raw(0.5)]])
    assert float(latent.cauchy_schwarz(one, same)) == pytest.approx(
        float(latent.kl(one, same)), abs=1e-5
    )
