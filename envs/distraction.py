"""Distractions besides the video: what changes in the picture and does not matter to the task.

A kind changes the scene or the finished image. One that changes the scene writes into the
simulation for the time of a draw; physics, rewards and the task never see it. The mask stays what
it is, the pixels that the robot covers in the picture that is drawn.
"""

import contextlib
import zlib
from collections.abc import Generator
from typing import Any, Protocol

import numpy as np

from foreground.envs.camera_pose import CameraPose
from foreground.envs.colours import Colours
from foreground.envs.corruption import LEVELS, Blur, Compression, Noise
from foreground.envs.lighting import Light, Shadow
from foreground.envs.occlusion import Occlusion
from foreground.envs.palette import SPREAD, Palette
from foreground.option import config_class, option

OF_SCENE = {  # kind -> its maker, from model, data, camera, scale, dynamic; in their order
    "palette": lambda model, data, camera, level, dynamic: Palette(model, level),
    "camera": CameraPose,
    "colour": lambda model, data, camera, scale, dynamic: Colours(model, scale, dynamic),
    "light": lambda model, data, camera, scale, dynamic: Light(model, data, scale, dynamic),
}
OF_IMAGE = {  # kind -> its maker, in the order in which they change the image
    "shadow": Shadow,
    "occlusion": Occlusion,
    "blur": Blur,
    "noise": Noise,
    "compression": Compression,
}
KINDS = (*OF_SCENE, *OF_IMAGE)


def is_on(config: "DistractionConfig") -> bool:
    """Return whether any kind is on."""
    return bool(kinds_of(config))


def kinds_of(config: "DistractionConfig") -> dict[str, Any]:
    """Return the kinds that are on, kind -> its scale, severity or level."""
    values = {kind: getattr(config, kind) for kind in KINDS}
    return {kind: value for kind, value in values.items() if value and value != OFF}


def in_words(config: "DistractionConfig") -> str:
    """Return the kinds that are on as text, such as "camera 0.2, noise 3"; "" without any."""
    return ", ".join(f"{kind} {value}" for kind, value in kinds_of(config).items())


OFF = "none"
SEVERITY = "Severity from 1 to 5; 0: none."
MOVING = (
    "where a kind of distraction other than palette is on",
    lambda config: bool({*kinds_of(config)} - {"palette"}),
)


@config_class
class DistractionConfig:
    """What changes in the picture besides the video."""

    camera: float = option(
        0.0,
        "Scale of the changes of the camera's pose; Distracting Control Suite: easy 0.1,"
        " medium 0.2, hard 0.3; 0: none.",
        ge=0.0,
        le=1.0,
    )
    colour: float = option(
        0.0,
        "Largest change of each colour channel of robot, objects and floor; Distracting Control"
        " Suite: easy 0.1, medium 0.2, hard 0.3; 0: none.",
        ge=0.0,
        le=1.0,
    )
    palette: str = option(
        OFF,
        "Colours of sky, floor and robot, drawn at each reset, as in DMC-GB's color_easy and"
        " color_hard.",
        choices=(OFF, *SPREAD),
    )
    light: float = option(
        0.0,
        "Scale of the changes of brightness, colour and place of the lights; 0: none.",
        ge=0.0,
        le=1.0,
    )
    shadow: float = option(
        0.0, "Darkness of soft shadows that lie over the image; 0: none.", ge=0.0, le=1.0
    )
    occlusion: int = option(0, f"Patches before the scene. {SEVERITY}", ge=0, le=LEVELS)
    blur: int = option(0, f"Blur of the image. {SEVERITY}", ge=0, le=LEVELS)
    noise: int = option(0, f"White noise of each pixel. {SEVERITY}", ge=0, le=LEVELS)
    compression: int = option(0, f"Compression as JPEG. {SEVERITY}", ge=0, le=LEVELS)
    dynamic: bool = option(
        True,
        "Whether distractions also change within an episode; otherwise they are drawn at each reset"
        " and stay.",
        read_if=MOVING,
    )


