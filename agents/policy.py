"""The distribution of an action. Shapes: N states, A action."""

from typing import NamedTuple

import torch
from torch import Tensor

from foreground.world_models.distributions import clipped_normal_std, normal_entropy, normal_log_prob


class Policy(NamedTuple):
    """A diagonal Gaussian: mean and deviation (N, A); environments clip its samples to [-1, 1]."""

    mean: Tensor
    std: Tensor

    def sample(self) -> Tensor:
        """Reparametrised (N, A)."""
        return self.mean + self.std * torch.randn_like(self.std)

    def log_prob(self, action: Tensor) -> Tensor:
        """(N, A) -> (N,)."""
        return normal_log_prob(action, self.mean, self.std)

    def entropy(self) -> Tensor:
        """(N,) in nats."""
        return normal_entropy(self.std)

    def clipped_std(self) -> Tensor:
        """Standard deviation (N, A) of the sample after clipping to [-1, 1]."""
        return clipped_normal_std(self.mean, self.std)

    def room(self) -> Tensor:
        """ln(1 - mean^2), (N,) in nats, at most 0: what tanh adds to the entropy at the mean (SAC, arXiv 1801.01290, Eq. 21).

        Its pull back to the middle, 2 mean on what goes into tanh, does not vanish in a corner, where all other gradients do
        (while that is below 7 or so; at 9 float32 has a mean of 1 and no slope).
        """
        return ((1 - self.mean.square()).clamp(min=0) + 1e-6).log().sum(-1)
