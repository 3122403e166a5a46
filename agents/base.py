"""The contract of an agent, on one page.

An agent is a world model, a commander and learners. The commander chooses the condition (a skill, a
mode) that the policy acts under, and holds it. Each learner takes one step on a batch. A preset
names both; `registry.py` finds them.

Shapes: B batch, T time, N environments or starts, A action, C condition, D descriptor of a game,
M games.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from foreground.agents.memory import Memory
from foreground.agents.optimiser import Optimiser
from foreground.world_models.rssm import State

Layout = dict[str, tuple[tuple[int, ...], type[np.generic]]]
"""Field -> (shape of one row, NumPy type)."""
Batch = dict[str, Tensor]
Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class AgentSpec:
    """What training and evaluation need to know of an agent before it acts.

    layout    what it adds to each row of the replay, read from its memory
    renders   whether it has a trained decoder
    explores  whether its actions have noise; without, only its commander explores
    witnesses whether it wants to see each new episode before learning from it
    """

    layout: Layout
    renders: bool
    explores: bool
    witnesses: bool = False


class Agent(Protocol):
    """What training and evaluation ask of every agent."""

    device: torch.device

    @property
    def spec(self) -> AgentSpec: ...

    def initial_state(self, number: int) -> Memory:
        """Return the memory of `number` environments before their first image."""

    def act(
        self,
        memory: Memory,
        image: Tensor,
        is_first: Tensor,
        explore: bool = True,
        commander: "Commander | None" = None,
    ) -> tuple[Tensor, Memory]:
        """Images uint8 (N, H, W, 3), is_first (N,) -> actions (N, A) in [-1, 1], new memory.

        Without `explore` nothing is sampled. `commander` stands in for the agent's own.
        """

    def update(self, batch: Batch) -> Metrics:
        """Take one step of every learner on a batch (B, T, ...).

        Raise Divergence for numbers that are not finite.
        """

    def witness(self, episode: Batch) -> Metrics:
        """Look at a finished episode (1, T, ...) that no update has seen, where the spec says so."""

    def render(self, batch: Batch) -> Tensor:
        """Return what the latent keeps of each image: batch (B, T, ...) -> uint8 (B, T, H, W, 3)."""

    def training_state(self) -> dict:
        """Return everything that learning changes; `state_dict` has the weights alone."""

    def load_training_state(self, state: dict, optimisers: bool = True) -> None:
        """Take over what `training_state` gave; without optimisers for evaluation."""


# ------------------------------------------------------------------------ who chooses, and when


class Held(NamedTuple):
    """The condition of each environment, and for how many steps it has been held."""

    condition: Tensor  # (N, C)
    age: Tensor  # int (N,)


class Commander(Protocol):
    """Chooses the condition that the policy acts under, and holds it."""

    def __call__(self, memory: Memory, see: Callable[[], State], is_first: Tensor, explore: bool) -> Held:
        """Return the condition for this step.

        see   returns the state after this step's image; a prior does not call it
        """


class Starts(NamedTuple):
    """Where imagination begins, and under what."""

    state: State  # (N, ...)
    condition: Tensor | None  # (N, C), all that the policy sees beside the state
    member: Tensor | None = None  # (N, M), one-hot: the game whose scale of returns is each start's
    game: Tensor | None = None  # (N, D)


class OwnCommander(Commander, Protocol):
    """The commander that an agent is built with: it also builds the networks of the policy.

    modules   its networks, by the names that the checkpoint has them under
    actor     of them, what acts under a condition
    learned   parameters that imagination trains in the actor
    explores  whether actions have noise
    """

    modules: dict[str, nn.Module]
    actor: nn.Module
    learned: list[nn.Parameter]
    explores: bool

    def initial(self, number: int, device: torch.device) -> dict[str, Tensor]:
        """Return fields of the memory before the first image.

        `condition` (N, C), and `game` (N, D) where the commander reads that.
        """

    def starts(self, state: State, batch: Batch) -> Starts:
        """Choose where imagination begins among states (B, T, ...) of a batch."""


# -------------------------------------------------------------------------------------- learning


@dataclass
class Step:
    """One update under way: what the learners before have found."""

    batch: Batch  # on the device, (B, T, ...)
    state: State | None = None  # (B, T, ...), detached; from the learner of the world model
    starts: Starts | None = None  # from imagination


class Learner(Protocol):
    """One part of an update. See `registry.learner` and `learners.py:Part`.

    modules     networks that it adds to the agent, by the names that the checkpoint has them under
    optimisers  by name
    renders     whether it trains a decoder, or has a trained one
    """

    modules: dict[str, nn.Module]
    optimisers: dict[str, Optimiser]
    renders: bool

    def begin(self, records: bool) -> None:
        """Make optimisers, once the agent is on its device.

        records   whether gradients are recorded as CUDA graphs
        """

    def __call__(self, step: Step) -> Metrics:
        """Take one step."""
