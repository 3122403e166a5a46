"""Any environment of Gymnasium as an environment of images: `--task gymnasium:ENV_ID`.

The observation is the environment's own image, or the output of `render()`, resized. Actions in
[-1, 1] are rescaled to the environment's bounds. The environment decides when an episode ends.
Where it states no time limit, an episode is truncated after `specs.LONGEST` steps. What it may
offer beyond that is optional (offers.py).
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from foreground.envs.offers import Described, Simulated, Snapshotable, offered
from foreground.envs.playback import Background
from foreground.envs.simulation import Stage, simulation_of
from foreground.envs.simulator import open_display
from foreground.envs.specs import literal, spec_of, time_limit_of
from foreground.errors import UserError

NEVER = -1  # Gymnasium's value for no time limit
CHANNELS = (1, 3, 4)


def make_pixels(
    task: str,
    module: str = "",
    arguments: dict[str, str] | None = None,
    size: int = 64,
    action_repeat: int = 1,
    background: Background | None = None,
    mask: str = "",
    proprioception: bool = False,
) -> "PixelEnv":
    """Return the environment of a task as one of pictures.

    module      Python module that registers it
    arguments   keyword arguments for Gymnasium's `make`, as text
    size        height and width of observations
    background  what plays behind the robot; None: its own sky and floor
    mask        what the background replaces, as in envs.dmc; empty: the environment draws its own
                picture
    proprioception  whether `info` shall hold the numbers that the environment observes

    Raises: UserError where it cannot be made, or no agent here can learn in it.
    """
    arguments = arguments or {}
    spec, limit = spec_of(task, module), time_limit_of(task, module, arguments)
    open_display()
    given = {name: literal(text) for name, text in arguments.items() if name != "max_episode_steps"}
    try:
        env = _made(spec, given)
    except UserError:
        raise
    except Exception as error:  # an environment of others may raise anything
        what = f"{task} cannot be made ({type(error).__name__}: {str(error)[:300]})"
        raise UserError(
            what, "--task", "install what it needs, or give --env_arguments name=value"
        ) from error
    try:
        stage = Stage(env, task, size, copy.copy(background), mask) if mask else None
        return PixelEnv(env, task, size, action_repeat, limit, stage, proprioception)
    except BaseException:
        env.close()
        raise


def _made(spec: EnvSpec, arguments: dict[str, Any]) -> gymnasium.Env:
    """Return the environment without a time limit, which the adapter handles.

    It renders where it takes `render_mode`.
    """
    common = {"max_episode_steps": NEVER, "disable_env_checker": True}
    if "render_mode" in arguments:
        return gymnasium.make(spec, **common, **arguments)
    try:
        # One that shows pictures as observations needs no render mode.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not in the possible render_modes")
            return gymnasium.make(spec, **common, **arguments, render_mode="rgb_array")
    except TypeError as error:
        if "render_mode" not in str(error):
            raise
        return gymnasium.make(spec, **common, **arguments)


class PixelEnv(gymnasium.Env):
    """An environment of Gymnasium that shows uint8 (H, W, 3) and takes actions (A,) in [-1, 1].

    The reward is the sum over the repeated steps; `info` holds `env_frames`, the steps that were
    taken.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        env: gymnasium.Env,
        task: str,
        size: int,
        action_repeat: int = 1,
        time_limit: int | None = None,
        stage: Stage | None = None,
        proprioception: bool = False,
    ):
        """
        time_limit   steps of the environment after which an episode is truncated; None: the
                     environment ends it
        stage        draws the picture in place of the environment
        proprioception  `info` holds the observed numbers as one vector (P,), float32

        Raises: UserError if the environment has no such numbers.
        """
        self.env, self.task, self.size = env, task, size
        self.action_repeat, self.time_limit = action_repeat, time_limit
        low, high = _bounds(env.action_space, task)
        self._low, self._range = low, high - low
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (low.size,), np.float32)
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self._stage = stage
        self.background = stage.background if stage else None
        self._see = (lambda _: stage.picture()) if stage else _eye(env, task)
        self._offer()
        fps = float(env.metadata.get("render_fps") or 20)
        fields = {"proprioception": ((self._size_of(task),), np.float32)} if proprioception else {}
        self._proprioception = proprioception
        self.metadata = {
            **self.metadata,
            "task": task,
            "render_fps": fps / action_repeat,
            "info_fields": fields,
        }
        self.render_mode = "rgb_array"
        self._image = np.zeros(self.observation_space.shape, np.uint8)
        self._frame, self._over, self._restarts, self._began = 0, False, False, False

    def _offer(self) -> None:
        """Offer observed numbers and the simulation to evaluation, unless the environment does."""
        self._observed: dict[str, np.ndarray] = {}
        self._numbers = _numbers_of(self.env.observation_space)
        if self._numbers and offered(self.env, Described) is None:
            self.state_observation = lambda: self._observed
        simulation = simulation_of(self.env)
        if simulation is not None and offered(self.env, Simulated) is None:
            self.physics, self.simulator_state = simulation, simulation.state

    def _size_of(self, task: str) -> int:
        """Return how many numbers the environment observes beside pictures."""
        if self._numbers is None:
            what = f"{task} observes {str(self.env.observation_space)[:100]}, which has no numbers"
            remedy = "leave it out, or choose an environment that observes a Box of numbers"
            raise UserError(what, "--environment.proprioception", remedy)
        return sum(
            value.size for value in self._numbers(self.env.observation_space.sample()).values()
        )

    def _info_fields(self) -> dict[str, np.ndarray]:
        """Return the fields of `info` that are stored."""
        if not self._proprioception:
            return {}
        parts = [np.ravel(value) for value in self._observed.values()]
        return {"proprioception": np.concatenate(parts).astype(np.float32)}

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        observation, _ = self.env.reset(seed=seed, options=options)
        self._frame, self._over, self._restarts, self._began = 0, False, False, True
        if self.background is not None:
            self.background.reset(self.np_random)
        self._image = self._picture(observation)
        return self._image.copy(), {"env_frames": 0} | self._info_fields()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self._restarts:
            image, info = self.reset()
            return image, 0.0, False, False, info
        space = self.env.action_space
        wanted = self._low + (np.clip(np.asarray(action, np.float64), -1, 1) + 1) / 2 * self._range
        wanted = np.clip(wanted.reshape(space.shape).astype(space.dtype), space.low, space.high)
        reward, frames, terminated, truncated = 0.0, 0, False, False
        while frames < self.action_repeat and not (terminated or truncated):
            observation, gain, terminated, truncated, _ = self.env.step(wanted)
            frames, self._frame, reward = (
                frames + 1,
                self._frame + 1,
                reward + np.asarray(gain, np.float64).item(),
            )
            truncated = bool(truncated) or (
                self.time_limit is not None and self._frame >= self.time_limit
            )
        terminated = bool(terminated)
        self._over = terminated or truncated
        if self.background is not None:
            self.background.step()
        self._image = self._picture(observation)
        return (
            self._image.copy(),
            reward,
            terminated,
            truncated and not terminated,
            {"env_frames": frames} | self._info_fields(),
        )

    def render(self) -> np.ndarray:
        return self._image.copy()

    def close(self) -> None:
        if self._stage is not None:
            self._stage.close()
        self.env.close()

    @property
    def snapshot(self) -> dict | None:
        """The state of a started episode as plain values; None where the environment has no
        snapshot.
        """
        inner = offered(self.env, Snapshotable)
        if inner is None or not self._began:
            return None
        parts = {"inner": inner.snapshot, "frame": self._frame, "over": self._over}
        playback = self.background.playback if self.background is not None else None
        return parts | {"random": self.np_random.bit_generator.state, "background": playback}

    @snapshot.setter
    def snapshot(self, taken: dict | None) -> None:
        inner = offered(self.env, Snapshotable)
        if taken is None or inner is None:
            raise ValueError(f"{self.task} has no snapshot")
        if not self._began:
            self.reset()
        inner.snapshot = taken["inner"]
        self._frame, self._over, self._restarts = taken["frame"], taken["over"], taken["over"]
        self.np_random.bit_generator.state = taken["random"]
        if self.background is not None:
            self.background.continue_at(taken["background"], self.np_random)

    def _picture(self, observation: Any) -> np.ndarray:
        """Return the current image, uint8 (size, size, 3); store the other observed numbers."""
        self._observed = self._numbers(observation) if self._numbers else {}
        image = self._see(observation)
        if image.shape[:2] != (self.size, self.size):
            shrinks = min(image.shape[:2]) >= self.size
            image = cv2.resize(
                image,
                (self.size, self.size),
                interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
            )
        return np.ascontiguousarray(image)


