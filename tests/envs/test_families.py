"""Test families of games: descriptors, rewards in every game, clips independent of the game."""

from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy.stats import chi2_contingency

from foreground import envs
from foreground.envs.backgrounds import Background
from foreground.envs.families import SCALES, FamilyConfig, make_family
from foreground.errors import UserError

SPEED = make_family(FamilyConfig(kind="speed"), "walker-walk")
DYNAMICS = make_family(FamilyConfig(kind="dynamics"), "walker-stand")
BOTH_WAYS = make_family(FamilyConfig(kind="direction"), "cheetah-run")
TARGET = make_family(FamilyConfig(kind="target"), "reacher-easy")


def played(family, games, task="walker-walk", **arguments):
    return envs.make(task, size=32, family=family, games=games, **arguments)


@pytest.mark.parametrize(("speed", "task"), [(0, "stand"), (1, "walk"), (8, "run")])
def test_speeds_are_the_tasks_of_dm_control(speed, task):
    """The same physics, the same reward, frame by frame."""
    game = SPEED.game(f"speed={speed}")
    assert game in SPEED.train
    ours, theirs = (
        played(SPEED, (game,), action_repeat=1),
        envs.make(f"walker-{task}", size=32, action_repeat=1),
    )
    random = np.random.default_rng(0)
    try:
        ours.reset(seed=3)
        theirs.reset(seed=3)
        theirs.physics.set_state(ours.physics.get_state())
        for _ in range(20):
            action = random.uniform(-1, 1, 6)
            assert ours.step(action)[1] == pytest.approx(theirs.step(action)[1], rel=1e-6)
    finally:
        ours.close()
        theirs.close()


def test_a_step_tells_the_reward_of_every_game_and_its_own_among_them():
    env = played(SPEED, SPEED.train, action_repeat=4)
    seen = set()
    try:
        for seed in range(12):
            _, info = env.reset(seed=seed)
            assert not info["signals"].any()
            number = [game.descriptor for game in SPEED.train].index(
                tuple(float(x) for x in env.playing.game.descriptor)
            )
            np.testing.assert_allclose(info["game"], SPEED.train[number].descriptor, rtol=1e-6)
            _, reward, _, _, info = env.step(np.full(6, 0.3))
            assert info["signals"].shape == (3,)
            assert info["signals"][number] == pytest.approx(reward, rel=1e-5)
            seen.add(number)
    finally:
        env.close()
    assert seen == {0, 1, 2}


def test_a_held_out_game_is_played_by_its_own_reward():
    env = played(SPEED, SPEED.heldout)
    try:
        env.reset(seed=0)
        env.physics.named.data.qpos["rootz"] = 0.3
        _, reward, _, _, info = env.step(np.zeros(6))
        assert info["game"] == pytest.approx(np.log(4) / np.log(11))
        assert not np.isclose(info["signals"], 0).any()
        assert not np.isclose(info["signals"], reward, rtol=1e-9).all()
    finally:
        env.close()


def test_dynamics_scale_the_body_as_it_was_made_and_not_as_it_was_left():
    plain, env = (
        envs.make("walker-stand", size=32),
        played(DYNAMICS, DYNAMICS.train, "walker-stand"),
    )
    try:
        original, names = plain.physics.model, set()
        for seed in range(10):
            env.reset(seed=seed)
            mass, friction, gain = env.playing.game.values
            model = env.physics.model
            np.testing.assert_allclose(model.body_mass, original.body_mass * mass)
            np.testing.assert_allclose(model.body_inertia, original.body_inertia * mass)
            np.testing.assert_allclose(
                model.body_subtreemass[0], original.body_subtreemass[0] * mass
            )
            np.testing.assert_allclose(model.geom_friction, original.geom_friction * friction)
            np.testing.assert_allclose(model.actuator_gainprm, original.actuator_gainprm * gain)
            names.add(env.playing.game.name)
        assert len(names) > 3
        assert "signals" not in env.step(np.zeros(6))[4]
    finally:
        env.close()
        plain.close()


def test_a_stronger_motor_does_more():
    speeds = {}
    for gain in (0.5, 2.0):
        env = played(DYNAMICS, (DYNAMICS.game(f"gain={gain}"),), "walker-stand", action_repeat=1)
        try:
            env.reset(seed=1)
            env.physics.named.data.qpos["rootz"] = 1.0  # in the air
            before = env.physics.data.qvel[3:].copy()
            env.step(np.full(6, 0.2))
            speeds[gain] = np.abs(env.physics.data.qvel[3:] - before).mean()
        finally:
            env.close()
    assert speeds[2.0] > 1.5 * speeds[0.5]


def test_ranges_of_training_and_held_out_are_disjoint():
    config = FamilyConfig(kind="dynamics", num_games=40, num_heldout_games=40)
    family = make_family(config, "cartpole-swingup")
    train, heldout = (
        np.array([game.values for game in games]) for games in (family.train, family.heldout)
    )
    assert ((train >= config.low) & (train <= config.high)).all()
    outside = ((heldout >= config.heldout_low) & (heldout <= config.low)) | (
        (heldout >= config.high) & (heldout <= config.heldout_high)
    )
    assert outside.all()
    assert ((heldout < 1).any(0) & (heldout > 1).any(0)).all()
    every = np.array([game.descriptor for game in (*family.train, *family.heldout)])
    assert (np.abs(every) <= 1).all()
    assert len(np.unique(every, axis=0)) == 80