class Kind(Protocol):
    """One kind of distraction. It has `written` and `apply` too, or `seen`.

    values   its state: arrays of numbers that are changed in place and keep their shapes
    """

    values: dict[str, np.ndarray]

    def reset(self, random: np.random.Generator) -> None:
        """Draw the values of a new episode; the simulation is at its first state."""

    def step(self, random: np.random.Generator, frames: int) -> None:
        """Advance by one agent step, a number of environment frames."""


class OfScene(Kind, Protocol):
    """A kind that changes the scene.

    written  the arrays of the simulation that `apply` writes into
    """

    written: tuple[np.ndarray, ...]

    def apply(self, renderer) -> None:
        """Write into the simulation what a renderer shall draw."""


class OfImage(Kind, Protocol):
    """A kind that changes the finished image."""

    def seen(self, picture: np.ndarray) -> np.ndarray:
        """Return the image uint8 (H, H, 3) as it is seen; twice the same until the next step."""


class Distraction:
    """The kinds that are on, each with its own random generator."""

    def __init__(self, config: DistractionConfig, physics, camera: int):
        """
        physics   dm_control Physics; it is changed during draws only
        camera    index of the camera that the task is seen through
        """
        simulation = (physics.model.ptr, physics.data.ptr, camera)
        chosen = kinds_of(config)
        self._of_scene: dict[str, OfScene] = {
            name: maker(*simulation, chosen[name], config.dynamic)
            for name, maker in OF_SCENE.items()
            if name in chosen
        }
        self._of_image: dict[str, OfImage] = {
            name: maker(chosen[name], config.dynamic)
            for name, maker in OF_IMAGE.items()
            if name in chosen
        }
        self.kinds: dict[str, Kind] = {**self._of_scene, **self._of_image}
        self.seed(0)
        self.is_seeded = False  # by an environment or a snapshot

    def seed(self, seed: int) -> None:
        """Seed each kind by its name: another kind that is on changes nothing for it."""
        self.is_seeded = True
        self.random: dict[str, np.random.Generator] = {
            name: np.random.default_rng([seed, zlib.crc32(name.encode())]) for name in self.kinds
        }

    def reset(self) -> None:
        """Begin an episode."""
        for name, kind in self.kinds.items():
            kind.reset(self.random[name])

    def step(self, frames: int) -> None:
        """Advance by a number of environment frames."""
        for name, kind in self.kinds.items():
            kind.step(self.random[name], frames)

    @contextlib.contextmanager
    def applied(self, renderer) -> Generator[None]:
        """Change the simulation as a renderer shall draw it; put everything back behind it."""
        kinds = self._of_scene.values()
        before = [(array, array.copy()) for kind in kinds for array in kind.written]
        try:
            for kind in kinds:
                kind.apply(renderer)
            yield
        finally:
            for array, value in before:
                array[...] = value

    def seen(self, picture: np.ndarray) -> np.ndarray:
        """Return a finished image as it is seen."""
        for kind in self._of_image.values():
            picture = kind.seen(picture)
        return picture

    @property
    def state(self) -> dict[str, Any]:
        """The values and the generator of each kind, as plain values with arrays copied."""
        return {
            name: {
                "random": self.random[name].bit_generator.state,
                "values": {key: value.copy() for key, value in kind.values.items()},
            }
            for name, kind in self.kinds.items()
        }

    @state.setter
    def state(self, taken: dict[str, Any]) -> None:
        """Raise ValueError for the state of other kinds."""
        if {*taken} != {*self.kinds}:
            raise ValueError(
                f"the distractions are {', '.join(self.kinds)}, not {list(taken)}"[:99]
            )
        self.seed(0)
        for name, kind in self.kinds.items():
            self.random[name].bit_generator.state = taken[name]["random"]
            values = taken[name]["values"]
            for key, value in kind.values.items():
                if np.shape(values[key]) != value.shape or not np.isfinite(values[key]).all():
                    raise ValueError(f"{key} of {name} is no array of {value.shape} finite numbers")
                value[...] = values[key]


def make_distraction(config: DistractionConfig | None, physics, camera: int) -> Distraction | None:
    """Return the distraction of one environment, None where no kind is on."""
    return Distraction(config, physics, camera) if config and is_on(config) else None
