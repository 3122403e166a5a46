"""The modes of a policy for a family of games: p(mode given game), returns, information.

Objective and constraint are MRA's (Zhang et al., arXiv 2108.12988): maximise I(relation; action
given state) plus I(game; relation). The modes that a game uses must return at least (1 - epsilon)
of the best return seen there, with one multiplier per game. The agent defines what a state is, and
the loss of the actor.

Shapes: N states, A action, K modes, M games, D descriptor, S slots, F features.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foreground import ranks
from foreground.agents.actor_critic import ActorCritic
from foreground.agents.config import ModesConfig, OptimiserConfig
from foreground.agents.optimiser import Divergence, Optimiser, descend
from foreground.agents.relation import GameClassifier, ModeChoice, conditional_information
from foreground.world_models.distributions import clipped_normal_log_prob

BEST_DECAY = 0.01  # per round, towards the current best: early imagined returns may be unreachable
RETURN_RATE = 0.1  # per round, of the moving returns of each mode in each game
MULTIPLIER_MAX = 100.0


class Modes(nn.Module):
    """p(mode given game), the classifier of games, and the returns of modes in games.

    games   (M, D), descriptors of the training games
    slots   S, length of a row of the relation
    """

    def __init__(self, config: ModesConfig, games: tuple[tuple[float, ...], ...], slots: int):
        super().__init__()
        self.config = config
        number = config.num_modes
        self.choice = ModeChoice(len(games[0]), config.units, number)
        self.classifier = GameClassifier(slots, config.units, len(games))
        self.register_buffer("games", torch.tensor(games), persistent=False)  # (M, D)
        self.register_buffer("returns", torch.zeros(len(games), number))  # (M, K), moving means
        self.register_buffer("best", torch.zeros(len(games)))  # (M,), best return so far
        # Rounds with states of each game.
        self.register_buffer("seen", torch.zeros(len(games), dtype=torch.long))
        self.register_buffer(
            "log_multiplier", torch.full((len(games),), math.log(config.multiplier_min))
        )
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def forward(self, game: Tensor) -> Tensor:
        """Return ln p(mode given game): (N, D) -> (N, K)."""
        return self.choice(game)

    def optimisers(
        self, relation: list[nn.Parameter], config: OptimiserConfig
    ) -> dict[str, Optimiser]:
        """Return the optimisers of relation and choice of modes, and of the classifier."""
        rows = {
            "relation": [*relation, *self.choice.parameters()],
            "classifier": list(self.classifier.parameters()),
        }
        more = (config.epsilon, config.warmup // self.config.update_every)
        return {
            name: Optimiser(name, part, self.config.lr, self.config.clip, *more)
            for name, part in rows.items()
        }

    def likeliest(self, game: Tensor) -> Tensor:
        """Return the most likely mode in games (N, D), one-hot (N, K)."""
        return self.one_hot(self(game).argmax(-1))

    def draw(self, game: Tensor) -> Tensor:
        """Return modes for games (N, D), one-hot (N, K): drawn from p(mode given game), a share
        uniformly.

        Raises: Divergence when p(mode given game) is not finite. Its weights have a step once per
        round only, which would detect it later.
        """
        share = self.config.uniform_prob
        probability = (1 - share) * self(game).exp() + share / self.config.num_modes
        if not probability.isfinite().all():
            raise Divergence("relation", "the choice of modes")
        return self.one_hot(torch.multinomial(probability, 1).squeeze(-1))

    def one_hot(self, index: Tensor) -> Tensor:
        """Return modes as one-hot: (N,) -> (N, K)."""
        return F.one_hot(index, self.config.num_modes).float()

    def member(self, game: Tensor) -> Tensor:
        """Return the nearest training game, one-hot: (N, D) -> (N, M)."""
        return F.one_hot(self.nearest(game), len(self.games)).float()

    def nearest(self, game: Tensor) -> Tensor:
        """Return the index of the nearest training game: (N, D) -> (N,)."""
        return torch.cdist(game, self.games).argmin(-1)

    def due(self) -> bool:
        """Count an update of the policy; return whether a round is due."""
        self.updates += 1
        return bool(self.updates % self.config.update_every == 0)

    def round(
        self,
        actor_critic: ActorCritic,
        feature: Tensor,
        game: Tensor,
        actor_loss: Callable[[Tensor], Tensor],
        optimisers: dict[str, Optimiser],
    ) -> dict[str, Tensor]:
        """Take one step of relation and choice under the constraint, then one of the classifier.

        feature, game   states (N, F) of games (N, D)
        actor_loss      weight of the returns of each game (M,) -> loss of the actor, with gradient
                        to the relation

        Return metrics.
        """
        index = self.nearest(game)
        actor = actor_critic.actor
        weights = self.config
        found = self.constrain(self.values(actor_critic, feature, game), index)
        share = torch.sigmoid(self.log_multiplier)  # multiplier / (1 + multiplier), (M,)
        if not weights.action_info_coef and not weights.game_info_coef:
            share = torch.ones_like(share)
        loss = actor_loss(share)
        own = share[index]
        actor_critic.agree()  # on the scales, which the loss has moved
        action, game_information = self.information(actor, feature, game)
        gain = (1 - own) * (
            weights.action_info_coef * action
            + weights.game_info_coef * game_information * self._balance(index)
        )
        gain = gain + own * self.expected(game, actor_critic.scales["game"].scale)
        norms = descend(optimisers, {"relation": loss - gain.mean()})
        rows, _ = actor.every(feature, game)
        likelihood = self._game_likelihood(rows.detach(), game, index)
        likelihood = (likelihood * self._balance(index)).mean()
        norms |= descend(optimisers, {"classifier": -likelihood})
        row = {
            "information/action": action.mean(),
            "information/game": (game_information * self._balance(index)).mean(),
            **found,
        }
        row |= {
            "information/action_cap": action.new_tensor(math.log(weights.num_modes)),
            "classifier": -likelihood,
        }
        row |= {"information/game_cap": action.new_tensor(math.log(len(self.games)))}
        return {f"modes/{key}": value for key, value in row.items()} | {
            f"gradient/{key}": n for key, n in norms.items()
        }

    @torch.no_grad()
    def choice_information(self) -> Tensor:
        """Return I(mode; game) in nats, exact, over equally weighted training games: a scalar."""
        choice = self(self.games)  # (M, K)
        return (choice.exp() * (choice - choice.exp().mean(0).log())).sum(-1).mean()

    def information(self, actor: nn.Module, feature: Tensor, game: Tensor) -> tuple[Tensor, Tensor]:
        """Return I(relation; action given state) and a bound of I(game; relation), (N,) each, in
        nats.

        The states are (N, F), the games (N, D).
        """
        rows, policy = actor.every(feature.detach(), game)  # (N, K, S), (N, K, A)
        action = policy.sample().clamp(-1, 1)  # (N, K, A)
        mean, std = policy.mean.unsqueeze(-3), policy.std.unsqueeze(-3)  # (N, 1, K, A)
        # (N, K, K): of action k under mode j.
        log_prob = clipped_normal_log_prob(action.unsqueeze(-2), mean, std)
        index = self.nearest(game)
        # Entropy of the games in this batch, equally weighted.
        entropy = (F.one_hot(index, len(self.games)).sum(0) > 0).sum().log()
        return conditional_information(log_prob, self(game)), self._game_likelihood(
            rows, game, index
        ) + entropy

    def _balance(self, index: Tensor) -> Tensor:
        """Return weights of states (N,), mean 1, that give all games of the batch equal weight."""
        counts = F.one_hot(index, len(self.games)).sum(0)  # (M,)
        return len(index) / ((counts > 0).sum() * counts[index])

    def _game_likelihood(self, rows: Tensor, game: Tensor, index: Tensor) -> Tensor:
        """Return the mean over modes of ln q(game given row): rows (N, K, S), games (N, D), their
        index -> (N,).
        """
        likelihood = self.classifier(rows)  # (N, K, M)
        # (N, K)
        own = likelihood.gather(-1, index.view(-1, 1, 1).expand(*rows.shape[:2], 1)).squeeze(-1)
        return (self(game).exp() * own).sum(-1)

    def expected(self, game: Tensor, scale: Tensor) -> Tensor:
        """Return the expected return under p(mode given game), divided by the scale (M,): (N, D) ->
        (N,).
        """
        index = self.nearest(game)
        return (self(game).exp() * self.returns[index]).sum(-1) / scale[index]

    @torch.no_grad()
    def values(self, actor_critic: ActorCritic, feature: Tensor, game: Tensor) -> Tensor:
        """Return the critic's value of every mode: states (N, F), games (N, D) -> (N, K)."""
        modes = self.config.num_modes
        every = torch.eye(modes, device=feature.device).expand(len(feature), -1, -1)
        condition = torch.cat([every, game.unsqueeze(1).expand(-1, modes, -1)], -1)  # (N, K, K + D)
        inputs = torch.cat(
            [feature.unsqueeze(1).expand(-1, modes, -1), condition.to(feature.dtype)], -1
        )
        return actor_critic.critics["game"](inputs)[1].float()

    @torch.no_grad()
    def constrain(self, value: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Take in values (N, K) of all modes in games (N,); take the dual step of each game. Return
        metrics.

        The slack is the return as a share of the best one, minus (1 - epsilon), averaged over
        p(mode given game).
        """
        epsilon = self.config.epsilon
        member = F.one_hot(index, len(self.games)).float()  # (N, M)
        # Over the states of all ranks, so that returns and multipliers move alike on each.
        totals = ranks.summed(member.T @ value)  # (M, K)
        counts = ranks.summed(member.sum(0))  # (M,)
        present = counts > 0
        mean = totals / counts.clamp(min=1).unsqueeze(-1)  # (M, K)
        rate = torch.where(self.seen == 0, 1.0, RETURN_RATE) * present
        self.returns.add_(rate.unsqueeze(-1) * (mean - self.returns))
        top = self.returns.max(-1).values
        decayed = self.best - BEST_DECAY * (self.best - top)
        self.best.copy_(torch.where(self.seen == 0, top, torch.maximum(decayed, top)))
        self.seen += present
        use = self(self.games).exp()  # (M, K)
        shortfall = self.best.unsqueeze(-1) - self.returns
        shortfall = shortfall / self.best.abs().clamp(min=1e-2).unsqueeze(-1)  # (M, K)
        slack = epsilon - (use * shortfall).sum(-1)  # (M,), at most epsilon
        step = (slack / epsilon).clamp(-1, 1) * present
        self.log_multiplier.sub_(self.config.dual_rate * step).clamp_(
            math.log(self.config.multiplier_min), math.log(MULTIPLIER_MAX)
        )
        entropy = -(use * use.clamp(min=1e-8).log()).sum(-1).mean()
        row = {
            "entropy": entropy,
            "slack": slack.mean(),
            "multiplier": self.log_multiplier.exp().mean(),
        }
        for name, column in (
            ("slack", slack),
            ("multiplier", self.log_multiplier.exp()),
            ("best", self.best),
        ):
            row |= {f"game_{m}/{name}": value for m, value in enumerate(column)}
        row |= {
            f"game_{m}/return_{k}": value
            for m, every in enumerate(self.returns)
            for k, value in enumerate(every)
        }
        return {key: value.clone() for key, value in row.items()}
