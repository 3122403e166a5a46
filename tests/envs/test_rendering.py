"""Test the mask against MuJoCo's segmentation: thin parts, the colour rule, restored state."""

import cv2
import numpy as np
import pytest

from foreground import envs
from foreground.envs.rendering import COARSE_MESHES, Renderer, colour_rule_mask, composite
from foreground.envs.simulator import mujoco, suite
from foreground.envs.tasks import MORE, WITHOUT_VIDEO, camera_of
from tests.support.marks import mostly_slow

DOMAINS = sorted({task.split("-")[0] for task in envs.TASKS})
TASK_OF = {task.split("-")[0]: task.split("-")[1] for task in envs.TASKS}
# One task of each domain of the benchmark, and each other that a video may play behind; the dog's
# four differ in their reward.
SEEN = [f"{domain}-{TASK_OF[domain]}" for domain in DOMAINS]
SEEN += [
    task
    for task in MORE
    if task not in WITHOUT_VIDEO and task not in ("dog-walk", "dog-trot", "dog-run")
]
# Thin parts, a floor with feet in it, no floor.
QUICK = [task for task in SEEN if task.split("-")[0] in ("cartpole", "walker", "finger")]
GEOM = int(mujoco.mjtObj.mjOBJ_GEOM)


def loaded(domain: str, name: str = ""):
    """A dm_control environment whose own renderer makes the same polygons as ours and does not
    antialias.
    """
    environment = suite.load(domain, name or TASK_OF[domain], task_kwargs={"random": 3})
    quality = environment.physics.model.vis.quality
    quality.offsamples = 0
    for name, value in COARSE_MESHES.items():
        setattr(quality, name, value)
    return environment


def random_states(environment, count: int):
    random = np.random.default_rng(0)
    bounds = environment.action_spec()
    for _ in range(count):
        environment.reset()
        for _ in range(int(random.integers(1, 40))):
            environment.step(random.uniform(bounds.minimum, bounds.maximum))
        yield


