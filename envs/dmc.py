"""dm_control tasks as a gymnasium.Env of images, optionally with a video behind the robot."""

import copy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding

from foreground.envs import registry, starts, tasks
from foreground.envs.distraction import DistractionConfig, make_distraction
from foreground.envs.families import Family, Game
from foreground.envs.floor import FLOORS, colour_by_place
from foreground.envs.games import Playing
from foreground.envs.playback import Background
from foreground.envs.rendering import Renderer
from foreground.envs.scene import draw
from foreground.envs.signals import Signals
from foreground.envs.simulator import PhysicsError, suite
from foreground.envs.snapshots import Snapshots
from foreground.errors import UserError, nearest

# What the video replaces; "colour" is the rule of older work.
MASKS = ("sky_and_floor", "sky", "colour")


class DMCEnv(gymnasium.Env):
    """One dm_control task, seen through its camera.

    Observations are uint8 (H, W, 3). Actions are in [-1, 1] and are rescaled to the task's bounds.
    The reward is the sum over the repeated frames. An episode is truncated after `time_limit`
    environment frames; it is terminated only where dm_control ends it with discount 0. If the
    physics diverges, the episode is truncated with ``info["diverged"]``, and the observation is the
    last valid one.

    ``metadata["info_fields"]`` names the fields of ``info`` that are stored with each image, name
    -> (shape, type). ``info`` holds `env_frames` (frames of this step, 0 after a reset), `discount`
    and `diverged`. It holds the `signals` that were asked for, (K,), each summed over the repeated
    frames, zero after a reset. In a family of games (envs/families.py) it holds `game` (D,), the
    descriptor of the current game. With `proprioception` it holds dm_control's state observation of
    the task as one vector (P,), float32. With `clip_frames` it holds the current frame of the clip
    alone, `clip`, like an observation; it is black where none plays.
    """

    # render_fps differs between tasks and is set per instance.
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        seed: int | None = None,
        size: int = 64,
        action_repeat: int = 2,
        background: Background | None = None,
        mask: str = "sky_and_floor",
        time_limit: int = 1000,
        render_mode: str | None = None,
        render_size: int | None = None,
        signals: tuple[str, ...] = (),
        family: Family | None = None,
        games: tuple[Game, ...] = (),
        proprioception: bool = False,
        distraction: DistractionConfig | None = None,
        clip_frames: bool = False,
        floor: str = "own",
        start: str = "own",
    ):
        """task           "<domain>-<task>", such as "walker-walk"
        seed           of the first reset, unless reset(seed=...) is given
        size           height and width of observations
        action_repeat  environment frames per step
        background     what plays behind the robot; None shows the task's own sky and floor
        mask           what the background replaces: "sky_and_floor", "sky" (the floor stays) or
                       "colour"
        time_limit     environment frames per episode
        render_mode    None or "rgb_array"
        render_size    height and width of render(); None is the observation itself
        signals        names out of envs.SIGNALS that `info` shall hold
        family         that games are drawn from, one at each reset; the rewards of all are the
                       signals where they share physics
        games          that are played; none: those of training
        proprioception whether `info` shall hold the state observation
        distraction    what changes in the picture besides the background; None: nothing
        clip_frames    whether `info` shall hold the frame of the clip
        floor          "own", or "place": its colours tell where the robot is (floor.py)
        start          "own", or "upright": the quadruped starts on its feet (starts.py)
        """
        _check_arguments(
            task, size, action_repeat, background, mask, time_limit, render_mode, render_size, floor
        )
        task = registry.canonical(task)
        starts.check(start, task)
        domain, name = task.split("-")
        # Reseeded from np_random at each reset.
        environment = suite.load(domain, name, task_kwargs={"random": 0})
        self._environment, self._task, self._physics = (
            environment,
            environment.task,
            environment.physics,
        )
        self._substeps = round(environment.control_timestep() / self._physics.timestep())
        bounds = environment.action_spec()
        self._action_low = np.broadcast_to(bounds.minimum, bounds.shape).astype(np.float64)
        self._action_range = np.broadcast_to(bounds.maximum, bounds.shape) - self._action_low
        self.task, self.action_repeat, self.time_limit = task, action_repeat, time_limit
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, bounds.shape, np.float32)
        self.render_mode, self._render_size = render_mode, render_size or size
        self.background = copy.copy(background)  # shares the clips, but plays its own
        self._mask = mask
        self._upright = start == "upright"
        self._camera = tasks.camera_of(task)
        if floor == "place":
            colour_by_place(self._physics.model.ptr)
        self.renderer = Renderer(self._physics, size, self._camera, keep_floor=mask == "sky")
        self._large_renderer: Renderer | None = None
        self.distraction = make_distraction(distraction, self._physics, self._camera)
        self.playing = (
            Playing(family, games or family.train, environment, domain) if family else None
        )
        rewards = self.playing if self.playing and self.playing.names else None
        self.signals = rewards or (
            Signals(self._physics, domain, tuple(signals)) if signals else None
        )
        self._joined = self._state_vector() if proprioception else None
        self._clip = np.zeros(self.observation_space.shape, np.uint8) if clip_frames else None
        fields = {
            name: (value.shape, value.dtype.type) for name, value in self._extras(0.0).items()
        }
        fps = 1 / (environment.control_timestep() * action_repeat)
        self.metadata = {
            **self.metadata,
            "task": task,
            "render_fps": fps,
            "info_fields": fields,
        }
        self._frame, self._over, self._restarts = 0, False, False
        self._observation = np.zeros(self.observation_space.shape, np.uint8)
        self._snapshots = Snapshots(environment)
        if seed is not None:
            self._np_random, self._np_random_seed = seeding.np_random(seed)

    @property
    def physics(self):
        """dm_control's Physics of this task: read it, for rewards and evaluation."""
        return self._physics

    def simulator_state(self) -> np.ndarray:
        """Return positions and velocities (qpos, qvel), float64 (nq + nv,), for evaluation only."""
        return np.concatenate([self._physics.data.qpos, self._physics.data.qvel])

    def state_observation(self) -> dict[str, np.ndarray]:
        """Return dm_control's state observation of this task, for evaluation only."""
        return dict(self._task.get_observation(self._physics))

    def _state_vector(self) -> np.ndarray:
        """Return the state observation as one vector, float32 (P,)."""
        parts = [np.ravel(value) for value in self.state_observation().values()]
        return np.concatenate(parts).astype(np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._task.random.seed(int(self.np_random.integers(2**32)))
        if self.playing:
            self.playing.reset(self.np_random)
        self._environment.reset()
        if self._upright:
            starts.stand_upright(self._physics, self._task.random)
        if self.playing:
            self.playing.begin()
        self._frame, self._over, self._restarts = 0, False, False
        if self.background is not None:
            self.background.reset(self.np_random)
        if self.distraction is not None:
            self._begin_distraction(anew=seed is not None)
        self._observe()
        return self._observation.copy(), {
            "env_frames": 0,
            "discount": 1.0,
            "diverged": False,
        } | self._extras(0.0)

    def _begin_distraction(self, anew: bool) -> None:
        """Draw the distraction of an episode.

        Its generators have the seed of the environment and leave `np_random` alone, so that task
        and clips are the same with and without it.
        """
        if anew or not self.distraction.is_seeded:
            self.distraction.seed(max(self.np_random_seed, 0))
        self.distraction.reset()

    @property
    def snapshot(self) -> dict:
        """The whole state of a started episode, as nested plain values with arrays copied.

        Assigned to another such environment, the episode continues there. After the end of an
        episode the next step is a reset, since a vector environment (`AutoresetMode.NEXT_STEP`)
        would reset there too. Assignment raises ValueError for a snapshot of another version of
        MuJoCo.
        """
        simulator = self._snapshots.take()
        parts = {
            "simulator": simulator,
            "random": self.np_random.bit_generator.state,
            "frame": self._frame,
            "over": self._over,
        }
        parts["background"] = self.background.playback if self.background is not None else None
        if self.distraction is not None:
            parts["distraction"] = self.distraction.state
        return parts | {
            "game": self.playing.games.index(self.playing.game) if self.playing else None
        }

    @snapshot.setter
    def snapshot(self, taken: dict) -> None:
        self._snapshots.restore(taken["simulator"])
        self.np_random.bit_generator.state = taken["random"]
        self._frame, self._over, self._restarts = taken["frame"], taken["over"], taken["over"]
        if self.background is not None:
            self.background.continue_at(taken["background"], self.np_random)
        if self.distraction is not None:
            self.distraction.state = taken.get("distraction", {})
        if self.playing:
            self.playing.game = self.playing.games[taken["game"]]
        if not self._over:  # what a step that diverges gives again
            self._observe()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self._restarts:
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        control = self._to_control(action)
        action = np.clip(action, -1, 1)
        reward, discount, frames, signals = 0.0, None, 0, 0.0
        try:
            while (
                frames < self.action_repeat and self._frame < self.time_limit and discount is None
            ):
                self._frame += 1
                frames += 1
                reward += self._advance(control)
                signals = signals + self.signals.read(action) if self.signals else signals
                discount = self._task.get_termination(self._physics)
        except PhysicsError:
            info = {"env_frames": frames, "discount": 1.0, "diverged": True} | self._extras(signals)
            self._over = True
            return self._observation.copy(), reward, False, True, info
        terminated = discount == 0
        truncated = not terminated and (discount is not None or self._frame >= self.time_limit)
        self._over = terminated or truncated
        if self.background is not None:
            self.background.step()
        if self.distraction is not None:
            self.distraction.step(frames)
        self._observe()
        info = {
            "env_frames": frames,
            "discount": 1.0 if discount is None else float(discount),
            "diverged": False,
        }
        return self._observation.copy(), reward, terminated, truncated, info | self._extras(signals)

    def _extras(self, signals: np.ndarray | float) -> dict[str, np.ndarray]:
        """Return the fields of `info` that are stored, where there are any: the signals of a step,
        the descriptor of the game, the state observation, the frame of the clip.
        """
        extras = (
            {"signals": np.zeros(len(self.signals.names), np.float32) + signals}
            if self.signals
            else {}
        )
        if self.playing:
            extras["game"] = self.playing.descriptor
        if self._joined is not None:
            extras["proprioception"] = self._joined.copy()
        if self._clip is not None:
            extras["clip"] = self._clip.copy()
        return extras

    def _observe(self) -> None:
        """Take the current image, and where they are asked for state observation and clip."""
        self._observation = self._draw(self.renderer)
        if self._joined is not None:
            self._joined = self._state_vector()
        if self._clip is not None and self.background is not None:
            self._clip = self.background.frame()

    def render(self) -> np.ndarray | None:
        """Return the image (R, R, 3), uint8, with R = render_size: the observation, enlarged."""
        if self.render_mode is None:
            return None
        if self._render_size == self.renderer.size:
            return self._observation.copy()
        if self._large_renderer is None:
            self._large_renderer = Renderer(
                self._physics,
                self._render_size,
                self._camera,
                keep_floor=self._mask == "sky",
                coarse=False,
            )
        return self._draw(self._large_renderer)

    def close(self) -> None:
        for renderer in (self.renderer, self._large_renderer):
            if renderer is not None:
                renderer.close()

    def _to_control(self, action: np.ndarray) -> np.ndarray:
        action = np.asarray(action, np.float64)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise ValueError(
                f"an action is {self.action_space.shape} finite numbers in [-1, 1], not {action}"
            )
        return self._action_low + (np.clip(action, -1, 1) + 1) / 2 * self._action_range

    def _advance(self, control: np.ndarray) -> float:
        """Take one environment frame as dm_control does, without the unused state observation."""
        self._task.before_step(control, self._physics)
        self._physics.step(self._substeps)
        self._task.after_step(self._physics)
        return (
            self.playing.reward() if self.playing else float(self._task.get_reward(self._physics))
        )

    def _draw(self, renderer: Renderer) -> np.ndarray:
        return draw(renderer, self.background, self._mask, self.distraction)


def _check_arguments(
    task, size, action_repeat, background, mask, time_limit, render_mode, render_size, floor
) -> None:
    registry.check_dmc(task, video=background is not None, where="task")
    if mask not in MASKS:
        raise UserError(f"unknown mask {mask!r}", "mask", nearest(mask, MASKS))
    if floor not in FLOORS:
        raise UserError(f"unknown floor {floor!r}", "floor", nearest(floor, FLOORS))
    if render_mode not in (None, "rgb_array"):
        raise UserError(
            f"unknown render mode {render_mode!r}", "render_mode", "choose rgb_array or None"
        )
    for name, value, largest in (("size", size, 1024), ("render_size", render_size or size, 1024)):
        if not 8 <= value <= largest:
            raise UserError(f"{name} is {value}", name, f"choose 8 to {largest} pixels")
    for name, value in (("action_repeat", action_repeat), ("time_limit", time_limit)):
        if value < 1:
            raise UserError(f"{name} is {value}", name, "choose 1 or more environment frames")
    if background is not None and background.size != size:
        what = f"clips of {background.size} pixels behind observations of {size}"
        raise UserError(what, "background", "load the clips at the size of the observations")


def make(
    task: str,
    seed: int | None = None,
    size: int = 64,
    action_repeat: int = 2,
    background: Background | None = None,
    mask: str = "sky_and_floor",
    time_limit: int = 1000,
    **rendering,
) -> DMCEnv:
    """Return a DMCEnv; ``functools.partial(make, "walker-walk", ...)`` is a picklable factory."""
    return DMCEnv(task, seed, size, action_repeat, background, mask, time_limit, **rendering)
