"""Signals for rewards besides the task's, read from the simulator at each frame: use and safety.

They are never an observation: an agent learns to predict them from its latent
(world_models/terms.py). Source: SLIM (Emukpere et al. 2024, arXiv 2402.00823) for reach and safety,
with domains of dm_control in place of its arm and table.
"""

from collections.abc import Callable

import mujoco
import numpy as np

from foreground.envs import SIGNALS
from foreground.errors import UserError, nearest

EXCESS = 0.05  # of half its range: excess beyond the (soft) limit at which a joint counts fully
SATURATION = 0.9  # size of an action beyond which a motor is saturated
CONTACT = 10.0  # contact force, in weights of the robot, that is too large; twice that counts fully


def _near(distance: float, scale: float) -> float:
    """Return 1 at the object, falling with the distance (m)."""
    return float(np.exp(-distance / scale))


def _between(physics, one: str, other: str) -> float:
    """Return the distance between two geoms in metres."""
    places = physics.named.data.geom_xpos
    return float(np.linalg.norm(places[one] - places[other]))


def _upright(physics) -> float:
    """Return the uprightness of the torso's z axis: 0 upside down, 1 upright."""
    return float(1 + physics.named.data.xmat["torso", "zz"]) / 2


def _standing(physics, height: float, stand: float) -> float:
    """Return the uprightness times the share of the standing height (m)."""
    return _upright(physics) * float(np.clip(height / stand, 0, 1))


# Domain -> (meaning of "use", its function, in [0, 1]): a reach where there is an object, otherwise
# a posture.
USES: dict[str, tuple[str, Callable]] = {
    "reacher": ("reach: finger to target", lambda p: _near(p.finger_to_target_dist(), 0.1)),
    "finger": (
        "reach: fingertip to the spinner's cap",
        lambda p: _near(_between(p, "fingertip", "cap1"), 0.1),
    ),
    "ball_in_cup": ("reach: ball to cup", lambda p: _near(np.linalg.norm(p.ball_to_target()), 0.2)),
    "manipulator": ("reach: grasp to ball", lambda p: _near(p.site_distance("grasp", "ball"), 0.2)),
    "point_mass": ("reach: mass to target", lambda p: _near(p.mass_to_target_dist(), 0.1)),
    "swimmer": ("reach: nose to target", lambda p: _near(p.nose_to_target_dist(), 0.5)),
    "fish": ("reach: mouth to target", lambda p: _near(np.linalg.norm(p.mouth_to_target()), 0.3)),
    "cartpole": (
        "uprightness: of the pole",
        lambda p: float(1 + np.mean(p.pole_angle_cosine())) / 2,
    ),
    "pendulum": ("uprightness: of the pole", lambda p: float(1 + p.pole_vertical()) / 2),
    "acrobot": ("uprightness: of both arms", lambda p: float(1 + np.mean(p.vertical())) / 2),
    "cheetah": ("uprightness: of the torso", _upright),
    "quadruped": ("uprightness: of the torso", _upright),
    "walker": (
        "uprightness and height: of the torso",
        lambda p: _standing(p, p.torso_height(), 1.2),
    ),
    "hopper": (
        "height: of the torso above the foot",
        lambda p: float(np.clip(p.height() / 0.6, 0, 1)),
    ),
    "humanoid": (
        "uprightness and height: of the head",
        lambda p: _standing(p, p.head_height(), 1.4),
    ),
}

# Domain -> whether the body has fallen: below half of its standing height, or on its back.
FALLS: dict[str, Callable] = {
    "walker": lambda p: p.torso_height() < 0.6,
    "hopper": lambda p: p.height() < 0.3,
    "humanoid": lambda p: p.head_height() < 0.7,
    "cheetah": lambda p: _upright(p) < 0.5,
    "quadruped": lambda p: _upright(p) < 0.5,
}


class Signals:
    """The named signals of one environment: `read` after each frame.

    use      in [0, 1]; `use_is` is its meaning in this domain
    safety   in [-1, 0]: minus the mean of four violations, each in [0, 1]: a fall, joints beyond
             their limits, saturated motors, contacts that are too hard

    Raises: UserError for an unknown signal, or a domain that has none.
    """

    def __init__(self, physics, domain: str, names: tuple[str, ...]):
        for name in names:
            if name not in SIGNALS:
                raise UserError(f"unknown signal {name!r}", "signals", nearest(name, SIGNALS))
        if domain not in USES:
            raise UserError(
                f"the domain {domain!r} has no signals",
                "signals",
                f"choose one of {', '.join(USES)}",
            )
        self._physics = physics
        self.names = names
        self.use_is, self._use = USES[domain]
        self._fallen = FALLS.get(domain, lambda physics: False)
        model = physics.model
        # Hinges and slides with a range: one number each in qpos.
        single = np.isin(
            model.jnt_type, (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
        )
        limited = single & (np.asarray(model.jnt_limited) > 0)
        self._places = np.asarray(model.jnt_qposadr)[limited]
        self._ranges = np.asarray(model.jnt_range)[limited]  # (J, 2)
        self._weight = float(np.asarray(model.body_mass).sum()) * 9.81

    def read(self, action: np.ndarray) -> np.ndarray:
        """Return the signals now, float32 (K,), in the order of their names.

        action   (A,) in [-1, 1], that led to this frame
        """
        values = {"use": lambda: self._use(self._physics), "safety": lambda: self.safety(action)}
        return np.array([values[name]() for name in self.names], np.float32)

    def safety(self, action: np.ndarray) -> float:
        """Return the safety, in [-1, 0]."""
        return -sum(self.violations(action).values()) / 4

    def violations(self, action: np.ndarray) -> dict[str, float]:
        """Return the violations, each in [0, 1]."""
        saturated = np.clip((np.abs(action) - SATURATION) / (1 - SATURATION), 0, 1)
        return {
            "fall": float(self._fallen(self._physics)),
            "limit": self._beyond_limits(),
            "saturation": float(np.mean(saturated)),
            "contact": float(np.clip(self.contact() / (CONTACT * self._weight) - 1, 0, 1)),
        }

    def _beyond_limits(self) -> float:
        """Return the mean over joints of how far each is beyond its limit.

        At the limit it is 0: a straight knee is at its limit.
        """
        if not len(self._places):
            return 0.0
        low, high = self._ranges.T
        along = 2 * (self._physics.data.qpos[self._places] - low) / (high - low) - 1
        return float(np.clip((np.abs(along) - 1) / EXCESS, 0, 1).mean())

    def contact(self) -> float:
        """Return the largest contact force in N.

        dm_control's step ends before forces are solved for: until then they are those of other
        contacts, or zero. They are solved here, and the solver's warm start is restored, so that
        the next step is unchanged.
        """
        force = np.zeros(6)
        largest = 0.0
        model = self._physics.model.ptr
        data = self._physics.data.ptr
        if not data.ncon:
            return 0.0
        warm = data.qacc_warmstart.copy()
        mujoco.mj_forwardSkip(model, data, mujoco.mjtStage.mjSTAGE_VEL, 1)
        data.qacc_warmstart[:] = warm
        for index in range(data.ncon):
            mujoco.mj_contactForce(model, data, index, force)
            largest = max(largest, float(np.linalg.norm(force[:3])))
        return largest
