"""One policy for a family of games: a latent z ~ p(z given game) picks a relation, through which alone the policy sees it.

Common to all games: world model, policy, critics. Of a game: p(z given m) and the relation. Objective and alternation are MRA's
(Zhang et al., arXiv 2108.12988), see modes.py. The same contract as agent.py.

Shapes: B batch, T time, N environments or starts, A action, K modes, M games, D descriptor.
"""

import torch
from torch import Tensor, nn

from foreground.agents.actor_critic import ActorCritic
from foreground.agents.agent import Agent
from foreground.agents.config import AgentConfig
from foreground.agents.memory import Memory, some_rows
from foreground.agents.modes import Modes
from foreground.agents.optimiser import load_training_state, training_state
from foreground.agents.recorded import uncompiled
from foreground.agents.relation import LatentSlots, RelationActor
from foreground.errors import UserError
from foreground.world_models.rssm import RSSM, State
from foreground.world_models.world_model import Spaces, known_rows


def check(config: AgentConfig, spaces: Spaces) -> None:
    """Errors: UserError for options that a policy of modes has nothing to do with, or without a family."""
    if not spaces.games:
        raise UserError("there is no family of games", "family.kind", "choose speed or dynamics, or tasks and their names")
    if config.skill.size:
        raise UserError("modes and skills cannot be had at once", "skill.size", "leave it out")
    if "game" not in config.actor_critic.rewards or set(config.actor_critic.rewards) - {"game", "empowerment"}:
        raise UserError(
            "modes are judged by the reward of the game", "actor_critic.rewards", "choose game=1, or empowerment beside it"
        )
    if config.world_model.rssm.latent != "categorical":
        raise UserError(
            "the slots of a relation are groups of a categorical latent", "world_model.rssm.latent", "choose categorical"
        )


def make_policy(config: AgentConfig, rssm: RSSM, spaces: Spaces) -> ActorCritic:
    """An actor that sees the mode through the relation, critics that see mode and game: condition (N, K + D)."""
    modes, game = config.modes.number, len(spaces.games[0])
    seen = game if config.modes.sees_game else 0
    actor = RelationActor(config.actor_critic, LatentSlots(rssm), config.modes.units, modes, seen, spaces.action)
    return ActorCritic(config.actor_critic, rssm.feature_size, spaces.action, modes + game, actor, len(spaces.games))


