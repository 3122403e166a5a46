"""Estimates of the mutual information I(X; Y) of two batches of vectors, and their critics.

Every estimate is a module with one call: (left (..., N, X), right (..., N, Y)) -> (value (..., N),
to be maximised, metrics). Only `reconstruction` is a function, of decoded images. Row i of left and
row i of right are a pair; the other rows of the block are the negatives. `BOUNDS` makes each
estimate from the same arguments.

NCE, NWJ and cMIM are lower bounds in nats. MI-alpha is one up to 1 / (alpha N), and Wasserstein is
in units of distance.
Redundancy reduction, MMCR and reconstruction are negated losses: they train, but do not estimate
nats. All are computed in float32, since the differences would be lost in mixed precision.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from foreground.option import config_class, option
from foreground.world_models.networks import image_to_float, linear


def nce(scores: Tensor) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, Eq. 4) plus ln N: a bound, zero at independence, at most
    ln N.
    """
    scores = scores.float()
    return scores.diagonal(dim1=-2, dim2=-1) - scores.logsumexp(-1) + math.log(scores.shape[-1])


def nwj(scores: Tensor, clamp: float = 20.0) -> Tensor:
    """E_joint[f] - e^-1 E_marginal[e^f] (Nguyen, Wainwright, Jordan 2010).

    It is the main bound of InfoPower's paper. Off-diagonal pairs are samples of the marginals;
    their scores are clamped from above, so that e^f cannot overflow.
    """
    scores = scores.float()
    joint = scores.diagonal(dim1=-2, dim2=-1)
    mask = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    marginal = torch.exp(scores.clamp(max=clamp) - 1).masked_fill(mask, 0.0)
    return joint.clamp(max=clamp) - marginal.sum(-1) / (scores.shape[-1] - 1)


def mi_alpha(scores: Tensor, alpha: float, clamp: float = 20.0) -> Tensor:
    """MI-alpha (Distiller, arXiv 2109.11105), I_alpha of Poole et al. 2019: NWJ with a baseline
    between 1 and the mean of the row.

        g = f - 1,  m_i = mean_j e^{g_ij},  m'_i = mean_{j != i} e^{g_ij}
        1 + g_ii - ln(alpha m_i + 1 - alpha) - m'_i / (alpha m'_i + 1 - alpha)

    It is NWJ at alpha 0 and NCE at alpha 1. Between them it is at most 1 + ln(N / alpha), and the
    marginal term at most 1 / alpha. Off-diagonal pairs are samples of the marginals: N - 1 in a
    row, where the bound needs N. So its mean may exceed the information by up to 1 / (alpha N).
    """
    shifted = scores.float().clamp(max=clamp) - 1
    joint = shifted.diagonal(dim1=-2, dim2=-1)
    exponential = shifted.exp()
    number = scores.shape[-1]
    whole = exponential.mean(-1)
    others = (exponential.sum(-1) - joint.exp()) / (number - 1)
    baseline = torch.log(alpha * whole + 1 - alpha)
    return 1 + joint - baseline - others / (alpha * others + 1 - alpha)


def cmim(scores: Tensor) -> Tensor:
    """ln 2 + ln(e^{f_ii} / (e^{f_ii} + mean_{j != i} e^{f_ij})) (cMIM, arXiv 2509.21511).

    The other rows enter by their mean, not by their sum. So the limit, ln 2, does not depend on N,
    and the value hardly does. It is a lower bound: at most the mean over j of InfoNCE with one
    negative, by convexity. It is zero at independence. In cMIM all scores are between codes, and
    f_ii is a constant; docs/agents/objectives.md has the differences.
    """
    scores = scores.float()
    number = scores.shape[-1]
    joint = scores.diagonal(dim1=-2, dim2=-1)
    own = torch.eye(number, dtype=torch.bool, device=scores.device)
    others = scores.masked_fill(own, -math.inf).logsumexp(-1) - math.log(number - 1)
    return math.log(2) + F.logsigmoid(joint - others)


def wasserstein(scores: Tensor) -> Tensor:
    """E_joint[f] - E_marginals[f] (Wasserstein Dependency Measure, arXiv 1903.11780, Eq. 4).

    With a critic that is 1-Lipschitz in (x, y) it is at most the W1 distance between joint and
    product of marginals (Kantorovich-Rubinstein). It is zero at independence, in units of distance.
    Off-diagonal pairs are samples of the marginals.
    """
    scores = scores.float()
    number = scores.shape[-1]
    joint = scores.diagonal(dim1=-2, dim2=-1)
    return joint - (scores.sum(-1) - joint) / (number - 1)


