"""Test games whose optimal behaviours exclude one another: directions, speeds on both sides of
zero, hidden targets.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from foreground import envs
from foreground.envs.backgrounds import Background
from foreground.envs.families import REACH, FamilyConfig, make_family
from foreground.envs.games import share_of_speed
from foreground.errors import UserError
from foreground.training import options

SPEED = make_family(FamilyConfig(kind="speed"), "walker-walk")
BOTH_WAYS = make_family(FamilyConfig(kind="direction"), "cheetah-run")
TARGET = make_family(FamilyConfig(kind="target"), "reacher-easy")


def played(family, games, task, **arguments):
    return envs.make(task, size=32, family=family, games=games, **arguments)


def moving(env, velocity: float) -> dict[str, float]:
    """The rewards of all games of training, with the body upright and moving along x."""
    env.reset(seed=0)
    physics = env.physics
    physics.data.qpos[:] = 0
    physics.data.qvel[:] = 0
    physics.named.data.qvel["rootx"] = velocity
    physics.forward()
    return dict(zip(env.playing.names, env.playing.read(np.zeros(6)).tolist()))


@pytest.mark.parametrize("speed", [-12, -10, -2.5, 0, 5, 10])
def test_directions_pay_the_cheetah_s_run_by_its_signed_speed(speed):
    env = played(BOTH_WAYS, BOTH_WAYS.train, "cheetah-run")
    try:
        paid = moving(env, speed)
        assert paid["forward"] == pytest.approx(np.clip(speed / 10, 0, 1), abs=1e-6)
        assert paid["backward"] == pytest.approx(np.clip(-speed / 10, 0, 1), abs=1e-6)
        assert paid["forward"] == pytest.approx(env._task.get_reward(env.physics), abs=1e-6)
    finally:
        env.close()


@pytest.mark.parametrize(("task", "speed"), [("walker-run", 4.0), ("walker-walk", 0.5)])
def test_directions_of_a_walker_are_its_task_and_the_mirror_image_of_it(task, speed):
    family = make_family(FamilyConfig(kind="direction"), task)
    env = played(family, family.train, task)
    try:
        forth, back, still = (moving(env, way) for way in (speed, -speed, 0.0))
        assert forth["forward"] == back["backward"] > 3 * forth["backward"] > 0
        assert forth["backward"] == back["forward"] == still["forward"] == still["backward"]
        moving(env, speed)
        assert forth["forward"] == pytest.approx(env._task.get_reward(env.physics), rel=1e-6)
    finally:
        env.close()


def test_speeds_on_both_sides_of_zero():
    config = FamilyConfig(kind="speed", speeds=(-4.0, 4.0), heldout_speeds=(-2.0, 2.0))
    family = make_family(config, "cheetah-run")
    assert family.train[0].descriptor == (-family.train[1].descriptor[0],)
    assert 0 < family.heldout[1].descriptor[0] < family.train[1].descriptor[0] < 1
    env = played(family, family.train, "cheetah-run")
    try:
        assert moving(env, 3.0) == {"speed=-4": 0.0, "speed=4": pytest.approx(0.75)}
        assert moving(env, -8.0) == {"speed=-4": 1.0, "speed=4": 0.0}
    finally:
        env.close()


@pytest.mark.parametrize(
    ("velocity", "speed", "exact", "share"),
    [
        (6, 4, False, 1), (6, 4, True, 0.5), (3, 4, True, 0.75), (-6, -4, True, 0.5),
        (-6, 4, False, 0), (0.25, 0, True, 0.75), (-2, 0, True, 0), (-2, 0, False, 1),
    ],
)  # fmt: skip
def test_shares_of_a_speed(velocity, speed, exact, share):
    assert share_of_speed(velocity, speed, exact) == share


def test_descriptors_of_speeds_are_those_of_older_runs():
    """A run of before has no speeds below zero and no option `exact`."""
    old = {"kind": "speed", "speeds": [0.0, 1.0, 8.0], "heldout_speeds": [3.0], "num_games": 6}
    assert options.from_dict(FamilyConfig, old, "config.yaml") == FamilyConfig(kind="speed")
    found = [game.descriptor[0] for game in SPEED.train]
    assert found == pytest.approx([0, np.log(2) / np.log(11), np.log(9) / np.log(11)], rel=1e-12)


def at_target(env, x: float, y: float) -> None:
    """Bend the reacher's arm of two links of 0.12 m so that its finger is at a place."""
    wrist = np.arccos((x**2 + y**2) / (2 * 0.12**2) - 1)
    env.physics.data.qpos[:] = np.arctan2(y, x) - wrist / 2, wrist
    env.physics.forward()


