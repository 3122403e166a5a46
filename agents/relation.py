"""A policy that sees its mode only through a relation: an attention head over the slots of the
state.

Source: MRA (Zhang et al., arXiv 2108.12988). There the slots are the other agents. On images they
are the groups of the world model's stochastic latent.

Shapes: N any leading axes, H context, S slots, E numbers of a slot, K modes, D descriptor,
M games, L alternatives.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foreground.agents.actor_critic import Actor
from foreground.agents.actor_critic_config import ActorCriticConfig
from foreground.agents.policy import Policy
from foreground.world_models.networks import MLP, linear
from foreground.world_models.rssm import RSSM


class ModeChoice(nn.Module):
    """ln p(mode given game): descriptor (N, D) -> (N, K).

    A one is appended to the descriptor. After the layer norm only directions differ, and games
    along one direction, such as speeds, would be the same game.
    """

    def __init__(self, descriptor: int, units: int, modes: int):
        super().__init__()
        self.network = MLP(descriptor + 1, units, 1, modes, output_scale=0.1)

    def forward(self, game: Tensor) -> Tensor:
        seen = torch.cat([game, torch.ones_like(game[..., :1])], -1)
        return torch.log_softmax(self.network(seen).float(), -1)


class Relation(nn.Module):
    """K attention heads: context (N, H), slots (N, S, E) -> rows over the slots, (N, K, S), each
    with sum 1.

    places   S where slots have fixed positions, which a head may prefer; 0 where slots are a set
    """

    def __init__(self, context: int, slot: int, places: int, units: int, modes: int):
        super().__init__()
        self.modes = modes
        self.units = units
        self.query = linear(context, modes * units)
        self.key = linear(slot, units)
        # Heads must differ at the start; otherwise they would stay equal.
        self.place = nn.Parameter(torch.randn(modes, places)) if places else None

    def forward(self, context: Tensor, slots: Tensor, present: Tensor | None = None) -> Tensor:
        """present   bool (N, S): the slots that exist; none: all"""
        query = self.query(context).unflatten(-1, (self.modes, self.units))  # (N, K, U)
        # (N, K, S)
        scores = (query @ self.key(slots).transpose(-1, -2) / math.sqrt(self.units)).float()
        if self.place is not None:
            scores = scores + self.place
        if present is not None:
            scores = scores.masked_fill(~present.unsqueeze(-2), -1e4)
        return torch.softmax(scores, -1)


class LatentSlots(nn.Module):
    """The slots of a world model's state: the groups of its stochastic part. Context is the
    deterministic part.

    A row multiplies them, times S, so that a uniform row leaves the state unchanged.
    """

    def __init__(self, rssm: RSSM):
        super().__init__()
        self.context = rssm.config.deterministic
        self.number = rssm.config.groups
        self.size = rssm.latent.size // self.number
        self.feature = rssm.feature_size
        self.places = self.number
        self.pooled = rssm.latent.size

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return context (N, H) and slots (N, S, E) of states (N, F); all slots are present."""
        context, stochastic = feature.split([self.context, self.pooled], -1)
        return context, stochastic.unflatten(-1, (self.number, self.size)), None

    def pool(self, slots: Tensor, rows: Tensor) -> Tensor:
        """Return slots weighted by rows: (N, S, E), (N, K, S) -> (N, K, S E)."""
        return (slots.unsqueeze(-3) * (rows * self.number).unsqueeze(-1)).flatten(-2)