class CosineCritic(nn.Module):
    """f(x, y) = cos(W x - mean, W' y - mean') / temperature + offset, for all pairs.

    (..., N, X), (..., N, Y) -> (..., N, N). The paper's critic is bilinear. The cosine bounds it,
    which NWJ and small batches need. Means are over the N rows. Without them all vectors first turn
    to one direction, where every gradient vanishes: NCE stayed at 0.00 nats for 150 updates at a
    learning rate of 2e-3, against 2.4 with them. The means do not depend on which pair is the joint
    one, but on the pair's own rows: of two rows of a die NWJ exceeds the information, of three or
    more it does not. The offset is learned because the optimal NWJ critic is 1 + ln
    p(x,y)/p(x)p(y). NCE does not depend on it.
    """

    def __init__(self, left: int, right: int, projection: int, temperature: float):
        super().__init__()
        self.left, self.right = (
            linear(left, projection, bias=False),
            linear(right, projection, bias=False),
        )
        self.offset = nn.Parameter(torch.zeros(()))
        self.temperature = temperature

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        with torch.autocast(left.device.type, enabled=False):
            left, right = self.left(left.float()), self.right(right.float())
            left = F.normalize(left - left.mean(-2, keepdim=True), dim=-1)
            right = F.normalize(right - right.mean(-2, keepdim=True), dim=-1)
            return left @ right.transpose(-2, -1) / self.temperature + self.offset


class LipschitzCritic(nn.Module):
    """f(x, y) = - |W [x, y] + b| for all pairs, |W|_2 <= 1: exactly 1-Lipschitz in the joint input
    (..., N, X + Y).

    The spectral norm is divided out by power iteration, one step a forward pass in training.
    """

    def __init__(self, left: int, right: int, projection: int):
        super().__init__()
        self.left = left
        self.joint = spectral_norm(nn.Linear(left + right, projection), n_power_iterations=2)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        with torch.autocast(left.device.type, enabled=False):
            weight = self.joint.weight  # (D, X + Y)
            left = F.linear(left.float(), weight[:, : self.left], self.joint.bias)
            right = F.linear(right.float(), weight[:, self.left :])
            # |p + q|^2 by the products of all pairs: (..., N, N) and no (..., N, N, D).
            square = left.square().sum(-1).unsqueeze(-1) + right.square().sum(-1).unsqueeze(-2)
            square = square + 2 * left @ right.transpose(-2, -1)
            return -square.clamp(min=1e-6).sqrt()


class Scored(nn.Module):
    """An estimate from the scores that a critic gives to all pairs."""

    def __init__(self, critic: nn.Module, estimate: Callable[[Tensor], Tensor]):
        super().__init__()
        self.critic, self.estimate = critic, estimate

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        scores = self.critic(left, right)  # (..., N, N)
        correct = scores.detach().argmax(-1) == torch.arange(scores.shape[-1], device=scores.device)
        return self.estimate(scores), {"accuracy": correct.float().mean()}


class RedundancyReduction(nn.Module):
    """- sum_i (1 - c_ii)^2 - 5e-4 sum_{i != j} c_ij^2, with c the correlations of a projected left
      with right.

    It is Barlow Twins (arXiv 2103.03230) between latent and embedding, as in R2-Dreamer. Right is a
    target without gradient; otherwise it could become constant. There is one value per block,
    repeated in every row.
    """

    def __init__(self, left: int, right: int, off_diagonal: float = 5e-4):
        super().__init__()
        self.project = linear(left, right, bias=False)
        self.off_diagonal = off_diagonal

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(left.device.type, enabled=False):
            columns = [
                _standardised(self.project(left.float())),
                _standardised(right.detach().float()),
            ]
            correlation = columns[0].transpose(-2, -1) @ columns[1] / left.shape[-2]  # (..., Y, Y)
        diagonal = correlation.diagonal(dim1=-2, dim2=-1)
        rest = correlation.square().sum((-2, -1)) - diagonal.square().sum(-1)
        value = -(1 - diagonal).square().sum(-1) - self.off_diagonal * rest
        metrics = {"correlation": diagonal.detach().mean()}
        return value.unsqueeze(-1).expand(left.shape[:-1]), metrics


