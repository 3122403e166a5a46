"""A policy that sees its latent only through a relation: z picks an attention head, the head weighs the slots of the state.

Source: MRA (Zhang et al., arXiv 2108.12988), where slots are the other agents; here they are the groups of the world model's
stochastic latent. Shapes: N any leading axes, H context, S slots, E numbers of a slot, K modes, D descriptor,
M games, L alternatives.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.actor_critic import Actor, ActorCriticConfig, Policy
from world_models.networks import MLP, linear
from world_models.rssm import RSSM

Split = Callable[[Tensor], tuple[Tensor, Tensor]]  # state (N, F) -> context (N, H), slots (N, S, E)


class ModeChoice(nn.Module):
    """p(z given m): descriptor (N, D) -> logarithms of the probabilities of K modes, (N, K)."""

    def __init__(self, descriptor: int, units: int, modes: int):
        super().__init__()
        self.network = MLP(descriptor, units, 1, modes, output_scale=0.1)

    def forward(self, game: Tensor) -> Tensor:
        return torch.log_softmax(self.network(game).float(), -1)


class Relation(nn.Module):
    """K attention heads: context (N, H), slots (N, S, E) -> a row over the slots for each, (N, K, S), each with sum 1."""

    def __init__(self, context: int, slot: int, slots: int, units: int, modes: int):
        super().__init__()
        self.modes, self.units = modes, units
        self.query = linear(context, modes * units)
        self.key = linear(slot, units)
        self.place = nn.Parameter(torch.randn(modes, slots))  # heads differ before anything is learned, else none would

    def forward(self, context: Tensor, slots: Tensor) -> Tensor:
        query = self.query(context).unflatten(-1, (self.modes, self.units))  # (N, K, U)
        scores = query @ self.key(slots).transpose(-1, -2) / math.sqrt(self.units)  # (N, K, S)
        return torch.softmax(scores.float() + self.place, -1)


def latent_split(rssm: RSSM) -> tuple[Split, int, int, int]:
    """How a latent is seen: (split, H, S, E). Slots are the groups of the stochastic part, context is the rest."""
    deterministic, groups = rssm.config.deterministic, rssm.config.groups
    slot = rssm.latent.size // groups

    def split(feature: Tensor) -> tuple[Tensor, Tensor]:
        context, stochastic = feature.split([deterministic, groups * slot], -1)
        return context, stochastic.unflatten(-1, (groups, slot))

    return split, deterministic, groups, slot


class RelationActor(nn.Module):
    """pi(a given state, relation row): the same call as Actor, on state, one-hot of the mode and game, (N, F + K + D).

    The row multiplies the slots, times S: a row that prefers none leaves the state as it is.
    """

    def __init__(
        self, config: ActorCriticConfig, split: tuple[Split, int, int, int], units: int, modes: int, game: int, action: int
    ):
        """game   D where the policy sees what describes the game, 0 where it does not"""
        super().__init__()
        self.split, context, self.slots, slot = split
        self.feature, self.modes, self.game = context + self.slots * slot, modes, game
        self.relation = Relation(context, slot, self.slots, units, modes)
        self.policy = Actor(config, self.feature + game, action)

    def forward(self, inputs: Tensor) -> Policy:
        feature, mode = inputs[..., : self.feature], inputs[..., self.feature : self.feature + self.modes]
        context, slots = self.split(feature)
        row = (mode.unsqueeze(-2) @ self.relation(context, slots).to(mode.dtype)).squeeze(-2)  # (N, S)
        return self._under(context, slots, row, inputs[..., self.feature + self.modes :])

    def _under(self, context: Tensor, slots: Tensor, row: Tensor, game: Tensor) -> Policy:
        """The policy given a row (N, S)."""
        seen = [context, (slots * (row * self.slots).unsqueeze(-1)).flatten(-2)]
        return self.policy(torch.cat([*seen, game] if self.game else seen, -1))

    def every(self, feature: Tensor, game: Tensor) -> tuple[Tensor, Policy]:
        """Rows (N, K, S) and policies (N, K, A) of all modes in states (N, F) of games (N, D)."""
        context, slots = self.split(feature)
        rows = self.relation(context, slots)
        context, game = (x.unsqueeze(-2).expand(*rows.shape[:-1], -1) for x in (context, game))
        return rows, self._under(context, slots.unsqueeze(-3), rows.to(context.dtype), game)


def conditional_information(log_prob: Tensor, log_modes: Tensor) -> Tensor:
    """I(relation; action given state) in nats, its sum over modes exact: at most ln K.

    log_prob (N, K, K): of an action drawn under mode k, second axis, under mode j, last axis; log_modes (N, K) -> (N,). The
    expectation over actions is by one draw a mode, which is reparametrised: do not detach it, all of the gradient is there.
    """
    own = torch.diagonal(log_prob, dim1=-2, dim2=-1)  # (N, K)
    marginal = torch.logsumexp(log_prob + log_modes.unsqueeze(-2), -1)
    return (log_modes.exp() * (own - marginal)).sum(-1)


def sampled_information(log_prob: Tensor, log_modes: Tensor, alternatives: int) -> Tensor:
    """The estimate of MRA's authors, to be compared: the marginal is the mean over `alternatives` drawn modes, without its own.

    Too high by far, up to without bound: where modes differ, their mean hardly holds the action. Same shapes.
    """
    modes = log_modes.exp()
    mode = torch.multinomial(modes, 1).squeeze(-1)  # (N,)
    others = torch.multinomial(modes, alternatives, replacement=True)  # (N, L)
    rows = log_prob[torch.arange(len(mode)), mode]  # (N, K), of one action
    own = rows.gather(-1, mode.unsqueeze(-1)).squeeze(-1)
    return own - torch.logsumexp(rows.gather(-1, others), -1) + math.log(alternatives)


class GameClassifier(nn.Module):
    """ln q(m given row): a row (N, S) -> (N, M). What it tells is I(game; relation) >= H(game) + E ln q."""

    def __init__(self, slots: int, units: int, games: int):
        super().__init__()
        self.network = MLP(slots, units, 1, games)

    def forward(self, row: Tensor) -> Tensor:
        return F.log_softmax(self.network(row * row.shape[-1]).float(), -1)
