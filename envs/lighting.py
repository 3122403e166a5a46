"""Light and shadows as distractions, by a scale from 0 to 1."""

import math

import cv2
import numpy as np

# At scale 1: bounds of the brightness, largest change of each channel's share, largest tilt.
DARKER, BRIGHTER, TINT, TILT = 0.7, 0.5, 0.4, math.radians(60)
HEADLIGHT = 0.6  # of the light that comes from the camera, and has no side, moves to the lamps
WALK = 0.01  # of each range: standard deviation of a change per environment frame

DARKEST = 0.8  # of the light that the deepest shadow takes away, at scale 1
WAVES = 6  # whose sum is the shape of the shadows
SOFT = 0.4  # slope of the edges of shadows
COARSE = 8  # cells, each way, in which the shape is computed
DRIFT = 0.01  # images per agent step: standard deviation of the speed of the shadows


class Light:
    """Changes brightness and colour of all lights, and where the lamps stand around the robot."""

    def __init__(self, model, data, scale: float, dynamic: bool):
        self._data, self._scale = data, scale
        headlight = model.vis.headlight
        self._from_camera = (headlight.ambient, headlight.diffuse)
        self._lamps = (model.light_ambient, model.light_diffuse)
        self.written: tuple[np.ndarray, ...] = (
            *self._from_camera,
            *self._lamps,
            data.light_xpos,
            data.light_xdir,
        )
        self._low = np.array([1 - DARKER * scale, *[1 - TINT * scale] * 3, *[-TILT * scale] * 2])
        self._high = np.array([1 + BRIGHTER * scale, *[1 + TINT * scale] * 3, *[TILT * scale] * 2])
        self._step = (self._high - self._low) * WALK if dynamic else None
        # brightness, share of each channel, tilt about x and y
        self.values = {"light": np.zeros(6)}

    def reset(self, random: np.random.Generator) -> None:
        self.values["light"][:] = random.uniform(self._low, self._high)

    def step(self, random: np.random.Generator, frames: int) -> None:
        light = self.values["light"]
        for _ in range(frames if self._step is not None else 0):
            light += random.standard_normal(6) * self._step
            np.clip(light, self._low, self._high, out=light)

    def apply(self, renderer) -> None:
        brightness, *shares = self.values["light"][:4]
        colour, moved = brightness * np.array(shares), HEADLIGHT * self._scale
        self._from_camera[0][:] *= colour
        self._from_camera[1][:] *= colour * (1 - moved)
        for lamps in self._lamps:
            lamps[:] *= colour * (1 + moved)
        turn = cv2.Rodrigues(np.array([*self.values["light"][4:], 0.0]))[0]
        centre = self._data.subtree_com[1]
        self._data.light_xpos[:] = centre + (self._data.light_xpos - centre) @ turn.T
        self._data.light_xdir[:] = self._data.light_xdir @ turn.T


class Shadow:
    """Lays soft shadows over the image, of things that are not in it. They drift where dynamic."""

    def __init__(self, scale: float, dynamic: bool):
        self._darkness, self._dynamic = DARKEST * scale, dynamic
        cells = (np.arange(COARSE) + 0.5) / COARSE
        self._cells = np.stack(np.meshgrid(cells, cells), axis=-1).reshape(-1, 2)  # (C C, 2)
        self.values = {
            "waves": np.zeros((WAVES, 2)),  # periods per image
            "phases": np.zeros(WAVES),
            "drift": np.zeros(2),  # images per agent step
        }

    def reset(self, random: np.random.Generator) -> None:
        self.values["waves"][:] = random.uniform(-1.5, 1.5, (WAVES, 2))
        self.values["phases"][:] = random.uniform(0, 1, WAVES)
        self.values["drift"][:] = random.standard_normal(2) * DRIFT

    def step(self, random: np.random.Generator, frames: int) -> None:
        if self._dynamic:
            phases = self.values["phases"]
            phases += self.values["waves"] @ self.values["drift"]
            phases %= 1.0

    def seen(self, picture: np.ndarray) -> np.ndarray:
        """Return the image in shadow."""
        angles = 2 * np.pi * (self._cells @ self.values["waves"].T + self.values["phases"])
        depth = (0.5 + SOFT * np.cos(angles).sum(-1)).clip(0, 1)  # (C C,), 1 where it is darkest
        light = (255.5 - 255 * self._darkness * depth).astype(np.uint8).reshape(COARSE, COARSE)
        side = picture.shape[0]
        light = cv2.resize(light, (side, side), interpolation=cv2.INTER_LINEAR)
        return cv2.multiply(picture, cv2.cvtColor(light, cv2.COLOR_GRAY2RGB), scale=1 / 255)
