"""The distributions of the agents, as plain tensor functions.

torch.distributions would cost more time than the networks here.

Shapes: N any leading axes, S groups, K classes, A action. Log-probabilities and entropies are in
nats.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOG_2PI = math.log(2 * math.pi)


def symlog(x: Tensor) -> Tensor:
    """Return sign(x) ln(1 + |x|) (DreamerV3, Eq. 9)."""
    return torch.sign(x) * torch.log1p(x.abs())


def symexp(x: Tensor) -> Tensor:
    """Return the inverse of `symlog`."""
    return torch.sign(x) * torch.expm1(x.abs())


class Categorical(nn.Module):
    """S groups of one-hot variables with K classes each; logits and samples are (N, S*K).

    A uniform distribution with share `unimix` is mixed in, so that no KL diverges (DreamerV3).
    Samples have straight-through gradients (Bengio et al. 2013).
    """

    def __init__(self, groups: int, classes: int, unimix: float = 0.01):
        super().__init__()
        self.groups = groups
        self.classes = classes
        self.unimix = unimix
        self.size = self.parameter_size = groups * classes

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities in float32, the uniform share mixed in: (N, S*K) -> (N, S, K)."""
        probabilities = F.softmax(logits.float().unflatten(-1, (self.groups, self.classes)), -1)
        return probabilities * (1 - self.unimix) + self.unimix / self.classes

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Return the logarithm of the probabilities: (N, S*K) -> (N, S, K)."""
        return self.probabilities(logits).log()

    def sample(self, logits: Tensor) -> Tensor:
        """Return a one-hot sample (N, S*K) with straight-through gradient.

        The inverse of the distribution function needs one uniform number per group. An exponential
        race needs one per class and takes seven times as long on a CPU.
        """
        probabilities = self.probabilities(logits)
        fixed = probabilities.detach()
        uniform = torch.rand(*fixed.shape[:-1], 1, device=fixed.device)
        # Rounding can leave the last cumulative probability below 1; hence the clamp.
        index = (fixed.cumsum(-1) < uniform).sum(-1, keepdim=True).clamp_(max=self.classes - 1)
        one_hot = torch.zeros_like(fixed).scatter_(-1, index, 1.0)
        if not probabilities.requires_grad:
            return one_hot.flatten(-2)
        return (one_hot + probabilities - fixed).flatten(-2)

    def mode(self, logits: Tensor) -> Tensor:
        """Return the most likely classes, one-hot (N, S*K)."""
        logits = logits.unflatten(-1, (self.groups, self.classes))
        return F.one_hot(logits.argmax(-1), self.classes).float().flatten(-2)

    def mean(self, logits: Tensor) -> Tensor:
        """Return the expected sample (N, S*K)."""
        return self.probabilities(logits).flatten(-2)

    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        """Return KL(left || right) summed over groups, (N,)."""
        left = self.probabilities(left)
        right = self.log_probabilities(right)
        return (left * (left.log() - right)).sum((-2, -1))

    def cauchy_schwarz(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the Cauchy-Schwarz divergence - ln((sum pq)^2 / (sum p^2 sum q^2)) summed over
        groups, (N,).
        """
        left, right = self.probabilities(left), self.probabilities(right)
        own = left.square().sum(-1).log() + right.square().sum(-1).log()
        return (own - 2 * (left * right).sum(-1).log()).sum(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        """Return the entropy summed over groups, (N,)."""
        probabilities = self.probabilities(logits)
        return -(probabilities * probabilities.log()).sum((-2, -1))


class Gaussian(nn.Module):
    """Independent Gaussians, the latent of PlaNet and Dreamer; parameters (N, 2Z): mean, raw
    deviation.
    """

    def __init__(self, size: int, min_std: float = 0.1):
        super().__init__()
        self.size = size
        self.parameter_size = 2 * size
        self.min_std = min_std

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation in float32: (N, 2Z) -> (N, Z), (N, Z)."""
        mean, raw = parameters.float().chunk(2, -1)
        return mean, F.softplus(raw) + self.min_std

    def sample(self, parameters: Tensor) -> Tensor:
        """Return a reparametrised sample (N, Z)."""
        mean, std = self.split(parameters)
        return mean + std * torch.randn_like(std)

    def mode(self, parameters: Tensor) -> Tensor:
        """Return the mean (N, Z)."""
        return self.split(parameters)[0]

    mean = mode

    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        """Return KL(left || right) summed over coordinates, (N,)."""
        (mean, std), (other_mean, other_std) = self.split(left), self.split(right)
        ratio = std / other_std
        distance = (mean - other_mean) / other_std
        return (0.5 * (ratio**2 + distance**2 - 1) - torch.log(ratio)).sum(-1)

    def cauchy_schwarz(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the Cauchy-Schwarz divergence summed over coordinates, (N,)."""
        (mean, std), (other_mean, other_std) = self.split(left), self.split(right)
        variance = std.square() + other_std.square()
        distance = (mean - other_mean).square() / variance
        return (distance + torch.log(variance / (2 * std * other_std))).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """Return the entropy summed over coordinates, (N,)."""
        return (self.split(parameters)[1].log() + 0.5 * (1 + LOG_2PI)).sum(-1)


class TwoHot(nn.Module):
    """A scalar as a categorical over bins that are evenly spaced in symlog; logits are (N, bins).

    The scale of a target then does not influence the size of its gradient (DreamerV3; Farebrother
    et al. 2024).
    """

    def __init__(self, limit: float = 8.0, bins: int = 0):
        """limit   largest symlog of a value
        bins    an odd number; 0: one per 0.16
        """
        super().__init__()
        bins = bins or 2 * round(limit / 0.16) + 1
        self.parameter_size = bins
        # Symmetric by construction, so that uniform logits decode to exactly zero.
        half = torch.linspace(0, limit, bins // 2 + 1)
        centres = torch.cat([-half.flip(0)[:-1], half])
        self.register_buffer("centres", centres, persistent=False)
        # Halved, since `mean` counts each twice.
        self.register_buffer("values", symexp(centres) / 2, persistent=False)

    def log_prob(self, logits: Tensor, value: Tensor) -> Tensor:
        """Return minus the cross-entropy to the two bins around a value: (N, bins), (N,) -> (N,).

        Their weights have the value as `mean`. Weights that are linear in symlog would have a
        larger one, by 6 % at 0.05 and by up to 8 % nearer to 0.
        """
        logits = logits.float()
        value = value.float()
        position = (symlog(value) - self.centres[0]) / (self.centres[1] - self.centres[0])
        # NaN has no bin, and must come out as NaN.
        below = position.nan_to_num().clamp(0, len(self.centres) - 2).floor().long()
        low, high = 2 * self.values[below], 2 * self.values[below + 1]
        above_weight = ((value - low) / (high - low)).clamp(0, 1)
        both = logits.gather(-1, torch.stack([below, below + 1], -1))  # (N, 2)
        expected = both[..., 0] * (1 - above_weight) + both[..., 1] * above_weight
        return expected - logits.logsumexp(-1)

    def mean(self, logits: Tensor) -> Tensor:
        """Return the mean of the bins' values: (N, bins) -> (N,).

        Bins are paired, so that rounding cannot break symmetry. The symexp of the mean symlog would
        be far too small for rare large rewards: for a reward of 30 with probability 0.1 it is 0.41,
        and the mean is 3.
        """
        probabilities = F.softmax(logits.float(), -1)
        # Not by slices: the gradient of each would be a tensor of zeros.
        paired = probabilities - probabilities.flip(-1)
        return (paired * self.values).sum(-1)


class UnitNormal(nn.Module):
    """A scalar as a Gaussian of standard deviation one, Dreamer's head of reward and value;
    parameters (N, 1).
    """

    parameter_size = 1

    def __init__(self, limit: float = 0.0):
        """limit   not used: a Gaussian has no limit"""
        super().__init__()

    def log_prob(self, mean: Tensor, value: Tensor) -> Tensor:
        """Return the log-density: (N, 1), (N,) -> (N,).

        The standard deviation is fixed; with a learned one the density would be unbounded.
        """
        return -0.5 * (mean.float()[..., 0] - value.float()) ** 2 - 0.5 * LOG_2PI

    def mean(self, mean: Tensor) -> Tensor:
        """Return the mean: (N, 1) -> (N,)."""
        return mean.float()[..., 0]


def normal_log_prob(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return the log-density of a diagonal Gaussian, summed over the last axis: three (N, A) ->
    (N,).
    """
    return (-0.5 * ((value - mean) / std) ** 2 - std.log() - 0.5 * LOG_2PI).sum(-1)


def clipped_normal_log_prob(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return the log-probability of Gaussian samples clipped to [-1, 1], summed over the last axis.

    Three (N, A) -> (N,). Inside the limits it is a density; at a limit it is the probability mass
    of the tail beyond. Actions that the environment clips are such samples: with plain densities a
    saturated policy looks empowered.
    """
    inside = -0.5 * ((value - mean) / std) ** 2 - std.log() - 0.5 * LOG_2PI
    # The tail beyond the limit that the value lies at. For values inside, any finite number will
    # do.
    tail = torch.special.log_ndtr((value.detach().sign() * mean - 1) / std)
    return torch.where(value.abs() >= 1, tail, inside).sum(-1)


def clipped_normal_std(mean: Tensor, std: Tensor) -> Tensor:
    """Return the standard deviation of Gaussian samples clipped to [-1, 1]: two (N, A) -> (N, A).

    With a, b the standardised limits, E[x] and E[x^2] are those of the truncated part plus the
    masses at the limits.
    """
    low = (-1 - mean) / std
    high = (1 - mean) / std
    below = torch.special.ndtr(low)  # mass at the lower limit
    above = torch.special.ndtr(-high)  # mass at the upper limit
    inside = 1 - below - above
    density_low, density_high = (torch.exp(-0.5 * x.square() - 0.5 * LOG_2PI) for x in (low, high))
    first = mean * inside + std * (density_low - density_high) + above - below
    second = (mean.square() + std.square()) * inside + above + below
    second = second + std.square() * (low * density_low - high * density_high)
    second = second + 2 * mean * std * (density_low - density_high)
    return (second - first.square()).clamp(min=1e-6).sqrt()


def normal_entropy(std: Tensor) -> Tensor:
    """Return the entropy of a diagonal Gaussian: standard deviations (N, A) -> (N,)."""
    return (std.log() + 0.5 * (1 + LOG_2PI)).sum(-1)


SCALAR_HEADS = {"two_hot": TwoHot, "unit_normal": UnitNormal}
