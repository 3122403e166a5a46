"""The memory that acting keeps between steps, and the choice of start states for imagination.

Shapes: N environments or starts, A action, C condition, D descriptor, P proprioception.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from foreground.world_models.rssm import State


class Memory(NamedTuple):
    """What acting keeps between steps, one row per environment."""

    state: State
    action: Tensor  # (N, A), the last action
    image: Tensor  # uint8 (N, H, W, C), the last image
    condition: Tensor  # (N, C), the condition of the last action
    age: Tensor  # int (N,), steps for which the condition has been held
    game: Tensor | None = None  # (N, D), descriptor of the current game, where there are games
    # (N, A), where actions explore: noise of the last action, in standard deviations of the policy.
    noise: Tensor | None = None
    # (N, P), numbers observed with the image that comes next, where there are any.
    proprioception: Tensor | None = None

    def with_action(self, action: Tensor) -> "Memory":
        """Return the memory after an action (N, A) that is not the agent's own.

        The next step filters with it.
        """
        return self._replace(action=action.to(self.action.device))

    def with_fields(self, fields: Mapping[str, np.ndarray]) -> "Memory":
        """Return the memory with values of the environments, (N, ...) by name, in the fields that
        it has.
        """
        known = {
            name: value for name, value in fields.items() if getattr(self, name, None) is not None
        }
        device = self.action.device
        return self._replace(
            **{name: torch.from_numpy(value).to(device) for name, value in known.items()}
        )


def next_noise(noise: Tensor, correlation: float) -> Tensor:
    """Return the noise (N, A) of the next action: standard normal, AR(1) over time.

    White noise moves a robot little, since successive actions cancel (Eberhard et al., ICLR 2023;
    docs/results).
    """
    return correlation * noise + math.sqrt(1 - correlation**2) * torch.randn_like(noise)


def some_of(state: State, number: int, known: Tensor | None = None) -> State:
    """Return a random subset of states, detached: (B, T, ...) -> (N, ...). For 0 return all.

    known   bool (B, T): states to prefer; others are taken only where there are fewer than N of
            these
    """
    flat = state.detach().map(lambda x: x.flatten(0, 1))
    index = some_rows(len(flat.deterministic), number, known, flat.deterministic.device)
    return flat if index is None else flat.map(lambda x: x[index])


def some_rows(rows: int, number: int, known: Tensor | None, device: torch.device) -> Tensor | None:
    """Return indices (N,) of `number` random rows, `known` ones first; None where all are taken."""
    if not 0 < number < rows:
        return None
    if known is None:
        return torch.randperm(rows, device=device)[:number]
    order = torch.rand(rows, device=device) + (~known.flatten()).float()
    return order.argsort()[:number]
