"""The actor-critic that every agent shares: one critic per named reward, learned in imagination (DreamerV3).

Each reward has its own critic and its own scale; the actor follows the weighted sum of the normalised advantages. So
rewards of different units mix without one drowning the other, and {task: 1} is plain Dreamer.
Shapes: N starts, H horizon, F features, C condition, A action, M games.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from foreground.agents.policy import Policy
from foreground.agents.regulariser import make_regulariser
from foreground.agents.returns import ReturnScale, RewardUnit, lambda_returns
from foreground.errors import UserError
from foreground.option import option
from foreground.world_models.distributions import SCALAR_HEADS, clipped_normal_log_prob
from foreground.world_models.networks import MLP
from foreground.world_models.rssm import State

RATIO = 0.2  # how far from 1 a ratio of policies counts, where a roll-out is used more than once (PPO's)


ALONG_PATH = "where --actor_critic.actor_grad is dynamics", lambda config: config.actor_grad == "dynamics"
ENTROPIC = "where --actor_critic.entropy_coef is above 0", lambda config: config.entropy_coef > 0
TARGETED = "where --actor_critic.target_std is given", lambda config: config.target_std
NORMALISED = "where --actor_critic.reward_norm is true", lambda config: config.reward_norm


@dataclass(frozen=True)
class ActorCriticConfig:
    rewards: dict[str, float] = option({"task": 1.0}, "Named rewards and the weights of their normalised advantages.", ge=0.0)
    reward_scales: dict[str, float] = option(
        {}, "Factors on single rewards before anything else: to try what their units do. Rewards left out have 1.", gt=0.0
    )
    units: int = option(256, "Units of actor and critics.", ge=8, le=65536)
    layers: int = option(2, "Layers of actor and critics.", ge=1, le=100)
    horizon: int = option(15, "Imagined steps H.", ge=1, le=10_000)
    imag_starts: int = option(256, "States of a batch from which imagination starts; 0 takes all.", ge=0)
    discount: float = option(0.99, "Discount per agent step.", gt=0.0, lt=1.0)
    lam: float = option(0.95, "Lambda of the lambda-returns.", ge=0.0, le=1.0)
    entropy_coef: float = option(3e-4, "Weight of the policy's entropy.", ge=0.0)
    tanh_entropy_coef: float = option(
        1.0,
        "Weight, within the entropy, of ln(1 - mean^2), what tanh leaves of it (SAC); 0: a mean in a corner stays there.",
        ge=0.0,
        read_if=ENTROPIC,
    )
    target_std: tuple[float, ...] = option(
        (),
        "Targets, first and last, for the standard deviation of the clipped action. The weight of the entropy is then"
        " learned, and `entropy_coef` is its initial value; without it the weight is fixed.",
        gt=0.0,
        le=0.57,
    )
    target_std_updates: tuple[int, ...] = option(
        (2500, 8000),
        "Updates between which the target falls from first to last, geometrically.",
        ge=0,
        read_if=TARGETED,
    )
    actor_grad: str = option(
        "reinforce",
        "The actor's gradient: by the score function (cheap), or along the path through model and critics (Dreamer).",
        choices=("reinforce", "dynamics"),
    )
    policy_input_grad: float = option(
        1.0,
        "Share of the actor's gradient along the path through the states that the policy reads; 0: none (Dreamer).",
        ge=0.0,
        le=1.0,
        read_if=ALONG_PATH,
    )
    initial_std: float = option(0.6, "Deviation that the policy starts with.", gt=0.0, le=1.0)
    critic_head: str = option("two_hot", "Distribution of the value.", choices=("two_hot", "unit_normal"))
    value_limit: float = option(
        6.5, "Largest symlog of a value that a two-hot critic can represent: 6.5 is a value of 664.", gt=0.0, le=20.0
    )
    target_tau: float = option(
        1.0, "Rate at which the target critics follow the critics; 1: no target critics.", gt=0.0, le=1.0
    )
    target_update_every: int = option(
        1, "Updates between two steps of the slow copies; with target_tau 1 they are copied whole.", ge=1
    )
    replay_value_coef: float = option(
        0.0,
        "Weight of the critic's loss on replayed rows, against the rewards that came (DreamerV3): what imagination"
        " promises is then held to what happened. 0: imagination alone.",
        ge=0.0,
    )
    return_norm_min: float = option(1.0, "Smallest scale by which returns are divided, in units of return.", gt=0.0)
    norm_rate: float = option(0.02, "Rate of the moving statistics that normalise returns and rewards.", gt=0.0, le=1.0)
    reward_norm: bool = option(
        False, "Centre each reward and divide it by its moving deviation before its critic learns it: no unit matters (SLIM)."
    )
    reward_norm_min: float = option(1e-4, "Smallest deviation by which a reward is divided.", gt=0.0, read_if=NORMALISED)
    noise_correlation: float = option(
        0.5,
        "Correlation of the noise of one action with that of the next, while episodes are collected; 0: white. Choices of"
        " skills (hierarchical) have none.",
        ge=0.0,
        lt=1.0,
    )
    min_std: float = option(0.1, "Smallest deviation of the policy.", gt=0.0)
    max_std: float = option(1.0, "Largest deviation of the policy.", gt=0.0)

    def __post_init__(self):
        if not self.rewards:
            raise UserError("no reward is named", "actor_critic.rewards", "name one with its weight, like task=1")
        limit = min(self.initial_std, 0.99 * self.max_std)  # what the policy starts with
        if self.min_std >= limit:
            what = f"min_std {self.min_std} leaves no room below initial_std {self.initial_std} and max_std {self.max_std}"
            raise UserError(what, "actor_critic.min_std", f"choose less than {limit:g}")


class Actor(nn.Module):
    """pi(a | feature, condition), mean within (-1, 1)."""

    def __init__(self, config: ActorCriticConfig, inputs: int, action: int):
        super().__init__()
        self.network = MLP(inputs, config.units, config.layers, 2 * action, output_scale=0.01)
        self.min_std, self.max_std = config.min_std, config.max_std
        share = (min(config.initial_std, 0.99 * config.max_std) - config.min_std) / (config.max_std - config.min_std)
        self.raw_offset = math.log(share / (1 - share))

    def forward(self, feature: Tensor) -> Policy:
        mean, raw = self.network(feature).float().chunk(2, -1)
        return Policy(torch.tanh(mean), self.min_std + (self.max_std - self.min_std) * torch.sigmoid(raw + self.raw_offset))


class Critic(nn.Module):
    """The value of one reward.

    With `target_tau` below 1 or `target_update_every` above 1 a target network gives the values (DreamerV2).
    Without it one pass serves the targets, the advantages and the loss: a third of the work.
    """

    def __init__(self, config: ActorCriticConfig, inputs: int, trunk: nn.Module | None = None):
        """trunk   (N, F) -> (N, `trunk.outputs`), before all else; none: nothing"""
        super().__init__()
        self.head = SCALAR_HEADS[config.critic_head](limit=config.value_limit)
        width = inputs if trunk is None else trunk.outputs
        head = MLP(width, config.units, config.layers, self.head.parameter_size, output_scale=0.0)
        self.network = head if trunk is None else nn.Sequential(trunk, head)
        self.rate = config.target_tau
        self.slow = deepcopy(self.network) if self.rate < 1 or config.target_update_every > 1 else None
        if self.slow is not None:
            self.slow.requires_grad_(False)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """(N, F) -> logits (N, P), values (N,) without gradient."""
        logits = self.network(feature)
        with torch.no_grad():
            return logits, self.head.mean(logits if self.slow is None else self.slow(feature))

    def judge(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """(N, F) -> logits (N, P), whose gradient goes to the weights alone; values (N,), theirs to the feature alone.

        Where one network gives both, it runs once: a value is then linear in the feature, with the slope of the network.
        """
        seen = feature.detach()
        if not feature.requires_grad:
            return self(seen)
        if self.slow is not None or torch.compiler.is_compiling():  # a slope cannot be taken within a compiled graph
            network = self.network if self.slow is None else self.slow
            weights = {name: weight.detach() for name, weight in network.named_parameters()}
            return self.network(seen), self.head.mean(functional_call(network, weights, (feature,)))
        logits = self.network(seen.requires_grad_())
        value = self.head.mean(logits)
        (slope,) = torch.autograd.grad(value.sum(), seen, retain_graph=True)
        along = (feature * slope).sum(-1)
        return logits, value.detach() + (along - along.detach())

    def loss(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of the returns: (N, P), (N,), weight (N,) of each -> scalar."""
        log_prob = self.head.log_prob(logits, target)
        return -(log_prob if weight is None else weight * log_prob).mean()

    @torch.no_grad()
    def follow(self, rate: float | None = None) -> None:
        """Move the slow copy towards the network; at its own rate unless told."""
        if self.slow is not None:
            for slow, fast in zip(self.slow.parameters(), self.network.parameters()):
                slow.lerp_(fast, self.rate if rate is None else rate)


