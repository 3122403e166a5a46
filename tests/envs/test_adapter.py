"""Test environments of Gymnasium as image environments: observations, actions, refusals."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from foreground import envs
from foreground.envs import adapter, specs
from foreground.envs.offers import Described, Simulated, Snapshotable, offered
from foreground.envs.rendering import Renderer
from foreground.envs.simulation import camera_of
from foreground.envs.simulator import mujoco
from foreground.envs.workers import guarded
from foreground.errors import UserError
from foreground.evaluation import posture
from tests.support import toys


def make(name: str, **options) -> adapter.PixelEnv:
    return adapter.make_pixels(f"gymnasium:toys/{name}-v0", "tests.support.toys", **options)


@pytest.mark.parametrize("name", ["Countdown", "Kept", "Plane", "Grey"])
def test_gymnasium_checks_the_adapter(name):
    check_env(make(name, size=16), skip_render_check=True)


def test_actions_are_rescaled_to_the_bounds_of_the_environment():
    env = make("Plane")
    env.reset(seed=0)
    for action in ([-1, -1], [1, 1], [0, 0.5], [5, -5]):
        env.step(np.array(action, np.float32))
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    np.testing.assert_allclose(env.env.unwrapped.taken, [[0, -10], [2, 30], [1, 20], [2, -10]])


def test_the_picture_is_what_render_draws_resized():
    env = make("Plane", size=20, arguments={"height": "80", "colour": "0.5"})
    image, _ = env.reset(seed=0)
    drawn = env.env.render()
    assert drawn.shape == (80, 60, 3)
    assert drawn.max() == 127
    assert image.shape == (20, 20, 3)
    # An area average keeps the mean.
    np.testing.assert_allclose(image.mean(), drawn.mean(), rtol=0.05)
    assert (env.step(np.ones(2))[0] != image).any()


def test_pixel_observations_are_taken_as_they_are():
    image, _ = make("Countdown", size=toys.SIDE).reset(seed=1)
    left = np.random.default_rng(1).integers(1, 7)  # as gymnasium seeds it
    np.testing.assert_array_equal(image, toys.picture(int(left)))


def test_grey_pictures_with_channels_first_have_three_channels():
    image, _ = make("Grey", size=28).reset(seed=0)
    assert image.shape == (28, 28, 3)
    assert (image == image[..., :1]).all()
    assert image.max() > 200


def test_an_action_is_repeated_until_the_episode_ends():
    env = make("Countdown", action_repeat=4)
    env.reset(seed=0)
    env.env.unwrapped.left = 6
    _, reward, terminated, truncated, info = env.step(np.zeros(1))
    assert (reward, terminated, truncated, info["env_frames"]) == (4, False, False, 4)
    _, reward, terminated, truncated, info = env.step(np.zeros(1))
    assert (reward, terminated, truncated, info["env_frames"]) == (2, True, False, 2)


def test_the_time_limit_is_that_of_the_environment_and_truncates():
    env, ends = make("Plane", action_repeat=2), []
    env.reset(seed=0)
    for _ in range(4):
        *_, terminated, truncated, _ = env.step(np.zeros(2))
        ends.append((terminated, truncated))
    assert ends == [(False, False)] * 3 + [(False, True)]
    assert make("Plane", arguments={"max_episode_steps": "3"}).time_limit == 3


def test_an_episode_without_a_stated_limit_ends_all_the_same(monkeypatch):
    task, module = "gymnasium:toys/Endless-v0", "tests.support.toys"
    assert make("Endless").time_limit == 10_000
    monkeypatch.setattr(specs, "LONGEST", 12)
    env, steps = make("Endless", action_repeat=4), 0
    env.reset(seed=0)
    for _ in range(5):
        steps += 1
        *_, terminated, truncated, _ = env.step(np.zeros(2))
        if truncated:
            break
    assert (steps, terminated, truncated) == (3, False, True)
    assert "truncated after 12 steps" in specs.limit_warning(task, module, {})
    assert specs.limit_warning(task, module, {"max_episode_steps": "5"}) == ""
    assert make("Endless", arguments={"max_episode_steps": "50000"}).time_limit == 50_000


def test_a_snapshot_goes_on_where_the_environment_offers_one():
    env, other = (guarded(lambda: make("Kept", size=16)) for _ in range(2))
    env.reset(seed=3)
    env.step(np.zeros(1))
    taken = env.get_wrapper_attr("snapshot")
    other.set_wrapper_attr("snapshot", taken)
    # Through ends of episodes, whose resets an environment takes upon itself behind a snapshot.
    for _ in range(12):
        one, two = env.step(np.zeros(1)), other.step(np.zeros(1))
        np.testing.assert_array_equal(one[0], two[0])
        assert one[1:4] == two[1:4]
        if one[2]:
            taken = env.get_wrapper_attr("snapshot")
            env.set_wrapper_attr("snapshot", taken)
            other.set_wrapper_attr("snapshot", taken)


def test_what_is_not_offered_is_none():
    env = guarded(lambda: make("Countdown"))
    env.reset(seed=0)
    assert env.get_wrapper_attr("snapshot") is None
    assert offered(env, Described) is None
    with pytest.raises(ValueError, match="no snapshot"):
        env.set_wrapper_attr("snapshot", {})


def test_an_offer_is_found_behind_wrappers_and_not_asked_for_its_value():
    class Dear(toys.Countdown):
        @property
        def snapshot(self):
            raise AssertionError("it costs time")

    inner = Dear()
    assert offered(gymnasium.wrappers.TimeLimit(inner, 5), Snapshotable) is inner


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Buttons", ["Discrete(3)", "continuous actions"]),
        ("Unbounded", ["have no bounds", "RescaleAction"]),
        ("Blind", ["shows no picture", "render()"]),
        ("Countdwon", ["cannot find", "did you mean gymnasium:toys/Countdown-v0?"]),
    ],
)
def test_what_no_agent_can_learn_in_is_one_line_with_a_remedy(name, parts):
    with pytest.raises(UserError) as error:
        make(name)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_video_plays_behind_a_simulation_that_can_be_reached():
    background = envs.load_background(envs.BackgroundConfig("procedural"), "train", 48)
    videos = [make("Swing", size=48, background=background, mask="sky_and_floor") for _ in range(2)]
    plain = make("Swing", size=48, mask="sky_and_floor")
    (image, _), (same, _), (own, _) = (env.reset(seed=5) for env in (*videos, plain))
    np.testing.assert_array_equal(image, same)
    alpha = Renderer(pointers(plain), 48, camera=0).foreground()[1]
    assert 0.02 < (alpha == 255).mean() < 0.3
    assert np.abs(image[alpha == 255].astype(int) - own[alpha == 255]).max() <= 1, (
        "the robot is the same before both"
    )
    frame = videos[0].background.frame()
    assert np.abs(image[alpha == 0].astype(int) - frame[alpha == 0]).max() <= 1, (
        "all else is the clip"
    )
    assert (videos[0].step(np.ones(1))[0] != image).any()


def test_a_video_is_seen_by_the_camera_of_the_environment():
    """One of the model, or a free one as Gymnasium's own environments set theirs."""
    fixed, free = (make("Swing", arguments={"camera": str(index)}) for index in (0, -1))
    camera = camera_of(fixed.env, fixed.physics)
    assert (camera.type, camera.fixedcamid) == (mujoco.mjtCamera.mjCAMERA_FIXED, 0)
    camera = camera_of(free.env, free.physics)
    assert camera.type == mujoco.mjtCamera.mjCAMERA_FREE
    assert (camera.distance, camera.elevation, camera.lookat.tolist()) == (4, -90, [0, 0, 1])


