"""Where a robot is and how it holds itself, from the simulator: what coverage counts and goals are measured in.

Shapes: N any leading axes, S simulator numbers (qpos, qvel), P places (0 to 2), Q posture numbers (up to 4).
"""

from typing import NamedTuple

import mujoco
import numpy as np

PLACE_BIN, HEIGHT_BIN, ANGLE_BIN = 0.25, 0.1, 0.5  # m, m, rad
SLIDE, HINGE, FREE = (int(getattr(mujoco.mjtJoint, f"mjJNT_{kind}")) for kind in ("SLIDE", "HINGE", "FREE"))


class Body(NamedTuple):
    """Which simulator numbers are what."""

    place: tuple[int, ...]  # x, or x and y; empty for a robot that is fixed to its place
    height: int | None
    pitch: int | None  # the angle of the root in the plane
    quaternion: int | None  # where that of a free root begins
    joints: tuple[tuple[int, float], ...]  # the first joints after the root, with their bins: 2, or 4 without a root


def body(physics) -> Body:
    """Of a dm_control domain: by the names of planar roots (rootx, rootz, rooty), by a free joint, or neither."""
    model = physics.model
    names = [model.id2name(joint, "joint") for joint in range(model.njnt)]
    kinds, addresses = np.asarray(model.jnt_type), np.asarray(model.jnt_qposadr)
    where = {name: int(address) for name, address in zip(names, addresses)}
    free = [int(address) for kind, address in zip(kinds, addresses) if kind == FREE]
    inner = [
        (int(address), ANGLE_BIN if kind == HINGE else HEIGHT_BIN)
        for name, kind, address in zip(names, kinds, addresses)
        if kind in (SLIDE, HINGE) and not name.startswith("root")
    ]
    if "rootx" in where:
        return Body((where["rootx"],), where.get("rootz"), where.get("rooty"), None, tuple(inner[:2]))
    if free:
        root = free[0]
        return Body((root, root + 1), root + 2, None, root + 3, tuple(inner[:2]))
    return Body((), None, None, None, tuple(inner[:4]))


def in_bins(body: Body, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, S) -> place (N, P), posture (N, Q), each number in widths of its bin."""
    place = state[..., list(body.place)] / PLACE_BIN
    columns = []
    if body.height is not None:
        columns.append(state[..., body.height] / HEIGHT_BIN)
    if body.pitch is not None:
        columns.append(_wrapped(state[..., body.pitch]) / ANGLE_BIN)
    if body.quaternion is not None:
        w, x, y, z = np.moveaxis(state[..., body.quaternion : body.quaternion + 4], -1, 0)
        columns.append(np.arcsin(np.clip(2 * (w * y - z * x), -1, 1)) / ANGLE_BIN)
    columns += [state[..., index] / width for index, width in body.joints]
    return place, np.stack(columns, -1) if columns else state[..., :0]


def _wrapped(angle: np.ndarray) -> np.ndarray:
    """Into [-pi, pi): a robot that rolled over once is where it was."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def coverage(body: Body, state: np.ndarray) -> dict[str, float]:
    """Bins that were visited: of postures (height, pitch, joints), and of places where the robot can travel.

    Posture bins survive a hidden floor; places are only visible where something of the floor is.
    """
    place, posture = (_bins(x) for x in in_bins(body, state))
    row = {"postures": float(len(posture))}
    return row | ({"places": float(len(place))} if body.place else {})


def _bins(x: np.ndarray) -> np.ndarray:
    return np.unique(np.floor(x.reshape(-1, x.shape[-1])).astype(int), axis=0) if x.shape[-1] else np.zeros((0, 0))


def distance(body: Body, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """In bins, Euclidean over place and posture: (N, S), (N, S) -> (N,)."""
    ours, theirs = (np.concatenate(in_bins(body, x), -1) for x in (state, goal))
    difference = ours - theirs
    if body.pitch is not None:  # around the circle
        column = len(body.place) + (body.height is not None)
        difference[..., column] = _wrapped(difference[..., column] * ANGLE_BIN) / ANGLE_BIN
    return np.sqrt(np.square(difference).sum(-1))
