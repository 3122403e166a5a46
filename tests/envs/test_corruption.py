"""Light, shadows and corruption of the image, by known values."""

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from foreground import envs
from foreground.envs import corruption, lighting, occlusion
from foreground.envs.corruption import Blur, Compression, Noise
from foreground.envs.distraction import DistractionConfig
from foreground.envs.lighting import Shadow
from foreground.envs.occlusion import Occlusion

GREY = np.full((64, 64, 3), 128, np.uint8)


def started(kind, seed: int = 0) -> tuple:
    random = np.random.default_rng(seed)
    kind.reset(random)
    return kind, random


def photograph() -> np.ndarray:
    """An image with structure of all sizes."""
    noise = np.random.default_rng(0).standard_normal((64, 64, 3)).astype(np.float32)
    waves = sum(cv2.GaussianBlur(noise, (0, 0), width) * width for width in (0.7, 2.0, 6.0))
    return np.clip(128 + 60 * waves, 0, 255).astype(np.uint8)


def test_severities_are_those_of_tiny_imagenet_c():
    """hendrycks/robustness, ImageNet-C/create_c/make_tinyimagenet_c.py."""
    assert corruption.NOISE == (0.04, 0.08, 0.12, 0.15, 0.18)  # gaussian_noise
    assert corruption.BLUR == (0.5, 0.75, 1.0, 1.25, 1.5)  # gaussian_blur
    assert corruption.QUALITY == (65, 58, 50, 40, 25)  # jpeg_compression


@pytest.mark.parametrize("severity", [1, 5])
def test_noise_is_white_and_of_the_published_deviation(severity):
    kind, random = started(Noise(severity, dynamic=True))
    frames = []
    for _ in range(20):
        frames.append(kind.seen(GREY).astype(float) - 128)
        np.testing.assert_array_equal(kind.seen(GREY) - 128.0, frames[-1])
        kind.step(random, frames=2)
    noise = np.stack(frames)
    assert noise.std() == pytest.approx(corruption.NOISE[severity - 1] * 255, rel=0.02)
    assert abs(noise.mean()) < 0.3
    for shifted in (np.roll(noise, 1, 0), np.roll(noise, 1, 2), np.roll(noise, 1, 3)):
        assert abs((noise * shifted).mean()) < 0.02 * noise.var()
    still, random = started(Noise(severity, dynamic=False))
    before = still.seen(GREY)
    still.step(random, frames=2)
    np.testing.assert_array_equal(still.seen(GREY), before)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_blur_is_the_gaussian_of_the_published_width_at_any_size(severity):
    kind, _ = started(Blur(severity, dynamic=False))
    for size in (64, 128):
        picture = cv2.resize(photograph(), (size, size), interpolation=cv2.INTER_NEAREST)
        width = corruption.BLUR[severity - 1] * size / 64
        exact = gaussian_filter(picture.astype(float), (width, width, 0), mode="nearest")
        assert np.abs(kind.seen(picture) - exact).mean() < 1


@pytest.mark.parametrize("severity", [1, 5])
def test_compression_is_the_jpeg_of_the_published_quality(severity, tmp_path):
    kind, _ = started(Compression(severity, dynamic=False))
    picture, path = photograph(), tmp_path / "picture.jpg"
    Image.fromarray(picture).save(path, quality=corruption.QUALITY[severity - 1])
    theirs = np.asarray(Image.open(path)).astype(int)
    ours = kind.seen(picture).astype(int)
    assert np.abs(ours - theirs).mean() < 1
    assert np.abs(ours - picture).mean() > 2


@pytest.mark.parametrize("maker", [Blur, Compression])
def test_a_dynamic_severity_wanders_from_none_to_the_published_one(maker):
    kind, random = started(maker(5, dynamic=True))
    shares = []
    for _ in range(3000):
        kind.step(random, frames=2)
        shares.append(float(kind.values["share"][0]))
    shares = np.array(shares)
    assert 0 <= shares.min() < 0.02
    assert 0.98 < shares.max() <= 1
    assert shares.mean() == pytest.approx(0.5, abs=0.15)
    assert np.abs(np.diff(shares)).max() < 0.5
    changes = []
    for share in (0.0, 1.0):
        kind.values["share"][:] = share
        changes.append(np.abs(kind.seen(photograph()).astype(int) - photograph()).mean())
    assert changes[0] < changes[1] / 2


