"""The actor-critic of every agent: one critic per named reward, learned in imagination (DreamerV3).

Each reward has its own critic and its own scale. The actor maximises the weighted sum of the
normalised advantages. So rewards of different units can be mixed, and {task: 1} is plain Dreamer.
Shapes: N starts, H horizon, F features, C condition, A action, M games.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from foreground import ranks
from foreground.agents.actor_critic_config import ActorCriticConfig
from foreground.agents.estimators import make_estimator
from foreground.agents.policy import Policy
from foreground.agents.regulariser import make_regulariser
from foreground.agents.returns import ReturnScale, RewardNorm, lambda_returns
from foreground.world_models.distributions import SCALAR_HEADS, clipped_normal_log_prob
from foreground.world_models.networks import MLP
from foreground.world_models.rssm import State


class Actor(nn.Module):
    """pi(a | feature, condition), with a mean within (-1, 1)."""

    def __init__(self, config: ActorCriticConfig, inputs: int, action: int):
        super().__init__()
        self.network = MLP(inputs, config.units, config.layers, 2 * action, output_scale=0.01)
        self.min_std = config.min_std
        self.max_std = config.max_std
        initial = min(config.initial_std, 0.99 * config.max_std)
        share = (initial - config.min_std) / (config.max_std - config.min_std)
        self.raw_offset = math.log(share / (1 - share))

    def forward(self, feature: Tensor) -> Policy:
        mean, raw = self.network(feature).float().chunk(2, -1)
        share = torch.sigmoid(raw + self.raw_offset)
        return Policy(torch.tanh(mean), self.min_std + (self.max_std - self.min_std) * share)


class Critic(nn.Module):
    """The value of one named reward.

    With `target_tau` below 1 or `target_update_every` above 1 a target network gives the values
    (DreamerV2). Without it one pass serves the targets, the advantages and the loss: a third of the
    work.
    """

    def __init__(self, config: ActorCriticConfig, inputs: int, trunk: nn.Module | None = None):
        """trunk   maps the inputs first, (N, F) -> (N, `trunk.outputs`); none: no trunk"""
        super().__init__()
        self.head = SCALAR_HEADS[config.critic_head](limit=config.value_limit)
        width = inputs if trunk is None else trunk.outputs
        head = MLP(width, config.units, config.layers, self.head.parameter_size, output_scale=0.0)
        self.network = head if trunk is None else nn.Sequential(trunk, head)
        self.rate = config.target_tau
        # The target network; checkpoints have it under this name.
        self.slow = (
            deepcopy(self.network) if self.rate < 1 or config.target_update_every > 1 else None
        )
        if self.slow is not None:
            self.slow.requires_grad_(False)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, P) and, without gradient, values (N,) of features (N, F)."""
        logits = self.network(feature)
        with torch.no_grad():
            return logits, self.head.mean(logits if self.slow is None else self.slow(feature))

    def logits_and_values(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, P), with gradient to the weights only, and values (N,), to the feature
        only.

        Where one network gives both, it runs once: a value is then linear in the feature, with the
        slope of the network.
        """
        seen = feature.detach()
        if not feature.requires_grad:
            return self(seen)
        # Within a compiled graph torch.autograd.grad cannot be called.
        if self.slow is not None or torch.compiler.is_compiling():
            network = self.network if self.slow is None else self.slow
            weights = {name: weight.detach() for name, weight in network.named_parameters()}
            return self.network(seen), self.head.mean(functional_call(network, weights, (feature,)))
        logits = self.network(seen.requires_grad_())
        value = self.head.mean(logits)
        (slope,) = torch.autograd.grad(value.sum(), seen, retain_graph=True)
        along = (feature * slope).sum(-1)
        return logits, value.detach() + (along - along.detach())

    def loss(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the negative log-likelihood of returns (N,) with weights (N,) under logits (N, P),
        a scalar.
        """
        log_prob = self.head.log_prob(logits, target)
        return -(log_prob if weight is None else weight * log_prob).mean()

    @torch.no_grad()
    def update_target(self, rate: float | None = None) -> None:
        """Move the target network towards the network, by default at the configured rate."""
        if self.slow is not None:
            for slow, fast in zip(self.slow.parameters(), self.network.parameters()):
                slow.lerp_(fast, self.rate if rate is None else rate)


class Model(Protocol):
    """What imagination needs of a world model.

    continuation   features (..., F) -> (...), the probability that the episode continues after a
                   state; None: it always does
    """

    continuation: Callable[[Tensor], Tensor] | None

    def imagine(self, state: State, action: Tensor) -> State: ...


