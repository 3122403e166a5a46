"""The MuJoCo simulation of an environment of others: evaluation reads it, and a video may play
behind it.
"""

from types import SimpleNamespace
from typing import NamedTuple

import gymnasium
import numpy as np

from foreground.envs.playback import Background
from foreground.envs.rendering import Renderer, fixed_camera
from foreground.envs.scene import draw
from foreground.envs.simulator import mujoco
from foreground.errors import UserError


class Simulation(NamedTuple):
    """The `physics` of an environment for evaluation (offers.py)."""

    model: mujoco.MjModel
    data: mujoco.MjData

    def state(self) -> np.ndarray:
        """Return positions and velocities (qpos, qvel), float64 (nq + nv,)."""
        return np.concatenate([self.data.qpos, self.data.qvel])


def simulation_of(env: gymnasium.Env) -> Simulation | None:
    """Return the MuJoCo `model` and `data` of an environment, None where it has none."""
    inner = env.unwrapped
    model, data = getattr(inner, "model", None), getattr(inner, "data", None)
    known = isinstance(model, mujoco.MjModel) and isinstance(data, mujoco.MjData)
    return Simulation(model, data) if known and model.njnt else None


class Stage:
    """Draws a simulation: its robot and objects in front of a video, or with its own sky and floor.

    background   None: its own sky and floor
    mask         what the video replaces
    """

    def __init__(
        self, env: gymnasium.Env, task: str, size: int, background: Background | None, mask: str
    ):
        """Raise UserError where the environment has no simulation that can be reached."""
        simulation = simulation_of(env)
        if simulation is None:
            what = (
                f"no video can play behind {task}, since nothing tells its robot from the rest "
                "of the picture"
            )
            raise UserError(
                what, "--background.source", "leave it out: it needs a MuJoCo `model` and `data`"
            )
        self.background, self._mask = background, mask
        self._env, self._simulation, self._size = env, simulation, size
        self._renderer: Renderer | None = None

    def picture(self) -> np.ndarray:
        """Return the current image, uint8 (size, size, 3)."""
        # Only now: a free camera looks at the positions after the first reset.
        if self._renderer is None:
            model, data = (SimpleNamespace(ptr=part) for part in self._simulation)
            camera = camera_of(self._env, self._simulation)
            pointers = SimpleNamespace(model=model, data=data)
            self._renderer = Renderer(pointers, self._size, camera, keep_floor=self._mask == "sky")
        return draw(self._renderer, self.background, self._mask)

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()


def camera_of(env: gymnasium.Env, simulation: Simulation) -> mujoco.MjvCamera:
    """Return the camera that an environment renders with, as Gymnasium's MujocoRenderer sets it.

    Without such a renderer it is the first camera of the model, or a free one.
    """
    model, renderer = simulation.model, getattr(env.unwrapped, "mujoco_renderer", None)
    index = getattr(renderer, "camera_id", 0 if model.ncam else -1)
    if index is not None and index >= 0:
        return fixed_camera(index)
    camera = mujoco.MjvCamera()
    camera.type, camera.distance = mujoco.mjtCamera.mjCAMERA_FREE, model.stat.extent
    camera.lookat[:] = np.median(simulation.data.geom_xpos, axis=0)
    for name, value in (getattr(renderer, "default_cam_config", None) or {}).items():
        if np.ndim(value):
            getattr(camera, name)[:] = value
        else:
            setattr(camera, name, value)
    return camera