def test_a_target_pays_where_the_finger_touches_it():
    env = played(TARGET, TARGET.train, "reacher-easy")
    try:
        env.reset(seed=0)
        for index, game in enumerate(TARGET.train):
            at_target(env, *game.values)
            assert env.playing.read(np.zeros(2)).tolist() == np.eye(6)[index].tolist()
        radius = np.hypot(*TARGET.train[0].values)
        for beyond, paid in ((0.055, 1.0), (0.065, 0.0)):  # the radii are 0.05 and 0.01
            at_target(env, radius + beyond, 0.0)
            assert env.playing.read(np.zeros(2))[0] == paid
    finally:
        env.close()


def looks_of(games, seed: int, **arguments) -> list[np.ndarray]:
    """All that the agent sees of two steps: images, enlarged images, numbers."""
    env = played(
        TARGET, games, "reacher-easy", proprioception=True, render_mode="rgb_array",
        render_size=96, **arguments,
    )  # fmt: skip
    try:
        image, info = env.reset(seed=seed)
        seen = [image, env.render(), info["proprioception"]]
        for _ in range(2):
            image, *_, info = env.step(np.ones(2))
            seen += [image, info["proprioception"]]
        return seen
    finally:
        env.close()


@pytest.mark.parametrize("video", [False, True])
def test_nothing_that_the_agent_sees_tells_the_target(video):
    frames = np.full((4, 32, 32, 3), 90, np.uint8)
    clips = SimpleNamespace(size=32, starts=(0, 4), frame=lambda index: frames[index])
    more = {"background": Background(clips)} if video else {}
    one, other = (looks_of((game,), 3, **more) for game in (TARGET.train[0], TARGET.heldout[0]))
    for left, right in zip(one, other):
        np.testing.assert_array_equal(left, right)
    own = envs.make("reacher-easy", size=32, proprioception=True, **more)
    try:  # the task's own target is seen
        image, info = own.reset(seed=3)
        assert (np.abs(image.astype(int) - one[0]).max(-1) > 20).sum() > 10
        assert not np.allclose(info["proprioception"], one[2])
    finally:
        own.close()


def test_dm_control_s_own_target_is_invisible():
    """Wherever it is put, the image is the same; that of the task itself is not."""
    changes = []
    for env in (played(TARGET, TARGET.train, "reacher-easy"), envs.make("reacher-easy", size=32)):
        try:
            before, _ = env.reset(seed=0)
            env.physics.named.model.geom_pos["target", :2] = -0.12, 0.12
            env.physics.forward()
            changes.append(int((env._draw(env.renderer) != before).any(-1).sum()))
        finally:
            env.close()
    assert changes[0] == 0 < 10 < changes[1]


def test_targets_exclude_one_another_and_held_out_ones_lie_between():
    for number, heldout in ((6, 3), (2, 5), (6, 0)):
        config = FamilyConfig(kind="target", num_games=number, num_heldout_games=heldout)
        family = make_family(config, "reacher-hard")
        games = (*family.train, *family.heldout)
        assert len({game.name for game in games}) == number + heldout
        places = np.array([game.values for game in games])
        assert np.allclose(np.hypot(*places.T), 0.15, atol=2e-3)
        np.testing.assert_allclose([game.descriptor for game in games], places / REACH)
        assert all(family.game(game.name) == game for game in games)
        apart = np.linalg.norm(places[:number, None] - places[None, :number], axis=-1)
        assert apart[~np.eye(number, dtype=bool)].min() > 2 * 0.06
    assert TARGET.heldout[0].values == pytest.approx((0.13, 0.075))  # 30 degrees


@pytest.mark.parametrize(
    ("config", "task", "names"),
    [
        (FamilyConfig(kind="direction", only="backward"), "walker-run", ["backward"]),
        (FamilyConfig(kind="target", only="x=0.1,y=0.05"), "reacher-hard", ["x=0.1,y=0.05"]),
        (FamilyConfig(kind="speed", only="speed=-3"), "walker-walk", ["speed=-3"]),
    ],
)
def test_an_expert_has_one_game(config, task, names):
    family = make_family(config, task)
    assert [game.name for game in family.train] == names
    assert family.heldout == ()


def test_an_expert_of_no_game_is_refused():
    with pytest.raises(UserError, match="there is no game 'up'"):
        make_family(FamilyConfig(kind="direction", only="up"), "walker-run")