@pytest.mark.parametrize("severity", [1, 5])
def test_patches_cover_what_they_cover_and_nothing_else(severity):
    kind, random = started(Occlusion(severity, dynamic=True), seed=1)
    side = round(occlusion.SIDES[severity - 1] * 64)
    places = []
    for _ in range(200):
        covered = (kind.seen(GREY) != 128).any(-1)
        assert covered.sum() <= occlusion.PATCHES * side**2
        places.append(kind.values["at"].copy())
        kind.step(random, frames=2)
    places = np.array(places)
    assert places.min() >= 0
    assert places.max() <= 1
    assert 0 < np.abs(np.diff(places, axis=0)).max() <= occlusion.SPEED + 1e-9
    kind.values["at"][:] = 0.5
    kind.values["colours"][:] = [10, 20, 30]
    picture = kind.seen(GREY)
    np.testing.assert_array_equal(picture[32, 32], [10, 20, 30])
    assert (picture != 128).any(-1).sum() == side**2
    assert (GREY == 128).all(), "the image that is given is not changed"


def test_a_shadow_takes_light_and_drifts():
    kind, random = started(Shadow(0.5, dynamic=True))
    first = kind.seen(GREY)
    assert first.max() <= 128
    assert first.min() == pytest.approx(128 * (1 - lighting.DARKEST * 0.5), abs=2)
    assert np.ptp(first) > 30
    for _ in range(30):
        kind.step(random, frames=2)
    assert np.abs(kind.seen(GREY).astype(int) - first).mean() > 1
    still, random = started(Shadow(0.5, dynamic=False))
    still.step(random, frames=2)
    np.testing.assert_array_equal(still.seen(GREY), first)


def lit(env, *light: float) -> np.ndarray:
    env.distraction.kinds["light"].values["light"][:] = light
    return env._draw(env.renderer).astype(float)


def test_light_is_brightness_and_colour_and_place():
    env = envs.make("walker-walk", distraction=DistractionConfig(light=1e-6))
    env.reset(seed=0)
    robot = env.renderer.foreground()[1] > 250
    plain = env.renderer.picture().astype(float)
    own = lit(env, 1, 1, 1, 1, 0, 0)
    assert np.abs(own - plain).max() <= 2
    dark = lit(env, 0.5, 1, 1, 1, 0, 0)
    np.testing.assert_allclose(dark[robot].mean() / own[robot].mean(), 0.5, atol=0.06)
    np.testing.assert_array_equal(dark[:10], own[:10])  # the sky is no surface
    red = lit(env, 1, 1, 0, 0, 0, 0)
    assert red[robot][:, 0].mean() == pytest.approx(own[robot][:, 0].mean(), rel=0.01)
    assert red[robot][:, 1:].max() < 20
    aside = lit(env, 1, 1, 1, 1, 0, 1.0)
    assert np.abs(aside - own)[robot].mean() > 2
    env.close()


def test_all_kinds_together_draw_once_a_step(monkeypatch):
    """The speed itself is measured by `python -m benchmarks.env_speed`."""
    from foreground.envs.rendering import Renderer

    number = []
    draw = Renderer._draw
    monkeypatch.setattr(Renderer, "_draw", lambda *a, **b: number.append(1) or draw(*a, **b))
    everything = DistractionConfig(
        camera=0.3, colour=0.3, light=1.0, shadow=1.0, occlusion=5, blur=5, noise=5, compression=5
    )
    env = envs.make("walker-walk", distraction=everything)
    env.reset(seed=0)
    number.clear()
    env.step(np.zeros(6))
    assert len(number) == 1
    env.close()
