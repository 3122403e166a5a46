"""Distractions: published ranges, exact resume, the mask, and what stays as it is."""

import functools
import math

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from foreground import envs
from foreground.configs import run as runs
from foreground.envs import camera_pose, colours
from foreground.envs.distraction import KINDS, DistractionConfig, make_distraction
from foreground.envs.dmc import DMCEnv
from foreground.envs.rendering import COARSE_MESHES, Renderer
from foreground.envs.simulator import mujoco, suite
from foreground.envs.tasks import SUITE, WITHOUT_VIDEO, camera_of
from foreground.envs.workers import in_process
from foreground.errors import UserError
from foreground.training import checkpoint
from foreground.training.rollout import Rollout, random_policy
from tests.support.marks import mostly_slow

SCALES = ("camera", "colour", "light", "shadow")  # from 0 to 1; the others have severities
MIDDLE = {kind: 0.3 if kind in SCALES else 3 for kind in KINDS} | {"palette": "hard"}
ALL = DistractionConfig(**MIDDLE)
# One task of each camera.
SEEN = list({(task.split("-")[0], camera_of(task)): task for task in SUITE[::-1]}.values())
# A camera that follows, one that stands, one that looks from above.
QUICK = [task for task in SEEN if task.startswith(("walker", "cartpole", "reacher"))]


def make(distraction: DistractionConfig | None, task: str = "walker-walk", **more) -> DMCEnv:
    return DMCEnv(task, size=32, time_limit=24, distraction=distraction, **more)


