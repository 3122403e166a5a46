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
    """An episode under way as nested plain values and arrays; assigned to another such environment
    it goes on there.
    """

    snapshot: Any


class Described(Protocol):
    """What is true of the robot and the objects of the task, beside the picture."""

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
    """Return the environment that keeps to a protocol, itself or one that it wraps; None where
    there is none.
    """
    while env is not None and not _has(env, protocol):
        env = getattr(env, "env", None)
    return env


def _has(env: gymnasium.Env, protocol: type) -> bool:
    """Return whether an object has all members of a protocol, without asking for a property's value
    where a class has it.

    A snapshot costs time, and it may be asked for only within an episode.
    """
    methods = {name for name, value in vars(protocol).items() if callable(value) and not name.startswith("_")}
    names = methods | set(vars(protocol).get("__annotations__", {}))
    return all(hasattr(type(env), name) or name in vars(env) for name in names)
