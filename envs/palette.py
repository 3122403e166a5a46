"""Colours of sky, floor and robot as a distraction, as in DMControl-GB (DMC-GB).

Each is drawn at each reset and stays for the episode (arXiv 2011.13389). The floor and the sky of
the benchmark are textures: they are recoloured in what a renderer draws, the model keeps its own.
"""

import cv2
import numpy as np

# Of the files of 100 colours each that come with the benchmark: a colour of the task plus Gaussian
# noise in each channel, within 0 to 1. The floor's second colour is lighter than its first.
SPREAD = {"easy": 0.1, "hard": 0.2}
OWN = np.array([[0.4, 0.6, 0.8], [0.1, 0.2, 0.3], [0.7, 0.5, 0.3]])  # sky, floor, robot
LIGHTER = 0.1


class Palette:
    """Changes the colours of sky, floor and robot of one model."""

    def __init__(self, model, level: str):
        self._model, self._spread = model, SPREAD[level]
        self._robot = model.material("self").id
        self.written: tuple[np.ndarray, ...] = (model.mat_rgba,)
        self.values = {"colours": OWN.copy()}

    def reset(self, random: np.random.Generator) -> None:
        drawn = OWN + random.standard_normal(OWN.shape) * self._spread
        self.values["colours"][:] = np.clip(drawn, 0, 1)

    def step(self, random: np.random.Generator, frames: int) -> None:
        """Change nothing: the colours stay for the episode."""

    def apply(self, renderer) -> None:
        colours = self.values["colours"]
        self.written[0][self._robot, :3] = colours[2]
        textures = {
            self._model.texture("skybox").id: lambda: self._sky(colours[0]),
            self._model.texture("grid").id: lambda: self._floor(colours[1]),
        }
        renderer.retexture(colours[:2].tobytes(), textures)

    def _texels(self, name: str) -> np.ndarray:
        """Return a texture of the model, (H, W, 3) uint8."""
        texture = self._model.texture(name)
        height, width = int(texture.height[0]), int(texture.width[0])
        first = int(texture.adr[0])
        content = self._model.tex_data[first : first + height * width * 3]
        return content.reshape(height, width, 3)

    def _sky(self, colour: np.ndarray) -> np.ndarray:
        """Return the gradient from black to another colour. The white stars stay."""
        levels = np.arange(256)[:, None] * (colour / OWN[0])
        levels[255] = 255
        return _looked_up(self._texels("skybox"), levels)

    def _floor(self, colour: np.ndarray) -> np.ndarray:
        """Return the checkerboard of two other colours. The lines at the edge of a field stay."""
        own = self._texels("grid")
        middle = (OWN[1] + LIGHTER / 2) * 255
        darker, lighter = colour * 255, (colour + LIGHTER) * 255
        floor = _looked_up(own, np.where(np.arange(256)[:, None] < middle, darker, lighter))
        for edge in (np.s_[:1], np.s_[-1:], np.s_[:, :1], np.s_[:, -1:]):
            floor[edge] = own[edge]
        return floor


def _looked_up(texels: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return texels by a table (256, 3) of the level of each channel."""
    table = np.clip(np.floor(levels + 0.5), 0, 255).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(texels), table.reshape(1, 256, 3))
