"""Goals: a policy conditioned on a state that it is to reach, given as a place on a map.

The map phi sends states to the unit sphere. States that follow one another within a few steps lie
close together. The condition of the policy is c = phi(g) for a goal state g, and the reward of a
step is (phi(s') - phi(s))^T c, the change of similarity to the goal. It is the reward `discovery`,
as of skills, but c comes from replayed states in place of a prior.
As in contrastive RL (arXiv 2206.07568) and CSF (arXiv 2412.08021), with goals and rollouts as in
LEXA (arXiv 2110.09514).

Shapes: B batch, T time, N environments or starts, F features, C condition.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foreground import ranks
from foreground.agents import registry
from foreground.agents.base import Batch, Held, Metrics, Starts, Step
from foreground.agents.commanders import Fixed, due, known_of, resampled
from foreground.agents.config import AgentConfig
from foreground.agents.discovery import TEMPORAL, DiscoveryConfig, along
from foreground.agents.learners import Part, named
from foreground.agents.memory import Memory, some_rows
from foreground.agents.optimiser import descend
from foreground.errors import UserError
from foreground.world_models.networks import MLP
from foreground.world_models.rssm import State
from foreground.world_models.world_model import Spaces, WorldModel

POOL = 256  # replayed states from which the goals of acting are drawn
FUTURE = 0.5  # share of imagined goals that come later in the sequence of their start
NEVER = -1e9  # score of a state that is not compared
PRIOR = registry.COMMANDERS["skill_prior"]  # whose networks and options these are


class TemporalMap(nn.Module):
    """phi: softmax over t' of phi(s_t)^T phi(s_t') / temperature is to be geometric in |t' - t|.

    Only states of the same episode are compared. The clip behind the robot is the same in all of
    them, so that knowing it makes no state more likely.
    """

    def __init__(self, config: DiscoveryConfig, feature: int, size: int):
        super().__init__()
        self.map = MLP(feature, config.units, config.layers, size)
        self.temperature = config.temperature
        self.log_discount = math.log(1 - 1 / config.lag)
        self.register_buffer("pool", torch.zeros(POOL, feature))

    def forward(self, feature: Tensor) -> Tensor:
        """Return phi(s): (..., F) -> (..., C), of length 1."""
        return F.normalize(self.map(feature).float(), dim=-1)

    def direction(self, previous: Tensor, following: Tensor) -> Tensor:
        """Return phi(s') - phi(s): (N, F), (N, F) -> (N, C)."""
        return self(following) - self(previous)

    def reward(self, previous: Tensor, following: Tensor, goal: Tensor) -> Tensor:
        """Return the change of similarity to a goal: (N, F), (N, F), (N, C) -> (N,)."""
        return along(self.direction(previous, following), goal)

    def loss(self, feature: Tensor, is_first: Tensor) -> tuple[Tensor, Metrics]:
        """Return the cross-entropy for states (B, T, F), a scalar, and metrics.

        is_first   bool (B, T); states of different episodes are not compared

        `nats` is what the map says of the lag: E_p[log softmax] plus the logarithm of the number
        of compared states. It is 0 for a constant map.
        """
        place = self(feature)  # (B, T, C)
        step = torch.arange(feature.shape[1], device=feature.device)
        episode = is_first.cumsum(1)
        compared = (episode.unsqueeze(2) == episode.unsqueeze(1)) & (step[:, None] != step)
        lag = (step[:, None] - step).abs()  # (T, T)
        wanted = (lag * self.log_discount).masked_fill(~compared, NEVER).softmax(-1)  # (B, T, T)
        scores = (place @ place.mT / self.temperature).masked_fill(~compared, NEVER)
        number = compared.sum(-1)  # (B, T)
        found = (wanted * scores.log_softmax(-1)).sum(-1)[number > 0]
        nats = (found + number[number > 0].log()).mean()
        return -found.mean(), {"nats": nats}


@registry.commander("goal_prior")
class GoalPrior:
    """Draws replayed states as goals and holds each for `skill.duration` steps."""

    explores, recordable = PRIOR.explores, PRIOR.recordable
    size = staticmethod(PRIOR.size)

    @staticmethod
    def check(config: AgentConfig, spaces: Spaces) -> None:
        """Raise UserError for options that do not fit a policy with goals."""
        PRIOR.check(config, spaces)
        if config.skill.size < 2 or config.skill.kind != "sphere":
            what = "a goal is a place on the unit sphere of 2 or more dimensions"
            raise UserError(what, "skill.size", "choose --skill.size 16 --skill.kind sphere")
        if config.discovery.kind != TEMPORAL:
            what = f"goals are places on the map {TEMPORAL!r}"
            raise UserError(what, "discovery.kind", f"choose {TEMPORAL}, or an agent with skills")

    def __init__(self, config: AgentConfig, spaces: Spaces, model: WorldModel):
        prior = PRIOR(config, spaces, model)
        self.config = config
        self.initial = prior.initial
        self.map = TemporalMap(config.discovery, model.rssm.feature_size, spaces.condition)
        self.modules = prior.modules | {"discovery": self.map}
        self.actor = prior.actor
        self.learned = prior.learned

    def __call__(
        self, memory: Memory, see: Callable[[], State], is_first: Tensor, explore: bool
    ) -> Held:
        drawn = torch.randint(POOL, (len(is_first),), device=self.map.pool.device)
        where = due(memory, is_first, self.config.skill.duration)
        return resampled(memory, where, self.map(self.map.pool[drawn]))

    def to(self, feature: Tensor) -> Fixed:
        """Return the commander that leads to states (N, F)."""
        return Fixed(self.map(feature))

    @torch.no_grad()
    def starts(self, state: State, batch: Batch) -> Starts:
        """Return a random subset of the batch's states, each with a state of the batch as goal.

        A goal is the state itself or a later one of its sequence, or any of the batch with enough
        history. The pool of acting is filled with such states.
        """
        flat = state.detach().map(lambda x: x.flatten(0, 1))
        feature = flat.feature.float()  # (B T, F)
        rows, device = len(feature), feature.device
        known = known_of(self.config, batch)
        index = some_rows(rows, self.config.actor_critic.imag_starts, known, device)
        index = torch.arange(rows, device=device) if index is None else index
        length = batch["is_first"].shape[1]
        left = length - index % length  # rows of the sequence from the start on
        later = index + (torch.rand(len(index), device=device) * left).long()
        other = with_history(known, rows, len(index), device)
        future = torch.rand(len(index), device=device) < FUTURE
        if known is not None:
            future &= known.flatten()[later]
        goal = torch.where(future, later, other)
        pool = feature[with_history(known, rows, POOL, device)]
        self.map.pool.copy_(ranks.summed(pool * (ranks.rank() == 0)))
        return Starts(flat.map(lambda x: x[index]), self.map(feature[goal]))


def with_history(known: Tensor | None, rows: int, number: int, device: torch.device) -> Tensor:
    """Return indices (number,) of rows with enough history, drawn with replacement.

    known   bool (B, T), which rows have enough; none: all of them
    """
    if known is None:
        return torch.randint(rows, (number,), device=device)
    return torch.multinomial(known.flatten().float(), number, replacement=True)


@registry.learner("goal_map")
class GoalMap(Part):
    """Learns the map of a commander of goals.

    Raises: UserError for an agent with another commander.
    """

    def __init__(self, agent):
        super().__init__(agent)
        if not isinstance(agent.commander, GoalPrior):
            what = "the learner 'goal_map' needs the commander 'goal_prior'"
            raise UserError(what, "commander", "choose --agent goal")
        self.map = agent.commander.map

    def begin(self, records: bool) -> None:
        rate, clip = self.config.discovery.lr, self.config.optimiser.policy_clip
        self.optimise("discovery", list(self.map.parameters()), rate, clip)

    def __call__(self, update: Step) -> Metrics:
        """Take one step of the map."""
        feature = update.state.detach().feature.float()
        loss, metrics = self.map.loss(feature, update.batch["is_first"])
        norm = descend(self.optimisers, {"discovery": loss})["discovery"]
        return named("discovery", metrics | {"gradient": norm})
