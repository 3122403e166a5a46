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


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the same batch on a device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


@dataclass(frozen=True)
class AgentSpec:
    """What training and evaluation need to know of an agent before it acts.

    layout    fields that it adds to each row of the replay, read from its memory
    renders   whether it has a trained decoder
    explores  whether its actions have noise; otherwise only its commander explores
    validates whether it evaluates each new episode before it learns from it
    """

    layout: Layout
    renders: bool
    explores: bool
    validates: bool = False


class Agent(Protocol):
    """The interface of every agent."""

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
        """Return actions (N, A) in [-1, 1] and the new memory.

        image      uint8 (N, H, W, 3)
        is_first   bool (N,)
        explore    whether to sample
        commander  replaces the agent's own
        """

    def update(self, batch: Batch) -> Metrics:
        """Take one step of every learner on a batch (B, T, ...).

        Raises: Divergence when a loss or gradient is not finite.
        """

    def validate(self, episode: Batch | None) -> Metrics:
        """Evaluate a finished episode (1, T, ...) before any update sees it, if `spec.validates`.

        Every rank sees the episodes of all. None: another rank has one, this one has none.
        """

    def render(self, batch: Batch) -> Tensor:
        """Return images decoded from the latent: batch (B, T, ...) -> uint8 (B, T, H, W, 3)."""

    def training_state(self) -> dict:
        """Return everything that learning changes; `state_dict` has the weights only."""

    def load_training_state(self, state: dict, optimisers: bool = True) -> None:
        """Load a `training_state`, for evaluation without optimisers."""


# ------------------------------------------------------------------------ who chooses, and when


class Held(NamedTuple):
    """The condition of each environment, and the number of steps for which it has been held."""

    condition: Tensor  # (N, C)
    age: Tensor  # int (N,)


class Commander(Protocol):
    """Chooses the condition that the policy acts under, and holds it."""

    def __call__(
        self, memory: Memory, see: Callable[[], State], is_first: Tensor, explore: bool
    ) -> Held:
        """Return the condition for this step.

        see   returns the state after this step's image; a prior does not call it
        """


class Starts(NamedTuple):
    """Start states of imagination, and their conditions."""

    state: State  # (N, ...)
    condition: Tensor | None  # (N, C), the policy's input besides the state
    member: Tensor | None = None  # (N, M), one-hot: the game whose scale of returns applies
    game: Tensor | None = None  # (N, D)


class OwnCommander(Commander, Protocol):
    """The commander that an agent is built with; it also builds the networks of the policy.

    modules     its networks, by their names in the checkpoint
    actor       the one of them that acts under a condition
    learned     parameters of the actor that imagination trains
    explores    whether actions have noise
    recordable  whether its choice can be part of a CUDA graph: nothing waits for the device, and
                no size or branch depends on a value
    """

    modules: dict[str, nn.Module]
    actor: nn.Module
    learned: list[nn.Parameter]
    explores: bool
    recordable: bool

    def initial(self, number: int, device: torch.device) -> dict[str, Tensor]:
        """Return fields of the memory before the first image.

        These are `condition` (N, C), and `game` (N, D) where the commander reads it.
        """

    def starts(self, state: State, batch: Batch) -> Starts:
        """Choose start states of imagination among the states (B, T, ...) of a batch."""


# -------------------------------------------------------------------------------------- learning


@dataclass
class Step:
    """The data of one update, passed from learner to learner."""

    batch: Batch  # on the device, (B, T, ...)
    state: State | None = None  # (B, T, ...), detached; set by the learner of the world model
    starts: Starts | None = None  # set by imagination


class Learner(Protocol):
    """One part of an update. See `registry.learner` and `learners.py:Part`.

    modules     networks that it adds to the agent, by their names in the checkpoint
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
