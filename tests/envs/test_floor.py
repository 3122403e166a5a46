"""The floor whose colours tell the place."""

import numpy as np
import pytest

from foreground import envs
from foreground.envs import floor
from foreground.errors import UserError

BODIES = {"walker-walk": ("rootx",), "cheetah-run": ("rootx",), "quadruped-walk": (0, 1)}


def put(env, task: str, place: float, axis: int) -> np.ndarray:
    """Move the robot; return the mean colour (3,) of the lowest floor in its image."""
    physics = env.physics
    with physics.reset_context():
        joint = BODIES[task][axis]
        positions = physics.data if isinstance(joint, int) else physics.named.data
        positions.qpos[joint] = place
    depth = env.renderer.size
    row = 0.8 if task == "cheetah-run" else 0.86  # below it ends the cheetah's track
    return env.renderer.picture()[int(row * depth)].mean(0)


@pytest.mark.parametrize(
    ("task", "axis"),
    [("walker-walk", 0), ("cheetah-run", 0), ("quadruped-walk", 0), ("quadruped-walk", 1)],
)
def test_the_image_shows_the_colour_of_the_place(task, axis):
    env = envs.make(task, floor="place")
    env.reset(seed=0)
    places = np.linspace(-2, 2, 5)
    seen = np.array([put(env, task, place, axis) for place in places]) / 255
    still = np.zeros_like(places)
    expected = floor.colour(places, still) if axis == 0 else floor.colour(still, places)
    if task == "quadruped-walk":  # the camera looks ahead, at another place
        channel = 0 if axis == 0 else 1
        np.testing.assert_allclose(np.diff(seen[:, channel]), 1 / 8, atol=0.04)
    else:  # at the floor from the side, right below, whatever the light
        np.testing.assert_allclose(seen, expected, atol=0.03)
    env.close()


def test_colours_rise_with_the_place_and_repeat():
    red, green, blue = floor.colour(np.array([-4.0, 0, 4, 12, 16]), np.zeros(5)).T
    np.testing.assert_allclose(red, [0, 0.5, 1, 0, 0.5], atol=1e-9)
    np.testing.assert_allclose(green, 0.5)
    np.testing.assert_allclose(blue, [0.45, 0.5, 0.55, 0.65, 0.7], atol=1e-9)


def test_the_floor_reaches_where_robots_run():
    env = envs.make("cheetah-run", floor="place")
    env.reset(seed=0)
    for place in (-60, -40):
        expected = 255 * floor.colour(np.array(place), np.array(0))
        np.testing.assert_allclose(put(env, "cheetah-run", place, 0), expected, atol=30)
    env.close()


def test_physics_and_rewards_are_those_of_the_own_floor():
    played = []
    for kind in floor.FLOORS:
        env = envs.make("quadruped-walk", floor=kind)
        env.reset(seed=3)
        random = np.random.default_rng(0)
        rewards = [env.step(random.uniform(-1, 1, 12))[1] for _ in range(30)]
        played.append((env.simulator_state(), rewards))
        env.close()
    np.testing.assert_array_equal(played[0][0], played[1][0])
    assert played[0][1] == played[1][1]


def test_two_sizes_of_one_environment_show_the_same_floor():
    env = envs.make("walker-walk", floor="place", render_mode="rgb_array", render_size=128)
    env.reset(seed=0)
    small, large = env.renderer.picture()[-8:].mean((0, 1)), env.render()[-16:].mean((0, 1))
    np.testing.assert_allclose(small / small.sum(), large / large.sum(), atol=0.01)
    env.close()


def test_an_unknown_floor_and_a_task_with_several_are_refused():
    with pytest.raises(UserError, match="unknown floor"):
        envs.make("walker-walk", floor="sand")
    with pytest.raises(UserError, match=r"has 4 floors to colour: environment\.floor: choose own"):
        envs.make("manipulator-bring_ball", floor="place")
