"""Frames of the clip alone, stored beside the image for an oracle."""

import numpy as np

from foreground import envs
from foreground.envs.dmc_video import make_video


def test_an_environment_tells_the_frame_that_plays_behind_the_robot():
    env = make_video("cartpole-swingup", size=64, clip_frames=True)
    assert env.metadata["info_fields"]["clip"] == ((64, 64, 3), np.uint8)
    image, info = env.reset(seed=3)
    assert np.array_equal(info["clip"], env.background.frame())
    assert (info["clip"] == image).all(-1).mean() > 0.8  # all but the robot
    before = info["clip"]
    for _ in range(3):
        image, *_, info = env.step(np.ones(1))
        assert np.array_equal(info["clip"], env.background.frame())
        assert (info["clip"] == image).all(-1).mean() > 0.8
    assert not np.array_equal(info["clip"], before)
    env.close()


def test_it_is_black_without_a_clip_and_not_told_unless_asked_for():
    env = envs.make("cartpole-swingup", size=32, clip_frames=True)
    assert not env.reset(seed=3)[1]["clip"].any()
    env.close()
    env = envs.make("cartpole-swingup", size=32)
    assert env.metadata["info_fields"] == {}
    env.close()
