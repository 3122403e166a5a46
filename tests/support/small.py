"""Make a small agent and batches for tests: the real classes, few units."""

import numpy as np
import pytest
import torch

from foreground.agents.actor_critic import ActorCriticConfig
from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import Layout
from foreground.agents.config import AgentConfig, OptimiserConfig
from foreground.agents.optimiser import Divergence
from foreground.world_models.empowerment import EmpowermentConfig
from foreground.world_models.objective import ObjectiveConfig
from foreground.world_models.rssm import RSSMConfig
from foreground.world_models.world_model import ContrastiveConfig, Spaces, WorldModelConfig

FIXED = {"contrastive": 1.0, "predictability": 1.0, "reward": 1.0}
INFOPOWER = FIXED | {"empowerment": 1.0}
DREAMER = {"reconstruction": 1.0, "predictability": 1.0, "reward": 1.0}


def world_config(
    terms=INFOPOWER, constraint=("predictability", "reward", "empowerment"), **fields
) -> WorldModelConfig:
    rssm = fields.pop("rssm", RSSMConfig(deterministic=32, hidden=32, groups=4, classes=4))
    objective = fields.pop("objective", None) or ObjectiveConfig(
        terms, tuple(constraint), pilot_updates=4
    )
    empowerment = EmpowermentConfig(units=32, layers=1)
    defaults = {
        "depth": 4,
        "embedding": 32,
        "units": 32,
        "decoder_frames": 4,
        "contrastive": ContrastiveConfig(projection=16),
    }
    return WorldModelConfig(
        **(defaults | fields), rssm=rssm, empowerment=empowerment, objective=objective
    )


def make_agent(
    terms=INFOPOWER,
    constraint=("predictability", "reward", "empowerment"),
    rewards=None,
    seed=0,
    **fields,
):
    torch.manual_seed(seed)
    rewards = rewards or (
        {"task": 1.0, "empowerment": 0.1} if "empowerment" in terms else {"task": 1.0}
    )
    policy = {"units": 32, "layers": 1, "horizon": 5, "imag_starts": 16} | fields.pop("policy", {})
    policy = ActorCriticConfig(rewards=rewards, **policy)
    optimiser = OptimiserConfig(model_lr=3e-3, actor_lr=3e-3, critic_lr=3e-3, warmup=0)
    return WorldModelAgent(
        AgentConfig(world_config(terms, constraint, **fields), policy, optimiser), Spaces(32, 2)
    )


def row_layout(image: tuple[int, ...], action: int, **floats: int) -> Layout:
    """The layout of rows with pictures of this shape, so many actions, and other fields of so many
    numbers.
    """
    layout = {
        "image": (image, np.uint8),
        "action": ((action,), np.float32),
        "reward": ((), np.float32),
    }
    layout |= {name: ((), np.bool_) for name in ("is_first", "is_terminal")}
    return layout | {name: ((size,), np.float32) for name, size in floats.items()}


def make_batch(
    batch=4, length=8, size=32, action=2, seed=0, condition=0, signals=0, games=(), numbers=0
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = torch.zeros(batch, length, dtype=torch.bool)
    first[0, length // 2] = True
    rows = {
        "image": torch.randint(
            0, 256, (batch, length, size, size, 3), dtype=torch.uint8, generator=generator
        ),
        "action": torch.rand(batch, length, action, generator=generator) * 2 - 1,
        "reward": torch.rand(batch, length, generator=generator),
        "is_first": first,
        "is_terminal": torch.zeros(batch, length, dtype=torch.bool),
    }
    rows["action"][first] = 0
    rows["reward"][first] = 0
    if condition:
        rows["condition"] = torch.randn(batch, length, condition, generator=generator)
    if signals:
        rows["signals"] = torch.rand(batch, length, signals, generator=generator)
    if numbers:
        rows["proprioception"] = torch.randn(batch, length, numbers, generator=generator)
    if games:  # one a sequence
        rows["game"] = (
            torch.tensor(games)[torch.arange(batch) % len(games)]
            .unsqueeze(1)
            .expand(-1, length, -1)
        )
    return rows


def batch_for(spaces: Spaces) -> dict[str, torch.Tensor]:
    """A batch with all fields that an agent of these sizes may read."""
    batch = make_batch(
        condition=spaces.condition,
        signals=len(spaces.signals),
        games=spaces.games,
        numbers=spaces.proprioception,
    )
    return batch | {"clip": batch["image"] // 2}


def moving_square(batch=8, length=16, size=32, seed=0, background=True) -> dict[str, torch.Tensor]:
    """A square that the first action moves sideways and the second up and down, over noise; reward
    is its height.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = make_batch(batch, length, size, seed=seed)
    rows["is_first"][:] = False
    rows["action"] = torch.rand(batch, length, 2, generator=generator) * 2 - 1
    images = rows["image"] // 4 if background else torch.zeros_like(rows["image"])
    position = torch.rand(batch, 2, generator=generator) * (size - 8)
    for t in range(length):
        position = (position + 6 * rows["action"][:, t]).clamp(0, size - 8)
        for b in range(batch):
            column, row = position[b].long().tolist()
            images[b, t, row : row + 8, column : column + 8] = torch.tensor(
                [250, 200, 40], dtype=torch.uint8
            )
        rows["reward"][:, t] = 1 - position[:, 1] / size
    rows["image"] = images
    return rows


def assert_nan_is_stopped(agent: WorldModelAgent) -> None:
    """A reward that is not a number ends the update, and no weight has changed."""
    before = {name: value.clone() for name, value in agent.named_parameters()}
    batch = make_batch()
    batch["reward"][0, 0] = float("nan")
    with pytest.raises(Divergence, match="world_model"):
        agent.update(batch)
    assert all(torch.equal(before[name], value) for name, value in agent.named_parameters())
