"""Clips made by arithmetic with two statistics of natural pictures: 1/f spectra, and occlusion with
parallax.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from foreground.envs.sources import sum_of_text

VERSION = 1  # raise when the pictures change
CLIPS = {"train": 16, "heldout": 8}
FIRST_SEED = {"train": 0, "heldout": 1_000_000}  # the sides share no seed
CLIP_FRAMES = 150
SPEED = (0.3, 1.6)  # pixels a frame in a 64-pixel picture
LEAVES = 160


def clips(side: str, size: int) -> Iterator[tuple[str, str, str, Iterator[np.ndarray]]]:
    """Yield (name, recording, sum, frames) for each clip of a side; frames are (size, size, 3)
    uint8.

    Odd seeds are dead leaves.
    """
    for seed in range(FIRST_SEED[side], FIRST_SEED[side] + CLIPS[side]):
        make = dead_leaves if seed % 2 else drifting_texture
        name = f"{make.__name__}-{seed}"
        yield (
            name,
            name,
            sum_of_text(f"{name}, version {VERSION}"),
            make(np.random.default_rng(seed), size),
        )


def drifting_texture(random: np.random.Generator, size: int) -> Iterator[np.ndarray]:
    """Return two 1/f colour textures that drift in different directions, with a slowly varying
    mixture.
    """
    layers = [texture(random, 2 * size) for _ in range(2)]
    velocities = [_velocity(random, size) for _ in layers]
    phase = random.uniform(0, 2 * np.pi)
    period = random.uniform(60, 120)
    for frame in range(CLIP_FRAMES):
        near, far = (
            _shifted(layer, velocity * frame)[:size, :size]
            for layer, velocity in zip(layers, velocities)
        )
        share = 0.5 + 0.5 * np.sin(phase + 2 * np.pi * frame / period)
        yield np.clip(share * near + (1 - share) * far, 0, 255).astype(np.uint8)


def texture(random: np.random.Generator, size: int) -> np.ndarray:
    """Return a periodic colour texture, (size, size, 3) float32 in 0 to 255, spectrum f^-slope."""
    slope = random.uniform(1.25, 1.4)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.rfft2(random.standard_normal((3, size, size))) * frequency**-slope
    waves = np.fft.irfft2(noise, s=(size, size))
    waves /= waves.std(axis=(1, 2), keepdims=True)
    waves = 0.7 * waves[:1] + 0.5 * waves  # channels of natural pictures vary together
    centre = random.uniform(80, 170, (3, 1, 1))
    contrast = random.uniform(30, 50)
    return np.ascontiguousarray((centre + contrast * waves).transpose(1, 2, 0), np.float32)


def dead_leaves(random: np.random.Generator, size: int) -> Iterator[np.ndarray]:
    """Return discs with heavy-tailed radii under a sliding camera; near discs pass faster."""
    world = 2 * size
    depth = np.sort(random.uniform(1, 6, LEAVES))[::-1]  # far to near: the painter's order
    # Density falls as radius^-3.
    radius = 0.04 * size / np.sqrt(random.uniform(0.04, 1, LEAVES)) * 3 / depth
    centre = random.uniform(0, world, (LEAVES, 2))
    colour = np.clip(random.normal(random.uniform(80, 170, 3), 45, (LEAVES, 3)), 0, 255)
    ground = np.clip(texture(random, size), 0, 255).astype(np.uint8)
    velocity = 2 * _velocity(random, size)
    margin = radius.max()
    for frame in range(CLIP_FRAMES):
        picture = ground.copy()
        moved = (centre + velocity * frame / depth[:, None]) % world - margin
        for (x, y), r, c in zip(moved, radius, colour):
            place = int(x * 16), int(y * 16)  # cv2 takes 4 fractional bits
            cv2.circle(picture, place, max(int(r * 16), 16), c.tolist(), -1, cv2.LINE_AA, shift=4)
        yield picture


def _velocity(random: np.random.Generator, size: int) -> np.ndarray:
    angle = random.uniform(0, 2 * np.pi)
    speed = random.uniform(*SPEED) * size / 64
    return speed * np.array([np.cos(angle), np.sin(angle)])


def _shifted(layer: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return the periodic `layer` shifted by a fractional number of pixels (x, y)."""
    whole = np.floor(offset).astype(int)
    rolled = np.roll(layer, whole[::-1], axis=(0, 1))
    x, y = offset - whole
    across = (1 - x) * rolled + x * np.roll(rolled, 1, axis=1)
    return (1 - y) * across + y * np.roll(across, 1, axis=0)
