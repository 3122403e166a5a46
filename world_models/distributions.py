"""The distributions the agents use, as plain tensor functions (torch.distributions costs more than the networks here).

Shapes: N any leading axes, S groups, K classes, A action. Log-probabilities and entropies are in nats.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOG_2PI = math.log(2 * math.pi)


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(1 + |x|) (DreamerV3, Eq. 9)."""
    return torch.sign(x) * torch.log1p(x.abs())


def symexp(x: Tensor) -> Tensor:
    """The inverse of `symlog`."""
    return torch.sign(x) * torch.expm1(x.abs())


class Categorical(nn.Module):
    """S groups of one-hot variables with K classes each; parameters are logits (N, S*K), samples (N, S*K).

    `unimix` mixes in a uniform distribution so that no probability, and no KL, explodes (DreamerV3). Gradients pass
    a sample straight through (Bengio et al. 2013).
    """

    def __init__(self, groups: int, classes: int, unimix: float = 0.01):
        super().__init__()
        self.groups, self.classes, self.unimix = groups, classes, unimix
        self.size = self.parameter_size = groups * classes

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, S*K) -> (N, S, K), float32, the uniform share mixed in."""
        probabilities = F.softmax(logits.float().unflatten(-1, (self.groups, self.classes)), -1)
        return probabilities * (1 - self.unimix) + self.unimix / self.classes

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """The logarithm of these, (N, S, K)."""
        return self.probabilities(logits).log()

    def sample(self, logits: Tensor) -> Tensor:
        """One-hot (N, S*K), straight-through gradient.

        By the inverse of the distribution function: one uniform number a group; an exponential race needs one a
        class, which takes seven times as long on a CPU.
        """
        probabilities = self.probabilities(logits)
        fixed = probabilities.detach()
        uniform = torch.rand(*fixed.shape[:-1], 1, device=fixed.device)
        # Rounding can leave the last cumulated value below 1, hence the clamp.
        index = (fixed.cumsum(-1) < uniform).sum(-1, keepdim=True).clamp_(max=self.classes - 1)
        one_hot = torch.zeros_like(fixed).scatter_(-1, index, 1.0)
        if not probabilities.requires_grad:
            return one_hot.flatten(-2)
        return (one_hot + probabilities - fixed).flatten(-2)

    def mode(self, logits: Tensor) -> Tensor:
        """The likeliest classes, one-hot (N, S*K)."""
        logits = logits.unflatten(-1, (self.groups, self.classes))
        return F.one_hot(logits.argmax(-1), self.classes).float().flatten(-2)

    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        """KL(left || right) summed over groups: (N,)."""
        left, right = self.probabilities(left), self.log_probabilities(right)
        return (left * (left.log() - right)).sum((-2, -1))

    def entropy(self, logits: Tensor) -> Tensor:
        """Summed over groups: (N,)."""
        probabilities = self.probabilities(logits)
        return -(probabilities * probabilities.log()).sum((-2, -1))


class Gaussian(nn.Module):
    """Independent Gaussians, the latent of PlaNet and Dreamer; parameters (N, 2Z) hold mean and raw deviation."""

    def __init__(self, size: int, min_std: float = 0.1):
        super().__init__()
        self.size, self.parameter_size, self.min_std = size, 2 * size, min_std

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 2Z) -> mean (N, Z) and deviation (N, Z), float32."""
        mean, raw = parameters.float().chunk(2, -1)
        return mean, F.softplus(raw) + self.min_std

    def sample(self, parameters: Tensor) -> Tensor:
        """Reparametrised sample (N, Z)."""
        mean, std = self.split(parameters)
        return mean + std * torch.randn_like(std)

    def mode(self, parameters: Tensor) -> Tensor:
        """The mean (N, Z)."""
        return self.split(parameters)[0]

    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        """KL(left || right) summed over coordinates: (N,)."""
        (mean, std), (other_mean, other_std) = self.split(left), self.split(right)
        ratio, distance = std / other_std, (mean - other_mean) / other_std
        return (0.5 * (ratio**2 + distance**2 - 1) - torch.log(ratio)).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """Summed over coordinates: (N,)."""
        return (self.split(parameters)[1].log() + 0.5 * (1 + LOG_2PI)).sum(-1)


