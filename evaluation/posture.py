"""Place and posture of a robot, from the simulator: the bins of coverage, and distances of goals.

Shapes: N any leading axes, S simulator numbers (qpos, qvel), P places (0 to 2), Q posture numbers
(0 to 4).
"""

from typing import NamedTuple

import numpy as np

PLACE_BIN = 0.25  # m
HEIGHT_BIN = 0.1  # m
ANGLE_BIN = 0.5  # rad
FREE, SLIDE, HINGE = 0, 2, 3  # mjtJoint; MuJoCo itself is only imported with the first environment
X, Y, Z = range(3)


class Number(NamedTuple):
    """One posture number: its place among the simulator's, the width of its bin, whether it goes
    around in a circle.
    """

    address: int
    width: float
    turns: bool


class Body(NamedTuple):
    """Which simulator numbers are what."""

    place: tuple[int, ...]  # x, or x and y; empty for a robot that is fixed to its place
    posture: tuple[Number, ...]  # height and angle of the root, then joints
    # Where that of a free root begins; its pitch is one more posture number.
    quaternion: int | None = None


def body(physics) -> Body:
    """Of a dm_control domain: a free root, a root of slides (planar robots), or none; then the
    first joints.

    Two joints and a root, or four joints without one.
    """
    model = physics.model
    joints = range(model.njnt)
    root_body = int(model.jnt_bodyid[0])
    of_root = [joint for joint in joints if int(model.jnt_bodyid[joint]) == root_body]
    slides = [joint for joint in of_root if int(model.jnt_type[joint]) == SLIDE]
    if int(model.jnt_type[0]) == FREE:
        root = int(model.jnt_qposadr[0])
        return Body(
            (root, root + 1),
            (Number(root + 2, HEIGHT_BIN, False), *_joints(model, joints[1:])[:2]),
            root + 3,
        )
    if len(slides) < 2:
        return Body((), tuple(_joints(model, joints)[:4]))
    along = {
        int(np.abs(model.jnt_axis[joint]).argmax()): int(model.jnt_qposadr[joint])
        for joint in slides
    }
    place = tuple(along[axis] for axis in (X, Y) if axis in along)
    height = [Number(along[Z], HEIGHT_BIN, False)] if Z in along else []
    angle = _joints(model, [joint for joint in of_root if joint not in slides])
    return Body(
        place,
        (*height, *angle, *_joints(model, [joint for joint in joints if joint not in of_root])[:2]),
    )


def _joints(model, joints) -> list[Number]:
    """Return slides and hinges as posture numbers; a hinge without limits turns."""
    found = []
    for joint in joints:
        kind = int(model.jnt_type[joint])
        address = int(model.jnt_qposadr[joint])
        if kind == SLIDE:
            found.append(Number(address, HEIGHT_BIN, False))
        elif kind == HINGE:
            found.append(Number(address, ANGLE_BIN, not model.jnt_limited[joint]))
    return found


def in_bins(body: Body, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return place (N, P) and posture (N, Q) of (N, S), in widths of their bins; turning numbers
    are within a turn.
    """
    place = state[..., list(body.place)] / PLACE_BIN
    columns = []
    for number in body.posture:
        value = state[..., number.address]
        columns.append((_within_a_turn(value) if number.turns else value) / number.width)
    if body.quaternion is not None:
        w, x, y, z = np.moveaxis(state[..., body.quaternion : body.quaternion + 4], -1, 0)
        columns.append(np.arcsin(np.clip(2 * (w * y - z * x), -1, 1)) / ANGLE_BIN)
    return place, np.stack(columns, -1) if columns else state[..., :0]


def _within_a_turn(angle: np.ndarray) -> np.ndarray:
    """Return angles in [-pi, pi): a robot that rolled over once has its old angle."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def coverage(body: Body, state: np.ndarray) -> dict[str, float]:
    """Return the visited bins: of postures, and of places where the robot can travel.

    Posture bins do not need a visible floor; places are visible only where part of the floor is.
    """
    bins = {"places": in_bins(body, state)[0], "postures": in_bins(body, state)[1]}
    return {name: float(_number_of_bins(x)) for name, x in bins.items() if x.shape[-1]}


def _number_of_bins(x: np.ndarray) -> int:
    return len(np.unique(np.floor(x.reshape(-1, x.shape[-1])).astype(int), axis=0))


def distance(body: Body, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance in bins over place and posture, the short way around: (N, S),
    (..., N, S) -> (..., N).
    """
    (place, posture), (goal_place, goal_posture) = in_bins(body, state), in_bins(body, goal)
    difference = posture - goal_posture
    for column, number in enumerate(body.posture):
        if number.turns:
            difference[..., column] = (
                _within_a_turn(difference[..., column] * number.width) / number.width
            )
    return np.sqrt(np.square(np.concatenate([place - goal_place, difference], -1)).sum(-1))
