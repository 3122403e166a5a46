"""One policy for a family of games: a latent z ~ p(z given game) picks a relation, through which alone the policy sees it.

Common to all games: world model, policy, critics. Of a game: p(z given m) and the relation. Objective and alternation are MRA's
(Zhang et al., arXiv 2108.12988): maximise I(relation; action given state) + I(game; relation) while every mode that a game uses
returns at least (1 - epsilon) of the best seen there, one multiplier a game. The same contract as agent.py.

Shapes: B batch, T time, N environments or starts, A action, K modes, M games, D descriptor, S slots, F features.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.actor_critic import ActorCritic
from agents.agent import Agent
from agents.config import AgentConfig
from agents.memory import Memory
from agents.optimiser import Optimiser, descend, load_training_state, training_state
from agents.relation import GameClassifier, Modes, RelationActor, conditional_information, latent_split
from errors import UserError
from world_models.distributions import clipped_normal_log_prob
from world_models.rssm import RSSM, State
from world_models.world_model import Spaces

BEST_FORGETS = 0.01  # a round, towards the best of now: returns of early imagination may be out of reach
RETURN_RATE = 0.1  # a round, of the moving returns of each mode in each game
LIMITS = (math.log(1e-2), math.log(1e2))  # of the logarithm of a multiplier


def check(config: AgentConfig, spaces: Spaces) -> None:
    """Errors: UserError for options that a policy of modes has nothing to do with, or without a family."""
    if not spaces.games:
        raise UserError("there is no family of games", "family.kind", "choose speed or dynamics, or tasks and their names")
    if config.skill.size:
        raise UserError("modes and skills cannot be had at once", "skill.size", "leave it out")
    if "game" not in config.actor_critic.rewards or len(config.actor_critic.rewards) > 2:
        raise UserError("modes are judged by the reward of the game", "actor_critic.rewards", "choose game=1")
    if config.world_model.rssm.latent != "categorical":
        raise UserError(
            "the slots of a relation are groups of a categorical latent", "world_model.rssm.latent", "choose categorical"
        )


def make_policy(config: AgentConfig, rssm: RSSM, spaces: Spaces) -> ActorCritic:
    """An actor that sees the mode through the relation, critics that see mode and game: condition (N, K + D)."""
    modes, game = config.modes.number, len(spaces.games[0])
    seen = game if config.modes.sees_game else 0
    actor = RelationActor(config.actor_critic, latent_split(rssm), config.modes.units, modes, seen, spaces.action)
    return ActorCritic(config.actor_critic, rssm.feature_size, spaces.action, modes + game, actor, len(spaces.games))


class LatentPolicy(nn.Module):
    """Learns from batches of the replay (`update`) and acts on images (`act`)."""

    def __init__(self, config: AgentConfig, spaces: Spaces, device: torch.device | str = "cpu"):
        super().__init__()
        check(config, spaces)
        self.config, self.spaces = config, spaces
        number, units = config.modes.number, config.modes.units
        self.base = Agent(config, spaces, device, make_policy)
        self.modes = Modes(len(spaces.games[0]), units, number)
        self.classifier = GameClassifier(self.actor.slots, units, len(spaces.games))
        self.register_buffer("games", torch.tensor(spaces.games), persistent=False)  # (M, D)
        self.register_buffer("returns", torch.zeros(len(spaces.games), number))  # (M, K), moving
        self.register_buffer("best", torch.zeros(len(spaces.games)))  # (M,), the best of them seen
        self.register_buffer("seen", torch.zeros(len(spaces.games), dtype=torch.long))  # rounds with starts in a game
        self.register_buffer("log_multiplier", torch.zeros(len(spaces.games)))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.to(self.device)
        rate, clip = config.modes.rate, config.optimiser.policy_clip
        relation = [*self.actor.relation.parameters(), *self.modes.parameters()]
        rows = {"relation": relation, "classifier": list(self.classifier.parameters())}
        more = (config.optimiser.epsilon, config.optimiser.warmup // config.modes.round)
        own = {name: Optimiser(name, parameters, rate, clip, *more) for name, parameters in rows.items()}
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
        return memory._replace(condition=mode, game=torch.zeros(number, self.games.shape[1], device=self.device))

    @torch.no_grad()
    def act(
        self, memory: Memory, image: Tensor, is_first: Tensor, condition: Tensor | None = None, explore: bool = True
    ) -> tuple[Tensor, Memory]:
        """As Agent.act; the mode is `condition` (N, K), or drawn at resets: without `explore` the likeliest in the game."""
        image, is_first = image.to(self.device), is_first.to(self.device)
        drawn = self.draw(memory.game) if explore else self.one_hot(self.modes(memory.game).argmax(-1))
        mode = torch.where(is_first.unsqueeze(-1), drawn, memory.condition) if condition is None else condition.to(self.device)
        state = self.perceive(memory, image, is_first, explore)
        action = self.choose(state, torch.cat([mode, memory.game], -1), explore)
        return action, Memory(state, action, image, mode, torch.where(is_first, 0, memory.age) + 1, memory.game)

    def perceive(self, memory: Memory, image: Tensor, is_first: Tensor, sample: bool) -> State:
        """The state after an image; its mode where nothing is sampled."""
        return self.base.perceive(memory, image, is_first, sample)

    def choose(self, state: State, condition: Tensor, explore: bool) -> Tensor:
        """What the policy does under mode and game: (N, ...), (N, K + D) -> (N, A)."""
        return self.base.choose(state, condition, explore)

    def draw(self, game: Tensor) -> Tensor:
        """Modes for games (N, D), one-hot (N, K): by p(z given m), a share of them uniformly."""
        share = self.config.modes.explore
        probability = (1 - share) * self.modes(game).exp() + share / self.config.modes.number
        return self.one_hot(torch.multinomial(probability, 1).squeeze(-1))

    def one_hot(self, index: Tensor) -> Tensor:
        """(N,) -> (N, K)."""
        return F.one_hot(index, self.config.modes.number).float()

    # ------------------------------------------------------------------------------------------------------- learning

    def update(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of world model, policy and critics on a batch (B, T, ...); each `round` also one of relation and modes,
        and one of the classifier. Metrics as detached tensors.

        Errors: Divergence when a loss or a gradient is not finite; the weights of that module are then untouched.
        """
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        state, metrics = self.base.learn_model(batch)
        start, game = self._starts(state, batch)
        metrics |= self.base.learn_policy(start, torch.cat([self.draw(game), game], -1), self.member(game))
        self.updates += 1
        if self.updates % self.config.modes.round == 0:
            metrics |= self._round(start, game)
        return {key: value.detach() for key, value in metrics.items()}

    def _starts(self, state: State, batch: dict[str, Tensor]) -> tuple[State, Tensor]:
        """Where imagination begins, (N, ...), and in which game (N, D): any, where all share the physics, else its own."""
        flat, game = state.detach().map(lambda x: x.flatten(0, 1)), batch["game"].flatten(0, 1)
        number = self.config.actor_critic.starts or len(game)
        index = torch.randperm(len(game), device=self.device)[:number]
        if "signals" in batch:
            return flat.map(lambda x: x[index]), self.games[torch.randint(len(self.games), (len(index),), device=self.device)]
        return flat.map(lambda x: x[index]), game[index]

    def _round(self, start: State, game: Tensor) -> dict[str, Tensor]:
        """Relation and modes learn under the constraint, then the classifier: metrics."""
        index = self.nearest(game)  # (N,), of M
        found = self._constrain(start.feature, game, index)
        share = torch.sigmoid(self.log_multiplier)[index]  # of the returns, (N,): multiplier / (1 + multiplier)
        mode = self.draw(game)
        losses, _ = self.base.judge(start, torch.cat([mode, game], -1), share, self.member(game))
        action, told = self.information(start.feature, game, index)
        weights = self.config.modes
        gain = (1 - share) * (weights.action * action + weights.game * told) + share * self._expected(game, index)
        norms = descend(self.optimisers, {"relation": losses["actor"] - gain.mean()})
        rows, _ = self.actor.every(start.feature, game)
        likelihood = self._told(rows.detach(), game, index)
        norms |= descend(self.optimisers, {"classifier": -likelihood.mean()})
        row = {"information/action": action.mean(), "information/game": told.mean(), **found}
        row |= {"information/action_cap": torch.tensor(math.log(weights.number)), "classifier": -likelihood.mean()}
        row |= {"information/game_cap": torch.tensor(math.log(len(self.games)))}
        return {f"modes/{key}": value for key, value in row.items()} | {f"gradient/{key}": n for key, n in norms.items()}

    def information(self, feature: Tensor, game: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """I(relation; action given state) and a bound of I(game; relation), in nats, at states (N, F) of games (N, D): (N,)."""
        rows, policy = self.actor.every(feature.detach(), game)  # (N, K, S), (N, K, A)
        action = policy.sample().clamp(-1, 1)  # (N, K, A)
        mean, std = policy.mean.unsqueeze(-3), policy.std.unsqueeze(-3)  # (N, 1, K, A)
        log_prob = clipped_normal_log_prob(action.unsqueeze(-2), mean, std)  # (N, K, K): of action k under mode j
        told = self._told(rows, game, index) + math.log(len(self.games))
        return conditional_information(log_prob, self.modes(game)), told

    def _told(self, rows: Tensor, game: Tensor, index: Tensor) -> Tensor:
        """E over modes of ln q(game given row): rows (N, K, S), games (N, D) and their index -> (N,)."""
        likelihood = self.classifier(rows)  # (N, K, M)
        own = likelihood.gather(-1, index.view(-1, 1, 1).expand(*rows.shape[:2], 1)).squeeze(-1)  # (N, K)
        return (self.modes(game).exp() * own).sum(-1)

    def _expected(self, game: Tensor, index: Tensor) -> Tensor:
        """The return that p(z given m) expects, in units of the actor's advantages: exact over modes, (N,)."""
        return (self.modes(game).exp() * self.returns[index]).sum(-1) / self.actor_critic.scales["game"].scale[index]

    def member(self, game: Tensor) -> Tensor:
        """The nearest game of training: (N, D) -> one-hot (N, M)."""
        return F.one_hot(self.nearest(game), len(self.games)).float()

    def nearest(self, game: Tensor) -> Tensor:
        """Its index, (N,)."""
        return torch.cdist(game, self.games).argmin(-1)

    @torch.no_grad()
    def values(self, feature: Tensor, game: Tensor) -> Tensor:
        """What the critic says of every mode: states (N, F), games (N, D) -> (N, K)."""
        modes = self.config.modes.number
        every = torch.eye(modes, device=self.device).expand(len(feature), -1, -1)
        condition = torch.cat([every, game.unsqueeze(1).expand(-1, modes, -1)], -1)  # (N, K, K + D)
        inputs = torch.cat([feature.unsqueeze(1).expand(-1, modes, -1), condition.to(feature.dtype)], -1)
        return self.actor_critic.critics["game"](inputs)[1].float()

    @torch.no_grad()
    def _constrain(self, feature: Tensor, game: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Take in what the critic says of every mode at states (N, F); each game's multiplier takes its step: metrics.

        slack: return over the best seen, minus (1 - epsilon), mean over the modes as the game uses them.
        """
        epsilon, value = self.config.modes.epsilon, self.values(feature, game)  # (N, K)
        member = F.one_hot(index, len(self.games)).float()  # (N, M)
        there = member.sum(0) > 0
        mean = member.T @ value / member.sum(0).clamp(min=1).unsqueeze(-1)  # (M, K)
        rate = torch.where(self.seen == 0, 1.0, RETURN_RATE) * there
        self.returns.add_(rate.unsqueeze(-1) * (mean - self.returns))
        top = self.returns.max(-1).values
        fallen = self.best - BEST_FORGETS * (self.best - top)
        self.best.copy_(torch.where(self.seen == 0, top, torch.maximum(fallen, top)))
        self.seen += there
        use = self.modes(self.games).exp()  # (M, K)
        lack = (self.best.unsqueeze(-1) - self.returns) / self.best.abs().clamp(min=1e-2).unsqueeze(-1)  # (M, K)
        slack = (epsilon - (use * lack).sum(-1)).clamp(-1, 1)  # (M,); above zero it is at most epsilon
        step = torch.where(slack > 0, slack / epsilon, slack / (1 - epsilon))
        self.log_multiplier.sub_(self.config.modes.dual_rate * step * there).clamp_(*LIMITS)
        entropy = -(use * use.clamp(min=1e-8).log()).sum(-1).mean()
        row = {"entropy": entropy, "slack": slack.mean(), "multiplier": self.log_multiplier.exp().mean()}
        for name, column in (("slack", slack), ("multiplier", self.log_multiplier.exp()), ("best", self.best)):
            row |= {f"game_{m}/{name}": value for m, value in enumerate(column)}
        row |= {f"game_{m}/return_{k}": value for m, every in enumerate(self.returns) for k, value in enumerate(every)}
        return {key: value.clone() for key, value in row.items()}

    # ------------------------------------------------------------------------------------------------------- contract

    def pictures(self, batch: dict[str, Tensor]) -> Tensor:
        """What the latent keeps of each image: batch (B, T, ...) -> uint8 (B, T, H, W, C)."""
        return self.base.pictures(batch)

    def parameters_by_module(self) -> dict[str, int]:
        """Number of trainable parameters of each part."""
        own = {"modes": self.modes, "classifier": self.classifier}
        return self.base.parameters_by_module() | {k: sum(p.numel() for p in m.parameters()) for k, m in own.items()}

    def training_state(self) -> dict:
        """Everything that learning changes, as plain types and tensors."""
        return training_state(self, self.optimisers)

    def load_training_state(self, state: dict, optimisers: bool = True) -> None:
        """Take over what `training_state` gave; without optimisers for evaluation."""
        load_training_state(self, self.optimisers if optimisers else {}, state)
