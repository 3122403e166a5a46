"""Test what of an image the video replaces, and how it plays."""

import itertools

import numpy as np
import pytest

from foreground import envs
from foreground.errors import UserError
from tests.support.dmc import PROCEDURAL, play, video_environment


def test_video_is_not_a_function_of_time():
    environment = video_environment()
    starts = []
    for _ in range(6):
        environment.reset()
        starts.append(environment.background.frame().tobytes())
    assert len(set(starts)) > 3
    environment.close()


def test_video_goes_on_one_frame_a_step_and_turns_round():
    environment = video_environment("cartpole-swingup")
    environment.reset(seed=0)
    frames = [environment.background.frame().tobytes()]
    for _ in range(300):
        observation, *_ = environment.step(np.zeros(1))
        frames.append(environment.background.frame().tobytes())
        assert (observation == environment.background.frame()).all(-1).mean() > 0.8
    assert all(before != after for before, after in itertools.pairwise(frames))
    assert len(set(frames)) == 150, "a whole procedural clip, forwards and backwards"
    environment.close()


def test_environments_that_share_clips_play_their_own():
    background = envs.load_background(PROCEDURAL, "train")
    first, second = (envs.make("cartpole-swingup", background=background) for _ in range(2))
    first.reset(seed=0)
    frame = first.background.frame().copy()
    second.reset(seed=1)
    np.testing.assert_array_equal(first.background.frame(), frame)
    first.close()
    second.close()


def test_video_changes_pictures_but_neither_rewards_nor_states():
    plain, video = envs.make("cheetah-run"), video_environment("cheetah-run")
    observations, rewards, states = play(plain, 10, seed=0)
    video_observations, video_rewards, video_states = play(video, 10, seed=0)
    np.testing.assert_array_equal(rewards, video_rewards)
    np.testing.assert_array_equal(states, video_states)
    assert (observations != video_observations).any()
    plain.close()
    video.close()


@pytest.mark.parametrize("mask", ["sky_and_floor", "sky", "colour"])
def test_masks_differ_in_what_the_video_replaces(mask):
    background = envs.load_background(PROCEDURAL, "train")
    environment = envs.make("walker-walk", background=background, mask=mask)
    observation, _ = environment.reset(seed=0)
    video = (observation == environment.background.frame()).all(-1).mean()
    share = {"sky_and_floor": (0.85, 0.97), "sky": (0.3, 0.8), "colour": (0.85, 0.97)}[mask]
    assert share[0] < video < share[1]
    environment.close()


@pytest.mark.parametrize(("window", "side"), [(32, 32), (40, 40), (64, 64), (0, 64)])
def test_window_shows_the_plain_picture_around_the_video(window, side):
    plain, framed = envs.make("fish-swim"), video_environment("fish-swim", window=window)
    clean, _ = plain.reset(seed=0)
    picture, _ = framed.reset(seed=0)
    differs = (picture != clean).any(-1)
    edge = (64 - side) // 2
    outside = np.ones((64, 64), bool)
    outside[edge : 64 - edge, edge : 64 - edge] = False
    robot = framed.renderer.foreground()[1] > 0
    assert not (differs & outside & ~robot).any()
    assert differs[~outside & ~robot].mean() > 0.95
    plain.close()
    framed.close()


def test_clips_of_another_size_are_refused():
    with pytest.raises(UserError, match="clips of 32 pixels"):
        envs.make("walker-walk", background=envs.load_background(PROCEDURAL, "train", 32))
