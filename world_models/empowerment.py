"""Empowerment, I(A_{t-1}; Z_t | Z_{t-1}), by an inverse model (InfoPower, Sec. 3.2).

The inverse model reads stochastic states only. The deterministic state is computed from the action.
A model that reads it knows the action without the image, so its bound is maximal and means nothing.
Where the posterior reads the image alone, the stochastic states hold of the action only what the
image shows.
Shapes: N any leading axes, Z stochastic state, A action.
"""

import torch
from torch import Tensor, nn

from foreground.option import config_class, option
from foreground.world_models.distributions import clipped_normal_log_prob
from foreground.world_models.networks import MLP


@config_class
class EmpowermentConfig:
    units: int = option(256, "Units of the inverse model.", ge=8, le=65536)
    layers: int = option(2, "Layers of the inverse model.", ge=1, le=100)
    train_representation: bool = option(
        True,
        "Whether the inverse model trains the representation; false: it only reads it, for "
        "the bonus.",
    )
    min_std: float = option(
        0.1,
        "Lower bound of the inverse model's standard deviation; without it the density is "
        "unbounded.",
        gt=0.0,
    )


class InverseModel(nn.Module):
    """q(a_{t-1} | z_{t-1}, z_t): a diagonal Gaussian, clipped to [-1, 1] as actions are.

    Its standard deviation is within [min_std, 1].
    """

    def __init__(self, config: EmpowermentConfig, stochastic: int, action: int):
        super().__init__()
        self.network = MLP(
            2 * stochastic, config.units, config.layers, 2 * action, output_scale=0.1
        )
        self.min_std = config.min_std

    def forward(self, previous: Tensor, following: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (N, A) of the action between states (N, Z), (N, Z)."""
        mean, raw = self.network(torch.cat([previous, following], -1)).float().chunk(2, -1)
        return torch.tanh(mean), self.min_std + (1 - self.min_std) * torch.sigmoid(raw + 1)

    def log_prob(self, previous: Tensor, following: Tensor, action: Tensor) -> Tensor:
        """Return log q(a | z, z') in nats, (N,)."""
        return clipped_normal_log_prob(action.float(), *self(previous, following))


def moments(action: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance (A,) of actions (N, A) with weights (N,) that sum to one."""
    share = share.unsqueeze(-1)
    mean = (share * action).flatten(0, -2).sum(0)
    return mean, (share * (action - mean).square()).flatten(0, -2).sum(0)


def marginal_log_prob(action: Tensor, share: Tensor) -> Tensor:
    """Return the log-density (N,) of actions (N, A) under one Gaussian fitted to them: the level of
    chance.

    Each action has a weight (N,); the weights sum to one. The weighted mean is minus the entropy
    H(A) of that fit. The paper adds the policy's entropy H(pi) to the bound. For replayed actions
    both are constants of the representation; with this one 0 nats means "at chance".
    """
    action = action.float()
    mean, variance = moments(action, share)
    return clipped_normal_log_prob(action, mean, variance.sqrt().clamp(min=1e-2))