def _bounds(space: gymnasium.Space, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of an action, (A,) each.

    Raises: UserError where actions are not a bounded vector.
    """
    if not isinstance(space, gymnasium.spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        what = f"{task} takes actions of {space}, and an agent here gives numbers in [-1, 1]"
        raise UserError(
            what,
            "--task",
            "wrap the environment so that it takes a Box, or choose one with continuous actions",
        )
    low, high = space.low.astype(np.float64).ravel(), space.high.astype(np.float64).ravel()
    if not (np.isfinite(low) & np.isfinite(high)).all() or not low.size:
        what = f"the actions of {task} have no bounds ({space})"
        raise UserError(what, "--task", "give them some, as gymnasium.wrappers.RescaleAction does")
    return low, high


def _eye(env: gymnasium.Env, task: str) -> Callable[[Any], np.ndarray]:
    """Return a function from an observation to an image.

    The image is the observation, a part of it, or the output of `render()`.

    Raises: UserError where there is none.
    """
    space = env.observation_space
    if _is_picture(space):
        return _three_channels
    if isinstance(space, gymnasium.spaces.Dict):
        parts = [name for name, part in space.items() if _is_picture(part)]
        if len(parts) == 1:
            return lambda observation: _three_channels(observation[parts[0]])
        if parts:
            what = f"{task} shows {len(parts)} pictures: {', '.join(parts)}"
            raise UserError(
                what, "--task", "leave one, as gymnasium.wrappers.FilterObservation does"
            )
    if env.render_mode != "rgb_array":
        what = (
            f"{task} shows no picture: its observation is {str(space)[:100]} and its render "
            f"mode {env.render_mode}"
        )
        raise UserError(what, "--task", "give it pixel observations, or a render() of rgb_array")
    return lambda _: _rendered(env, task)


def _numbers_of(space: gymnasium.Space) -> Callable[[Any], dict[str, np.ndarray]] | None:
    """Return a function to the numbers of an observation that are not images, by name, or None."""
    if isinstance(space, gymnasium.spaces.Dict):
        names = [
            name
            for name, part in space.items()
            if isinstance(part, gymnasium.spaces.Box) and not _is_picture(part)
        ]
        return (lambda observation: {name: observation[name] for name in names}) if names else None
    if isinstance(space, gymnasium.spaces.Box) and not _is_picture(space):
        return lambda observation: {"observation": observation}
    return None


def _rendered(env: gymnasium.Env, task: str) -> np.ndarray:
    """Return what `render()` draws. Raise UserError where that is no picture."""
    viewer = getattr(getattr(env.unwrapped, "mujoco_renderer", None), "viewer", None)
    # It takes its OpenGL context for current, and others may draw in this thread.
    if viewer is not None:
        viewer.make_context_current()
    image = env.render()
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
        kind = (
            f"{image.dtype} {image.shape}"
            if isinstance(image, np.ndarray)
            else type(image).__name__
        )
        raise UserError(
            f"render() of {task} gives {kind}", "--task", "let it give uint8 (height, width, 3)"
        )
    return _three_channels(image)


def _is_picture(space: gymnasium.Space) -> bool:
    """Return whether a space holds pictures: bytes of (H, W), (H, W, C) or (C, H, W), with C of 1,
    3 or 4.
    """
    if not isinstance(space, gymnasium.spaces.Box) or space.dtype != np.uint8:
        return False
    shape = space.shape
    return len(shape) == 2 or (len(shape) == 3 and (shape[-1] in CHANNELS or shape[0] in CHANNELS))


def _three_channels(image: np.ndarray) -> np.ndarray:
    """Return grey, RGB or RGBA, channels first or last, as (H, W, 3); what is transparent stays as
    it is.
    """
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[-1] not in CHANNELS:
        image = image.transpose(1, 2, 0)
    return image.repeat(3, -1) if image.shape[-1] == 1 else image[..., :3]