class ManifoldCapacity(nn.Module):
    """|C|_* / sqrt(N min(N, D)), C the (N, D) centres of the two views of each row (MMCR, arXiv
    2303.03307).

    The views are the projections of left and right on the unit sphere, and the centre is their
    mean. The nuclear norm is largest, and the value 1, where the views of a row coincide and the
    centres fill all directions evenly. Views that differ have short centres; equal rows have a
    centre of rank one. There is one value per block, repeated in every row.
    """

    recordable = False  # singular values wait for the host

    def __init__(self, left: int, right: int, projection: int):
        super().__init__()
        self.left = linear(left, projection, bias=False)
        self.right = linear(right, projection, bias=False)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(left.device.type, enabled=False):
            one = F.normalize(self.left(left.float()), dim=-1)
            other = F.normalize(self.right(right.float()), dim=-1)
            centres = (one + other) / 2  # (..., N, D)
            nuclear = torch.linalg.matrix_norm(centres, "nuc")  # (...)
        number, size = centres.shape[-2:]
        value = nuclear / math.sqrt(number * min(number, size))
        metrics = {"alignment": (one * other).sum(-1).mean().detach()}
        return value.unsqueeze(-1).expand(left.shape[:-1]), metrics


def _standardised(x: Tensor) -> Tensor:
    """Return the columns of (..., N, X) with mean 0 and standard deviation 1."""
    return (x - x.mean(-2, keepdim=True)) / (x.std(-2, keepdim=True, correction=0) + 1e-5)


def reconstruction(decoded: Tensor, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the log-density (...) of uint8 images (..., H, W, C) around decoded ones, and metrics.

    The Gaussians have variance 1/2. The log-density is up to a constant, in the scale of DreamerV3:
    pixels of unit range, squared error summed over the image.
    """
    target = image_to_float(image).permute(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
    error = (decoded.float().flatten(0, -4) - target).square().sum((1, 2, 3))
    return -error.unflatten(0, image.shape[:-3]), {"pixel_error": error.mean() / target[0].numel()}


SCORING = (
    "where --world_model.contrastive.estimator is nce, nwj, mi_alpha or cmim",
    lambda config: config.estimator in ("nce", "nwj", "mi_alpha", "cmim"),
)
INTERPOLATING = (
    "where --world_model.contrastive.estimator is mi_alpha",
    lambda config: config.estimator == "mi_alpha",
)
PROJECTING = (
    "by every --world_model.contrastive.estimator but redundancy_reduction",
    lambda config: config.estimator != "redundancy_reduction",
)


@config_class
class ContrastiveConfig:
    estimator: str = option(
        "nce",
        "Estimate of I(O; Z) without a decoder.",
        choices=lambda: BOUNDS,
    )
    negatives: str = option("batch", "Where negatives come from.", choices=("batch", "sequence"))
    anchor: str = option(
        "posterior",
        "What is paired with the image. posterior: the state that has seen it; prior: the "
        "deterministic state, predicted from the past.",
        choices=("posterior", "prior"),
    )
    projection: int = option(
        128,
        "Size of the projections of state and image that are compared.",
        ge=2,
        le=65536,
        read_if=PROJECTING,
    )
    temperature: float = option(
        0.1, "Temperature: the cosine is divided by it.", gt=0.0, read_if=SCORING
    )
    alpha: float = option(
        0.5,
        "Place of the bound mi_alpha between NWJ, 0, and NCE, 1.",
        gt=0.0,
        lt=1.0,
        read_if=INTERPOLATING,
    )


def _cosine(left: int, right: int, config: ContrastiveConfig) -> CosineCritic:
    """Return the critic whose scores the bounds in nats read."""
    return CosineCritic(left, right, config.projection, config.temperature)


BOUNDS: dict[str, Callable[[int, int, ContrastiveConfig], nn.Module]] = {
    "nce": lambda left, right, config: Scored(_cosine(left, right, config), nce),
    "nwj": lambda left, right, config: Scored(_cosine(left, right, config), nwj),
    "mi_alpha": lambda left, right, config: Scored(
        _cosine(left, right, config), functools.partial(mi_alpha, alpha=config.alpha)
    ),
    "cmim": lambda left, right, config: Scored(_cosine(left, right, config), cmim),
    "wasserstein": lambda left, right, config: Scored(
        LipschitzCritic(left, right, config.projection), wasserstein
    ),
    "mmcr": lambda left, right, config: ManifoldCapacity(
        left,
        right,
        # With twice the dimensions of its input, views that differ fill as many as equal ones.
        min(left, right, config.projection),
    ),
    "redundancy_reduction": lambda left, right, config: RedundancyReduction(left, right),
}
