"""Test dm_control tasks: Gymnasium's contract, dm_control's rewards, determinism."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from foreground import envs
from foreground.envs import tasks
from foreground.envs.simulator import PhysicsError, suite
from foreground.errors import UserError
from tests.support.dmc import PROCEDURAL, play, video_environment
from tests.support.marks import mostly_slow

QUICK = ("acrobot-swingup", "cheetah-run", "hopper-hop", "reacher-hard")
QUICK_MORE = [task for task in tasks.MORE if task.startswith(("dog-walk", "stacker-stack_2"))]


def test_tasks_are_the_benchmark():
    assert tuple(f"{domain}-{task}" for domain, task in suite.BENCHMARKING) == envs.TASKS
    assert len(envs.TASKS) == 28


def test_every_task_of_the_suite_is_played_or_refused_with_its_reason():
    every = {f"{domain}-{task}" for domain, task in suite.ALL_TASKS}
    assert {*envs.SUITE, *tasks.REFUSED} == every
    assert not {*envs.SUITE} & {*tasks.REFUSED}
    with pytest.raises(
        UserError, match="lqr-lqr_2_1 cannot be learned from pictures, since its masses"
    ):
        envs.make("lqr-lqr_2_1")
    with pytest.raises(UserError, match=r"height field.*--background\.source none"):
        envs.make("quadruped-escape", background=envs.load_background(PROCEDURAL, "train"))


@pytest.mark.parametrize("task", mostly_slow(tasks.MORE, QUICK_MORE))
def test_the_other_tasks_of_the_suite_reset_and_step(task):
    environment = envs.make(task, size=32)
    first, _ = environment.reset(seed=0)
    following, reward, terminated, truncated, _ = environment.step(
        np.ones(environment.action_space.shape)
    )
    assert (first != following).any(), "the camera shows the robot"
    assert np.isfinite(reward)
    assert (terminated, truncated) == (False, False)
    environment.close()


@pytest.mark.parametrize("task", mostly_slow(envs.TASKS, QUICK))
def test_every_task_resets_and_steps(task):
    environment = gymnasium.make(f"dmc_video/{task}-v0", config=PROCEDURAL)
    observation, info = environment.reset(seed=0)
    assert observation.shape == (64, 64, 3)
    assert observation.dtype == np.uint8
    assert info == {"env_frames": 0, "discount": 1.0, "diverged": False}
    environment.action_space.seed(0)
    for _ in range(2):
        following, reward, terminated, truncated, info = environment.step(
            environment.action_space.sample()
        )
        assert isinstance(reward, float)
        assert 0 <= reward <= 2
        assert (terminated, truncated) == (False, False)
        assert info == {"env_frames": 2, "discount": 1.0, "diverged": False}
    assert (following != observation).any()
    inner = environment.unwrapped
    state = inner.simulator_state()
    assert state.dtype == np.float64
    assert state.shape == (inner.physics.model.nq + inner.physics.model.nv,)
    assert inner.metadata["render_fps"] == pytest.approx(
        1 / (2 * suite.load(*task.split("-")).control_timestep())
    )
    environment.close()


@pytest.mark.parametrize("name", ["dmc/walker-walk-v0", "dmc_video/cartpole-swingup-v0"])
def test_passes_the_checkers(name):
    arguments = {"config": PROCEDURAL} if "video" in name else {}
    check_env(gymnasium.make(name, **arguments).unwrapped)
    environment = gymnasium.make(name, render_mode="rgb_array", render_size=128, **arguments)
    environment.reset(seed=0)
    picture = environment.render()
    assert picture.shape == (128, 128, 3)
    assert picture.std() > 5
    sb3_check_env(environment.unwrapped)
    environment.close()


def test_rendered_picture_is_the_observation():
    background = envs.load_background(PROCEDURAL, "train")
    environment = envs.make("walker-walk", seed=0, background=background, render_mode="rgb_array")
    observation, _ = environment.reset()
    np.testing.assert_array_equal(environment.render(), observation)
    environment.close()


@pytest.mark.parametrize(
    ("task", "repeat"),
    mostly_slow(
        [
            ("walker-walk", 2),
            ("cartpole-swingup", 4),
            ("finger-spin", 1),
            ("manipulator-bring_ball", 2),
            ("fish-swim", 5),
            ("humanoid-run", 8),
        ],
        [("fish-swim", 5)],
    ),
)
def test_rewards_and_states_equal_dm_control_bit_for_bit(task, repeat):
    environment = envs.make(task, size=16, action_repeat=repeat)  # a small image is a quick one
    environment.reset(seed=4)
    seed = int(np.random.default_rng(4).integers(2**32))
    reference = suite.load(*task.split("-"), task_kwargs={"random": seed})
    reference.reset()
    bounds = reference.action_spec()
    random = np.random.default_rng(0)
    truncated, steps = False, 0
    while not truncated:
        action = random.uniform(-1, 1, bounds.shape)
        _, reward, terminated, truncated, info = environment.step(action)
        control = bounds.minimum + (action + 1) / 2 * (bounds.maximum - bounds.minimum)
        expected = 0.0
        for _ in range(info["env_frames"]):
            timestep = reference.step(control)
            expected += timestep.reward
        assert reward == expected
        assert not terminated
        qpos, qvel = reference.physics.data.qpos, reference.physics.data.qvel
        np.testing.assert_array_equal(environment.simulator_state(), np.concatenate([qpos, qvel]))
        assert truncated == timestep.last()
        steps += 1
    assert steps == -(-1000 // repeat)
    environment.close()


def test_time_limit_counts_environment_frames():
    environment = envs.make("pendulum-swingup", seed=0, action_repeat=3, time_limit=10)
    environment.reset()
    consumed, ends = [], []
    for _ in range(4):
        *_, terminated, truncated, info = environment.step(np.zeros(1))
        consumed.append(info["env_frames"])
        ends.append((terminated, truncated))
    assert consumed == [3, 3, 3, 1]
    assert ends == [(False, False)] * 3 + [(False, True)]
    environment.close()


def test_same_seed_same_everything_other_seed_not():
    first, second = video_environment(redraw_every=7), video_environment(redraw_every=7)
    one, two, three = play(first, 30, seed=5), play(second, 30, seed=5), play(second, 30, seed=6)
    for a, b, c in zip(one, two, three):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()
    np.testing.assert_array_equal(play(first, 30, seed=5)[0], one[0])
    first.close()
    second.close()


def test_environments_that_nobody_seeded_differ():
    first, second = (gymnasium.make("dmc/cartpole-swingup-v0") for _ in range(2))
    first.reset(), second.reset()
    assert (first.unwrapped.simulator_state() != second.unwrapped.simulator_state()).any()


def test_seed_of_the_constructor_makes_the_first_reset():
    pictures = [envs.make("reacher-easy", seed=seed).reset()[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any()


def test_divergence_truncates_and_is_told(monkeypatch):
    environment = envs.make("walker-walk", seed=0)
    before, _ = environment.reset()
    environment.physics.data.qvel[:] = np.nan
    observation, reward, terminated, truncated, info = environment.step(np.zeros(6))
    assert (terminated, truncated, info["diverged"], info["env_frames"]) == (False, True, True, 1)
    assert np.isfinite(reward)
    np.testing.assert_array_equal(observation, before)
    environment.reset()
    *_, truncated, info = environment.step(np.zeros(6))
    assert not truncated
    assert not info["diverged"]

    def raise_error(*_):
        raise PhysicsError("no task in the suite does this by itself")

    monkeypatch.setattr(environment.physics, "step", raise_error)
    assert environment.step(np.zeros(6))[4]["diverged"]
    environment.close()


def test_termination_only_where_the_discount_is_zero(monkeypatch):
    environment = envs.make("walker-walk", seed=0)
    task = environment._task
    for discount, expected in ((0.0, (True, False)), (1.0, (False, True)), (None, (False, False))):
        environment.reset()
        monkeypatch.setattr(task, "get_termination", lambda physics, value=discount: value)
        *_, terminated, truncated, info = environment.step(np.zeros(6))
        assert (terminated, truncated) == expected
        assert info["discount"] == (1.0 if discount is None else discount)
    environment.close()


@pytest.mark.parametrize("action", [np.full(6, np.nan), np.zeros(5)])
def test_impossible_actions_are_refused(action):
    environment = envs.make("walker-walk", seed=0)
    environment.reset()
    with pytest.raises(ValueError, match="finite numbers"):
        environment.step(action)
    environment.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "walker-wlak"}, "did you mean walker-walk"),
        ({"task": "walker"}, "unknown task 'walker'"),
        ({"mask": "ski"}, "did you mean sky"),
        ({"size": 4}, "size is 4"),
        ({"action_repeat": 0}, "action_repeat is 0"),
        ({"time_limit": 0}, "time_limit is 0"),
        ({"render_mode": "human"}, "rgb_array"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, words):
    with pytest.raises(UserError, match=words) as caught:
        envs.make(**{"task": "walker-walk", **arguments})
    assert "\n" not in str(caught.value)


def test_control_intervals_are_those_of_the_simulator():
    domains = {task.split("-")[0]: task.split("-")[1] for task in envs.SUITE}
    assert domains.keys() == envs.CONTROL_INTERVALS.keys()
    for domain, name in domains.items():
        environment = suite.load(domain, name)
        assert environment.control_timestep() == pytest.approx(envs.CONTROL_INTERVALS[domain]), (
            domain
        )