class Imagined(NamedTuple):
    """An imagined rollout: H+1 states, and the H actions between them."""

    state: State  # (H+1, N, ...)
    feature: Tensor  # (H+1, N, F + C)
    action: Tensor  # (H, N, A), as sampled
    log_prob: Tensor  # (H, N), log pi of the action clipped to [-1, 1], as the environment takes it
    condition: Tensor | None = None  # (N, C), constant over the rollout
    weight: Tensor | None = None  # (N,), weight of each rollout in the actor's loss; none: equal
    # (H, N), log pi of the sampled action under the policy that took it; none: the current policy
    # took it.
    behaviour: Tensor | None = None
    member: Tensor | None = None  # (N, M), one-hot: the game whose scale of returns applies
    # (H+1, N), probability that the episode continues after each state; none: it always does.
    continuation: Tensor | None = None
    policies: tuple[Policy, ...] = ()  # of the H actions, (N, A) each; where they were imagined

    @property
    def previous(self) -> State:
        return self.state.map(lambda x: x[:-1])

    @property
    def following(self) -> State:
        return self.state.map(lambda x: x[1:])

    @property
    def state_feature(self) -> Tensor:
        """Features of the states, (H+1, N, F); a view where there is no condition."""
        return self.feature[..., : sum(part.shape[-1] for part in self.state)]

    @property
    def reached(self) -> Tensor:
        """Features of the following states, (H, N, F)."""
        return self.state_feature[1:]

    @property
    def alive(self) -> Tensor | None:
        """Probability that the episode reaches each state with an action and continues, (H, N);
        none: 1.
        """
        return None if self.continuation is None else self.continuation.detach().cumprod(0)[:-1]

    @property
    def share(self) -> Tensor | None:
        """Weight of each action in the actor's loss, (H, N) or (N,); none: equal weights."""
        if self.weight is None or self.alive is None:
            return self.alive if self.weight is None else self.weight
        return self.weight * self.alive


RewardFunction = Callable[[Imagined], Tensor]  # -> (H, N): the reward of each following state


class Evaluation(NamedTuple):
    """What a critic makes of one reward of a rollout."""

    returns: Tensor  # (H, N), lambda-returns
    advantage: Tensor  # (H, N)
    scale: Tensor  # scalar or (N,), by which returns are divided
    loss: Tensor  # scalar, of the critic
    metrics: dict[str, Tensor]


