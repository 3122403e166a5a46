"""Colours of materials as a distraction, at the scales of the Distracting Control Suite.

Each channel of each material (robot, objects, floor) is drawn around its own value at each reset; a
dynamic colour follows a random walk (arXiv 2101.02722).
"""

import numpy as np

STEP = 0.03  # of the scale: standard deviation of a channel's change per environment frame


class Colours:
    """Changes the colours of a model's materials by at most `scale`, within 0 to 1."""

    def __init__(self, model, scale: float, dynamic: bool):
        self.written: tuple[np.ndarray, ...] = (model.mat_rgba,)
        self._own = model.mat_rgba[:, :3].astype(np.float64)
        self._low = np.clip(self._own - scale, 0, 1)
        self._high = np.clip(self._own + scale, 0, 1)
        self._step = STEP * scale if dynamic else 0.0
        self.values = {"colours": self._own.copy()}  # (materials, 3)

    def reset(self, random: np.random.Generator) -> None:
        self.values["colours"][:] = random.uniform(self._low, self._high)

    def step(self, random: np.random.Generator, frames: int) -> None:
        colours = self.values["colours"]
        for _ in range(frames if self._step else 0):
            colours += random.standard_normal(colours.shape) * self._step
            np.clip(colours, self._low, self._high, out=colours)

    def apply(self, renderer) -> None:
        shown = self.written[0][:, :3]
        shown[:] = np.clip(shown + (self.values["colours"] - self._own), 0, 1)
