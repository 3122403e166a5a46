"""Skills: the condition of a policy, drawn from a fixed prior and held for several steps.

Shapes: N environments or states, C condition.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from foreground.errors import UserError
from foreground.option import config_class, option

SKILLED = "by agents with skills or goals, such as slim, metra and goal", lambda skill: skill.size


@config_class
class SkillConfig:
    size: int = option(0, "Size C of a skill; 0: the policy has no skills.", ge=0, le=4096)
    kind: str = option(
        "sphere",
        "Skills are directions on the unit sphere, or centred one-hot vectors.",
        choices=("sphere", "one_hot"),
        read_if=SKILLED,
    )
    duration: int = option(
        50,
        "Agent steps after which a new skill is drawn. Keep it shorter than a clip, which "
        "could otherwise identify the skill.",
        ge=1,
        read_if=SKILLED,
    )

    def __post_init__(self):
        if self.kind == "one_hot" and self.size == 1:
            what = "one_hot skills of size 1 are a single skill"
            raise UserError(what, "skill.size", "choose 2 or more")


class Skills:
    """The prior p(c). A centred one-hot has 1 at its index and -1 / (C - 1) elsewhere (METRA)."""

    def __init__(self, config: SkillConfig):
        self.config = config
        self.size = config.size

    def draw(self, number: int, device: torch.device | str = "cpu") -> Tensor:
        """Return samples (N, C) of the prior; of size 0 without drawing."""
        if not self.size:
            return torch.zeros(number, 0, device=device)
        if self.config.kind == "one_hot":
            return self.discrete(device)[torch.randint(self.size, (number,), device=device)]
        return F.normalize(torch.randn(number, self.size, device=device), dim=-1)

    def discrete(self, device: torch.device | str = "cpu") -> Tensor:
        """Return all C centred one-hots, (C, C)."""
        eye = torch.eye(self.size, device=device)
        return eye - (1 - eye) / (self.size - 1)

    def nearest(self, direction: Tensor) -> Tensor:
        """Return the skill nearest to a direction (N, C): the unit vector, or the best one-hot."""
        if self.config.kind == "one_hot":
            every = self.discrete(direction.device)
            return every[(direction @ every.T).argmax(-1)]
        return F.normalize(direction, dim=-1)

    def grid(self, number: int, device: torch.device | str = "cpu") -> Tensor:
        """Return `number` fixed skills (N, C): the one-hots in turn, or spread directions."""
        if self.config.kind == "one_hot":
            return self.discrete(device)[torch.arange(number, device=device) % self.size]
        if self.size == 2:
            angle = 2 * torch.pi * torch.arange(number, device=device) / number
            return torch.stack([angle.cos(), angle.sin()], -1)
        generator = torch.Generator().manual_seed(0)
        return F.normalize(
            torch.randn(number, self.size, generator=generator, device="cpu"), dim=-1
        ).to(device)