class LatentPolicy(nn.Module):
    """Learns from batches of the replay (`update`) and acts on images (`act`)."""

    def __init__(self, config: AgentConfig, spaces: Spaces, device: torch.device | str = "cpu"):
        super().__init__()
        check(config, spaces)
        self.config, self.spaces = config, spaces
        self.base = Agent(config, spaces, device, make_policy)
        self.modes = Modes(config.modes, spaces.games, self.actor.slots.number)
        self.to(self.device)
        own = self.modes.optimisers(list(self.actor.relation.parameters()), config.optimiser)
        self.optimisers = self.base.optimisers | own

    # What training and evaluation ask of every agent, the base has.
    device = property(lambda self: self.base.device)
    world_model = property(lambda self: self.base.world_model)
    actor_critic = property(lambda self: self.base.actor_critic)
    actor = property(lambda self: self.base.actor_critic.actor)
    skills = property(lambda self: self.base.skills)
    discovery = property(lambda self: self.base.discovery)
    draws = property(lambda self: self.base.draws)

    # --------------------------------------------------------------------------------------------------------- acting

    def initial_state(self, number: int) -> Memory:
        """The memory of `number` environments before their first image; their games are told at the reset."""
        memory = self.base.initial_state(number)
        mode = torch.zeros(number, self.config.modes.number, device=self.device)
        return memory._replace(condition=mode, game=torch.zeros(number, self.modes.games.shape[1], device=self.device))

    @torch.no_grad()
    def act(
        self, memory: Memory, image: Tensor, is_first: Tensor, condition: Tensor | None = None, explore: bool = True
    ) -> tuple[Tensor, Memory]:
        """As Agent.act; the mode is `condition` (N, K), or drawn at resets: without `explore` the likeliest in the game."""
        image, is_first = image.to(self.device), is_first.to(self.device)
        drawn = self.modes.draw(memory.game) if explore else self.modes.likeliest(memory.game)
        mode = torch.where(is_first.unsqueeze(-1), drawn, memory.condition) if condition is None else condition.to(self.device)
        state = self.perceive(memory, image, is_first, explore)
        noise = self.base.noise(memory, explore)
        action = self.choose(state, torch.cat([mode, memory.game], -1), noise if explore else None)
        return action, memory._replace(state=state, action=action, image=image, condition=mode, noise=noise)

    def perceive(self, memory: Memory, image: Tensor, is_first: Tensor, sample: bool) -> State:
        """The state after an image; its mode where nothing is sampled."""
        return self.base.perceive(memory, image, is_first, sample)

    def choose(self, state: State, condition: Tensor, noise: Tensor | None = None) -> Tensor:
        """What the policy does under mode and game, its mean without noise: (N, ...), (N, K + D), (N, A) -> (N, A)."""
        return self.base.choose(state, condition, noise)

    # ------------------------------------------------------------------------------------------------------- learning

    def update(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of world model, policy and critics on a batch (B, T, ...); each `round` also one of relation and modes,
        and one of the classifier. Metrics as detached tensors.

        Errors: Divergence when a loss or a gradient is not finite; the weights of that module are then untouched.
        """
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        state, metrics = self.base.learn_model(batch)
        start, game = self._starts(state, batch)
        metrics |= self.base.learn_policy(start, torch.cat([self.modes.draw(game), game], -1), self.modes.member(game))
        if self.modes.due():
            metrics |= self.modes.round(
                self.actor_critic, start.feature, game, lambda share: self.judge(start, game, share)["actor"], self.optimisers
            )
        return {key: value.detach() for key, value in metrics.items()}

    def _starts(self, state: State, batch: dict[str, Tensor]) -> tuple[State, Tensor]:
        """Where imagination begins, (N, ...), and in which game (N, D): any, where all share the physics, else its own."""
        flat, game = state.detach().map(lambda x: x.flatten(0, 1)), batch["game"].flatten(0, 1)
        number, context = self.config.actor_critic.starts or len(game), self.config.world_model.context
        known = known_rows(batch["is_first"], context) if context else None
        index = some_rows(len(game), number, known, self.device)
        index = torch.randperm(len(game), device=self.device) if index is None else index
        if "signals" in batch:
            games = self.modes.games
            return flat.map(lambda x: x[index]), games[torch.randint(len(games), (len(index),), device=self.device)]
        return flat.map(lambda x: x[index]), game[index]

    @uncompiled
    def judge(self, start: State, game: Tensor, share: Tensor | None = None) -> dict[str, Tensor]:
        """Losses of actor and critics from starts (N, ...) in games (N, D), modes drawn; share (M,) of each game's returns."""
        member = self.modes.member(game)
        weight = None if share is None else member @ share
        return self.base.judge(start, torch.cat([self.modes.draw(game), game], -1), weight, member)[0]

    # ------------------------------------------------------------------------------------------------------- contract

    def pictures(self, batch: dict[str, Tensor]) -> Tensor:
        """What the latent keeps of each image: batch (B, T, ...) -> uint8 (B, T, H, W, C)."""
        return self.base.pictures(batch)

    def parameters_by_module(self) -> dict[str, int]:
        """Number of trainable parameters of each part."""
        own = {"modes": self.modes.choice, "classifier": self.modes.classifier}
        return self.base.parameters_by_module() | {k: sum(p.numel() for p in m.parameters()) for k, m in own.items()}

    def training_state(self) -> dict:
        """Everything that learning changes, as plain types and tensors."""
        return training_state(self, self.optimisers)

    def load_training_state(self, state: dict, optimisers: bool = True) -> None:
        """Take over what `training_state` gave; without optimisers for evaluation."""
        load_training_state(self, self.optimisers if optimisers else {}, state)