def played(env: DMCEnv, steps: int = 8, seed: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    rows = [(env.reset(seed=seed)[0], 0.0, env.simulator_state())]
    for _ in range(steps):
        picture, reward, *_ = env.step(random.uniform(-1, 1, env.action_space.shape))
        rows.append((picture, reward, env.simulator_state()))
    names = ("pictures", "rewards", "states")
    return {name: np.stack(column) for name, column in zip(names, zip(*rows))}


def of_kind(kind: str, scale: float = 0.3, task: str = "walker-walk", dynamic: bool = True):
    """A started environment and its only distraction."""
    env = make(DistractionConfig(**{kind: scale}, dynamic=dynamic), task)
    env.reset(seed=0)
    return env, env.distraction.kinds[kind]


# ------------------------------------------------------------------------------- published numbers


def test_scales_are_those_of_the_distracting_control_suite():
    """google-research, distracting_control/suite_utils.py: get_camera_kwargs, get_color_kwargs."""
    # vertical_delta, horizontal_delta, roll_delta; max_roll_vel; roll_std
    angles = (camera_pose.ANGLE, camera_pose.ROLL_SPEED, camera_pose.ROLL_CHANGE)
    assert angles == (math.pi / 2, math.pi / 50, math.pi / 300)
    assert (camera_pose.NEARER, camera_pose.FARTHER) == (0.5, 1.5)  # max_zoom_in/out_percent
    assert (camera_pose.SPEED, camera_pose.SPEED_CHANGE) == (0.4, 0.1)  # max_vel, vel_std
    assert camera_pose.USUAL_RADIUS == 4  # camera.py, setup_camera: start_r / 4
    assert colours.STEP == 0.03  # step_std


@pytest.mark.parametrize(
    ("task", "polar"),
    # camera.py, setup_camera: limited to the upper quadrant, except on reacher
    [("walker-walk", (58.3, 27.0)), ("cheetah-run", (87.1, 27.0)), ("reacher-easy", (0.0, 27.0))],
)
def test_a_static_camera_is_drawn_from_the_published_range(task, polar):
    env, kind = of_kind("camera", 0.3, task, dynamic=False)
    drawn = []
    for _ in range(200):
        env.reset()
        drawn.append(
            np.concatenate([kind.values["at"] - kind.values["start"], kind.values["roll"]])
        )
    radius = kind.values["start"][0]
    drawn, turn = np.array(drawn), math.radians(27)  # 0.3 of a right angle
    middle, widest = polar
    above = min(widest, 90 - middle) if middle else widest
    bounds = [
        (-0.15 * radius, 0.45 * radius),
        (-turn, turn),
        (-math.radians(widest), math.radians(above)),
        (-turn, turn),
    ]
    for column, (low, high) in zip(drawn.T, bounds):
        # The robot's first posture moves the centre a little.
        assert low - 0.02 <= column.min() < low + 0.1 * (high - low) + 0.02
        assert high - 0.1 * (high - low) - 0.02 < column.max() <= high + 0.02
    before = kind.values["at"].copy()
    env.step(np.zeros(env.action_space.shape))
    np.testing.assert_array_equal(kind.values["at"], before)
    env.close()


def test_a_dynamic_camera_moves_every_frame_and_no_faster_than_published():
    env, kind = of_kind("camera", 0.3)
    random, fastest = np.random.default_rng(0), 0.4 * 0.3 * kind.values["start"][0] / 4
    places, rolls = [camera_pose.cartesian(kind.values["at"])], [kind.values["roll"][0]]
    for _ in range(400):
        kind.step(random, frames=1)
        places.append(camera_pose.cartesian(kind.values["at"]))
        rolls.append(kind.values["roll"][0])
        low, high = kind.limits()
        assert (low - 1e-9 <= kind.values["at"]).all()
        assert (kind.values["at"] <= high + 1e-9).all()
    speeds = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert speeds.max() <= fastest * (1 + 1e-9)
    assert speeds.mean() > fastest / 20
    assert np.abs(np.diff(rolls)).max() <= math.pi / 50 * 0.3 + 1e-9
    assert np.abs(rolls).max() <= math.pi / 2 * 0.3 + 1e-9
    env.close()


def test_a_step_of_two_frames_is_two_steps_of_one():
    for kind in ("camera", "colour", "light"):
        (_, one), (_, two) = of_kind(kind), of_kind(kind)
        one.step(np.random.default_rng(5), frames=2)
        again = np.random.default_rng(5)
        two.step(again, frames=1)
        two.step(again, frames=1)
        for name, value in one.values.items():
            np.testing.assert_array_equal(value, two.values[name])


def test_a_path_over_the_pole_or_the_back_is_no_jump():
    at = np.array([2.0, 3.1, 0.05])
    for move in ([0.0, 0.2, 0.0], [0.3, 0.0, 0.0], [-0.3, -0.1, 0.0]):
        place = camera_pose.cartesian(at) + move
        there = camera_pose.spherical(place, near=at)
        np.testing.assert_allclose(camera_pose.cartesian(there), place, atol=1e-12)
    across = camera_pose.spherical(camera_pose.cartesian(np.array([2.0, 3.1, -0.1])), near=at)
    np.testing.assert_allclose(across, [2.0, 3.1, -0.1])
    behind = camera_pose.spherical(
        camera_pose.cartesian(np.array([2.0, 3.2, 1.0])), np.array([2.0, 3.1, 1.0])
    )
    np.testing.assert_allclose(behind, [2.0, 3.2, 1.0])


@pytest.mark.parametrize("task", mostly_slow(SEEN, QUICK))
def test_the_least_scale_is_the_camera_of_the_task(task):
    """And every camera goes on to look at the same point."""
    env, kind = of_kind("camera", 1e-9, task)
    camera, data = camera_of(task), env.physics.data.ptr
    position, axes = kind.pose()
    np.testing.assert_allclose(position, data.cam_xpos[camera], atol=1e-6)
    np.testing.assert_allclose(axes.ravel(), data.cam_xmat[camera], atol=1e-6)
    env.close()
    env, kind = of_kind("camera", 0.5, task)
    middle = kind._look() if kind._followed else kind.values["look"]
    position, axes = kind.pose()
    seen = axes.T @ (middle - position)
    np.testing.assert_allclose(seen / np.linalg.norm(seen), [0, 0, -1], atol=1e-9)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(axes) > 0
    env.close()


def test_colours_stay_within_the_published_range_and_fill_it():
    env, kind = of_kind("colour", 0.2)
    own = env.physics.model.mat_rgba[:, :3].copy()
    drawn = []
    for _ in range(60):
        env.reset()
        drawn.append(kind.values["colours"].copy())
    drawn = np.array(drawn)
    low, high = np.clip(own - 0.2, 0, 1), np.clip(own + 0.2, 0, 1)
    assert (drawn >= low - 1e-6).all()
    assert (drawn <= high + 1e-6).all()
    robot = [env.physics.model.name2id("self", "material")]
    assert (np.ptp(drawn[:, robot], axis=0) > 0.3).all()
    walk = [kind.values["colours"][robot].copy()]
    random = np.random.default_rng(0)
    for _ in range(500):
        kind.step(random, frames=1)
        walk.append(kind.values["colours"][robot].copy())
    changes = np.diff(np.array(walk), axis=0)
    inner = changes[np.abs(changes) > 0]
    assert inner.std() == pytest.approx(0.03 * 0.2, rel=0.1)
    env.close()


# --------------------------------------------------------------------------- what stays as it is


def test_off_is_off():
    assert make_distraction(None, None, 0) is None
    assert make_distraction(DistractionConfig(), None, 0) is None
    plain, off = (played(make(config)) for config in (None, DistractionConfig()))
    for name, value in plain.items():
        np.testing.assert_array_equal(value, off[name])
    env = make(None)
    env.reset(seed=0)
    assert "distraction" not in env.snapshot


@pytest.fixture(scope="module")
def behind_clips():
    """What was played behind clips without a distraction: the environment, its rows, the clips."""
    clips = envs.load_background(envs.BackgroundConfig("procedural", redraw_every=3), "train", 32)
    plain = make(None, background=clips)
    yield plain, played(plain), clips
    plain.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dynamic", mostly_slow([False, True], [True]))
def test_a_kind_changes_pictures_and_neither_rewards_nor_states_nor_clips(
    behind_clips, kind, dynamic
):
    plain, one, clips = behind_clips
    config = DistractionConfig(**{kind: MIDDLE[kind]}, dynamic=dynamic)
    distracted = make(config, background=clips)
    two = played(distracted)
    np.testing.assert_array_equal(one["rewards"], two["rewards"])
    np.testing.assert_array_equal(one["states"], two["states"])
    differs = [(a != b).any() for a, b in zip(one["pictures"], two["pictures"])]
    # A blur that wanders is sharp at times.
    assert np.mean(differs) > (0.5 if kind in ("blur", "compression") else 0.99)
    assert plain.background.playback == distracted.background.playback
    distracted.close()


def test_draws_leave_the_simulation_alone():
    env = make(
        DistractionConfig(camera=1.0, colour=1.0, light=1.0),
        render_mode="rgb_array",
        render_size=48,
    )
    env.reset(seed=0)
    model, data = env.physics.model.ptr, env.physics.data.ptr
    before, after = (np.empty(mujoco.mj_sizeModel(model), np.uint8) for _ in range(2))
    mujoco.mj_saveModel(model, None, before)
    names = ("cam_xpos", "cam_xmat", "light_xpos", "light_xdir")
    derived = {name: getattr(data, name).copy() for name in names}
    first = env.render()
    np.testing.assert_array_equal(env.render(), first)
    mujoco.mj_saveModel(model, None, after)
    np.testing.assert_array_equal(before, after)
    for name, value in derived.items():
        np.testing.assert_array_equal(value, getattr(data, name), err_msg=name)
    env.close()


@pytest.mark.parametrize(
    "task", mostly_slow([task for task in SEEN if task not in WITHOUT_VIDEO], QUICK)
)
def test_the_mask_is_the_segmentation_under_a_moved_camera(task):
    environment = suite.load(*task.split("-"), task_kwargs={"random": 3})
    quality = environment.physics.model.vis.quality
    quality.offsamples = 0
    for name, value in COARSE_MESHES.items():
        setattr(quality, name, value)
    physics, camera = environment.physics, camera_of(task)
    environment.reset()
    config = DistractionConfig(camera=0.3, colour=0.3, light=1.0)
    distraction = make_distraction(config, physics, camera)
    distraction.seed(0)
    renderer = Renderer(physics, 64, camera)
    own = renderer.foreground_unfiltered()[1].copy()
    groups = physics.model.geom_group.copy()
    planes = physics.model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    moved = 0
    for _ in range(3):
        distraction.reset()
        with distraction.applied(renderer):
            mask = renderer.foreground_unfiltered()[1][::-1].copy()
            physics.model.geom_group[planes] = 5
            kinds = physics.render(128, 128, camera_id=camera, segmentation=True)[..., 1]
            physics.model.geom_group[:] = groups
        np.testing.assert_array_equal(mask, kinds >= 0)
        moved += (mask != own[::-1]).any()
    assert moved == 3
    renderer.close()


def test_the_same_seed_gives_the_same_and_a_kind_does_not_depend_on_the_others():
    one, two, other = (played(make(ALL), seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one["pictures"], two["pictures"])
    assert (one["pictures"] != other["pictures"]).any()
    both, alone = make(ALL), make(DistractionConfig(camera=0.3))
    played(both), played(alone)
    for name, value in alone.distraction.kinds["camera"].values.items():
        np.testing.assert_array_equal(value, both.distraction.kinds["camera"].values[name])
    first, second = make(ALL), make(ALL)
    assert (first.reset()[0] != second.reset()[0]).any(), "environments that nobody seeded differ"


# ------------------------------------------------------------------------------------------ resume


def vector(env: DMCEnv) -> Rollout:
    """As train.py has it: a wrapper asks for the snapshot of an environment that has not begun."""
    made = functools.partial(in_process, lambda: env)
    return Rollout(SyncVectorEnv([made], autoreset_mode=AutoresetMode.NEXT_STEP), None, 3)


def pictures_of(rollout: Rollout, number: int) -> np.ndarray:
    random = np.random.default_rng(5)
    return np.stack(
        [rollout.step(random_policy(rollout.envs, random))["image"] for _ in range(number)]
    )


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_resumed_environment_goes_on_to_the_bit(tmp_path, dynamic):
    """Over the end of an episode, through a real checkpoint; without any part it does not."""
    config = DistractionConfig(**MIDDLE, dynamic=dynamic)
    begun = make(config)
    rollout = vector(begun)
    pictures_of(rollout, 5)
    seen = begun._observation.copy()
    state = checkpoint.load(checkpoint.save(tmp_path, 1, rollout.state()))
    whole = pictures_of(rollout, 20)
    again = make(config)
    resumed = vector(again)
    resumed.load(state)
    np.testing.assert_array_equal(pictures_of(resumed, 20), whole)
    fresh = make(config)
    fresh.reset(seed=99)
    drawn = [kind for kind in KINDS if dynamic or kind not in ("blur", "compression")]
    for kind in drawn:
        for part in ("random", "values"):
            taken = {**state["envs"][0]}
            another = {
                **taken["distraction"][kind],
                part: fresh.snapshot["distraction"][kind][part],
            }
            taken["distraction"] = {**taken["distraction"], kind: another}
            resumed.load({**state, "envs": [taken]})
            differs = (again._observation != seen).any() or (
                pictures_of(resumed, 20) != whole
            ).any()
            assert differs, (kind, part)
    resumed.load(state)  # nothing of the others is left
    np.testing.assert_array_equal(pictures_of(resumed, 20), whole)


def test_the_state_of_other_distractions_is_refused():
    env, other = make(ALL), make(DistractionConfig(camera=0.3))
    env.reset(seed=0), other.reset(seed=0)
    with pytest.raises(ValueError, match="the distractions are palette, camera, colour, light"):
        env.snapshot = other.snapshot
    for value in (np.zeros(2), np.full(3, np.nan)):
        taken = env.snapshot
        taken["distraction"]["camera"]["values"]["at"] = value
        with pytest.raises(ValueError, match="at of camera is no array"):
            env.snapshot = taken


def test_a_run_from_before_the_section_has_none(tmp_path):
    (tmp_path / "config.yaml").write_text("agent: infopower\ntask: walker-walk\n")
    assert runs.load(tmp_path).distraction == DistractionConfig()


# ----------------------------------------------------------------------------------------- options


def test_gymnasium_takes_a_distraction():
    env = gymnasium.make("dmc/walker-walk-v0", distraction=envs.DistractionConfig(noise=3))
    assert list(env.unwrapped.distraction.kinds) == ["noise"]
    env.close()


def test_options_reach_the_environment():
    from foreground import build

    words = ["--task", "walker-walk", "--background.source", "procedural"]
    words += ["--distraction.camera", "0.2", "--distraction.dynamic", "false"]
    config = runs.read(words, cuda=False)
    for side, kinds in (("train", ["camera"]), ("heldout", ["camera"]), ("clean", None)):
        env = build.environment_maker(config, side)()
        assert (list(env.distraction.kinds) if env.distraction else None) == kinds
        env.close()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--distraction.camera", "2"], "distraction.camera"),
        (["--distraction.dynamic", "false"], "where a kind of distraction other than palette"),
        (
            ["--distraction.palette", "easy", "--distraction.dynamic", "false"],
            "where a kind of distraction other than palette",
        ),
        (
            ["--task", "gymnasium:Hopper-v5", "--distraction.camera", "0.1"],
            "by tasks of dm_control",
        ),
    ],
)
def test_options_without_effect_are_refused(words, answer):
    with pytest.raises(UserError, match=answer):
        runs.read(words, cuda=False)
