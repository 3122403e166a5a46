"""SepCLR: frames of the clip alone leave no trace in the embedding."""

import math

import pytest
import torch

from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.world_models.salient import joint_spread, spread
from foreground.world_models.world_model import Spaces, WorldModel
from tests.support.small import FIXED, moving_square, world_config


def test_the_spread_of_known_rows():
    assert float(spread(torch.ones(8, 3))) == pytest.approx(0.0, abs=1e-6)
    assert float(spread(100 * torch.eye(8))) == pytest.approx(math.log(8), abs=1e-5)
    two = torch.tensor([[0.0], [50.0]]).repeat(10, 1)
    assert float(spread(two)) == pytest.approx(math.log(2), abs=1e-5)
    # One distance d: - ln((1 + e^{-d^2 / (2 tau)}) / 2), tau = 1/2.
    near = torch.tensor([[0.0], [1.0]])
    expected = -math.log((1 + math.exp(-1.0)) / 2)
    assert float(spread(near)) == pytest.approx(expected, abs=1e-5)


def test_the_joint_spread_is_largest_where_neither_tells_of_the_other():
    one = torch.tensor([[0.0], [50.0], [0.0], [50.0]])
    other = torch.tensor([[0.0], [0.0], [50.0], [50.0]])
    assert float(joint_spread(one, other)) == pytest.approx(math.log(4), abs=1e-5)
    assert float(joint_spread(one, one)) == pytest.approx(math.log(2), abs=1e-5)
    # Three rows alike and one apart: the entropy of 3/4 and 1/4.
    uneven = torch.tensor([[0.0], [0.0], [0.0], [50.0]])
    expected = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert float(joint_spread(uneven, uneven)) == pytest.approx(expected, abs=1e-5)


def scene(seed: int) -> dict[str, torch.Tensor]:
    """A square before a clip of two colours, and the clip alone."""
    batch = moving_square(batch=6, length=8, seed=seed, background=False)
    generator = torch.Generator().manual_seed(seed)
    colour = torch.randint(0, 200, (6, 8, 1, 1, 3), dtype=torch.uint8, generator=generator)
    clip = colour.expand_as(batch["image"]).clone()
    robot = (batch["image"] > 0).any(-1, keepdim=True)
    return batch | {"image": torch.where(robot, batch["image"], clip), "clip": clip}


def test_the_embedding_of_clips_loses_what_tells_them_apart():
    torch.manual_seed(0)
    config = world_config(FIXED | {"salient": 1.0}, ("salient",), frame_stack=1)
    model = WorldModel(config, Spaces(32, 2))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    rows = []
    for step in range(60):
        optimiser.zero_grad()
        found = model.loss(scene(step % 4))
        (-found.values["salient"]).backward()
        optimiser.step()
        rows.append([float(found.metrics[f"salient/{key}"]) for key in ("left_in", "alignment")])
    assert rows[0][0] > 0.5
    assert rows[-1][0] < 0.2
    assert rows[-1][1] > 0.9
    assert len([name for name in model.state_dict() if "salient" in name and "first" in name]) < 5


def test_the_term_needs_the_frames():
    words = ["--agent", "infopower_sepclr_oracle"]
    with pytest.raises(UserError, match="none are stored"):
        runs.read([*words, "--environment.clip_frames", "false"], cuda=False)
    with pytest.raises(UserError, match="does not tell the frames"):
        runs.read([*words, "--task", "gymnasium:CartPole-v1"], cuda=False)
