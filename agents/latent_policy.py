"""One policy for a family of games, which sees the state through a relation only.

A latent mode z ~ p(z given game) selects the relation. World model, policy and critics are common
to all games.
Objective and alternation are MRA's (Zhang et al., arXiv 2108.12988), see modes.py.

Shapes: B batch, T time, N environments or starts, A action, K modes, M games, D descriptor.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from foreground.agents import registry
from foreground.agents.actor_critic import ActorCritic
from foreground.agents.base import Batch, Held, Metrics, Starts, Step
from foreground.agents.commanders import known_of, resampled
from foreground.agents.config import AgentConfig
from foreground.agents.cuda_graphs import uncompiled
from foreground.agents.learners import Part
from foreground.agents.memory import Memory, some_rows
from foreground.agents.modes import Modes
from foreground.agents.relation import LatentSlots, RelationActor
from foreground.errors import UserError
from foreground.world_models.rssm import RSSM, State
from foreground.world_models.world_model import Spaces, WorldModel


def make_policy(config: AgentConfig, rssm: RSSM, spaces: Spaces) -> ActorCritic:
    """Return the actor-critic, with conditions (N, K + D).

    The actor sees the mode through the relation; the critics see mode and game.
    """
    modes = config.modes.num_modes
    game = len(spaces.games[0])
    seen = game if config.modes.sees_game else 0
    actor = RelationActor(
        config.actor_critic, LatentSlots(rssm), config.modes.units, modes, seen, spaces.action
    )
    return ActorCritic(
        config.actor_critic,
        rssm.feature_size,
        spaces.action,
        modes + game,
        actor,
        len(spaces.games),
    )


@registry.commander("mode_prior")
class ModePrior:
    """Draws a mode for the game at each reset; without `explore` it takes the most likely one."""

    explores = True
    recordable = False

    @staticmethod
    def size(config: AgentConfig) -> int:
        """Return K."""
        return config.modes.num_modes

    @staticmethod
    def check(config: AgentConfig, spaces: Spaces) -> None:
        """Raise UserError for options that do not fit a policy of modes, or without a family."""
        if not config.modes.num_modes:
            raise UserError(
                "a policy of modes has 0 modes",
                "modes.num_modes",
                "choose 1 or more, or another agent",
            )
        if not spaces.games:
            remedy = "choose speed or dynamics, or tasks and their names"
            raise UserError("there is no family of games", "family.kind", remedy)
        if config.skill.size:
            raise UserError("modes and skills exclude each other", "skill.size", "leave it out")
        if "game" not in config.actor_critic.rewards or set(config.actor_critic.rewards) - {
            "game",
            "empowerment",
        }:
            remedy = "choose game=1, with or without empowerment"
            raise UserError("modes need the reward of the game", "actor_critic.rewards", remedy)
        if config.world_model.rssm.latent != "categorical":
            what = "the slots of a relation are groups of a categorical latent"
            raise UserError(what, "world_model.rssm.latent", "choose categorical")

    def __init__(self, config: AgentConfig, spaces: Spaces, model: WorldModel):
        actor_critic = make_policy(config, model.rssm, spaces)
        self.config = config
        self.actor = actor_critic.actor
        self.shared = bool(spaces.signals)
        self.prior = Modes(config.modes, spaces.games, self.actor.slots.number)
        self.modules = {"actor_critic": actor_critic, "modes": self.prior}
        # The relation is trained with the modes.
        self.learned = list(self.actor.policy.parameters())

    def initial(self, number: int, device: torch.device) -> dict[str, Tensor]:
        """Return zeros: mode and game are set at the first reset."""
        sizes = {"condition": self.config.modes.num_modes, "game": self.prior.games.shape[1]}
        return {name: torch.zeros(number, size, device=device) for name, size in sizes.items()}

    def __call__(
        self, memory: Memory, see: Callable[[], State], is_first: Tensor, explore: bool
    ) -> Held:
        choose = self.prior.draw if explore else self.prior.likeliest
        return resampled(memory, is_first, choose(memory.game))

    def starts(self, state: State, batch: Batch) -> Starts:
        """Return start states of imagination, each with a game.

        Where all games share their physics it is any game, otherwise that of the state.
        """
        flat = state.detach().map(lambda x: x.flatten(0, 1))
        game = batch["game"].flatten(0, 1)
        number = self.config.actor_critic.imag_starts or len(game)
        index = some_rows(len(game), number, known_of(self.config, batch), game.device)
        index = torch.randperm(len(game), device=game.device) if index is None else index
        start = flat.map(lambda x: x[index])
        game = game[index]
        if "signals" in batch:
            games = self.prior.games
            game = games[torch.randint(len(games), (len(index),), device=games.device)]
        return Starts(
            start, torch.cat([self.prior.draw(game), game], -1), self.prior.member(game), game
        )


@registry.learner("modes")
class ModesLearner(Part):
    """Every `modes.update_every` updates: one step of relation and modes, and one of the
    classifier.
    """

    def __init__(self, agent):
        super().__init__(agent)
        self.prior = agent.modes
        self.actor_critic = agent.actor_critic

    def begin(self, records: bool) -> None:
        relation = list(self.actor_critic.actor.relation.parameters())
        self.optimisers = self.prior.optimisers(relation, self.config.optimiser)

    def __call__(self, update: Step) -> Metrics:
        if not self.prior.due():
            return {}
        start = update.starts.state
        game = update.starts.game

        def actor_loss(share: Tensor) -> Tensor:
            return self.behaviour_losses(start, game, share)["actor"]

        return self.prior.round(self.actor_critic, start.feature, game, actor_loss, self.optimisers)

    @uncompiled
    def behaviour_losses(
        self, start: State, game: Tensor, share: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return losses of actor and critics from start states (N, ...) in games (N, D), with drawn
        modes.

        share   (M,), weight of the returns of each game; none: 1
        """
        member = self.prior.member(game)
        weight = None if share is None else member @ share
        condition = torch.cat([self.prior.draw(game), game], -1)
        return self.agent.learners["imagination"].behaviour_losses(
            start, condition, weight, member
        )[0]