def pointers(env) -> SimpleNamespace:
    """The simulation of an adapter as dm_control hands it out."""
    model, data = env.physics
    return SimpleNamespace(model=SimpleNamespace(ptr=model), data=SimpleNamespace(ptr=data))


def test_no_video_plays_where_nothing_tells_the_robot_from_the_rest():
    background = envs.load_background(envs.BackgroundConfig("procedural"), "train", 48)
    with pytest.raises(
        UserError, match=r"no video can play behind gymnasium:toys/Plane-v0.*MuJoCo"
    ):
        make("Plane", size=48, background=background, mask="sky")


def test_numbers_that_are_observed_and_a_simulation_are_offered_to_evaluation():
    env = guarded(lambda: make("Swing", size=16))
    env.reset(seed=0)
    inner = env.unwrapped.env.unwrapped
    for _ in range(2):
        told = offered(env, Described).state_observation()
        np.testing.assert_array_equal(told["observation"], [*inner.data.qpos, *inner.data.qvel])
        np.testing.assert_array_equal(
            offered(env, Simulated).simulator_state(), told["observation"]
        )
        env.step(np.ones(1))
    assert posture.body(offered(env, Simulated).physics).posture
    assert offered(make("Countdown"), Simulated) is None


def test_a_module_that_is_not_there_is_one_line():
    with pytest.raises(UserError, match=r"'no_such_package' cannot be imported.*--env_module"):
        adapter.make_pixels("gymnasium:toys/Countdown-v0", "no_such_package")


def test_arguments_of_another_environment_are_one_line():
    with pytest.raises(UserError, match=r"cannot be made.*TypeError"):
        make("Plane", arguments={"wings": "2"})
