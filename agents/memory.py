"""What agents share beside their networks: the memory that acting keeps between steps, and where imagination begins.

Shapes: N environments or starts, A action, C condition, D descriptor.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from foreground.world_models.rssm import State


class Memory(NamedTuple):
    """What acting remembers between steps, a row an environment."""

    state: State
    action: Tensor  # (N, A), the last one
    image: Tensor  # uint8 (N, H, W, C), the last one
    condition: Tensor  # (N, C), the skill under which the last action was taken
    age: Tensor  # int (N,), steps for which it was held, where skills are renewed
    game: Tensor | None = None  # (N, D), what describes the game that is played, where there are games
    noise: Tensor | None = None  # (N, A), where actions explore: of the last one, in deviations of the policy

    def took(self, action: Tensor) -> "Memory":
        """The memory when another action (N, A) than the agent's own is taken: the next step filters with it."""
        return self._replace(action=action.to(self.action.device))

    def hears(self, told: Mapping[str, np.ndarray]) -> "Memory":
        """Return the memory with what environments tell, (N, ...) by name, of those names that it has a field for."""
        known = {name: value for name, value in told.items() if getattr(self, name, None) is not None}
        device = self.action.device
        return self._replace(**{name: torch.from_numpy(value).to(device) for name, value in known.items()})


def next_noise(noise: Tensor, correlation: float) -> Tensor:
    """The noise (N, A) of the next action: normal of deviation 1 whatever the correlation with this one, AR(1) over time.

    White noise moves a robot little, since one action undoes the other (Eberhard et al., ICLR 2023; docs/results).
    """
    return correlation * noise + math.sqrt(1 - correlation**2) * torch.randn_like(noise)


def some_of(state: State, number: int, known: Tensor | None = None) -> State:
    """A random subset of a batch's states (B, T, ...) -> (N, ...), detached; all of them for 0.

    known   bool (B, T): states to be preferred; others are taken only where there are fewer than N of these
    """
    flat = state.detach().map(lambda x: x.flatten(0, 1))
    index = some_rows(len(flat.deterministic), number, known, flat.deterministic.device)
    return flat if index is None else flat.map(lambda x: x[index])


def some_rows(rows: int, number: int, known: Tensor | None, device: torch.device) -> Tensor | None:
    """Indices (N,) of `number` random rows, those that are `known` first; None where all are taken."""
    if not 0 < number < rows:
        return None
    if known is None:
        return torch.randperm(rows, device=device)[:number]
    order = torch.rand(rows, device=device) + (~known.flatten()).float()
    return order.argsort()[:number]