class TwoHot(nn.Module):
    """A scalar as a categorical over bins, evenly spaced after symlog (DreamerV3; Farebrother et al. 2024).

    The scale of a target then has no influence on the size of its gradient. Logits are (N, bins).
    """

    def __init__(self, limit: float = 8.0, bins: int = 0):
        """limit   largest symlog of a value; bins: an odd number, 0 for one each 0.16"""
        super().__init__()
        bins = bins or 2 * round(limit / 0.16) + 1
        self.parameter_size = bins
        # Symmetric by construction, so that uniform logits decode to exactly zero.
        half = torch.linspace(0, limit, bins // 2 + 1)
        centres = torch.cat([-half.flip(0)[:-1], half])
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("values", symexp(centres) / 2, persistent=False)  # of which `mean` counts each twice

    def log_prob(self, logits: Tensor, value: Tensor) -> Tensor:
        """Cross-entropy against the two bins around symlog(value): (N, bins), (N,) -> (N,)."""
        logits = logits.float()
        target = symlog(value.float()).clamp(self.centres[0], self.centres[-1])
        position = (target - self.centres[0]) / (self.centres[1] - self.centres[0])
        below = position.floor().long().clamp(0, len(self.centres) - 2)
        above_weight = position - below
        both = logits.gather(-1, torch.stack([below, below + 1], -1))  # (N, 2)
        return both[..., 0] * (1 - above_weight) + both[..., 1] * above_weight - logits.logsumexp(-1)

    def mean(self, logits: Tensor) -> Tensor:
        """Mean of the bins' values: (N, bins) -> (N,). Bins are paired so that rounding cannot break symmetry.

        The symexp of the mean symlog would be the value of a rare large reward too small by far: of 30 with a
        probability of 0.1 it makes 0.41 of 3.
        """
        probabilities = F.softmax(logits.float(), -1)
        paired = probabilities - probabilities.flip(-1)  # not slices, whose gradient is a tensor of zeros each
        return (paired * self.values).sum(-1)


class UnitNormal(nn.Module):
    """A scalar as a Gaussian of deviation one, the reward and value head of Dreamer. Parameters are (N, 1)."""

    parameter_size = 1

    def __init__(self, limit: float = 0.0):
        """limit   of no effect: a Gaussian has none"""
        super().__init__()

    def log_prob(self, mean: Tensor, value: Tensor) -> Tensor:
        """(N, 1), (N,) -> (N,). The deviation is fixed: a free one would make the density unbounded."""
        return -0.5 * (mean.float()[..., 0] - value.float()) ** 2 - 0.5 * LOG_2PI

    def mean(self, mean: Tensor) -> Tensor:
        """(N, 1) -> (N,)."""
        return mean.float()[..., 0]


def normal_log_prob(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Diagonal Gaussian log-density summed over the last axis: three (N, A) -> (N,)."""
    return (-0.5 * ((value - mean) / std) ** 2 - std.log() - 0.5 * LOG_2PI).sum(-1)


def clipped_normal_log_prob(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log-probability of a Gaussian sample clipped to [-1, 1], summed over the last axis: three (N, A) -> (N,).

    Inside it is a density; at either end it is the mass of the tail that the clipping put there. An action that the
    environment clips is such a variable: with plain densities on it, a saturated policy looks empowered.
    """
    inside = -0.5 * ((value - mean) / std) ** 2 - std.log() - 0.5 * LOG_2PI
    # The tail beyond the end that the value lies at; where it lies inside, any finite number will do.
    tail = torch.special.log_ndtr((value.detach().sign() * mean - 1) / std)
    return torch.where(value.abs() >= 1, tail, inside).sum(-1)


def clipped_normal_std(mean: Tensor, std: Tensor) -> Tensor:
    """Standard deviation of a Gaussian sample clipped to [-1, 1], elementwise: two (N, A) -> (N, A).

    With a, b the standardised limits: E[x] and E[x^2] are those of the truncated part plus the masses at the limits.
    """
    low, high = (-1 - mean) / std, (1 - mean) / std
    below, above = torch.special.ndtr(low), torch.special.ndtr(-high)  # masses at the limits
    inside = 1 - below - above
    density_low, density_high = (torch.exp(-0.5 * x.square() - 0.5 * LOG_2PI) for x in (low, high))
    first = mean * inside + std * (density_low - density_high) + above - below
    second = (mean.square() + std.square()) * inside + above + below
    second = second + std.square() * (low * density_low - high * density_high)
    second = second + 2 * mean * std * (density_low - density_high)
    return (second - first.square()).clamp(min=1e-6).sqrt()


def normal_entropy(std: Tensor) -> Tensor:
    """(N, A) -> (N,)."""
    return (std.log() + 0.5 * (1 + LOG_2PI)).sum(-1)


SCALAR_HEADS = {"two_hot": TwoHot, "unit_normal": UnitNormal}