class Model(Protocol):
    """What imagination needs of a world model.

    continuation   features (..., F) -> (...), the probability that an episode goes on behind a state; None: it always does
    """

    continuation: Callable[[Tensor], Tensor] | None

    def imagine(self, state: State, action: Tensor) -> State: ...


class Imagined(NamedTuple):
    """A roll-out of prior and policy: H+1 states, the H actions between them."""

    state: State  # (H+1, N, ...)
    feature: Tensor  # (H+1, N, F + C)
    action: Tensor  # (H, N, A), as sampled
    log_prob: Tensor  # (H, N), log pi of the action as the environment takes it: clipped to [-1, 1]
    condition: Tensor | None = None  # (N, C), held throughout
    weight: Tensor | None = None  # (N,), what each roll-out counts for the actor; none: all alike
    behaviour: Tensor | None = None  # (H, N), log pi of the action as sampled when it was taken; none: the policy of now
    member: Tensor | None = None  # (N, M), one-hot: the game whose scale of returns is each roll-out's
    continuation: Tensor | None = None  # (H+1, N), probability that the episode goes on behind each state; none: it does

    @property
    def previous(self) -> State:
        return self.state.map(lambda x: x[:-1])

    @property
    def following(self) -> State:
        return self.state.map(lambda x: x[1:])

    @property
    def state_feature(self) -> Tensor:
        """(H+1, N, F): features of the states, without a copy where there is no condition."""
        return self.feature[..., : sum(part.shape[-1] for part in self.state)]

    @property
    def reached(self) -> Tensor:
        """(H, N, F): features of the following states."""
        return self.state_feature[1:]

    @property
    def alive(self) -> Tensor | None:
        """(H, N): probability that an episode comes to each state with an action and goes on; none: it always does."""
        return None if self.continuation is None else self.continuation.detach().cumprod(0)[:-1]