def segmented(physics, size: int, camera: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """dm_control's segmentation: what is an object, and what is a plane; both (size, size) bool."""
    identity, kind = np.moveaxis(
        physics.render(size, size, camera_id=camera, segmentation=True), -1, 0
    )
    planes = np.flatnonzero(physics.model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
    return kind >= 0, (kind == GEOM) & np.isin(identity, planes)


@pytest.mark.parametrize("task", mostly_slow(SEEN, QUICK))
def test_mask_is_the_segmentation(task):
    environment, camera = loaded(*task.split("-")), camera_of(task)
    physics = environment.physics
    renderer = Renderer(physics, 64, camera)
    groups = physics.model.geom_group.copy()
    planes = physics.model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    for _ in random_states(environment, 5):
        mask = renderer.foreground_unfiltered()[1][::-1]
        assert mask.any()
        objects, floor = segmented(physics, 128, camera)
        assert not (objects & ~floor & ~mask).any(), "a robot pixel would be replaced"
        # A floor that is not drawn hides nothing: sunk-in feet are robot.
        physics.model.geom_group[planes] = 5
        objects, floor = segmented(physics, 128, camera)
        physics.model.geom_group[:] = groups
        assert not floor.any()
        np.testing.assert_array_equal(mask, objects)
    renderer.close()


@pytest.mark.parametrize("domain", mostly_slow(DOMAINS, ("cartpole", "walker")))
def test_sky_mask_keeps_the_floor(domain):
    environment = loaded(domain)
    renderer = Renderer(environment.physics, 64, camera=0, keep_floor=True)
    for _ in random_states(environment, 2):
        mask = renderer.foreground_unfiltered()[1][::-1]
        objects, floor = segmented(environment.physics, 128)
        assert floor.any()
        assert (mask != objects).mean() < 0.003  # coarser planes end a pixel earlier or later
    renderer.close()


@pytest.mark.parametrize("domain", ["cartpole", "humanoid", "finger"])
def test_draws_leave_the_model_and_the_state_alone(domain):
    environment = suite.load(domain, TASK_OF[domain], task_kwargs={"random": 0})
    environment.reset()
    model, physics = environment.physics.model.ptr, environment.physics
    before = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    after = before.copy()
    mujoco.mj_saveModel(model, None, before)
    state = physics.get_state()
    renderer = Renderer(physics, 64, camera=0)
    renderer.foreground()
    renderer.picture()
    renderer.close()
    mujoco.mj_saveModel(model, None, after)
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(state, physics.get_state())


def test_cartpole_rail_is_visible():
    environment = suite.load("cartpole", "swingup", task_kwargs={"random": 0})
    environment.reset()
    renderer = Renderer(environment.physics, 64, camera=0)
    _, alpha = renderer.foreground()
    renderer.close()
    assert (alpha.max(axis=0) > 60).all(), "the rail runs through every column"


def test_colour_rule_eats_half_of_cartpole_and_the_default_eats_nothing():
    environment = loaded("cartpole")
    renderer = Renderer(environment.physics, 64, camera=0)
    eaten = []
    for _ in random_states(environment, 5):
        robot = renderer.foreground()[1] > 127
        eaten.append((robot & ~colour_rule_mask(renderer.picture())).sum() / robot.sum())
    renderer.close()
    assert 0.35 < np.mean(eaten) < 0.75


def test_composite_mixes_by_alpha():
    random = np.random.default_rng(0)
    drawn = random.integers(0, 256, (32, 32, 3), np.uint8)
    mask = random.random((32, 32)) < 0.5
    mask[:8], mask[8:16] = True, False
    drawn[~mask] = 0
    background = random.integers(0, 256, (16, 16, 3), np.uint8)
    foreground, alpha = (
        cv2.resize(x, (16, 16), interpolation=cv2.INTER_AREA) for x in (drawn, mask * np.uint8(255))
    )
    covered = mask.reshape(16, 2, 16, 2).mean((1, 3))[..., None]
    expected = (
        drawn.astype(float).reshape(16, 2, 16, 2, 3).mean((1, 3)) + (1 - covered) * background
    )
    picture = composite(foreground, alpha, background)
    assert np.abs(picture - expected).max() <= 1.5  # roundings of foreground, alpha and product
    np.testing.assert_array_equal(picture[:4], foreground[:4])
    np.testing.assert_array_equal(picture[4:8], background[4:8])


def test_renders_of_dm_control_between_ours_disturb_neither():
    environment = suite.load("walker", "walk", task_kwargs={"random": 0})
    environment.reset()
    renderer = Renderer(environment.physics, 64, camera=0)
    ours = renderer.picture()
    theirs = environment.physics.render(64, 64, camera_id=0)
    # shadows, reflection and light on the floor.
    assert np.abs(ours.astype(int) - theirs).mean() < 12
    for _ in range(3):
        np.testing.assert_array_equal(renderer.picture(), ours)
        np.testing.assert_array_equal(environment.physics.render(64, 64, camera_id=0), theirs)
    renderer.close()
    np.testing.assert_array_equal(environment.physics.render(64, 64, camera_id=0), theirs)


def test_renderers_that_take_turns_draw_their_own():
    environment = suite.load("walker", "walk", task_kwargs={"random": 0})
    environment.reset()
    alone = Renderer(environment.physics, 64, camera=0)
    expected = alone.foreground()[0]
    alone.close()
    renderers = [Renderer(environment.physics, size, camera=0) for size in (64, 96, 64)]
    for renderer in (*renderers, *renderers[::-1]):
        drawn = renderer.foreground()[0]
        assert drawn.shape[0] == renderer.size
        if renderer.size == 64:
            np.testing.assert_array_equal(drawn, expected)
    for renderer in renderers:
        renderer.close()