class SetSlots(nn.Module):
    """The slots of a state that is a set: an agent's own numbers and S others.

    The first number of each other says whether it is present. Attention pools the raw slots; with
    pooled embeddings the direction of the nearest one was learned much more slowly. The others are
    ordered, here by distance, and heads may prefer positions. Context is the agent's own numbers
    and what `heads` rows pool that are common to all modes. So the policy can act before the row of
    a mode is informative.
    """

    def __init__(self, own: int, number: int, slot: int, units: int, heads: int):
        super().__init__()
        self.own = own
        self.number = number
        self.slot = slot
        self.size = slot + units
        self.feature = own + number * slot
        self.context = own + heads * slot
        self.places = number
        self.pooled = slot
        self.embed = MLP(slot, units, 1, units)
        self.common = Relation(own, self.size, number, units, heads)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return context (N, H), slots (N, S, E) and which are present (N, S) of states (N, F)."""
        own, others = feature.split([self.own, self.number * self.slot], -1)
        others = others.unflatten(-1, (self.number, self.slot))
        present = others[..., 0] > 0.5
        slots = torch.cat([others, self.embed(others)], -1)
        pooled = self.pool(slots, self.common(own, slots, present)).flatten(-2)
        return torch.cat([own, pooled], -1), slots, present

    def pool(self, slots: Tensor, rows: Tensor) -> Tensor:
        """Return raw slots pooled by rows: (N, S, E), (N, K, S) -> (N, K, slot)."""
        return rows @ slots[..., : self.slot]


class CriticInputs(nn.Module):
    """Inputs of a critic of set states: context and condition, (N, F + C) -> (N, H + C)."""

    def __init__(self, slots: SetSlots, condition: int):
        super().__init__()
        self.slots = slots
        self.outputs = slots.context + condition

    def forward(self, inputs: Tensor) -> Tensor:
        feature, condition = inputs.tensor_split([self.slots.feature], -1)
        return torch.cat([self.slots(feature)[0], condition], -1)


class RelationActor(nn.Module):
    """pi(a given state, row of the relation), called as Actor on state, one-hot mode and game (N, F
    + K + D).
    """

    def __init__(
        self,
        config: ActorCriticConfig,
        slots: LatentSlots | SetSlots,
        units: int,
        modes: int,
        game: int,
        action: int,
    ):
        """game   D where the policy sees the descriptor of the game; otherwise 0"""
        super().__init__()
        self.slots = slots
        self.modes = modes
        self.game = game
        self.relation = Relation(slots.context, slots.size, slots.places, units, modes)
        self.policy = Actor(config, slots.context + slots.pooled + game, action)

    def forward(self, inputs: Tensor) -> Policy:
        feature, mode, game = inputs.tensor_split(
            [self.slots.feature, self.slots.feature + self.modes], -1
        )
        context, slots, present = self.slots(feature)
        # (N, 1, S)
        row = mode.unsqueeze(-2) @ self.relation(context, slots, present).to(mode.dtype)
        return Policy(*(x.squeeze(-2) for x in self._under(context, slots, row, game)))

    def _under(self, context: Tensor, slots: Tensor, rows: Tensor, game: Tensor) -> Policy:
        """Return the policy for each row: (N, K, S) -> (N, K, A)."""
        seen = [context, game] if self.game else [context]
        common = torch.cat(seen, -1).unsqueeze(-2).expand(*rows.shape[:-1], -1)
        return self.policy(torch.cat([common, self.slots.pool(slots, rows)], -1))

    def every(self, feature: Tensor, game: Tensor) -> tuple[Tensor, Policy]:
        """Return rows (N, K, S) and policies (N, K, A) of all modes, in states (N, F) of games (N,
        D).
        """
        context, slots, present = self.slots(feature)
        rows = self.relation(context, slots, present)
        return rows, self._under(context, slots, rows.to(context.dtype), game)


def conditional_information(log_prob: Tensor, log_modes: Tensor) -> Tensor:
    """Return I(relation; action given state) in nats, (N,), at most ln K; the sum over modes is
    exact.

    log_prob    (N, K, K): of an action drawn under mode k (second axis) under mode j (last axis)
    log_modes   (N, K)

    The expectation over actions uses one reparametrised sample per mode. Do not detach it: the
    whole gradient flows through it.
    """
    own = torch.diagonal(log_prob, dim1=-2, dim2=-1)  # (N, K)
    marginal = torch.logsumexp(log_prob + log_modes.unsqueeze(-2), -1)
    return (log_modes.exp() * (own - marginal)).sum(-1)


def sampled_information(log_prob: Tensor, log_modes: Tensor, alternatives: int) -> Tensor:
    """Return the estimate of MRA's authors, for comparison; shapes as in `conditional_information`.

    The marginal is the mean over `alternatives` drawn modes, without the mode itself. It
    overestimates without bound: where modes differ, the mixture hardly contains the action.
    """
    modes = log_modes.exp()
    mode = torch.multinomial(modes, 1).squeeze(-1)  # (N,)
    others = torch.multinomial(modes, alternatives, replacement=True)  # (N, L)
    rows = log_prob[torch.arange(len(mode)), mode]  # (N, K), of one action
    own = rows.gather(-1, mode.unsqueeze(-1)).squeeze(-1)
    return own - torch.logsumexp(rows.gather(-1, others), -1) + math.log(alternatives)


class GameClassifier(nn.Module):
    """ln q(game given row): (N, S) -> (N, M).

    It gives the bound I(game; relation) >= H(game) + E ln q.
    """

    def __init__(self, slots: int, units: int, games: int):
        super().__init__()
        self.network = MLP(slots, units, 1, games)

    def forward(self, row: Tensor) -> Tensor:
        return F.log_softmax(self.network(row * row.shape[-1]).float(), -1)
