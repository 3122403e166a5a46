"""The distribution of an action. Shapes: N states, A action."""

from typing import NamedTuple

import torch
from torch import Tensor

from foreground.world_models.distributions import (
    clipped_normal_std,
    normal_entropy,
    normal_log_prob,
)


class Policy(NamedTuple):
    """A diagonal Gaussian, mean and standard deviation (N, A).

    Environments clip samples to [-1, 1].
    """

    mean: Tensor
    std: Tensor

    def sample(self) -> Tensor:
        """Return a reparametrised sample (N, A)."""
        return self.mean + self.std * torch.randn_like(self.std)

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-density of actions: (N, A) -> (N,)."""
        return normal_log_prob(action, self.mean, self.std)

    def entropy(self) -> Tensor:
        """Return the entropy before clipping, (N,) in nats."""
        return normal_entropy(self.std)

    def clipped_std(self) -> Tensor:
        """Return the standard deviation (N, A) of samples clipped to [-1, 1]."""
        return clipped_normal_std(self.mean, self.std)

    def tanh_correction(self) -> Tensor:
        """Return sum ln(1 - mean^2), (N,) in nats, at most 0: the tanh term of the entropy at the
        mean.

        Source: SAC, arXiv 1801.01290, Eq. 21. Its gradient towards the centre, 2 mean on the input
        of tanh, does not vanish where the mean saturates; all other gradients do. That holds for
        inputs below about 7: at 9 the mean is 1 in float32, without slope.
        """
        return ((1 - self.mean.square()).clamp(min=0) + 1e-6).log().sum(-1)
