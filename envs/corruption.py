"""Corruption of the image by sensor, lens and codec, by a severity from 1 to 5.

The severities are those of Tiny ImageNet-C, whose images have 64 pixels as well (arXiv 1903.12261).
A static corruption is the published one. Where it is dynamic, noise is drawn anew at each agent
step, and blur and compression wander between none and the published severity.
"""

import statistics

import cv2
import numpy as np

LEVELS = 5
NOISE = (0.04, 0.08, 0.12, 0.15, 0.18)  # standard deviation of white noise, of the range 0 to 1
BLUR = (0.5, 0.75, 1.0, 1.25, 1.5)  # standard deviation of the Gaussian, in pixels of 64
QUALITY = (65, 58, 50, 40, 25)  # of JPEG
WANDER = 0.1  # standard deviation of a change per agent step, of the range 0 to 1
SHARP = 0.2  # pixels; a narrower Gaussian changes nothing


class Noise:
    """Adds white noise to each channel of each pixel."""

    def __init__(self, severity: int, dynamic: bool):
        # A byte of noise is looked up among the quantiles of the normal distribution.
        normal = statistics.NormalDist().inv_cdf
        table = np.array([normal((level + 0.5) / 256) for level in range(256)])
        table *= NOISE[severity - 1] * 255 / table.std()
        self._table, self._dynamic = np.round(table).astype(np.int16), dynamic
        self.values = {"seed": np.zeros(1)}  # of the noise in this image

    def reset(self, random: np.random.Generator) -> None:
        self.values["seed"][:] = random.integers(2**32)

    def step(self, random: np.random.Generator, frames: int) -> None:
        if self._dynamic:
            self.reset(random)

    def seen(self, picture: np.ndarray) -> np.ndarray:
        """Return the image with noise."""
        random = np.random.default_rng(int(abs(self.values["seed"][0])))
        words = random.integers(2**64, size=-(-picture.size // 8), dtype=np.uint64)
        levels = words.view(np.uint8)[: picture.size].reshape(picture.shape)
        return cv2.add(picture, cv2.LUT(levels, self._table), dtype=cv2.CV_8U)


class Wander:
    """How much of a severity there is, 0 to 1: all of it, or a random walk where dynamic."""

    def __init__(self, dynamic: bool):
        self._dynamic = dynamic
        self.share = np.ones(1)

    def reset(self, random: np.random.Generator) -> None:
        if self._dynamic:
            self.share[:] = random.uniform()

    def step(self, random: np.random.Generator) -> None:
        if self._dynamic:
            share = abs(self.share[0] + WANDER * random.standard_normal())  # reflected at 0
            self.share[:] = min(share, 2 - share) if share < 2 else 1.0  # and at 1


class Blur:
    """Blurs the image by a Gaussian."""

    def __init__(self, severity: int, dynamic: bool):
        self._width = BLUR[severity - 1] / 64  # of the image
        self._wander = Wander(dynamic)
        self.values = {"share": self._wander.share}

    def reset(self, random: np.random.Generator) -> None:
        self._wander.reset(random)

    def step(self, random: np.random.Generator, frames: int) -> None:
        self._wander.step(random)

    def seen(self, picture: np.ndarray) -> np.ndarray:
        """Return the blurred image."""
        width = self._width * picture.shape[0] * float(self.values["share"][0])
        if width < SHARP:
            return picture
        return cv2.GaussianBlur(picture, (0, 0), width, borderType=cv2.BORDER_REPLICATE)


class Compression:
    """Compresses the image as JPEG."""

    def __init__(self, severity: int, dynamic: bool):
        self._quality = QUALITY[severity - 1]
        self._wander = Wander(dynamic)
        self.values = {"share": self._wander.share}

    def reset(self, random: np.random.Generator) -> None:
        self._wander.reset(random)

    def step(self, random: np.random.Generator, frames: int) -> None:
        self._wander.step(random)

    def seen(self, picture: np.ndarray) -> np.ndarray:
        """Return the image as its JPEG shows it."""
        quality = 100 - (100 - self._quality) * float(self.values["share"][0])
        chosen = [cv2.IMWRITE_JPEG_QUALITY, round(quality)]
        code = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), chosen)[1]
        return cv2.cvtColor(cv2.imdecode(code, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
