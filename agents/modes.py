"""The modes of a policy for a family of games: which a game uses, what they return there, what they tell.

Objective and constraint are MRA's (Zhang et al., arXiv 2108.12988): maximise I(relation; action given state) plus I(game;
relation) while the modes that a game uses return at least (1 - epsilon) of the best seen there, one multiplier a game. What a
state is, and how a loss of the actor comes about, is the agent's.

Shapes: N states, A action, K modes, M games, D descriptor, S slots, F features.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foreground.agents.actor_critic import ActorCritic
from foreground.agents.config import ModesConfig, OptimiserConfig
from foreground.agents.optimiser import Divergence, Optimiser, descend
from foreground.agents.relation import GameClassifier, ModeChoice, conditional_information
from foreground.world_models.distributions import clipped_normal_log_prob

BEST_FORGETS = 0.01  # a round, towards the best of now: returns of early imagination may be out of reach
RETURN_RATE = 0.1  # a round, of the moving returns of each mode in each game
MOST = 100.0  # of a multiplier


class Modes(nn.Module):
    """p(z given game) as its call, the classifier of games, and what is known of modes in games.

    games   (M, D), what describes those of training
    slots   S of a relation's row
    """

    def __init__(self, config: ModesConfig, games: tuple[tuple[float, ...], ...], slots: int):
        super().__init__()
        self.config, number = config, config.num_modes
        self.choice = ModeChoice(len(games[0]), config.units, number)
        self.classifier = GameClassifier(slots, config.units, len(games))
        self.register_buffer("games", torch.tensor(games), persistent=False)  # (M, D)
        self.register_buffer("returns", torch.zeros(len(games), number))  # (M, K), moving
        self.register_buffer("best", torch.zeros(len(games)))  # (M,), the best of them seen
        self.register_buffer("seen", torch.zeros(len(games), dtype=torch.long))  # rounds with states of a game
        self.register_buffer("log_multiplier", torch.full((len(games),), math.log(config.multiplier_min)))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def forward(self, game: Tensor) -> Tensor:
        """ln p(z given game): (N, D) -> (N, K)."""
        return self.choice(game)

    def optimisers(self, relation: list[nn.Parameter], config: OptimiserConfig) -> dict[str, Optimiser]:
        """Of relation and choice together, and of the classifier."""
        rows = {"relation": [*relation, *self.choice.parameters()], "classifier": list(self.classifier.parameters())}
        more = (config.epsilon, config.warmup // self.config.update_every)
        return {name: Optimiser(name, part, self.config.lr, self.config.clip, *more) for name, part in rows.items()}

    def likeliest(self, game: Tensor) -> Tensor:
        """The likeliest mode in games (N, D), one-hot (N, K)."""
        return self.one_hot(self(game).argmax(-1))

    def draw(self, game: Tensor) -> Tensor:
        """Modes for games (N, D), one-hot (N, K): by p(z given m), a share of them uniformly.

        Errors: Divergence when p(z given m) is not finite; its weights learn once a round, and would be found out only then.
        """
        share = self.config.uniform_prob
        probability = (1 - share) * self(game).exp() + share / self.config.num_modes
        if not probability.isfinite().all():
            raise Divergence("relation", "the choice of modes")
        return self.one_hot(torch.multinomial(probability, 1).squeeze(-1))

    def one_hot(self, index: Tensor) -> Tensor:
        """(N,) -> (N, K)."""
        return F.one_hot(index, self.config.num_modes).float()

    def member(self, game: Tensor) -> Tensor:
        """The nearest game of training: (N, D) -> one-hot (N, M)."""
        return F.one_hot(self.nearest(game), len(self.games)).float()

    def nearest(self, game: Tensor) -> Tensor:
        """Its index, (N,)."""
        return torch.cdist(game, self.games).argmin(-1)

    def due(self) -> bool:
        """Counts an update of the policy; whether a round is over."""
        self.updates += 1
        return bool(self.updates % self.config.update_every == 0)

    def round(
        self,
        actor_critic: ActorCritic,
        feature: Tensor,
        game: Tensor,
        judge: Callable[[Tensor], Tensor],
        optimisers: dict[str, Optimiser],
    ) -> dict[str, Tensor]:
        """Relation and choice learn under the constraint at states (N, F) of games (N, D), then the classifier: metrics.

        judge   share of returns in each game (M,) -> loss of the actor, with a gradient to the relation
        """
        index, actor, weights = self.nearest(game), actor_critic.actor, self.config
        found = self.constrain(self.values(actor_critic, feature, game), index)
        share = torch.sigmoid(self.log_multiplier)  # multiplier / (1 + multiplier), (M,)
        if not weights.action_info_coef and not weights.game_info_coef:
            share = torch.ones_like(share)
        loss, own = judge(share), share[index]
        action, told = self.information(actor, feature, game)
        gain = (1 - own) * (weights.action_info_coef * action + weights.game_info_coef * told * self._balance(index))
        gain = gain + own * self.expected(game, actor_critic.scales["game"].scale)
        norms = descend(optimisers, {"relation": loss - gain.mean()})
        rows, _ = actor.every(feature, game)
        likelihood = self._told(rows.detach(), game, index)
        likelihood = (likelihood * self._balance(index)).mean()
        norms |= descend(optimisers, {"classifier": -likelihood})
        row = {"information/action": action.mean(), "information/game": (told * self._balance(index)).mean(), **found}
        row |= {"information/action_cap": action.new_tensor(math.log(weights.num_modes)), "classifier": -likelihood}
        row |= {"information/game_cap": action.new_tensor(math.log(len(self.games)))}
        return {f"modes/{key}": value for key, value in row.items()} | {f"gradient/{key}": n for key, n in norms.items()}

    @torch.no_grad()
    def choice_information(self) -> Tensor:
        """I(mode; game) in nats over the games of training, weighed alike: exact, scalar."""
        choice = self(self.games)  # (M, K)
        return (choice.exp() * (choice - choice.exp().mean(0).log())).sum(-1).mean()

    def information(self, actor: nn.Module, feature: Tensor, game: Tensor) -> tuple[Tensor, Tensor]:
        """I(relation; action given state) and a bound of I(game; relation), in nats, at states (N, F) of games (N, D): (N,)."""
        rows, policy = actor.every(feature.detach(), game)  # (N, K, S), (N, K, A)
        action = policy.sample().clamp(-1, 1)  # (N, K, A)
        mean, std = policy.mean.unsqueeze(-3), policy.std.unsqueeze(-3)  # (N, 1, K, A)
        log_prob = clipped_normal_log_prob(action.unsqueeze(-2), mean, std)  # (N, K, K): of action k under mode j
        index = self.nearest(game)
        entropy = (F.one_hot(index, len(self.games)).sum(0) > 0).sum().log()  # of the games that are here, weighed alike
        return conditional_information(log_prob, self(game)), self._told(rows, game, index) + entropy

    def _balance(self, index: Tensor) -> Tensor:
        """Weights of states, mean 1, by which every game that is here counts alike: (N,)."""
        counts = F.one_hot(index, len(self.games)).sum(0)  # (M,)
        return len(index) / ((counts > 0).sum() * counts[index])

    def _told(self, rows: Tensor, game: Tensor, index: Tensor) -> Tensor:
        """E over modes of ln q(game given row): rows (N, K, S), games (N, D) and their index -> (N,)."""
        likelihood = self.classifier(rows)  # (N, K, M)
        own = likelihood.gather(-1, index.view(-1, 1, 1).expand(*rows.shape[:2], 1)).squeeze(-1)  # (N, K)
        return (self(game).exp() * own).sum(-1)

    def expected(self, game: Tensor, scale: Tensor) -> Tensor:
        """The return that p(z given m) expects, over the game's scale (M,): exact over modes, (N, D) -> (N,)."""
        index = self.nearest(game)
        return (self(game).exp() * self.returns[index]).sum(-1) / scale[index]

    @torch.no_grad()
    def values(self, actor_critic: ActorCritic, feature: Tensor, game: Tensor) -> Tensor:
        """What the critic says of every mode: states (N, F), games (N, D) -> (N, K)."""
        modes = self.config.num_modes
        every = torch.eye(modes, device=feature.device).expand(len(feature), -1, -1)
        condition = torch.cat([every, game.unsqueeze(1).expand(-1, modes, -1)], -1)  # (N, K, K + D)
        inputs = torch.cat([feature.unsqueeze(1).expand(-1, modes, -1), condition.to(feature.dtype)], -1)
        return actor_critic.critics["game"](inputs)[1].float()

    @torch.no_grad()
    def constrain(self, value: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Take in what the critic says of every mode in states, (N, K), of games (N,); each multiplier takes its step.

        slack: return over the best seen, minus (1 - epsilon), mean over the modes as the game uses them.
        """
        epsilon = self.config.epsilon
        member = F.one_hot(index, len(self.games)).float()  # (N, M)
        there = member.sum(0) > 0
        mean = member.T @ value / member.sum(0).clamp(min=1).unsqueeze(-1)  # (M, K)
        rate = torch.where(self.seen == 0, 1.0, RETURN_RATE) * there
        self.returns.add_(rate.unsqueeze(-1) * (mean - self.returns))
        top = self.returns.max(-1).values
        fallen = self.best - BEST_FORGETS * (self.best - top)
        self.best.copy_(torch.where(self.seen == 0, top, torch.maximum(fallen, top)))
        self.seen += there
        use = self(self.games).exp()  # (M, K)
        lack = (self.best.unsqueeze(-1) - self.returns) / self.best.abs().clamp(min=1e-2).unsqueeze(-1)  # (M, K)
        slack = epsilon - (use * lack).sum(-1)  # (M,); at most epsilon
        step = (slack / epsilon).clamp(-1, 1) * there
        self.log_multiplier.sub_(self.config.dual_rate * step).clamp_(math.log(self.config.multiplier_min), math.log(MOST))
        entropy = -(use * use.clamp(min=1e-8).log()).sum(-1).mean()
        row = {"entropy": entropy, "slack": slack.mean(), "multiplier": self.log_multiplier.exp().mean()}
        for name, column in (("slack", slack), ("multiplier", self.log_multiplier.exp()), ("best", self.best)):
            row |= {f"game_{m}/{name}": value for m, value in enumerate(column)}
        row |= {f"game_{m}/return_{k}": value for m, every in enumerate(self.returns) for k, value in enumerate(every)}
        return {key: value.clone() for key, value in row.items()}
