"""Entropy bonuses: of fixed weight, or with a weight that holds a target standard deviation.

Shapes: N any leading axes, A action.
"""

import math

import torch
from torch import Tensor, nn

from foreground.agents.policy import Policy

DUAL_RATE = 0.01  # step of the log weight per unit of error in the log standard deviation
SMALLEST = 1e-4  # bounds of the learned weight
LARGEST = 1.0
TANH_COEF = 3e-3  # of ln(1 - mean^2) with a learned weight; it affects saturated means only


class FixedEntropy(nn.Module):
    """entropy_coef x (H + tanh_entropy_coef x ln(1 - mean^2)), H the entropy of the Gaussian before
    clipping.
    """

    def __init__(self, entropy_coef: float, tanh_entropy_coef: float):
        super().__init__()
        self.entropy_coef = entropy_coef
        self.tanh_entropy_coef = tanh_entropy_coef

    def forward(self, policy: Policy) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the bonus (N,) and metrics."""
        return self.entropy_coef * (
            policy.entropy() + self.tanh_entropy_coef * policy.tanh_correction()
        ), {}


class TargetDeviation(nn.Module):
    """weight x sum_A ln(std of the clipped action) + 0.003 ln(1 - mean^2), with the weight a dual
    variable.

    Source: SAC, arXiv 1812.05905, Eq. 18. The standard deviation of the clipped action is small for
    a narrow Gaussian and for a mean near a limit. So one target bounds how deterministic the policy
    becomes, whatever the scale of the returns. The target falls from `first` to `last` between two
    numbers of updates.
    """

    def __init__(self, weight: float, target: tuple[float, ...], updates: tuple[int, ...]):
        super().__init__()
        self.first = math.log(target[0])
        self.last = math.log(target[-1])
        self.begin, self.end = updates
        self.register_buffer("log_weight", torch.tensor(math.log(max(weight, SMALLEST))))
        self.register_buffer("updates", torch.zeros(()))

    def forward(self, policy: Policy) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the bonus (N,) and metrics; take one step of the weight."""
        deviation = policy.clipped_std().log()  # (N, A)
        weight = self.log_weight.exp()
        with torch.no_grad():
            share = ((self.updates - self.begin) / max(self.end - self.begin, 1)).clamp(0, 1)
            target = self.first + share * (self.last - self.first)
            self.log_weight.add_(DUAL_RATE * (target - deviation.mean()))
            self.log_weight.clamp_(math.log(SMALLEST), math.log(LARGEST))
            self.updates += 1
            metrics = {
                "entropy_weight": weight,
                "target_std": target.exp(),
                "clipped_std": deviation.mean().exp(),
            }
        return weight * deviation.sum(-1) + TANH_COEF * policy.tanh_correction(), metrics


def make_regulariser(config) -> nn.Module:
    """Return the bonus of an actor-critic's config."""
    if config.target_std:
        return TargetDeviation(config.entropy_coef, config.target_std, config.target_std_updates)
    return FixedEntropy(config.entropy_coef, config.tanh_entropy_coef)
