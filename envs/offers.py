"""What an environment may offer beyond Gymnasium's methods. All of it is optional: an environment
declares it by having it.

| protocol | who asks | without it |
|---|---|---|
| `Snapshotable` | a checkpoint | a resumed run begins new episodes |
| `Described` | probes of the latent | they leave the state out |
| `Simulated` | measures of skills and goals | they leave out what needs the simulator |
| `Backed` | probes of the latent | they leave the background out |
"""

from typing import Any, Protocol, TypeVar

import gymnasium
import numpy as np


class Snapshotable(Protocol):
    """The state of the current episode as nested plain values and arrays.

    Assigned to another environment of the same kind, the episode continues there.
    """

    snapshot: Any


class Described(Protocol):
    """The true state of robot and objects, besides the image."""

    def state_observation(self) -> dict[str, np.ndarray]:
        """Return named arrays of numbers; their shapes do not change."""


class Simulated(Protocol):
    """A MuJoCo simulation that evaluation may read.

    physics   has `model` and `data`, as dm_control's Physics
    task      its name, <domain>-<task>
    """

    physics: Any
    task: str

    def simulator_state(self) -> np.ndarray:
        """Return positions and velocities, (S,)."""


class Backed(Protocol):
    """The video that plays behind the robot; None: there is none."""

    background: Any


Offer = TypeVar("Offer")


def offered(env: gymnasium.Env, protocol: type[Offer]) -> Offer | None:
    """Return the environment, or the wrapped one, that has all members of a protocol; None if
    neither has.
    """
    while env is not None and not _has(env, protocol):
        env = getattr(env, "env", None)
    return env


def _has(env: gymnasium.Env, protocol: type) -> bool:
    """Return whether an object has all members of a protocol.

    Properties of its class are not evaluated: a snapshot costs time and is valid only within an
    episode.
    """
    methods = {
        name
        for name, value in vars(protocol).items()
        if callable(value) and not name.startswith("_")
    }
    names = methods | set(vars(protocol).get("__annotations__", {}))
    return all(hasattr(type(env), name) or name in vars(env) for name in names)
