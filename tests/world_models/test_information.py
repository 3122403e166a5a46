"""Compare bounds on mutual information with known values."""

import math

import numpy as np
import pytest
import torch

from foreground.world_models.information import (
    BOUNDS,
    ContrastiveConfig,
    CosineCritic,
    LipschitzCritic,
    ManifoldCapacity,
    RedundancyReduction,
    Scored,
    cmim,
    mi_alpha,
    nce,
    nwj,
    reconstruction,
    wasserstein,
)
from foreground.world_models.networks import Decoder


def exact_scores(
    dimension: int, information: float, number: int, shift: float = 0.0
) -> torch.Tensor:
    """Log density ratio of correlated Gaussians for all pairs (N, N), plus a constant."""
    rho = math.sqrt(1 - math.exp(-2 * information / dimension))
    x = torch.randn(number, dimension, dtype=torch.float64)
    y = rho * x + math.sqrt(1 - rho**2) * torch.randn(number, dimension, dtype=torch.float64)
    left, right = x[:, None], y[None]
    ratio = (2 * rho * left * right - rho**2 * (left**2 + right**2)) / (
        2 * (1 - rho**2)
    ) - math.log(1 - rho**2) / 2
    return ratio.sum(-1) + shift


def mean_of(bound, *arguments, draws: int = 60, shift: float = 0.0) -> float:
    torch.manual_seed(0)
    return float(
        torch.stack([bound(exact_scores(*arguments, shift)).mean() for _ in range(draws)]).mean()
    )


@pytest.mark.parametrize(
    ("number", "information", "expected"), [(50, 2, 1.778), (128, 2, 1.887), (128, 6, 4.208)]
)
def test_nce_of_the_exact_critic(number, information, expected):
    assert mean_of(nce, 20, information, number) == pytest.approx(expected, abs=0.04)


@pytest.mark.slow
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


def test_mi_alpha_ends_in_nwj_and_nce():
    scores = 3 * torch.randn(40, 40)
    assert torch.allclose(mi_alpha(scores, 0.0), nwj(scores), atol=1e-5)
    assert torch.allclose(mi_alpha(scores, 1.0), nce(scores), atol=1e-5)


def test_mi_alpha_against_a_slow_reference():
    scores = torch.randn(5, 5, dtype=torch.float64)
    for i, value in enumerate(mi_alpha(scores, 0.3)):
        row = torch.exp(scores[i] - 1)
        others = (row.sum() - row[i]) / 4
        baseline = 0.3 * row.mean() + 0.7
        expected = 1 + torch.log(row[i] / baseline) - others / (0.3 * others + 0.7)
        assert float(value) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_mi_alpha_never_exceeds_ln_n_over_alpha(alpha):
    scores = torch.full((64, 64), -1000.0).fill_diagonal_(19.0)
    best = float(mi_alpha(scores, alpha).max())
    assert best <= 1 + math.log(64 / alpha) + 1e-4
    assert float(mi_alpha(torch.ones(64, 64), alpha).mean()) == pytest.approx(0, abs=1e-6)


def test_mi_alpha_of_the_exact_critic_lies_between_its_ends():
    """d = 20, I = 2, N = 128: NCE of the exact critic is 1.887, and NWJ is the information."""
    values = [
        mean_of(lambda scores, alpha=alpha: mi_alpha(scores, alpha), 20, 2, 128, shift=1.0)
        for alpha in (0.5, 0.9)
    ]
    assert values[0] == pytest.approx(1.96, abs=0.05)
    assert values[1] == pytest.approx(1.92, abs=0.05)


def test_cmim_against_a_slow_reference():
    scores = torch.randn(5, 5, dtype=torch.float64)
    for i, value in enumerate(cmim(scores)):
        row = torch.exp(scores[i])
        others = (row.sum() - row[i]) / 4
        expected = math.log(2) + math.log(float(row[i] / (row[i] + others)))
        assert float(value) == pytest.approx(expected, abs=1e-5)


def test_cmim_hardly_depends_on_the_number_of_negatives_and_is_at_most_ln_2():
    """More negatives lower it a little, by convexity; NCE gains half a nat with them."""
    small, large = (mean_of(cmim, 20, 2, number) for number in (16, 256))
    assert 0.3 < large < small < large + 0.12
    assert mean_of(nce, 20, 2, 256) > mean_of(nce, 20, 2, 16) + 0.3
    assert float(cmim(1000 * torch.eye(8)).max()) == pytest.approx(math.log(2), rel=1e-6)
    assert float(cmim(torch.full((64, 64), 3.7)).mean()) == pytest.approx(0, abs=1e-6)


def test_cmim_is_below_nce_with_one_negative():
    """ln 2 - ln(1 + e^{f_ij - f_ii}), mean over j, for the exact critic: cMIM is at most that."""
    torch.manual_seed(0)
    scores = torch.stack([exact_scores(20, 1.0, 64) for _ in range(40)])
    pairs = math.log(2) - torch.log1p(torch.exp(scores - scores.diagonal(0, 1, 2)[..., None]))
    pairs = (pairs.sum(-1) - pairs.diagonal(0, 1, 2)) / 63
    assert (cmim(scores) <= pairs + 1e-5).all()
    assert float(pairs.mean()) < 1.0