class ActorCritic(nn.Module):
    """Actor, critics and scales of returns. `loss` improves the policy for named rewards."""

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
        """actor   with the call of Actor, on (N, F + C); none: an Actor
        trunk   makes the module that maps a critic's inputs first; none: no such module
        games   number M of games, each with its own scale of returns; 0: one scale per reward
        """
        super().__init__()
        self.config = config
        inputs = feature + condition
        self.actor = actor or Actor(config, inputs, action)
        self.critics = nn.ModuleDict(
            {name: Critic(config, inputs, trunk and trunk()) for name in config.rewards}
        )
        self.scales = nn.ModuleDict({name: ReturnScale(config, games) for name in config.rewards})
        units = {
            name: RewardNorm(config) if config.reward_norm else nn.Identity()
            for name in config.rewards
        }
        self.units = nn.ModuleDict(units)
        self.regulariser = make_regulariser(config)
        self.estimator = make_estimator(config)
        if config.target_update_every > 1:
            self.register_buffer("followed", torch.zeros((), dtype=torch.long))

    @staticmethod
    def inputs(state: State, condition: Tensor | None) -> Tensor:
        """Return the inputs of actor and critics: (..., F), (..., C) -> (..., F + C).

        A condition (skill, relation) enters here only.
        """
        return state.feature if condition is None else torch.cat([state.feature, condition], -1)

    def imagine(self, model: Model, start: State, condition: Tensor | None) -> Imagined:
        """Roll out policy and prior for H steps from start states (N, ...)."""
        states = [start]
        features = [self.inputs(start, condition)]
        actions: list[Tensor] = []
        policies: list[Policy] = []
        for _ in range(self.config.horizon):
            # Equal to the feature in value; `policy_input_grad` scales its gradient.
            seen = torch.lerp(features[-1].detach(), features[-1], self.config.policy_input_grad)
            policy = self.actor(seen)
            policies.append(policy)
            actions.append(policy.sample())
            # As the environment clips actions out of range.
            states.append(model.imagine(states[-1], actions[-1].clamp(-1, 1)))
            features.append(self.inputs(states[-1], condition))
        state = State(*(torch.stack(column) for column in zip(*states)))
        action, mean, std = (torch.stack(column) for column in (actions, *zip(*policies)))
        log_prob = clipped_normal_log_prob(action.clamp(-1, 1), mean, std)
        feature = torch.stack(features)
        return Imagined(state, feature, action, log_prob, condition, policies=tuple(policies))

    def loss(
        self,
        model: Model,
        start: State,
        rewards: dict[str, RewardFunction],
        condition: Tensor | None = None,
        weight: Tensor | None = None,
        member: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Imagine from start states (N, ...) and return the losses and metrics of `improve`.

        weight   (N,), of each rollout in the actor's loss
        member   (N, M), one-hot: its game

        Raises: KeyError when a configured reward has no function.
        """
        with torch.set_grad_enabled(self.estimator.along_path):
            imagined = self.imagine(model, start, condition)
            going = (
                None if model.continuation is None else model.continuation(imagined.state_feature)
            )
        return self.improve(
            imagined._replace(weight=weight, member=member, continuation=going), rewards
        )

    def improve(
        self, imagined: Imagined, rewards: dict[str, RewardFunction]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return losses, {"actor": scalar, "critic": scalar}, and metrics of a rollout."""
        policy = self.actor(imagined.feature[:-1].detach())
        entropy = policy.entropy()
        returns = torch.zeros_like(entropy)
        advantage = torch.zeros_like(entropy)
        critic_loss = 0.0
        metrics: dict[str, Tensor] = {}
        for name, weight in self.config.rewards.items():
            with torch.set_grad_enabled(self.estimator.along_path):
                reward = rewards[name](imagined)  # (H, N)
                own = self.units[name](reward)
            found = self._evaluate(name, imagined, own)
            returns = returns + weight * found.returns / found.scale
            advantage = advantage + weight * found.advantage / found.scale
            critic_loss = critic_loss + found.loss
            extra = found.metrics | {"reward": reward.detach().mean()}
            metrics |= {f"{name}/{key}": value for key, value in extra.items()}
        metrics["advantage_std"] = advantage.std()
        share = imagined.share
        if share is not None:
            returns, advantage = share * returns, share * advantage
        gain, extra = self.estimator(imagined, policy, returns, advantage)
        metrics |= extra
        bonus, extra = self.regulariser(policy)
        metrics |= extra
        gain = gain + (bonus if share is None else share * bonus)
        if imagined.continuation is not None:
            metrics["continuation"] = imagined.continuation.detach().mean()
        losses = {"actor": -gain.mean(), "critic": critic_loss}
        metrics |= {
            "entropy": entropy.mean(),
            "std": policy.std.mean(),
            "saturation": (policy.mean.abs() > 0.9).float().mean(),
            "mean_action": policy.mean.abs().mean(),
        }
        return losses, metrics

    def _evaluate(self, name: str, imagined: Imagined, reward: Tensor) -> Evaluation:
        """Evaluate a rollout by one reward (H, N) and its critic."""
        critic = self.critics[name]
        logits, value = critic.logits_and_values(imagined.feature)  # (H+1, N, P), (H+1, N)
        discount = self.config.discount
        discount = (
            discount if imagined.continuation is None else discount * imagined.continuation[1:]
        )
        returns = lambda_returns(reward, discount, value[1:], self.config.lam)
        target = returns.detach()
        value = value.detach()
        scale = self.scales[name].update(target, imagined.member)
        metrics = {"return": target.mean(), "value": value.mean(), "scale": scale.mean()}
        loss = critic.loss(logits[:-1], target, imagined.alive)
        return Evaluation(returns, target - value[:-1], scale, loss, metrics)

    def replayed(
        self,
        state: State,
        reward: Tensor,
        is_first: Tensor,
        known: Tensor,
        terminal: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the task critic's loss on replayed rows, and by how much its values exceed their
        returns.

        state (B, T, ...), reward (B, T), is_first, known and terminal bool (B, T). The return of a
        row reaches to the last row of its sequence or episode. There it is bootstrapped with the
        value, which is 0 where the row is terminal. Rows that end an episode have no loss.
        """
        critic = self.critics["task"]
        discount = self.config.discount
        logits, value = critic(state.feature.transpose(0, 1))  # (T, B, P), (T, B)
        value = value if terminal is None else torch.where(terminal.T, 0.0, value)
        cut = is_first[:, 1:].T  # (T-1, B): the next row belongs to another episode
        reward = torch.where(cut, value[:-1], reward[:, 1:].T.float())
        returns = lambda_returns(
            reward, torch.where(cut, 0.0, discount), value[1:], self.config.lam
        )
        counts = (known[:, :-1].T & ~cut).float()
        number = counts.sum().clamp(min=1)
        loss = -(counts * critic.head.log_prob(logits[:-1], returns)).sum() / number
        return loss, (counts * (value[:-1] - returns)).sum() / number

    @torch.no_grad()
    def agree(self) -> None:
        """Take the same scales, norms and weight of the entropy on every rank.

        Each rank has moved them by its own returns. All are linear in what they see, so that this
        is as if each had seen what all saw.
        """
        if ranks.number() == 1:
            return
        for scale in self.scales.values():
            scale.agree()
        parts = (self.units, self.regulariser)
        moved = [b for part in parts for b in part.buffers() if b.is_floating_point()]
        if moved:
            for own, common in zip(moved, ranks.mean(moved)):
                own.copy_(common)

    def update_target(self) -> None:
        """Move every target critic when it is due.

        Call it once per update, after the optimisers.
        """
        self.agree()
        if self.config.target_update_every > 1:
            self.followed += 1
            if self.followed % self.config.target_update_every:
                return
        for critic in self.critics.values():
            critic.update_target()