def test_a_game_is_named_by_its_numbers():
    game = DYNAMICS.game("mass=0.6,gain=1.2")
    assert game.values == (0.6, 1.0, 1.2)
    assert DYNAMICS.game(game.name) == game
    assert all(DYNAMICS.game(one.name) == one for one in (*DYNAMICS.train, *DYNAMICS.heldout))
    assert SPEED.game("speed=3") == SPEED.heldout[0]


def test_the_clip_knows_nothing_of_the_game():
    """Contingency of game and clip over resets."""
    frames = (
        np.zeros((16, 32, 32, 3), np.uint8)
        + np.arange(16, dtype=np.uint8)[:, None, None, None] // 2
    )
    clips = SimpleNamespace(
        size=32, starts=tuple(range(0, 17, 2)), frame=lambda index: frames[index]
    )
    env = played(SPEED, SPEED.train, background=Background(clips))
    table = np.zeros((3, 8))
    try:
        env.reset(seed=0)
        for _ in range(400):
            env.reset()
            table[SPEED.train.index(env.playing.game), int(env.background.frame()[0, 0, 0])] += 1
    finally:
        env.close()
    assert table.sum(1).min() > 100
    assert chi2_contingency(table).pvalue > 0.01


def test_an_environment_of_games_is_still_a_gymnasium():
    env = played(DYNAMICS, DYNAMICS.train, "walker-stand")
    try:
        check_env(env, skip_render_check=True)
    finally:
        env.close()


@pytest.mark.parametrize(
    ("config", "task", "part"),
    [
        (
            FamilyConfig(kind="tasks", tasks=("walker-walk", "cheetah-run")),
            "walker-walk",
            "different bodies",
        ),
        (FamilyConfig(kind="tasks", tasks=("walker-walk",)), "walker-walk", "two or more"),
        (
            FamilyConfig(kind="tasks", tasks=("walker-walk", "walker-fly")),
            "walker-walk",
            "unknown task 'walker-fly'",
        ),
        (
            FamilyConfig(kind="tasks", tasks=("walker-walk", "walker-walk")),
            "walker-walk",
            "named 2 times",
        ),
        (
            FamilyConfig(kind="tasks", tasks=("swimmer-swimmer6", "swimmer-swimmer15")),
            "swimmer-swimmer6",
            "number of actions",
        ),
        (
            FamilyConfig(kind="tasks", tasks=("reacher-easy", "reacher-hard")),
            "reacher-easy",
            "more than their reward",
        ),
        (FamilyConfig(kind="speed", speeds=()), "walker-walk", "no game to train in"),
        (FamilyConfig(kind="speed", speeds=(0.0, 3.0)), "walker-walk", "3.0 is named 2 times"),
        (FamilyConfig(kind="speed"), "hopper-hop", "for the walker or cheetah"),
        (FamilyConfig(kind="speed"), "cheetah-run", "paid for whatever it does"),
        (FamilyConfig(kind="direction"), "reacher-easy", "for the walker or cheetah"),
        (FamilyConfig(kind="target"), "walker-walk", "for the reacher"),
        (
            FamilyConfig(kind="speed", speeds=(0.0, 20.0)),
            "walker-run",
            "outside of the family's range",
        ),
    ],
)
def test_families_that_are_none(config, task, part):
    with pytest.raises(UserError, match=part):
        make_family(config, task)


@pytest.mark.parametrize(
    ("family", "text", "part"),
    [
        (SPEED, "speed=20", "outside of the family's range"),
        (SPEED, "sped=2", "no 'sped'"),
        (SPEED, "speed=-11", "outside of the family's range"),
        (BOTH_WAYS, "sideways", "no game"),
        (TARGET, "x=0.2,y=0.1", "choose 0 to 0.2"),
        (DYNAMICS, "mass=0.6,mass=1.5", "given twice"),
        (DYNAMICS, "mass=5", "choose 0.5 to 2"),
        (DYNAMICS, "mass=heavy", "not a number"),
        (
            make_family(
                FamilyConfig(kind="tasks", tasks=("walker-walk", "walker-run")), "walker-run"
            ),
            "walker-fly",
            "no game",
        ),
    ],
)
def test_games_that_are_none(family, text, part):
    with pytest.raises(UserError, match=part):
        family.game(text)


def test_tasks_of_one_body_pay_their_own_reward():
    family = make_family(
        FamilyConfig(kind="tasks", tasks=("walker-stand", "walker-run")), "walker-run"
    )
    env = played(family, family.train, "walker-run")
    try:
        env.reset(seed=0)
        signals = env.step(np.zeros(6))[4]["signals"]
        assert signals[0] > signals[1] > 0
    finally:
        env.close()


def test_factors_that_do_not_rise_are_refused():
    with pytest.raises(UserError, match="do not rise"):
        FamilyConfig(low=1.5, high=1.0)
    assert len(SCALES) == 3
