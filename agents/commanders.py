"""Commanders choose the condition of the policy and hold it: skills, modes and plans alike.

Shapes: N environments or starts, C condition.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from foreground.agents import registry
from foreground.agents.actor_critic import ActorCritic
from foreground.agents.base import Batch, Held, Starts
from foreground.agents.config import AgentConfig
from foreground.agents.memory import Memory, some_of
from foreground.agents.skills import Skills
from foreground.errors import UserError
from foreground.world_models.rssm import State
from foreground.world_models.world_model import Spaces, WorldModel, known_rows


def due(memory: Memory, is_first: Tensor, duration: int) -> Tensor:
    """Return where a new condition is chosen, bool (N,): at resets and after `duration` steps."""
    return is_first | (memory.age >= duration)


def resampled(memory: Memory, where: Tensor, condition: Tensor) -> Held:
    """Return the memory's condition, replaced by `condition` (N, C) in the rows `where` (N,).

    Its age includes this step.
    """
    kept = torch.where(where.unsqueeze(-1), condition, memory.condition)
    return Held(kept, torch.where(where, 0, memory.age) + 1)


def known_of(config: AgentConfig, batch: Batch) -> Tensor | None:
    """Return which rows of a batch are preferred as starts, bool (B, T): those with enough history.

    None: every row has enough.
    """
    context = config.world_model.context
    return known_rows(batch["is_first"], context) if context else None


class Fixed:
    """The same condition (N, C) at every step."""

    def __init__(self, condition: Tensor):
        self.condition = condition

    def __call__(
        self, memory: Memory, see: Callable[[], State], is_first: Tensor, explore: bool
    ) -> Held:
        condition = self.condition.to(memory.condition.device)
        return resampled(memory, is_first, condition)._replace(condition=condition)


@registry.commander("skill_prior")
class SkillPrior:
    """Draws skills from their prior and holds each for its duration; size 0 means no skills."""

    explores = True
    recordable = True

    @staticmethod
    def size(config: AgentConfig) -> int:
        """Return C."""
        return config.skill.size

    @staticmethod
    def check(config: AgentConfig, spaces: Spaces) -> None:
        """Raise UserError for options that belong to another commander."""
        if "game" in config.actor_critic.rewards:
            what = "the reward 'game' is for policies of modes"
            raise UserError(what, "actor_critic.rewards", "choose --agent mra, or task=1")
        if config.modes.num_modes:
            raise UserError(
                "this agent has no modes", "modes.num_modes", "choose --agent mra, or leave it out"
            )
        if config.hierarchy.duration:
            raise UserError(
                "this agent has no hierarchy",
                "hierarchy.duration",
                "choose --agent hierarchical, or leave it out",
            )
        if spaces.condition != config.skill.size:
            raise ValueError(
                f"a condition of size {spaces.condition} for skills of size {config.skill.size}"
            )

    def __init__(self, config: AgentConfig, spaces: Spaces, model: WorldModel):
        self.config = config
        self.skills = Skills(config.skill)
        actor_critic = ActorCritic(
            config.actor_critic, model.rssm.feature_size, spaces.action, spaces.condition
        )
        self.modules = {"actor_critic": actor_critic}
        self.actor = actor_critic.actor
        self.learned = list(self.actor.parameters())

    def initial(self, number: int, device: torch.device) -> dict[str, Tensor]:
        """Return skills that are replaced at the first reset."""
        return {"condition": self.skills.draw(number, device)}

    def __call__(
        self, memory: Memory, see: Callable[[], State], is_first: Tensor, explore: bool
    ) -> Held:
        if not self.skills.size:
            return Held(memory.condition, memory.age)
        drawn = self.skills.draw(len(is_first), memory.condition.device)
        return resampled(memory, due(memory, is_first, self.config.skill.duration), drawn)

    def starts(self, state: State, batch: Batch) -> Starts:
        """Return a random subset of the batch's states, each with a new skill.

        The skill that led to a state may be at its end, where nothing is left to learn for it.
        """
        known = known_of(self.config, batch)
        start = some_of(state, self.config.actor_critic.imag_starts, known)
        number = len(start.deterministic)
        device = start.deterministic.device
        return Starts(start, self.skills.draw(number, device) if self.skills.size else None)
