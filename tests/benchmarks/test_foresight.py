"""Test the windows around the first reward of an episode, and what a known model imagines there."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.studies import foresight
from foreground.world_models.rssm import State

AHEAD = 4


def episode(length: int, first: int | None) -> dict[str, torch.Tensor]:
    """An episode whose rewards are 1 from row `first` on, and whose actions count its rows."""
    reward = torch.zeros(length)
    if first is not None:
        reward[first:] = 1.0
    return {"reward": reward, "action": torch.arange(length).float()[:, None]}


def test_windows_end_with_the_rows_that_are_judged():
    early = episode(100, foresight.SEEN + AHEAD - 1)  # one row too few before it
    late = episode(100, 99)  # too few rows from it on
    first, others = foresight.windows(
        [early, late, episode(100, 60), episode(100, None), episode(100, None)], AHEAD
    )
    assert len(first) == len(others) == 1
    assert first[0]["reward"].tolist() == [0.0] * (foresight.SEEN + AHEAD) + [1.0] * 3
    begin = 60 - AHEAD - foresight.SEEN
    for one in (*first, *others):
        assert one["action"][:, 0].tolist() == list(range(begin, 63))
    assert not others[0]["reward"].any()


class Follows:
    """A world model whose state is the last action, and whose reward is 1 for actions of 60 and
    more.
    """

    def observe(self, rows):
        state = State(rows["action"].float(), torch.zeros(*rows["action"].shape))
        return None, SimpleNamespace(state=state)

    def imagine(self, state, action):
        return State(action, state.stochastic)

    def reward(self, feature):
        return (feature[..., 0] >= 60).float()


@pytest.mark.parametrize(
    ("judged_from", "expected"), [(60, 1.0), (59, 2 / 3), (64, 1.0), (57, 0.0)]
)
def test_rewards_are_imagined_from_the_recorded_actions(judged_from, expected):
    """An action leads to the reward of its own row."""
    length = foresight.SEEN + AHEAD + foresight.JUDGED
    begin = judged_from - AHEAD - foresight.SEEN
    window = {name: value[begin : begin + length] for name, value in episode(100, 60).items()}
    agent = SimpleNamespace(world_model=Follows())
    found = foresight.imagined(agent, [window, window], AHEAD)
    torch.testing.assert_close(found, torch.full((2,), expected))
