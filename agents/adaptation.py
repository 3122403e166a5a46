"""Adaptation of a latent policy to one game by a few first-order steps in imagination.

The steps use frames of that game. They change relation and modes only, or the whole actor; the
world model is frozen. `reptile` and `fomaml` learn the initial parameters of such steps (Nichol et
al., arXiv 1803.02999; Finn et al., arXiv 1703.03400, without second derivatives).

Shapes: B batch, T time, N starts, D descriptor, K modes.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import to_device
from foreground.agents.memory import some_of
from foreground.agents.optimiser import Optimiser, descend, step
from foreground.world_models.rssm import State
from foreground.world_models.terms import TrainSequence

Batch = dict[str, Tensor]
CLIP = 100.0
EPSILON = 1e-8


class Adaptation:
    """First-order steps of one agent, in place.

    scope   "relation": relation and modes; "actor": the policy as well. Critics are trained in both
    rate    learning rate of Adam, which is reset for each game
    """

    SCOPES = ("relation", "actor")

    def __init__(self, agent: WorldModelAgent, scope: str, rate: float):
        self.agent = agent
        self.rate = rate
        relation = [*agent.actor.relation.parameters(), *agent.modes.choice.parameters()]
        self.parameters: list[nn.Parameter] = relation + (
            list(agent.actor.policy.parameters()) if scope == "actor" else []
        )
        self.restart()

    def restart(self) -> None:
        """Reset the moments of Adam for another game."""
        critics = list(self.agent.actor_critic.critics.parameters())
        self.optimisers = {
            "adapted": Optimiser("adapted", self.parameters, self.rate, CLIP, EPSILON),
            "critic": Optimiser("critic", critics, self.rate, CLIP, EPSILON),
        }

    def step(self, batch: Batch, game: Tensor) -> None:
        """Take one step from states of a batch (B, T, ...), all in the game (D,)."""
        descend(self.optimisers, self.losses(batch, game))
        self.agent.actor_critic.agree()
        for critic in self.agent.actor_critic.critics.values():
            critic.update_target(1.0)  # too few steps for slow target networks

    def losses(self, batch: Batch, game: Tensor) -> dict[str, Tensor]:
        """Return {"adapted": minus the imagined return, "critic": its loss} on a batch."""
        agent = self.agent
        start = self.starts(batch, game)
        games = game.expand(len(start.deterministic), -1)
        losses = agent.learners["modes"].behaviour_losses(start, games)
        value = agent.modes.values(agent.actor_critic, start.feature, games)  # (N, K)
        scale = agent.actor_critic.scales["game"].scale[agent.modes.nearest(games)]
        expected = (agent.modes(games).exp() * value).sum(-1) / scale
        return {"adapted": losses["actor"] - expected.mean(), "critic": losses["critic"]}

    def starts(self, batch: Batch, game: Tensor) -> State:
        """Return states of a batch, those of the game where it has any.

        Each holds what its sequence shows of the physics.
        """
        agent = self.agent
        with torch.no_grad():
            _, states = agent.world_model.observe(to_device(batch, agent.device))
            state = states.state.map(lambda x: x.flatten(0, 1))
        own = (batch["game"].to(agent.device).flatten(0, 1) - game).abs().amax(-1) < 1e-4
        state = state.map(lambda x: x[own] if own.any() else x)
        return some_of(state.map(lambda x: x.unsqueeze(1)), agent.config.actor_critic.imag_starts)

    # ------------------------------------------------------------------------ initial parameters

    def snapshot(self) -> list[Tensor]:
        """Return a copy of the adapted parameters."""
        return [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def restore(self, values: list[Tensor]) -> None:
        """Restore a `snapshot`."""
        for parameter, value in zip(self.parameters, values):
            parameter.copy_(value)


def reptile(
    adaptation: Adaptation,
    batches: Iterator[Batch],
    games: Tensor,
    rounds: int,
    steps: int,
    share: float,
) -> None:
    """In each round take `steps` in one of the games (M, D), then move by `share` towards their
    result.
    """

    def take(begin: list[Tensor], game: Tensor) -> None:
        ends = adaptation.snapshot()
        adaptation.restore([torch.lerp(one, end, share) for one, end in zip(begin, ends)])

    _rounds(adaptation, batches, games, rounds, steps, take)


def fomaml(
    adaptation: Adaptation,
    batches: Iterator[Batch],
    games: Tensor,
    rounds: int,
    steps: int,
    rate: float,
) -> None:
    """In each round take `steps` in one of the games (M, D); apply the gradient there to the
    initial parameters.

    That gradient is of another batch.
    """
    outer = Optimiser("outer", adaptation.parameters, rate, CLIP, EPSILON)

    def take(begin: list[Tensor], game: Tensor) -> None:
        loss = adaptation.losses(next(batches), game)["adapted"]
        gradients = torch.autograd.grad(loss, adaptation.parameters, allow_unused=True)
        adaptation.restore(begin)
        step({"outer": outer}, {"outer": loss}, {"outer": gradients})

    _rounds(adaptation, batches, games, rounds, steps, take)


META = {"reptile": reptile, "fomaml": fomaml}


def _critics_and_scales(agent: WorldModelAgent) -> nn.ModuleDict:
    """Return critics and scales, which a game's steps change besides the adapted parameters."""
    return nn.ModuleDict(
        {"critics": agent.actor_critic.critics, "scales": agent.actor_critic.scales}
    )


def _rounds(
    adaptation: Adaptation,
    batches: Iterator[Batch],
    games: Tensor,
    rounds: int,
    steps: int,
    take: Callable[[list[Tensor], Tensor], None],
) -> None:
    for index in range(rounds):
        game = games[index % len(games)]
        begin = adaptation.snapshot()
        critics = _critics_and_scales(adaptation.agent)
        known = {name: value.clone() for name, value in critics.state_dict().items()}
        adaptation.restart()
        for _ in range(steps):
            adaptation.step(next(batches), game)
        take(begin, game)
        critics.load_state_dict(known)  # one game's steps must not affect the next game


def fit_reward(agent: WorldModelAgent, batches: Iterator[Batch], steps: int, rate: float) -> None:
    """Train the reward head on `steps` batches of a game; the rest of the model is frozen."""
    term = agent.world_model.terms["games"]
    optimiser = {"reward": Optimiser("reward", list(term.parameters()), rate, CLIP, EPSILON)}
    for _ in range(steps):
        batch = to_device(next(batches), agent.device)
        with torch.no_grad():
            embedding, states = agent.world_model.observe(batch)
        extra = {"game": batch["game"]}
        sequence = TrainSequence(
            batch["image"],
            batch["action"],
            batch["reward"],
            batch["is_first"],
            embedding,
            states,
            extra,
        )
        descend(optimiser, {"reward": -term(sequence)[0]})
