"""A latent policy for games of several agents whose states are sets of numbers: modes.py without a world model.

Every agent is a row and all share one policy; z picks the relation through which each looks at the others. Learned from whole
episodes of the policy of now, several times each (PPO's clipped surrogate), by the actor-critic that all agents of this suite
share. Source: MRA, arXiv 2108.12988.

Shapes: N agents, H steps, F state, A action, K modes, D descriptor.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foreground.agents.actor_critic import ActorCritic, ActorCriticConfig, Imagined
from foreground.agents.config import ModesConfig, OptimiserConfig
from foreground.agents.modes import Modes
from foreground.agents.optimiser import Optimiser, descend
from foreground.agents.relation import RelationActor, Seen, SetSlots
from foreground.option import option
from foreground.world_models.rssm import State


@dataclass(frozen=True)
class SetPolicyConfig:
    actor_critic: ActorCriticConfig = option(ActorCriticConfig, "Actor and critics")
    modes: ModesConfig = option(ModesConfig, "Modes")
    optimiser: OptimiserConfig = option(OptimiserConfig, "Optimisers")
    units: int = option(32, "Units that a slot is embedded in, to be picked by.", ge=4)
    heads: int = option(4, "Rows that are common to all modes.", ge=1)
    epochs: int = option(2, "Times that each batch of episodes is gone through.", ge=1)
    parts: int = option(8, "Parts that it is gone through in, a step each.", ge=1)


class SetPolicy(nn.Module):
    """`act` on states of all agents, `update` on the episodes that came of it.

    own, slots, slot   numbers of an agent's own, how many others, numbers of each: states are (N, F), F = own + slots slot
    games              (M, D), those of training
    """

    def __init__(
        self, config: SetPolicyConfig, own: int, slots: int, slot: int, action: int, games: tuple[tuple[float, ...], ...]
    ):
        super().__init__()
        self.config, modes, descriptor = config, config.modes, len(games[0])
        seen = descriptor if modes.sees_game else 0
        sizes = own, slots, slot, config.units, config.heads
        parts, condition = SetSlots(*sizes), modes.num_modes + descriptor
        actor = RelationActor(config.actor_critic, parts, modes.units, modes.num_modes, seen, action)
        trunk = lambda: Seen(SetSlots(*sizes), condition)  # noqa: E731
        self.actor_critic = ActorCritic(config.actor_critic, parts.feature, action, condition, actor, len(games), trunk)
        self.modes = Modes(modes, games, slots)
        optimiser = config.optimiser
        rows = {
            "actor": ([*actor.policy.parameters(), *parts.parameters()], optimiser.actor_lr),
            "critic": (list(self.actor_critic.critics.parameters()), optimiser.critic_lr),
        }
        more = (optimiser.policy_clip, optimiser.epsilon, optimiser.warmup)
        self.optimisers = {name: Optimiser(name, *row, *more) for name, row in rows.items()}
        self.optimisers |= self.modes.optimisers(list(actor.relation.parameters()), optimiser)

    @torch.no_grad()
    def act(self, feature: Tensor, mode: Tensor, game: Tensor, explore: bool = True) -> Tensor:
        """(N, F), (N, K), (N, D) -> actions as sampled (N, A), which the game clips; without `explore` their means."""
        policy = self.actor_critic.actor(torch.cat([feature, mode, game], -1))
        return policy.sample() if explore else policy.mean

    def update(self, batch: dict[str, Tensor], parts: int = 0) -> dict[str, Tensor]:
        """Steps on whole episodes (N, H + 1, ...) as the replay gives them, of the policy of now; metrics.

        parts   that a batch is gone through in; 0: as configured

        Errors: Divergence when a loss or a gradient is not finite.
        """
        rollout, reward = self.rollout(batch)
        for _ in range(self.config.epochs):
            for index in torch.randperm(reward.shape[1]).chunk(parts or self.config.parts):  # (N / parts,), whole episodes
                part, paid = only(rollout, index), reward[:, index]
                losses, metrics = self.actor_critic.improve(part, {"game": lambda _, paid=paid: paid})
                norms = descend(self.optimisers, losses)
        self.actor_critic.follow()
        metrics = {f"policy/{key}": value for key, value in (metrics | losses).items()}
        metrics |= {f"gradient/{key}": value for key, value in norms.items()}
        if self.modes.due():
            metrics |= self._round(batch)
        return {key: value.detach() for key, value in metrics.items()}

    def rollout(self, batch: dict[str, Tensor]) -> tuple[Imagined, Tensor]:
        """Episodes as a roll-out, and the rewards (H, N) that came with each following state."""
        feature = batch["image"].transpose(0, 1)  # (H+1, N, F)
        action, reward = (batch[name].transpose(0, 1)[1:] for name in ("action", "reward"))
        mode, game = batch["condition"][:, -1], batch["game"][:, -1]
        condition = torch.cat([mode, game], -1)
        inputs = torch.cat([feature, condition.expand(len(feature), -1, -1)], -1)
        with torch.no_grad():
            behaviour = self.actor_critic.actor(inputs[:-1]).log_prob(action)
        nothing = feature[..., :0]
        state, member = State(feature, nothing), self.modes.member(game)
        return Imagined(state, inputs, action, behaviour, condition, None, behaviour, member), reward

    def _round(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One of relation and modes, on the same episodes; the gradient's ratio begins anew."""
        rollout, reward = self.rollout(batch)
        feature, game = batch["image"].flatten(0, 1), batch["game"].flatten(0, 1)
        index = torch.randperm(len(feature))[: self.config.actor_critic.imag_starts or len(feature)]

        def judge(share: Tensor) -> Tensor:
            weighed = rollout._replace(weight=rollout.member @ share)
            return self.actor_critic.improve(weighed, {"game": lambda _: reward})[0]["actor"]

        return self.modes.round(self.actor_critic, feature[index], game[index], judge, self.optimisers)


def only(rollout: Imagined, index: Tensor) -> Imagined:
    """Some columns of a roll-out of episodes: index (n,)."""
    steps = {name: getattr(rollout, name)[:, index] for name in ("feature", "action", "log_prob", "behaviour")}
    held = {name: getattr(rollout, name) for name in ("condition", "member", "weight")}
    columns = {name: value[index] for name, value in held.items() if value is not None}
    return rollout._replace(state=rollout.state.map(lambda x: x[:, index]), **steps, **columns)
