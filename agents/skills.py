"""Skills: the condition of a policy, drawn from a fixed prior and held for a while.

Shapes: N environments or states, C condition.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from foreground.option import option

SKILLED = "by agents with skills, such as slim, metra and diayn", lambda skill: skill.size


@dataclass(frozen=True)
class SkillConfig:
    size: int = option(0, "Size C of a skill; 0: the policy has no skills.", ge=0, le=4096)
    kind: str = option(
        "sphere",
        "What skills are: directions on the unit sphere, or one of C, centred.",
        choices=("sphere", "one_hot"),
        read_if=SKILLED,
    )
    duration: int = option(
        50,
        "Agent steps after which a skill is drawn anew: one that lasts as long as a clip is told by the clip.",
        ge=1,
        read_if=SKILLED,
    )

    def __post_init__(self):
        if self.kind == "one_hot" and self.size == 1:
            raise ValueError("one_hot skills of size 1 are a single skill; size 2 or more is needed")


class Skills:
    """The prior p(c). A centred one-hot has 1 at its place and -1 / (C - 1) elsewhere (METRA): its sum is 0."""

    def __init__(self, config: SkillConfig):
        self.config, self.size = config, config.size

    def draw(self, number: int, device: torch.device | str = "cpu") -> Tensor:
        """(N, C) from the prior; of size 0 without a draw."""
        if not self.size:
            return torch.zeros(number, 0, device=device)
        if self.config.kind == "one_hot":
            return self.discrete(device)[torch.randint(self.size, (number,), device=device)]
        return F.normalize(torch.randn(number, self.size, device=device), dim=-1)

    def discrete(self, device: torch.device | str = "cpu") -> Tensor:
        """All C centred one-hots, (C, C)."""
        eye = torch.eye(self.size, device=device)
        return eye - (1 - eye) / (self.size - 1)

    def nearest(self, direction: Tensor) -> Tensor:
        """The skill that goes most in a direction (N, C): itself at length 1, or the best one-hot."""
        if self.config.kind == "one_hot":
            every = self.discrete(direction.device)
            return every[(direction @ every.T).argmax(-1)]
        return F.normalize(direction, dim=-1)

    def spread(self, number: int, device: torch.device | str = "cpu") -> Tensor:
        """`number` skills to look at, (N, C), the same each time: all one-hots in turn, or directions far from each other."""
        if self.config.kind == "one_hot":
            return self.discrete(device)[torch.arange(number, device=device) % self.size]
        if self.size == 2:
            angle = 2 * torch.pi * torch.arange(number, device=device) / number
            return torch.stack([angle.cos(), angle.sin()], -1)
        generator = torch.Generator().manual_seed(0)
        return F.normalize(torch.randn(number, self.size, generator=generator, device="cpu"), dim=-1).to(device)
