"""The camera's pose as a distraction, at the scales of the Distracting Control Suite.

The camera moves on a sphere around the robot, comes nearer or goes away, rolls, and keeps looking
at the same point. Angles and radius are drawn at each reset; a dynamic camera follows a random
walk of its velocity (arXiv 2101.02722).
"""

import math

import numpy as np

# Factors of the scale, from the code that comes with the paper (suite_utils.py): radians, shares of
# the radius, and metres or radians per environment frame.
ANGLE = math.pi / 2  # largest change of azimuth, polar angle and roll
NEARER, FARTHER = 0.5, 1.5
SPEED, SPEED_CHANGE = 0.4, 0.1  # largest speed; standard deviation of its change
ROLL_SPEED, ROLL_CHANGE = math.pi / 50, math.pi / 300
USUAL_RADIUS = 4.0  # speeds are in proportion to the camera's distance, and meant for this one
FROM_ABOVE = 0.2  # polar angle in radians below which a camera looks straight down

FIXED = 0  # mjCAMLIGHT_FIXED


class CameraPose:
    """Moves the camera of one simulation.

    A camera that follows the robot moves around its centre of mass, any other one around the
    origin. It never sinks below the height of that centre, unless it looks straight down.
    """

    def __init__(self, model, data, camera: int, scale: float, dynamic: bool):
        self._data, self._camera, self._scale, self._dynamic = data, camera, scale, dynamic
        self.written: tuple[np.ndarray, ...] = (data.cam_xpos[camera], data.cam_xmat[camera])
        body = int(model.cam_bodyid[camera])
        follows = model.cam_mode[camera] != FIXED or body != 0
        self._followed = max(body, 1) if follows else None
        self.values = {
            "start": np.zeros(3),  # radius, azimuth, polar angle without the distraction
            "look": np.zeros(3),  # the point that a camera looks at that follows nothing
            "at": np.zeros(3),  # radius, azimuth, polar angle
            "velocity": np.zeros(3),
            "roll": np.zeros(2),  # angle and velocity
        }

    def reset(self, random: np.random.Generator) -> None:
        values = self.values
        values["start"][:] = spherical(self._position() - self._centre())
        values["look"][:] = self._look()
        values["at"][:] = random.uniform(*self.limits())
        direction = random.standard_normal(3)
        speed = random.uniform(0, SPEED) * self._scale * self._slowness()
        values["velocity"][:] = direction / np.linalg.norm(direction) * speed
        values["roll"][:] = random.uniform(-1, 1, 2) * self._scale * (ANGLE, ROLL_SPEED)

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and the largest radius, azimuth and polar angle."""
        radius, azimuth, polar = self.values["start"]
        scale, turn = self._scale, ANGLE * self._scale
        low = np.array([radius * (1 - NEARER * scale), azimuth - turn, polar - turn])
        high = np.array([radius * (1 + FARTHER * scale), azimuth + turn, polar + turn])
        if polar >= FROM_ABOVE:
            low[2], high[2] = max(low[2], 0.0), min(high[2], max(polar, math.pi / 2))
        return low, high

    def step(self, random: np.random.Generator, frames: int) -> None:
        if self._dynamic:
            limits = self.limits()
            for _ in range(frames):
                self._walk(random, *limits)

    def _walk(self, random: np.random.Generator, low: np.ndarray, high: np.ndarray) -> None:
        """Change the velocities, and move by them within the limits, for one environment frame."""
        at, velocity, roll = (self.values[name] for name in ("at", "velocity", "roll"))
        scale, slow = self._scale, self._slowness()
        change = random.standard_normal(4)
        velocity += change[:3] * (SPEED_CHANGE * scale * slow)
        speed, fastest = math.sqrt(velocity @ velocity), SPEED * scale * slow
        if speed > fastest:
            velocity *= fastest / speed
        before = cartesian(at)
        at[:] = np.minimum(np.maximum(spherical(before + velocity, near=at), low), high)
        velocity[:] = cartesian(at) - before
        fastest, widest = ROLL_SPEED * scale, ANGLE * scale
        turning = min(max(roll[1] + change[3] * ROLL_CHANGE * scale, -fastest), fastest)
        angle = min(max(roll[0] + turning, -widest), widest)
        roll[:] = angle, angle - roll[0]

    def apply(self, renderer) -> None:
        position, axes = self.pose()
        self.written[0][:] = position
        self.written[1][:] = axes.ravel()

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Return position (3,) and axes (3, 3), the columns right, up and backwards, for the
        current state of the simulation, whose camera is where the task has it.
        """
        look = self.values["look"] if self._followed is None else self._look()
        position = self._centre() + cartesian(self.values["at"])
        above = self.values["start"][2] < FROM_ABOVE
        up = self._axes()[:, 1] if above else np.array([0.0, 0.0, 1.0])
        return position, rolled(looking(look - position, up), self.values["roll"][0])

    def _position(self) -> np.ndarray:
        return self._data.cam_xpos[self._camera].copy()

    def _axes(self) -> np.ndarray:
        return self._data.cam_xmat[self._camera].reshape(3, 3).copy()

    def _centre(self) -> np.ndarray:
        """Return what the camera moves around."""
        if self._followed is None:
            return np.zeros(3)
        return self._data.subtree_com[self._followed].copy()

    def _look(self) -> np.ndarray:
        """Return the point in the middle of the task's image, as far away as the robot is."""
        position = self._position()
        distance = np.linalg.norm(position - self._data.subtree_com[self._followed or 1])
        return position - self._axes()[:, 2] * distance

    def _slowness(self) -> float:
        return self.values["start"][0] / USUAL_RADIUS


def cartesian(at: np.ndarray) -> np.ndarray:
    """Return (x, y, z) of radius, azimuth and polar angle."""
    radius, azimuth, polar = at.tolist()
    flat = radius * math.sin(polar)
    return np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), radius * math.cos(polar)])


def spherical(position: np.ndarray, near: np.ndarray | None = None) -> np.ndarray:
    """Return radius, azimuth and polar angle of (x, y, z).

    A point has several pairs of angles. Return those nearest to `near`, so that a path over the
    pole or the back is no jump.
    """
    x, y, z = position.tolist()
    flat = math.hypot(x, y)
    radius, azimuth, polar = math.hypot(flat, z), math.atan2(y, x), math.atan2(flat, z)
    if near is None:
        return np.array([radius, azimuth, polar])
    pairs = [(azimuth, polar), (azimuth + math.pi, -polar)]
    turns = [round((near[1] - angle) / (2 * math.pi)) for angle, _ in pairs]
    pairs = [(angle + 2 * math.pi * turn, high) for (angle, high), turn in zip(pairs, turns)]
    nearest = min(pairs, key=lambda pair: abs(pair[0] - near[1]) + abs(pair[1] - near[2]))
    return np.array([radius, *nearest])


def looking(direction: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return the axes (3, 3) of a camera that looks along a direction, its top towards `up`."""
    backwards = _unit((-direction).tolist())
    right = _unit(_cross(up.tolist(), backwards))
    return np.array([right, _cross(backwards, right), backwards]).T


def _cross(a: list[float], b: list[float]) -> list[float]:
    """Return the cross product, for three numbers faster than NumPy's."""
    return [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]


def _unit(a: list[float]) -> list[float]:
    length = math.hypot(*a)
    return [number / length for number in a]


def rolled(axes: np.ndarray, angle: float) -> np.ndarray:
    """Return the axes of a camera that is turned about its line of sight."""
    cos, sin = math.cos(angle), math.sin(angle)
    return axes @ np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
