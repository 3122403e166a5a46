"""A latent policy becomes better at one game by a few first-order steps in imagination, on frames of that game.

Steps move relation and modes only, or the whole actor; world model and its dynamics stay. `reptile` and `fomaml` choose where
such steps begin (Nichol et al., arXiv 1803.02999; Finn et al., arXiv 1703.03400, without second derivatives).

Shapes: B batch, T time, N starts, D descriptor, K modes.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from foreground.agents.agent import WorldModelAgent
from foreground.agents.memory import some_of
from foreground.agents.optimiser import Optimiser, descend
from foreground.world_models.rssm import State
from foreground.world_models.terms import TrainSequence

Batch = dict[str, Tensor]
CLIP, EPSILON = 100.0, 1e-8


class Adaptation:
    """First-order steps of one agent, which is changed in place.

    scope   "relation": relation and modes; "actor": the policy, too. The critics follow in both
    rate    of each step, by Adam, which begins anew for each game
    """

    SCOPES = ("relation", "actor")

    def __init__(self, agent: WorldModelAgent, scope: str, rate: float):
        self.agent, self.rate = agent, rate
        relation = [*agent.actor.relation.parameters(), *agent.modes.choice.parameters()]
        self.parameters: list[nn.Parameter] = relation + (list(agent.actor.policy.parameters()) if scope == "actor" else [])
        self.restart()

    def restart(self) -> None:
        """Forget the moments of Adam: another game begins."""
        critics = list(self.agent.actor_critic.critics.parameters())
        self.optimisers = {
            "adapted": Optimiser("adapted", self.parameters, self.rate, CLIP, EPSILON),
            "critic": Optimiser("critic", critics, self.rate, CLIP, EPSILON),
        }

    def step(self, batch: Batch, game: Tensor) -> None:
        """One step on starts out of a batch (B, T, ...), all of them in the game (D,)."""
        descend(self.optimisers, self.losses(batch, game))
        for critic in self.agent.actor_critic.critics.values():
            critic.follow(1.0)  # few steps: no time for slow copies

    def losses(self, batch: Batch, game: Tensor) -> dict[str, Tensor]:
        """{"adapted": minus the imagined return, "critic": its loss} on a batch."""
        agent, start = self.agent, self.starts(batch, game)
        games = game.expand(len(start.deterministic), -1)
        losses = agent.learners["modes"].judge(start, games)
        value = agent.modes.values(agent.actor_critic, start.feature, games)  # (N, K)
        scale = agent.actor_critic.scales["game"].scale[agent.modes.nearest(games)]
        expected = (agent.modes(games).exp() * value).sum(-1) / scale
        return {"adapted": losses["actor"] - expected.mean(), "critic": losses["critic"]}

    def starts(self, batch: Batch, game: Tensor) -> State:
        """States of a batch, those of the game where it has any: each with what its sequence tells of the physics."""
        agent = self.agent
        seen = (batch[name].to(agent.device) for name in ("image", "action", "is_first"))
        with torch.no_grad():
            state = agent.world_model.observe(*seen)[1].state.map(lambda x: x.flatten(0, 1))
        own = (batch["game"].to(agent.device).flatten(0, 1) - game).abs().amax(-1) < 1e-4
        state = state.map(lambda x: x[own] if own.any() else x)
        return some_of(state.map(lambda x: x.unsqueeze(1)), agent.config.actor_critic.imag_starts)

    # ----------------------------------------------------------------------------------------- where steps begin from

    def snapshot(self) -> list[Tensor]:
        """The adapted parameters as they are."""
        return [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def restore(self, values: list[Tensor]) -> None:
        """Put them back."""
        for parameter, value in zip(self.parameters, values):
            parameter.copy_(value)


def reptile(adaptation: Adaptation, batches: Iterator[Batch], games: Tensor, rounds: int, steps: int, share: float) -> None:
    """Each round: `steps` in one of the games (M, D), then `share` of the way from where they began to where they led."""

    def take(begin: list[Tensor], game: Tensor) -> None:
        ends = adaptation.snapshot()
        adaptation.restore([torch.lerp(one, end, share) for one, end in zip(begin, ends)])

    _rounds(adaptation, batches, games, rounds, steps, take)


def fomaml(adaptation: Adaptation, batches: Iterator[Batch], games: Tensor, rounds: int, steps: int, rate: float) -> None:
    """Each round: `steps` in one of the games (M, D), then the gradient there, on another batch, is followed from the start."""
    outer = Optimiser("outer", adaptation.parameters, rate, CLIP, EPSILON)

    def take(begin: list[Tensor], game: Tensor) -> None:
        losses = adaptation.losses(next(batches), game)
        gradients = torch.autograd.grad(losses["adapted"], adaptation.parameters, allow_unused=True)
        adaptation.restore(begin)
        for parameter, gradient in zip(adaptation.parameters, gradients):
            parameter.grad = gradient
        outer.clip_gradient()
        outer.step()

    _rounds(adaptation, batches, games, rounds, steps, take)


META = {"reptile": reptile, "fomaml": fomaml}


def _judges(agent: WorldModelAgent) -> nn.ModuleDict:
    """Critics and scales: what a game's steps change beside what is adapted."""
    return nn.ModuleDict({"critics": agent.actor_critic.critics, "scales": agent.actor_critic.scales})


def _rounds(
    adaptation: Adaptation,
    batches: Iterator[Batch],
    games: Tensor,
    rounds: int,
    steps: int,
    take: Callable[[list[Tensor], Tensor], None],
) -> None:
    for index in range(rounds):
        game, begin, judges = games[index % len(games)], adaptation.snapshot(), _judges(adaptation.agent)
        known = {name: value.clone() for name, value in judges.state_dict().items()}
        adaptation.restart()
        for _ in range(steps):
            adaptation.step(next(batches), game)
        take(begin, game)
        judges.load_state_dict(known)  # they judge every game; one's steps are not the next one's


def fit_reward(agent: WorldModelAgent, batches: Iterator[Batch], steps: int, rate: float) -> None:
    """The head of the reward learns what a game pays, on `steps` batches of its frames; nothing else of the model moves."""
    term = agent.world_model.terms["games"]
    optimiser = {"reward": Optimiser("reward", list(term.parameters()), rate, CLIP, EPSILON)}
    for _ in range(steps):
        batch = {name: tensor.to(agent.device) for name, tensor in next(batches).items()}
        seen = batch["image"], batch["action"], batch["is_first"]
        with torch.no_grad():
            embedding, states = agent.world_model.observe(*seen)
        rollout = TrainSequence(*seen[:2], batch["reward"], batch["is_first"], embedding, states, {"game": batch["game"]})
        descend(optimiser, {"reward": -term(rollout)[0]})
