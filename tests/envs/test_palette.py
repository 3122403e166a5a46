"""The colours of DMC-GB, and the clips of its and of other protocols."""

import numpy as np
import pytest

from foreground import envs
from foreground.envs import palette
from foreground.envs.backgrounds import BackgroundConfig, load_background
from foreground.envs.distraction import DistractionConfig
from foreground.envs.palette import Palette
from tests.support.clips import three_clips

# dmcontrol-generalization-benchmark, src/env/data/color_LEVEL.pt, 100 colours each: mean and
# standard deviation of skybox_rgb, grid_rgb1 and self_rgb. grid_rgb2 is grid_rgb1 + 0.1 throughout.
PUBLISHED = {
    "easy": (
        [[0.41, 0.62, 0.79], [0.11, 0.21, 0.28], [0.70, 0.50, 0.31]],
        [[0.09, 0.11, 0.11], [0.08, 0.10, 0.10], [0.10, 0.09, 0.11]],
    ),
    "hard": (
        [[0.42, 0.55, 0.78], [0.12, 0.25, 0.30], [0.71, 0.48, 0.30]],
        [[0.20, 0.18, 0.18], [0.15, 0.19, 0.16], [0.18, 0.20, 0.18]],
    ),
}


def environment(level: str = "hard", **more):
    env = envs.make("walker-walk", distraction=DistractionConfig(palette=level), **more)
    env.reset(seed=0)
    return env, env.distraction.kinds["palette"]


@pytest.mark.parametrize("level", ["easy", "hard"])
def test_colours_are_distributed_as_the_published_ones(level):
    env, _ = environment(level)
    kind, random = Palette(env.physics.model.ptr, level), np.random.default_rng(0)
    drawn = []
    for _ in range(2000):
        kind.reset(random)
        drawn.append(kind.values["colours"].copy())
    env.close()
    mean, deviation = (np.array(part) for part in PUBLISHED[level])
    spread = palette.SPREAD[level]
    # 100 colours tell a mean to a tenth of their deviation, three times that is far.
    assert np.abs(np.mean(drawn, 0) - mean).max() < 0.4 * spread
    assert np.abs(np.std(drawn, 0) - deviation).max() < 0.25 * spread
    assert palette.LIGHTER == 0.1


def test_the_colours_of_the_task_draw_the_task():
    env, kind = environment()
    kind.values["colours"][:] = palette.OWN
    drawn = env._draw(env.renderer)
    env.close()
    plain = envs.make("walker-walk")
    np.testing.assert_allclose(drawn.astype(int), plain.reset(seed=0)[0], atol=1)
    robot = plain.physics.model.name2id("self", "material")
    np.testing.assert_allclose(plain.physics.model.mat_rgba[robot, :3], palette.OWN[2], atol=1e-6)
    plain.close()


def test_sky_floor_and_robot_have_the_drawn_colours_and_the_model_keeps_its_own():
    env, kind = environment()
    model = env.physics.model.ptr
    before = model.tex_data.copy(), model.mat_rgba.copy()
    own = env._draw(env.renderer).astype(float)
    alpha = env.renderer.foreground()[1]
    robot, behind = alpha == 255, alpha == 0
    sky = behind & (np.arange(64)[:, None] < 20)
    floor = behind & (np.arange(64)[:, None] > 56)
    for row, region in ((0, sky), (1, floor), (2, robot)):
        others = {0: sky, 1: floor, 2: robot}
        kind.values["colours"][:] = palette.OWN
        plain = env._draw(env.renderer).astype(float)
        kind.values["colours"][row] = [1.0, 0.0, 0.0]
        drawn = env._draw(env.renderer).astype(float)
        assert drawn[region][:, 0].mean() > 1.2 * plain[region][:, 0].mean()
        assert drawn[region][:, 1:].mean() < 0.6 * plain[region][:, 1:].mean()
        for other in others.keys() - {row}:
            np.testing.assert_array_equal(drawn[others[other]], plain[others[other]])
    assert (own != plain).any()
    np.testing.assert_array_equal(model.tex_data, before[0])
    np.testing.assert_array_equal(model.mat_rgba, before[1])
    env.close()


def test_a_robot_before_a_video_uploads_no_texture(monkeypatch):
    from foreground.envs.simulator import mujoco

    uploaded = []
    monkeypatch.setattr(mujoco, "mjr_uploadTexture", lambda *words: uploaded.append(words[2]))
    background = load_background(BackgroundConfig("procedural"), "train")
    for mask, number in (("sky_and_floor", 0), ("sky", 1)):
        uploaded.clear()
        env, _ = environment(background=background, mask=mask)
        env.step(np.zeros(6))
        assert len(uploaded) == number, mask
        env.close()


@pytest.mark.usefixtures("own_cache")
def test_the_first_clips_alone_play_and_a_still_one_stays(tmp_path):
    folder = str(three_clips(tmp_path / "clips"))
    random = np.random.default_rng(0)
    for number, expected in ((1, {0}), (2, {0, 1}), (3, {0, 1, 2}), (9, {0, 1, 2}), (0, {0, 1, 2})):
        background = load_background(BackgroundConfig(folder, max_clips=number), "train", 16)
        drawn = set()
        for _ in range(150):
            background.reset(random)
            drawn.add(background.clip)
        assert drawn == expected, number
    still = load_background(BackgroundConfig(folder, still=True, redraw_every=4), "train", 16)
    still.reset(random)
    frames = [still.frame().copy()]
    for _ in range(3):
        still.step()
        frames.append(still.frame().copy())
    assert all((frame == frames[0]).all() for frame in frames)
    drawn = []
    for _ in range(40):
        still.step()
        drawn.append(still.frame().tobytes())
    assert len(set(drawn)) > 3
