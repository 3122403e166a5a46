"""Returns and their units: lambda-returns, the scale that returns are divided by, rewards in units of themselves.

Shapes: N starts, H horizon, M games.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from foreground.agents.actor_critic import ActorCriticConfig


def _percentile(ordered: Tensor, share: float) -> Tensor:
    """What torch.quantile gives of sorted (n,); that one breaks the compiled graph on torch 2.11."""
    position = share * (len(ordered) - 1)
    below = int(position)
    return torch.lerp(ordered[below], ordered[min(below + 1, len(ordered) - 1)], position - below)


def _percentiles_by(returns: Tensor, member: Tensor, share: float) -> Tensor:
    """The same of each column's game: returns (H, N), member one-hot (N, M) -> (M,); no size depends on the data."""
    game = member.argmax(-1).expand_as(returns).flatten()
    values, order = returns.flatten().sort()
    ordered = values[game[order].argsort(stable=True)]  # game by game, each in order
    counts = member.sum(0).long() * len(returns)
    position = share * (counts - 1).clamp(min=0)
    below, first = position.long(), counts.cumsum(0) - counts
    low, high = (ordered[(first + x).clamp(max=len(ordered) - 1)] for x in (below, below + (position > below).long()))
    return torch.lerp(low, high, position - below)


class ReturnScale(nn.Module):
    """Moving spread of returns, 95th minus 5th percentile, with a floor (DreamerV3, Eq. 7); of each of M games, if there are.

    The floor keeps a reward that hardly varies from being blown up into noise.
    """

    def __init__(self, config: "ActorCriticConfig", games: int = 0):
        super().__init__()
        self.rate, self.floor = config.norm_rate, config.return_norm_min
        shape = (games,) if games else ()
        self.register_buffer("low", torch.zeros(shape))
        self.register_buffer("high", torch.zeros(shape))
        self.register_buffer("updates", torch.zeros(shape, dtype=torch.long))

    @property
    def scale(self) -> Tensor:
        """The spread, scalar or (M,)."""
        return (self.high - self.low).clamp(min=self.floor)

    @torch.no_grad()
    def update(self, returns: Tensor, member: Tensor | None = None) -> Tensor:
        """Take in returns (H, N), member one-hot (N, M) where there are games; the scale of each column, scalar or (N,)."""
        returns = returns.float()
        if member is None:
            ordered, seen = returns.flatten().sort().values, 1
            low, high = _percentile(ordered, 0.05), _percentile(ordered, 0.95)
        else:
            low, high = _percentiles_by(returns, member, 0.05), _percentiles_by(returns, member, 0.95)
            seen = (member.sum(0) > 0).long()
        rate = torch.where(self.updates == 0, 1.0, self.rate) * seen
        self.low.lerp_(low, rate)
        self.high.lerp_(high, rate)
        self.updates += seen
        return self.scale if member is None else self.scale[member.argmax(-1)]


class RewardUnit(nn.Module):
    """A reward in units of itself: minus its moving mean, over its moving deviation (SLIM normalises advantages so).

    Here it is the reward, so that the critic, too, sees numbers of its size whatever the unit. Any positive factor on the
    reward leaves the result as it is, from the first batch on, which sets both moments. A reward that hardly varies, against
    the floor or a hundredth of its mean, comes out near zero: noise is not blown up.
    """

    def __init__(self, config: "ActorCriticConfig"):
        super().__init__()
        self.rate, self.floor = config.norm_rate, config.reward_norm_min
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("square", torch.zeros(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def forward(self, reward: Tensor) -> Tensor:
        """Any shape -> the same; takes the batch in."""
        with torch.no_grad():
            rate = torch.where(self.updates == 0, 1.0, self.rate)
            self.mean.lerp_(reward.float().mean(), rate)
            self.square.lerp_(reward.float().square().mean(), rate)
            self.updates += 1
            deviation = (self.square - self.mean.square()).clamp(min=0).sqrt()
            unit = torch.maximum(deviation, 0.01 * self.mean.abs()).clamp(min=self.floor)
        return (reward - self.mean) / unit


def lambda_returns(reward: Tensor, discount: Tensor, value: Tensor, trace: float) -> Tensor:
    """R_t = r_t + d_t ((1 - trace) v_{t+1} + trace R_{t+1}), R_H = v_H (DreamerV2, Eq. 4).

    reward (H, N), discount (H, N) or scalar, value (H, N) of the states that the rewards came with -> (H, N).
    """
    # Filled on the device: a number that is sent there cannot be recorded (recorded.py).
    discount = discount.expand_as(reward) if isinstance(discount, Tensor) else torch.full_like(reward, discount)
    following, returns = value[-1], []
    for r, d, v in zip(reward.flip(0).unbind(0), discount.flip(0).unbind(0), value.flip(0).unbind(0)):
        following = r + d * ((1 - trace) * v + trace * following)
        returns.append(following)
    return torch.stack(returns[::-1])
