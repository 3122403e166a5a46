"""Where an episode starts, other than where dm_control starts it.

dm_control drops the quadruped in a random orientation. It nearly always ends on its back, and short
skills then go nowhere. METRA (arXiv 2310.08887) always starts it upright.
"""

import numpy as np

from foreground.envs.simulator import suite
from foreground.envs.tasks import ANY_WAY_UP
from foreground.errors import UserError, nearest

STARTS = ("own", "upright")
TILT = 0.02  # standard deviation of the quaternion's components, METRA's


def check(start: str, task: str) -> None:
    """Raise UserError for an unknown start, or one that the task does not have."""
    if start not in STARTS:
        raise UserError(f"unknown start {start!r}", "start", nearest(start, STARTS))
    if start == "upright" and task not in ANY_WAY_UP:
        what = f"{task} draws no orientation of the robot"
        raise UserError(what, "start", f"choose own, or one of {', '.join(ANY_WAY_UP)}")


def stand_upright(physics, random: np.random.RandomState) -> None:
    """Put the quadruped on its feet at the origin, right above the floor and at rest."""
    orientation = np.array([1.0, 0.0, 0.0, 0.0]) + TILT * random.randn(4)
    orientation /= np.linalg.norm(orientation)
    suite.quadruped._find_non_contacting_height(physics, orientation)
