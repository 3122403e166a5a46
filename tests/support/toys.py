"""Small environments of Gymnasium with known images, actions and ends, for tests."""

from types import SimpleNamespace

import gymnasium
import numpy as np

SIDE = 32


class Countdown(gymnasium.Env):
    """A bar that is one step shorter after each step, whatever is done; at 0 the episode ends in a
    terminal state.

    Each step is worth 1, so that a state with k steps left has the value (1 - discount^k) / (1 -
    discount).
    """

    observation_space = gymnasium.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    longest = 6

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, self.longest + 1))
        return picture(self.left), {}

    def step(self, action):
        self.left -= 1
        return picture(self.left), 1.0, self.left == 0, False, {}


def picture(left: int) -> np.ndarray:
    """A bar of as many fields as there are steps left; grey where there is none."""
    image = np.full((SIDE, SIDE, 3), 60, np.uint8)
    if left == 0:
        image[:] = (20, 20, 160)
    image[8:24, : left * 5] = (240, 200, 40)
    return image


class Kept(Countdown):
    """The same with a snapshot."""

    @property
    def snapshot(self) -> dict:
        return {"left": self.left, "random": self.np_random.bit_generator.state}

    @snapshot.setter
    def snapshot(self, taken: dict) -> None:
        self.left = taken["left"]
        self.np_random.bit_generator.state = taken["random"]


class Plane(gymnasium.Env):
    """A point of two coordinates with numbers as observation; it is seen by `render()`. It never
    terminates.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(
        np.array([0.0, -10.0]), np.array([2.0, 30.0]), dtype=np.float64
    )

    def __init__(self, render_mode=None, colour: float = 1.0, height: int = 40):
        self.render_mode, self.colour, self.height = render_mode, colour, height

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.taken, self.place = [], self.np_random.uniform(0, 1, 2)
        return self.place, {}

    def step(self, action):
        self.taken.append(np.array(action))
        self.place = np.clip(self.place + action / 100, 0, 1)
        return self.place, float(action[0]), False, False, {}

    def render(self):
        image = np.zeros((self.height, 60, 3), np.uint8)
        row, column = (self.place * (np.array(image.shape[:2]) - 8)).astype(int)
        image[row : row + 8, column : column + 8] = int(255 * self.colour)
        return image


class Grey(Countdown):
    """Pictures of one channel, first."""

    observation_space = gymnasium.spaces.Box(0, 255, (1, 20, 28), np.uint8)

    def reset(self, **options):
        return self._grey(super().reset(**options)[0]), {}

    def step(self, action):
        image, *rest = super().step(action)
        return self._grey(image), *rest

    @staticmethod
    def _grey(image: np.ndarray) -> np.ndarray:
        return image[None, :20, :28, 0]


class Buttons(Countdown):
    """Discrete actions."""

    action_space = gymnasium.spaces.Discrete(3)


class Unbounded(Countdown):
    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Blind(Countdown):
    """Numbers alone, and nothing to see."""

    observation_space = gymnasium.spaces.Box(0, 1, (3,), np.float32)


SWING = """
<mujoco>
  <asset><texture type="skybox" builtin="flat" rgb1="0.2 0.4 0.9" width="8" height="8"/></asset>
  <worldbody>
    <camera name="track" pos="0 -2 1" xyaxes="1 0 0 0 0 1"/>
    <light pos="0 -2 3"/>
    <geom type="plane" size="5 5 0.1" rgba="0.3 0.6 0.3 1"/>
    <body pos="0 0 1.3">
      <joint name="hinge" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.8" size="0.1" rgba="0.9 0.3 0.2 1"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge"/></actuator>
</mujoco>
"""


class Swing(Plane):
    """A MuJoCo model with the attributes that Gymnasium's own environments have; `render()` shows
    it in one colour.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float64)

    def __init__(self, render_mode=None, camera: int = 0):
        super().__init__(render_mode)
        import mujoco

        self.step_of = mujoco.mj_step
        self.model = mujoco.MjModel.from_xml_string(SWING)
        self.data = mujoco.MjData(self.model)
        above = {"distance": 4.0, "lookat": np.array([0.0, 0.0, 1.0]), "elevation": -90.0}
        self.mujoco_renderer = SimpleNamespace(camera_id=camera, default_cam_config=above)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.data.qpos[:], self.data.qvel[:] = self.np_random.uniform(-1, 1), 0
        self.step_of(self.model, self.data)
        return np.concatenate([self.data.qpos, self.data.qvel]), {}

    def step(self, action):
        self.data.ctrl[:] = action
        self.step_of(self.model, self.data)
        return np.concatenate([self.data.qpos, self.data.qvel]), 0.0, False, False, {}


for _kind in (Countdown, Kept, Grey, Buttons, Unbounded, Blind):
    gymnasium.register(f"toys/{_kind.__name__}-v0", entry_point=_kind)
gymnasium.register("toys/Swing-v0", entry_point=Swing, max_episode_steps=50)
gymnasium.register("toys/Plane-v0", entry_point=Plane, max_episode_steps=7)
gymnasium.register("toys/Endless-v0", entry_point=Plane)
