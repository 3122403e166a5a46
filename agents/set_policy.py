"""A latent policy for games of several agents whose states are sets of numbers, without a world
model.

Every agent is a row, and all share one policy. The mode z selects the relation through which each
sees the others. It learns on-policy from whole episodes, several epochs each (PPO's clipped
surrogate), with the actor-critic of all other agents.
Source: MRA, arXiv 2108.12988.

Shapes: N agents, H steps, F state, A action, K modes, D descriptor.
"""

import torch
from torch import Tensor, nn

from foreground.agents.actor_critic import ActorCritic, Imagined
from foreground.agents.actor_critic_config import ActorCriticConfig
from foreground.agents.config import ModesConfig, OptimiserConfig
from foreground.agents.modes import Modes
from foreground.agents.optimiser import Optimiser, descend
from foreground.agents.relation import CriticInputs, RelationActor, SetSlots
from foreground.errors import UserError
from foreground.option import config_class, option
from foreground.world_models.rssm import State


@config_class
class SetPolicyConfig:
    actor_critic: ActorCriticConfig = option(ActorCriticConfig, "Actor and critics")
    modes: ModesConfig = option(ModesConfig, "Modes")
    optimiser: OptimiserConfig = option(OptimiserConfig, "Optimisers")
    units: int = option(32, "Units of the embedding of a slot, the key of attention.", ge=4)
    heads: int = option(4, "Attention rows that are common to all modes.", ge=1)
    epochs: int = option(2, "Epochs on each batch of episodes.", ge=1)
    parts: int = option(8, "Minibatches per epoch, one step each.", ge=1)


class SetPolicy(nn.Module):
    """`act` takes states of all agents, `update` the resulting episodes.

    own     numbers of an agent itself
    slots   number of others
    slot    numbers of each other: states are (N, F), F = own + slots slot
    games   (M, D), the training games
    """

    def __init__(
        self,
        config: SetPolicyConfig,
        own: int,
        slots: int,
        slot: int,
        action: int,
        games: tuple[tuple[float, ...], ...],
    ):
        super().__init__()
        if config.actor_critic.actor_grad != "reinforce":
            what = "a policy over sets of agents learns from episodes and has no model"
            raise UserError(what, "actor_critic.actor_grad", "choose reinforce")
        self.config = config
        modes = config.modes
        descriptor = len(games[0])
        seen = descriptor if modes.sees_game else 0
        sizes = own, slots, slot, config.units, config.heads
        parts = SetSlots(*sizes)
        condition = modes.num_modes + descriptor
        actor = RelationActor(
            config.actor_critic, parts, modes.units, modes.num_modes, seen, action
        )

        def trunk() -> CriticInputs:
            return CriticInputs(SetSlots(*sizes), condition)

        self.actor_critic = ActorCritic(
            config.actor_critic, parts.feature, action, condition, actor, len(games), trunk
        )
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
        """Return unclipped actions (N, A), without `explore` their means: (N, F), (N, K), (N, D) ->
        (N, A).
        """
        policy = self.actor_critic.actor(torch.cat([feature, mode, game], -1))
        return policy.sample() if explore else policy.mean

    def update(self, batch: dict[str, Tensor], parts: int = 0) -> dict[str, Tensor]:
        """Take steps on whole episodes (N, H + 1, ...) of the current policy; return metrics.

        parts   minibatches per epoch; 0: as configured

        Raises: Divergence when a loss or a gradient is not finite.
        """
        rollout, reward = self.rollout(batch)
        for _ in range(self.config.epochs):
            # Each index is (N / parts,), of whole episodes.
            for index in torch.randperm(reward.shape[1]).chunk(parts or self.config.parts):
                part = index_columns(rollout, index)
                paid = reward[:, index]
                losses, metrics = self.actor_critic.improve(
                    part, {"game": lambda _, paid=paid: paid}
                )
                norms = descend(self.optimisers, losses)
        self.actor_critic.update_target()
        metrics = {f"policy/{key}": value for key, value in (metrics | losses).items()}
        metrics |= {f"gradient/{key}": value for key, value in norms.items()}
        if self.modes.due():
            metrics |= self._round(batch)
        return {key: value.detach() for key, value in metrics.items()}

    def rollout(self, batch: dict[str, Tensor]) -> tuple[Imagined, Tensor]:
        """Return episodes as a rollout, and the reward (H, N) of each following state."""
        feature = batch["image"].transpose(0, 1)  # (H+1, N, F)
        action, reward = (batch[name].transpose(0, 1)[1:] for name in ("action", "reward"))
        mode = batch["condition"][:, -1]
        game = batch["game"][:, -1]
        condition = torch.cat([mode, game], -1)
        inputs = torch.cat([feature, condition.expand(len(feature), -1, -1)], -1)
        with torch.no_grad():
            behaviour = self.actor_critic.actor(inputs[:-1]).log_prob(action)
        nothing = feature[..., :0]
        state = State(feature, nothing)
        member = self.modes.member(game)
        return Imagined(
            state, inputs, action, behaviour, condition, None, behaviour, member
        ), reward

    def _round(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take one step of relation and modes on the same episodes; ratios of policies start at 1
        again.
        """
        rollout, reward = self.rollout(batch)
        feature = batch["image"].flatten(0, 1)
        game = batch["game"].flatten(0, 1)
        index = torch.randperm(len(feature))[: self.config.actor_critic.imag_starts or len(feature)]

        def actor_loss(share: Tensor) -> Tensor:
            weighted = rollout._replace(weight=rollout.member @ share)
            return self.actor_critic.improve(weighted, {"game": lambda _: reward})[0]["actor"]

        return self.modes.round(
            self.actor_critic, feature[index], game[index], actor_loss, self.optimisers
        )


def index_columns(rollout: Imagined, index: Tensor) -> Imagined:
    """Return the columns of a rollout at an index (n,)."""
    steps = {
        name: getattr(rollout, name)[:, index]
        for name in ("feature", "action", "log_prob", "behaviour")
    }
    held = {name: getattr(rollout, name) for name in ("condition", "member", "weight")}
    columns = {name: value[index] for name, value in held.items() if value is not None}
    return rollout._replace(state=rollout.state.map(lambda x: x[:, index]), **steps, **columns)
