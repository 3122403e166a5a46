"""A policy that sees its latent only through a relation: z picks an attention head, the head weighs the slots of the state.

Source: MRA (Zhang et al., arXiv 2108.12988), where slots are the other agents; on pictures they are the groups of the world
model's stochastic latent. Shapes: N any leading axes, H context, S slots, E numbers of a slot, K modes, D descriptor,
M games, L alternatives.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foreground.agents.actor_critic import Actor, ActorCriticConfig
from foreground.agents.policy import Policy
from foreground.world_models.networks import MLP, linear
from foreground.world_models.rssm import RSSM


class ModeChoice(nn.Module):
    """p(z given m): descriptor (N, D) -> logarithms of the probabilities of K modes, (N, K).

    Beside the descriptor stands a one: behind the layer norm only directions are left, and games along one direction, as speeds
    are, would be one game.
    """

    def __init__(self, descriptor: int, units: int, modes: int):
        super().__init__()
        self.network = MLP(descriptor + 1, units, 1, modes, output_scale=0.1)

    def forward(self, game: Tensor) -> Tensor:
        seen = torch.cat([game, torch.ones_like(game[..., :1])], -1)
        return torch.log_softmax(self.network(seen).float(), -1)


class Relation(nn.Module):
    """K attention heads: context (N, H), slots (N, S, E) -> a row over the slots for each, (N, K, S), each with sum 1.

    places   S where each slot has a place of its own, which a head may prefer; 0 where slots are a set
    """

    def __init__(self, context: int, slot: int, places: int, units: int, modes: int):
        super().__init__()
        self.modes, self.units = modes, units
        self.query = linear(context, modes * units)
        self.key = linear(slot, units)
        # Heads differ before anything is learned, else none would.
        self.place = nn.Parameter(torch.randn(modes, places)) if places else None

    def forward(self, context: Tensor, slots: Tensor, there: Tensor | None = None) -> Tensor:
        """there   (N, S): which slots are; none: all"""
        query = self.query(context).unflatten(-1, (self.modes, self.units))  # (N, K, U)
        scores = (query @ self.key(slots).transpose(-1, -2) / math.sqrt(self.units)).float()  # (N, K, S)
        if self.place is not None:
            scores = scores + self.place
        if there is not None:
            scores = scores.masked_fill(~there.unsqueeze(-2), -1e4)
        return torch.softmax(scores, -1)


class LatentSlots(nn.Module):
    """The slots of a world model's state: the groups of its stochastic part; context is the deterministic part.

    A row multiplies them, times S: one that prefers none leaves the state as it is.
    """

    def __init__(self, rssm: RSSM):
        super().__init__()
        self.context, self.number = rssm.config.deterministic, rssm.config.groups
        self.size = rssm.latent.size // self.number
        self.feature, self.places, self.pooled = rssm.feature_size, self.number, rssm.latent.size

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor, None]:
        """State (N, F) -> context (N, H), slots (N, S, E), all of which are there."""
        context, stochastic = feature.split([self.context, self.pooled], -1)
        return context, stochastic.unflatten(-1, (self.number, self.size)), None

    def pool(self, slots: Tensor, rows: Tensor) -> Tensor:
        """(N, S, E), (N, K, S) -> (N, K, S E)."""
        return (slots.unsqueeze(-3) * (rows * self.number).unsqueeze(-1)).flatten(-2)


class SetSlots(nn.Module):
    """The slots of a state that is a set: numbers of its own and S others, of which some are there (the first number of each).

    A row picks what stands in the slots, as it stands there; from a sum of embeddings the direction of the nearest was learned
    far more slowly. Others come in some order, here by distance, which heads may use: each has a preference for places. Context
    is one's own and what `heads` rows pick that are common to all modes: a policy can act before a mode's row tells anything.
    """

    def __init__(self, own: int, number: int, slot: int, units: int, heads: int):
        super().__init__()
        self.own, self.number, self.slot, self.size = own, number, slot, slot + units
        self.feature, self.context, self.places, self.pooled = own + number * slot, own + heads * slot, number, slot
        self.embed, self.common = MLP(slot, units, 1, units), Relation(own, self.size, number, units, heads)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """State (N, F) -> context (N, H), slots (N, S, E), which are there (N, S)."""
        own, others = feature.split([self.own, self.number * self.slot], -1)
        others = others.unflatten(-1, (self.number, self.slot))
        there = others[..., 0] > 0.5
        slots = torch.cat([others, self.embed(others)], -1)
        return torch.cat([own, self.pool(slots, self.common(own, slots, there)).flatten(-2)], -1), slots, there

    def pool(self, slots: Tensor, rows: Tensor) -> Tensor:
        """(N, S, E), (N, K, S) -> (N, K, slot)."""
        return rows @ slots[..., : self.slot]


class Seen(nn.Module):
    """What a critic sees of a state that is a set: context and condition, (N, F + C) -> (N, H + C)."""

    def __init__(self, slots: SetSlots, condition: int):
        super().__init__()
        self.slots, self.outputs = slots, slots.context + condition

    def forward(self, inputs: Tensor) -> Tensor:
        feature, condition = inputs.tensor_split([self.slots.feature], -1)
        return torch.cat([self.slots(feature)[0], condition], -1)


class RelationActor(nn.Module):
    """pi(a given state, relation row): the same call as Actor, on state, one-hot of the mode and game, (N, F + K + D)."""

    def __init__(
        self, config: ActorCriticConfig, slots: LatentSlots | SetSlots, units: int, modes: int, game: int, action: int
    ):
        """game   D where the policy sees what describes the game, 0 where it does not"""
        super().__init__()
        self.slots, self.modes, self.game = slots, modes, game
        self.relation = Relation(slots.context, slots.size, slots.places, units, modes)
        self.policy = Actor(config, slots.context + slots.pooled + game, action)

    def forward(self, inputs: Tensor) -> Policy:
        feature, mode, game = inputs.tensor_split([self.slots.feature, self.slots.feature + self.modes], -1)
        context, slots, there = self.slots(feature)
        row = mode.unsqueeze(-2) @ self.relation(context, slots, there).to(mode.dtype)  # (N, 1, S)
        return Policy(*(x.squeeze(-2) for x in self._under(context, slots, row, game)))

    def _under(self, context: Tensor, slots: Tensor, rows: Tensor, game: Tensor) -> Policy:
        """The policy given each row: (N, K, S) -> (N, K, A)."""
        seen = [context, game] if self.game else [context]
        common = torch.cat(seen, -1).unsqueeze(-2).expand(*rows.shape[:-1], -1)
        return self.policy(torch.cat([common, self.slots.pool(slots, rows)], -1))

    def every(self, feature: Tensor, game: Tensor) -> tuple[Tensor, Policy]:
        """Rows (N, K, S) and policies (N, K, A) of all modes in states (N, F) of games (N, D)."""
        context, slots, there = self.slots(feature)
        rows = self.relation(context, slots, there)
        return rows, self._under(context, slots, rows.to(context.dtype), game)


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
