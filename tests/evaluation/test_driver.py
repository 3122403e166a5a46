"""Test the acting loop of evaluation on environments with known values."""

import gymnasium
import numpy as np
import pytest
import torch

from foreground.errors import UserError
from foreground.evaluation.driver import Callback, Driver, Film, Moment, Returns


class Count(gymnasium.Env):
    """The picture is [seed, step]; the reward is the action; episodes last as many steps as the
    seed says.
    """

    observation_space = gymnasium.spaces.Box(0, 255, (1, 2, 1), np.uint8)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    metadata = {"info_fields": {"game": ((1,), np.float32)}}  # noqa: RUF012

    def reset(self, *, seed=None, options=None):
        self.length, self.now = seed, 0
        return self.picture(), self.told()

    def step(self, action):
        assert self.now < self.length, "gone on with behind its end"
        self.now += 1
        return self.picture(), float(action[0]), False, self.now == self.length, self.told()

    def told(self):
        return {"game": np.array([self.length], np.float32)}

    def picture(self):
        return np.array([self.length, self.now], np.uint8).reshape(1, 2, 1)


def counting(memory, image, is_first):
    """Acts 0.1, 0.2, ...; the memory has what was seen."""
    seen = [*memory, (image, is_first)]
    return torch.full((len(image), 1), len(seen) / 10), seen


class Notes(Callback):
    def __init__(self):
        self.rows = []

    def on_action(self, moment: Moment) -> None:
        self.rows.append(
            ("acted", moment.image[:, 0, 1, 0].tolist(), moment.reward.tolist(), len(moment.memory))
        )

    def on_step(self, moment: Moment) -> None:
        self.rows.append(
            (
                "moved",
                moment.image[:, 0, 1, 0].tolist(),
                moment.reward.round(6).tolist(),
                moment.active.tolist(),
            )
        )


def test_every_environment_plays_one_episode_from_its_seed():
    notes, returns, film, told = Notes(), Returns(2), Film(), []
    driver = Driver(
        [Count(), Count()], counting, lambda row: told.append(row) or [], [notes, returns, film]
    )
    end = driver.run([2, 3])
    assert told[0]["game"].tolist() == [[2.0], [3.0]]
    assert notes.rows == [
        ("acted", [0, 0], [0.0, 0.0], 1),
        ("moved", [1, 1], [0.1, 0.1], [True, True]),
        ("acted", [1, 1], pytest.approx([0.1, 0.1]), 2),
        ("moved", [2, 2], [0.2, 0.2], [True, True]),
        ("acted", [2, 2], pytest.approx([0.2, 0.2]), 3),
        ("moved", [2, 3], [0.0, 0.3], [False, True]),  # the first one stays as it was
    ]
    assert returns.total.tolist() == pytest.approx([0.3, 0.6])
    assert [images[:, 0, 1, 0].tolist() for images in film.images] == [[1, 1], [2, 2], [2, 3]]
    assert not end.active.any()
    assert [first.tolist() for _, first in end.memory] == [
        [True, True],
        [False, False],
        [False, False],
    ]
    # What a policy keeps of an image is that image, also after the environments have moved.
    assert [image[:, 0, 1, 0].tolist() for image, _ in end.memory] == [[0, 0], [1, 1], [2, 2]]


def test_it_stops_after_so_many_steps():
    end = Driver([Count()], counting, lambda _: []).run([9], steps=4)
    assert end.image[0, 0].ravel().tolist() == [9, 4]
    assert end.active.tolist() == [True]
    assert len(end.memory) == 4


def test_an_episode_that_ends_before_stays_as_it_was():
    """Rollouts of several waves are joined, so that all have as many steps."""
    film = Film()
    end = Driver([Count(), Count()], counting, lambda _: [], [film]).run([2, 3], steps=5)
    assert [images[:, 0, 1, 0].tolist() for images in film.images[2:]] == [[2, 3]] * 3
    assert not end.active.any()


def test_an_action_that_is_not_finite_does_not_get_into_an_environment():
    env = Count()
    with pytest.raises(UserError, match="not finite"):
        Driver(
            [env], lambda memory, *_: (torch.tensor([[float("nan")]]), memory), lambda _: None
        ).run([5])
    assert env.now == 0