RewardFunction = Callable[[Imagined], Tensor]  # -> (H, N): the reward that came with each following state


class ActorCritic(nn.Module):
    """Actor, critics and scales; `loss` improves the policy against named rewards from given starts."""

    def __init__(
        self,
        config: ActorCriticConfig,
        feature: int,
        action: int,
        condition: int = 0,
        actor: nn.Module | None = None,
        games: int = 0,
        trunk: Callable[[], nn.Module] | None = None,
    ):
        """
        actor   with the call of Actor, on (N, F + C); none: an Actor
        trunk   makes what a critic sees its inputs through; none: nothing
        games   M that have a scale of returns each; 0: one scale a reward
        """
        super().__init__()
        self.config = config
        inputs = feature + condition
        self.actor = actor or Actor(config, inputs, action)
        self.critics = nn.ModuleDict({name: Critic(config, inputs, trunk and trunk()) for name in config.rewards})
        self.scales = nn.ModuleDict({name: ReturnScale(config, games) for name in config.rewards})
        units = {name: RewardUnit(config) if config.reward_norm else nn.Identity() for name in config.rewards}
        self.units = nn.ModuleDict(units)
        self.regulariser = make_regulariser(config)
        if config.target_update_every > 1:
            self.register_buffer("followed", torch.zeros((), dtype=torch.long))

    @staticmethod
    def inputs(state: State, condition: Tensor | None) -> Tensor:
        """The one seam where a condition (skill, relation) enters: (..., F) and (..., C) -> (..., F + C)."""
        return state.feature if condition is None else torch.cat([state.feature, condition], -1)

    def imagine(self, model: Model, start: State, condition: Tensor | None) -> Imagined:
        """Roll policy and prior out for H steps from start (N, ...)."""
        states, features, actions, policies = [start], [self.inputs(start, condition)], [], []
        for _ in range(self.config.horizon):
            # Equal to the feature in value; `policy_input_grad` scales its gradient.
            policy = self.actor(torch.lerp(features[-1].detach(), features[-1], self.config.policy_input_grad))
            policies.append(policy)
            actions.append(policy.sample())
            # The environment, too, clips an action out of range.
            states.append(model.imagine(states[-1], actions[-1].clamp(-1, 1)))
            features.append(self.inputs(states[-1], condition))
        state = State(*(torch.stack(column) for column in zip(*states)))
        action, mean, std = (torch.stack(column) for column in (actions, *zip(*policies)))
        log_prob = clipped_normal_log_prob(action.clamp(-1, 1), mean, std)
        return Imagined(state, torch.stack(features), action, log_prob, condition)

    def loss(
        self,
        model: Model,
        start: State,
        rewards: dict[str, RewardFunction],
        condition: Tensor | None = None,
        weight: Tensor | None = None,
        member: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Imagine from start (N, ...) and `improve`; weight (N,) of each roll-out in the actor's loss, its game (N, M).

        Errors: KeyError when a configured reward has no function.
        """
        with torch.set_grad_enabled(self.config.actor_grad == "dynamics"):
            imagined = self.imagine(model, start, condition)
            going = None if model.continuation is None else model.continuation(imagined.state_feature)
        return self.improve(imagined._replace(weight=weight, member=member, continuation=going), rewards)

    def improve(self, imagined: Imagined, rewards: dict[str, RewardFunction]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What a roll-out teaches: ({"actor": scalar, "critic": scalar}, metrics)."""
        by_path = self.config.actor_grad == "dynamics"
        policy = self.actor(imagined.feature[:-1].detach())
        entropy = policy.entropy()
        gain, critic_loss = torch.zeros_like(entropy), 0.0
        metrics: dict[str, Tensor] = {}
        for name, weight in self.config.rewards.items():
            with torch.set_grad_enabled(by_path):
                reward = rewards[name](imagined)  # (H, N)
                own = self.units[name](reward)
            returns, advantage, scale, loss, extra = self._judge(name, imagined, own)
            extra["reward"] = reward.detach().mean()
            gain = gain + weight * (returns if by_path else advantage) / scale
            critic_loss = critic_loss + loss
            metrics |= {f"{name}/{key}": value for key, value in extra.items()}
        if not by_path:
            metrics["advantage_std"] = gain.std()
            gain = self._surrogate(policy.log_prob(imagined.action), imagined.behaviour, gain)
        bonus, extra = self.regulariser(policy)
        metrics |= extra
        gain = gain + bonus
        gain = gain if imagined.weight is None else gain * imagined.weight
        if imagined.alive is not None:
            gain = gain * imagined.alive
            metrics["continuation"] = imagined.continuation.detach().mean()
        losses = {"actor": -gain.mean(), "critic": critic_loss}
        metrics |= {
            "entropy": entropy.mean(),
            "std": policy.std.mean(),
            "saturation": (policy.mean.abs() > 0.9).float().mean(),
            "mean_action": policy.mean.abs().mean(),
        }
        return losses, metrics

    def _surrogate(self, log_prob: Tensor, behaviour: Tensor | None, gain: Tensor) -> Tensor:
        """What the score function climbs; of roll-outs of an older policy PPO's clipped surrogate (arXiv 1707.06347, Eq. 7)."""
        if behaviour is None:
            return log_prob * gain
        ratio = (log_prob - behaviour).exp()
        return torch.minimum(ratio * gain, ratio.clamp(1 - RATIO, 1 + RATIO) * gain)

    def _judge(self, name: str, imagined: Imagined, reward: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict]:
        """One reward: lambda-returns and advantages (H, N), their scale, its critic's loss, metrics."""
        critic = self.critics[name]
        logits, value = critic.judge(imagined.feature)  # (H+1, N, P), (H+1, N)
        discount = self.config.discount
        discount = discount if imagined.continuation is None else discount * imagined.continuation[1:]
        returns = lambda_returns(reward, discount, value[1:], self.config.lam)
        target, value = returns.detach(), value.detach()
        scale = self.scales[name].update(target, imagined.member)
        metrics = {"return": target.mean(), "value": value.mean(), "scale": scale.mean()}
        return returns, target - value[:-1], scale, critic.loss(logits[:-1], target, imagined.alive), metrics

    def replayed(
        self, state: State, reward: Tensor, is_first: Tensor, known: Tensor, terminal: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the task critic's loss on rows as they came, and by how much its values exceed their returns.

        state (B, T, ...), reward (B, T), is_first, known and terminal bool (B, T). The return of a row is that of its
        sequence, up to its last row or to the end of its episode. The value of that row stands for the rest; it is 0 where
        the row is terminal. Rows that end an episode teach nothing.
        """
        critic, discount = self.critics["task"], self.config.discount
        logits, value = critic(state.feature.transpose(0, 1))  # (T, B, P), (T, B)
        value = value if terminal is None else torch.where(terminal.T, 0.0, value)
        cut = is_first[:, 1:].T  # (T-1, B): the next row belongs to another episode
        reward = torch.where(cut, value[:-1], reward[:, 1:].T.float())
        returns = lambda_returns(reward, torch.where(cut, 0.0, discount), value[1:], self.config.lam)
        counts = (known[:, :-1].T & ~cut).float()
        number = counts.sum().clamp(min=1)
        loss = -(counts * critic.head.log_prob(logits[:-1], returns)).sum() / number
        return loss, (counts * (value[:-1] - returns)).sum() / number

    def follow(self) -> None:
        """Move every slow critic, when it is time; call once an update, after the optimisers."""
        if self.config.target_update_every > 1:
            self.followed += 1
            if self.followed % self.config.target_update_every:
                return
        for critic in self.critics.values():
            critic.follow()
