"""Lambda-returns, and the normalisation of returns and rewards.

Shapes: N starts, H horizon, M games.
"""

import torch
from torch import Tensor, nn

from foreground import ranks
from foreground.agents.actor_critic_config import ActorCriticConfig


def _percentile(ordered: Tensor, share: float) -> Tensor:
    """Return a quantile of sorted (n,). torch.quantile breaks compiled graphs on torch 2.11."""
    position = share * (len(ordered) - 1)
    below = int(position)
    return torch.lerp(ordered[below], ordered[min(below + 1, len(ordered) - 1)], position - below)


def _percentiles_by(returns: Tensor, member: Tensor, share: float) -> Tensor:
    """Return the quantile of each game: returns (H, N), member one-hot (N, M) -> (M,).

    No size depends on the data.
    """
    game = member.argmax(-1).expand_as(returns).flatten()
    values, order = returns.flatten().sort()
    ordered = values[game[order].argsort(stable=True)]  # by game, sorted within each
    counts = member.sum(0).long() * len(returns)
    position = share * (counts - 1).clamp(min=0)
    below = position.long()
    above = below + (position > below).long()
    first = counts.cumsum(0) - counts
    low, high = (ordered[(first + x).clamp(max=len(ordered) - 1)] for x in (below, above))
    return torch.lerp(low, high, position - below)


class ReturnScale(nn.Module):
    """Moving 95th minus 5th percentile of the returns, with a minimum (DreamerV3, Eq. 7).

    With games there is one scale per game. The minimum prevents a reward that hardly varies from
    being amplified to noise.
    """

    def __init__(self, config: ActorCriticConfig, games: int = 0):
        super().__init__()
        self.rate = config.norm_rate
        self.floor = config.return_norm_min
        shape = (games,) if games else ()
        self.register_buffer("low", torch.zeros(shape))
        self.register_buffer("high", torch.zeros(shape))
        self.register_buffer("updates", torch.zeros(shape, dtype=torch.long))

    @property
    def scale(self) -> Tensor:
        """The scale, scalar or (M,)."""
        return (self.high - self.low).clamp(min=self.floor)

    @torch.no_grad()
    def update(self, returns: Tensor, member: Tensor | None = None) -> Tensor:
        """Take in returns (H, N); return the scale of each column, scalar or (N,).

        member   one-hot (N, M), the game of each column; none: there are no games
        """
        returns = returns.float()
        if member is None:
            ordered, seen = returns.flatten().sort().values, 1
            low, high = _percentile(ordered, 0.05), _percentile(ordered, 0.95)
        else:
            low, high = (
                _percentiles_by(returns, member, 0.05),
                _percentiles_by(returns, member, 0.95),
            )
            seen = (member.sum(0) > 0).long()
        rate = torch.where(self.updates == 0, 1.0, self.rate) * seen
        self.low.lerp_(low, rate)
        self.high.lerp_(high, rate)
        self.updates += seen
        return self.scale if member is None else self.scale[member.argmax(-1)]

    @torch.no_grad()
    def agree(self) -> None:
        """Take the mean over the ranks; for a game, over the ranks that saw it since then."""
        rows = torch.stack([self.low.double(), self.high.double(), self.updates.double()])
        low, high, updates = ranks.gathered(rows).unbind(1)  # (R,) or (R, M)
        fresh = updates - updates.min(0).values  # zero where all ranks saw the game as often
        share = torch.where(fresh.sum(0) > 0, fresh, 1.0)
        share = share / share.sum(0)
        self.low.copy_((share * low).sum(0))
        self.high.copy_((share * high).sum(0))
        self.updates.copy_(updates.max(0).values)


class RewardNorm(nn.Module):
    """A reward minus its moving mean, divided by its moving standard deviation.

    SLIM normalises advantages so. Here it is the reward, so that the critic's targets, too, do not
    depend on its unit. The first batch sets both moments: a positive factor on the reward never
    changes the result. A reward that hardly varies, compared with the minimum or a hundredth of its
    mean, is near zero: noise is not amplified.
    """

    def __init__(self, config: ActorCriticConfig):
        super().__init__()
        self.rate = config.norm_rate
        self.floor = config.reward_norm_min
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("square", torch.zeros(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def forward(self, reward: Tensor) -> Tensor:
        """Take in a batch of rewards of any shape; return them normalised."""
        with torch.no_grad():
            rate = torch.where(self.updates == 0, 1.0, self.rate)
            self.mean.lerp_(reward.float().mean(), rate)
            self.square.lerp_(reward.float().square().mean(), rate)
            self.updates += 1
            deviation = (self.square - self.mean.square()).clamp(min=0).sqrt()
            unit = torch.maximum(deviation, 0.01 * self.mean.abs()).clamp(min=self.floor)
        return (reward - self.mean) / unit


def lambda_returns(reward: Tensor, discount: Tensor, value: Tensor, lam: float) -> Tensor:
    """R_t = r_t + d_t ((1 - lam) v_{t+1} + lam R_{t+1}), R_H = v_H (DreamerV2, Eq. 4).

    reward (H, N), discount (H, N) or scalar, value (H, N) of the states with these rewards -> (H,
    N).
    """
    # Filled on the device: a copy from the host cannot be recorded (cuda_graphs.py).
    discount = (
        discount.expand_as(reward)
        if isinstance(discount, Tensor)
        else torch.full_like(reward, discount)
    )
    following, returns = value[-1], []
    for r, d, v in zip(
        reward.flip(0).unbind(0), discount.flip(0).unbind(0), value.flip(0).unbind(0)
    ):
        following = r + d * ((1 - lam) * v + lam * following)
        returns.append(following)
    return torch.stack(returns[::-1])