def test_batched_scores_are_rows_of_their_own():
    scores = torch.randn(3, 5, 5)
    assert torch.allclose(nce(scores)[1], nce(scores[1]))
    assert torch.allclose(nwj(scores)[1], nwj(scores[1]))
    assert torch.allclose(mi_alpha(scores, 0.5)[1], mi_alpha(scores[1], 0.5))


def test_critic_stays_float32_under_autocast():
    critic = CosineCritic(6, 4, 8, 0.1)
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


def correlated(number: int, rho: float, dimension: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(number, dimension)
    return x, rho * x + math.sqrt(1 - rho**2) * torch.randn(number, dimension)


def trained_wasserstein(rho: float) -> tuple[float, LipschitzCritic]:
    """The estimate of correlated Gaussians on fresh samples, after training the critic alone."""
    torch.manual_seed(0)
    critic = LipschitzCritic(1, 1, 4)
    optimiser = torch.optim.Adam(critic.parameters(), lr=1e-2)
    for _ in range(300):
        optimiser.zero_grad()
        (-wasserstein(critic(*correlated(256, rho))).mean()).backward()
        optimiser.step()
    with torch.no_grad():
        value = torch.stack(
            [wasserstein(critic(*correlated(256, rho))).mean() for _ in range(20)]
        ).mean()
    return float(value), critic


@pytest.mark.parametrize("rho", [0.5, 0.9, 0.99])
def test_wasserstein_is_positive_and_never_above_w2(rho):
    value, _ = trained_wasserstein(rho)
    # W2 between N(0, [[1, rho], [rho, 1]]) and N(0, I), in closed form; W1 <= W2.
    limit = math.sqrt(4 - 2 * (math.sqrt(1 + rho) + math.sqrt(1 - rho)))
    assert 0.4 * limit < value < limit + 0.01


def test_wasserstein_of_independent_pairs_is_zero():
    assert trained_wasserstein(0.0)[0] == pytest.approx(0.0, abs=0.02)
    assert float(wasserstein(torch.full((8, 8), 2.5)).mean()) == pytest.approx(0.0, abs=1e-6)


def test_the_lipschitz_critic_is_one():
    _, critic = trained_wasserstein(0.9)
    with torch.no_grad():
        one, other = torch.randn(2, 2000, 2) * 3
        values = [
            torch.stack([critic(row[:1], row[1:])[0, 0] for row in points.unsqueeze(-1)])
            for points in (one, other)
        ]
    slope = (values[0] - values[1]).abs() / (one - other).norm(dim=-1)
    assert 0.5 < float(slope.max()) < 1.01


def test_scores_of_the_lipschitz_critic_are_distances():
    critic = LipschitzCritic(3, 2, 5).eval()
    left, right = torch.randn(4, 3), torch.randn(4, 2)
    weight, bias = critic.joint.weight, critic.joint.bias
    slow = torch.stack(
        [torch.stack([-(weight @ torch.cat([x, y]) + bias).norm() for y in right]) for x in left]
    )
    assert torch.allclose(critic(left, right), slow, atol=1e-4)


def test_redundancy_reduction_against_a_slow_reference():
    torch.manual_seed(0)
    term = RedundancyReduction(3, 2)
    left, right = torch.randn(64, 3), torch.randn(64, 2, requires_grad=True)
    value, metrics = term(left, right)
    projected, expected = term.project(left).detach().numpy(), 0.0
    for i in range(2):
        for j in range(2):
            c = np.corrcoef(projected[:, i], right.detach().numpy()[:, j])[0, 1]
            expected -= (1 - c) ** 2 if i == j else 5e-4 * c**2
    assert value.shape == (64,)
    assert value.detach().numpy() == pytest.approx(expected, abs=1e-4)
    assert -1 <= float(metrics["correlation"]) <= 1
    value.mean().backward()
    assert right.grad is None  # a target
    assert float(term.project.weight.grad.abs().sum()) > 0


def test_redundancy_reduction_is_best_for_a_copy():
    term = RedundancyReduction(2, 2)
    term.project.weight.data.copy_(torch.eye(2))
    left = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(term(left, left)[0].mean().detach()) == pytest.approx(0.0, abs=1e-4)
    assert float(term(left, -left)[0].mean().detach()) == pytest.approx(-8.0, abs=1e-3)


def capacity(left: torch.Tensor, right: torch.Tensor) -> float:
    """MMCR of views that are given as they are."""
    term = ManifoldCapacity(left.shape[1], right.shape[1], left.shape[1])
    for layer in (term.left, term.right):
        layer.weight.data.copy_(torch.eye(left.shape[1]))
    value, metrics = term(left, right)
    assert value.shape == left.shape[:1]
    assert -1.001 <= float(metrics["alignment"]) <= 1.001
    return float(value[0].detach())


def test_manifold_capacity_of_known_views():
    eye = torch.eye(4)
    assert capacity(eye, 3 * eye) == pytest.approx(1.0, abs=1e-5)  # orthogonal and aligned
    assert capacity(eye, -eye) == pytest.approx(0.0, abs=1e-5)  # opposite views
    assert capacity(torch.ones(4, 4), torch.ones(4, 4)) == pytest.approx(0.5, abs=1e-5)  # rank one
    # Views at a right angle have centres of length sqrt(1/2), here again orthogonal.
    left, right = torch.eye(4)[:2], torch.eye(4)[2:]
    assert capacity(left, right) == pytest.approx(math.sqrt(0.5), abs=1e-5)
    many = torch.eye(4).repeat(8, 1)
    assert capacity(many, many) == pytest.approx(1.0, abs=1e-5)  # N above D


def test_mmcr_projects_to_no_more_dimensions_than_its_input_has():
    """In twice as many, independent views are worth as much as equal ones."""
    bound = BOUNDS["mmcr"](4, 6, ContrastiveConfig(estimator="mmcr", projection=8))
    assert [tuple(side.weight.shape) for side in (bound.left, bound.right)] == [(4, 4), (4, 6)]
    views = torch.cat([torch.eye(4), -torch.eye(4)])
    left, right = views.repeat_interleave(8, 0), views.repeat(8, 1)  # every pair once
    nothing = torch.zeros_like(left)
    wide = [torch.cat(pair, 1) for pair in ((left, nothing), (nothing, right))]
    assert capacity(*wide) == pytest.approx(math.sqrt(0.5), abs=1e-5)
    assert capacity(wide[0], wide[0]) == pytest.approx(math.sqrt(0.5), abs=1e-5)
    assert capacity(left, left) == pytest.approx(1.0, abs=1e-5)
    assert capacity(left, right) < 0.75


def test_the_gradient_of_the_nuclear_norm_is_its_polar_factor():
    torch.manual_seed(0)
    centres = torch.randn(6, 3, requires_grad=True)
    torch.linalg.matrix_norm(centres, "nuc").backward()
    left, _, right = torch.linalg.svd(centres.detach(), full_matrices=False)
    assert torch.allclose(centres.grad, left @ right, atol=1e-5)


def test_reconstruction_sums_the_squared_error_of_the_picture():
    decoder = Decoder(5, 16, 4)
    image = torch.randint(0, 256, (2, 3, 16, 16, 3), dtype=torch.uint8)
    left = torch.randn(2, 3, 5)
    value, metrics = reconstruction(decoder(left), image)
    error = (decoder(left) - (image.float() / 255 - 0.5)).square()
    assert torch.allclose(value, -error.sum((2, 3, 4)), rtol=1e-4)
    assert float(metrics["pixel_error"].detach()) == pytest.approx(
        float(error.detach().mean()), rel=1e-4
    )


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_every_bound_has_the_same_call(name):
    bound = BOUNDS[name](6, 4, ContrastiveConfig(projection=8))
    for shape in ((10,), (3, 10)):
        value, metrics = bound(torch.randn(*shape, 6), torch.randn(*shape, 4))
        assert value.shape == shape
        assert value.dtype == torch.float32
        assert metrics


def test_manifold_capacity_is_larger_for_pairs_that_belong_together():
    torch.manual_seed(0)
    bound = BOUNDS["mmcr"](4, 4, ContrastiveConfig(projection=4))
    optimiser = torch.optim.Adam(bound.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        (-bound(*correlated(128, 0.95, 4))[0].mean()).backward()
        optimiser.step()
    left, right = correlated(512, 0.95, 4)
    with torch.no_grad():
        together, apart = (float(bound(left, y)[0].mean()) for y in (right, right.roll(1, 0)))
    assert together > 0.95
    assert apart < 0.8


@pytest.mark.parametrize("name", ["nce", "nwj", "mi_alpha", "cmim", "wasserstein"])
def test_only_pairs_that_belong_together_are_informative(name):
    """Planted fault: with right shuffled against left, a trained bound falls to nothing."""
    torch.manual_seed(0)
    bound = BOUNDS[name](4, 4, ContrastiveConfig(projection=8))
    optimiser = torch.optim.Adam(bound.parameters(), lr=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        (-bound(*correlated(128, 0.95, 4))[0].mean()).backward()
        optimiser.step()
    left, right = correlated(512, 0.95, 4)
    with torch.no_grad():
        together, apart = (float(bound(left, y)[0].mean()) for y in (right, right.roll(1, 0)))
    assert together > 0.3
    assert apart < 0.05


def test_accuracy_counts_what_is_told_apart():
    scored = Scored(lambda left, right: left @ right.T, nce)
    eye = torch.eye(4)
    assert float(scored(eye, eye)[1]["accuracy"]) == 1.0
    assert float(scored(eye, eye[[1, 0, 2, 3]])[1]["accuracy"]) == 0.5
