"""Occlusion as a distraction, by a severity from 1 to 5: patches between camera and scene."""

import numpy as np

PATCHES = 3
SIDES = (0.10, 0.14, 0.18, 0.22, 0.26)  # of a patch, of the image's side
SPEED = 0.02  # images per agent step, of each patch and direction


class Occlusion:
    """Covers the image by squares of one colour each. They move and bounce where dynamic."""

    def __init__(self, severity: int, dynamic: bool):
        self._side, self._dynamic = SIDES[severity - 1], dynamic
        self.values = {
            "at": np.zeros((PATCHES, 2)),  # middle, in images
            "velocity": np.zeros((PATCHES, 2)),
            "colours": np.zeros((PATCHES, 3)),
        }

    def reset(self, random: np.random.Generator) -> None:
        self.values["at"][:] = random.uniform(0, 1, (PATCHES, 2))
        self.values["velocity"][:] = random.uniform(-SPEED, SPEED, (PATCHES, 2))
        self.values["colours"][:] = random.integers(0, 256, (PATCHES, 3))

    def step(self, random: np.random.Generator, frames: int) -> None:
        if self._dynamic:
            at, velocity = self.values["at"], self.values["velocity"]
            at += velocity
            velocity[(at < 0) | (at > 1)] *= -1
            np.clip(at, 0, 1, out=at)

    def seen(self, picture: np.ndarray) -> np.ndarray:
        """Return the image behind the patches."""
        size, covered = picture.shape[0], picture.copy()
        width = max(round(self._side * size), 1)
        first = np.round(self.values["at"] * size - width / 2).astype(int).tolist()
        for (row, column), colour in zip(first, self.values["colours"].astype(np.uint8)):
            rows, columns = (slice(max(start, 0), max(start + width, 0)) for start in (row, column))
            covered[rows, columns] = colour
        return covered
