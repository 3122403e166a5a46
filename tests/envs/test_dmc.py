"""Test dm_control tasks: Gymnasium's contract, dm_control's rewards, determinism."""

import functools
import itertools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from foreground import envs
from foreground.envs import tasks
from foreground.envs.simulator import PhysicsError, suite
from foreground.errors import UserError

PROCEDURAL = envs.BackgroundConfig("procedural")


def video_environment(task="walker-walk", **changes):
    config = envs.BackgroundConfig("procedural", **changes)
    return envs.make(task, seed=0, background=envs.load_background(config, "train"))


def play(environment, steps: int, seed: int):
    """Observations, rewards and simulator states of `steps` random actions."""
    random = np.random.default_rng(1)
    observations = [environment.reset(seed=seed)[0]]
    rewards, states = [], [environment.simulator_state()]
    for _ in range(steps):
        observation, reward, *_ = environment.step(
            random.uniform(-1, 1, environment.action_space.shape)
        )
        observations.append(observation)
        rewards.append(reward)
        states.append(environment.simulator_state())
    return np.stack(observations), np.array(rewards), np.stack(states)


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


@pytest.mark.parametrize("task", tasks.MORE)
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


@pytest.mark.parametrize("task", envs.TASKS)
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
    [("walker-walk", 2), ("cartpole-swingup", 4), ("finger-spin", 1), ("manipulator-bring_ball",
     2), ("fish-swim", 5), ("humanoid-run", 8)],
)  # fmt: skip
def test_rewards_and_states_equal_dm_control_bit_for_bit(task, repeat):
    environment = envs.make(task, action_repeat=repeat)
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


def test_clips_of_another_size_are_refused():
    with pytest.raises(UserError, match="clips of 32 pixels"):
        envs.make("walker-walk", background=envs.load_background(PROCEDURAL, "train", 32))


def test_factories_pickle_and_workers_draw_the_same_pictures():
    background = envs.load_background(PROCEDURAL, "train")
    factory = functools.partial(envs.make, "cartpole-swingup", background=background)
    assert len(pickle.dumps(factory)) < 10_000, "the frames themselves must not be pickled"
    vectors = [
        gymnasium.vector.AsyncVectorEnv([factory, factory], context="forkserver"),
        gymnasium.vector.SyncVectorEnv([factory, factory]),
    ]
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 2, 1)).astype(np.float32)
    pictures = []
    for vector in vectors:
        seen = [vector.reset(seed=7)[0].copy()]
        seen += [vector.step(action)[0].copy() for action in actions]
        pictures.append(np.stack(seen))
        vector.close()
    np.testing.assert_array_equal(*pictures)
    assert (pictures[0][:, 0] != pictures[0][:, 1]).any()


def run_python(code: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_import_is_cheap_and_overwrites_nothing():
    code = (
        "import os, sys, foreground.envs\nprint('mujoco' in sys.modules, "
        "os.environ['MUJOCO_GL'], 'torch' in sys.modules)"
    )
    assert run_python(code, MUJOCO_GL="osmesa").stdout.split() == ["False", "osmesa", "False"]


def test_no_egl_is_one_line():
    code = """
import ctypes
load = ctypes.CDLL.__init__
def without_egl(self, name, *arguments, **keywords):
    if name and "EGL" in str(name):
        raise OSError(f"{name}: cannot open shared object file")
    load(self, name, *arguments, **keywords)
ctypes.CDLL.__init__ = without_egl
from foreground import envs
from foreground.errors import UserError
try:
    envs.make("walker-walk")
except UserError as error:
    print(error)
"""
    result = run_python(code, MUJOCO_GL="egl")
    assert "apt-get install" in result.stdout, result.stderr
    assert result.stdout.count("\n") == 1


def test_an_optimiser_may_step_after_the_first_picture():
    """It imports triton where torch brings it, whose LLVM does not bear Mesa's before it: a
    segmentation fault.
    """
    code = """
import foreground.envs.dmc, torch
environment = foreground.envs.dmc.make("cartpole-swingup")
environment.reset(seed=0)
weight = torch.nn.Parameter(torch.zeros(3))
weight.grad = torch.ones(3)
torch.optim.Adam([weight]).step()
environment.step(environment.action_space.sample())
"""
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False
        ).returncode
        == 0
    )


def test_control_intervals_are_those_of_the_simulator():
    domains = {task.split("-")[0]: task.split("-")[1] for task in envs.SUITE}
    assert domains.keys() == envs.CONTROL_INTERVALS.keys()
    for domain, name in domains.items():
        environment = suite.load(domain, name)
        assert environment.control_timestep() == pytest.approx(envs.CONTROL_INTERVALS[domain]), (
            domain
        )
