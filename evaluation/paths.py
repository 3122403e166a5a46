"""Where skills lead: the paths of the robot, their ends by skill, and the picture of both.

Shapes: K skills, R repeats, T steps, C condition, P places (x, or x and y).
"""

import numpy as np

from foreground.agents.skills import SkillConfig
from foreground.evaluation import charts, tiles
from foreground.evaluation.skills import SkillRecord

FAR = 0.5  # m, from which a path leads forward or backward


def paths_of(record: SkillRecord) -> np.ndarray | None:
    """Return the places (K, R, T + 1, P) in metres; None for a robot that cannot travel."""
    if record.body is None or not record.body.place:
        return None
    return record.state[..., list(record.body.place)]


def ends_of(paths: np.ndarray) -> np.ndarray:
    """Return the places at the end, from the starts: (K, R, T + 1, P) -> (K, R, P)."""
    return paths[:, :, -1] - paths[:, :, 0]


def measure(record: SkillRecord) -> dict[str, float]:
    """Return how far the skills lead, a mean over repeats each: least and most x at the end, the
    shares of skills that lead forward and backward, and the mean distance. Empty where the robot
    cannot travel.
    """
    paths = paths_of(record)
    if paths is None:
        return {}
    ends = ends_of(paths).mean(1)  # (K, P)
    x = ends[:, 0]
    return {
        "x_least": float(x.min()),
        "x_most": float(x.max()),
        "forward": float((x > FAR).mean()),
        "backward": float((x < -FAR).mean()),
        "distance": float(np.linalg.norm(ends, axis=-1).mean()),
    }


def goes_around(config: SkillConfig) -> bool:
    """Return whether skills are angles."""
    return config.kind == "sphere" and config.size == 2


def turns_of(skill: np.ndarray, config: SkillConfig) -> np.ndarray:
    """Return the place of each skill (K, C) on the circle of colours, as a share of a turn: (K,).

    It is the angle of skills on a circle. Others are in the order of their ids.
    """
    if goes_around(config):
        return np.arctan2(skill[:, 1], skill[:, 0]) / (2 * np.pi) % 1
    number = config.size if config.kind == "one_hot" else len(skill)
    return np.arange(len(skill)) % number / number


def picture(record: SkillRecord, config: SkillConfig, seconds: float, title: str) -> np.ndarray:
    """Return paths beside their ends by skill, as one image (H, W, 3).

    seconds   of a step
    """
    paths = paths_of(record)
    if paths is None:
        raise ValueError("there are no places to draw")
    turns = turns_of(record.skill, config)
    colours = tiles.colours_of(turns) / 255
    figure, (left, right) = charts.blank(title, 2, 4.4)
    (_over_time if paths.shape[-1] == 1 else _in_the_plane)(left, paths, colours, seconds)
    ends = ends_of(paths)
    if goes_around(config):
        _by_angle(right, ends, 360 * turns, colours)
    else:
        number = config.size if config.kind == "one_hot" else len(ends)
        _by_id(right, ends, np.arange(len(ends)) % number, colours)
    return charts.finished(figure)


def _over_time(axes, paths: np.ndarray, colours: np.ndarray, seconds: float) -> None:
    """Draw x from the start over time, a line for each repeat."""
    time = np.arange(paths.shape[2]) * seconds
    for skill, colour in zip(paths[..., 0], colours):
        for x in skill:
            axes.plot(time, x - x[0], color=colour, lw=0.9, alpha=0.8)
    axes.axhline(0, color="0.6", lw=0.8, zorder=0)
    charts.named(axes, "paths of all skills, coloured by skill", "seconds", "x from the start, m")


def _in_the_plane(axes, paths: np.ndarray, colours: np.ndarray, seconds: float) -> None:
    """Draw x and y from the start, a line for each repeat."""
    for skill, colour in zip(paths, colours):
        for path in skill - skill[:, :1]:
            axes.plot(*path.T, color=colour, lw=0.9, alpha=0.8)
    axes.plot(0, 0, "k+")
    axes.set_aspect("equal", adjustable="datalim")
    charts.named(
        axes, "paths of all skills, coloured by skill", "x from the start, m", "y from the start, m"
    )


def _by_angle(axes, ends: np.ndarray, angles: np.ndarray, colours: np.ndarray) -> None:
    """Draw x at the end over the angle of the skill: a dot for each repeat, a line of means."""
    order = np.argsort(angles)
    axes.plot(angles[order], ends[order, :, 0].mean(1), color="0.6", lw=1, zorder=1)
    for repeat in range(ends.shape[1]):
        axes.scatter(angles, ends[:, repeat, 0], c=colours, s=14, zorder=2)
    axes.axhline(0, color="0.6", lw=0.8, zorder=0)
    axes.set_xlim(0, 360)
    axes.set_xticks(range(0, 361, 90))
    charts.named(axes, "x at the end, by skill", "angle of the skill, degrees", "x, m")


def _by_id(axes, ends: np.ndarray, ids: np.ndarray, colours: np.ndarray) -> None:
    """Draw x at the end as a bar for each skill, a dot for each repeat."""
    for one in np.unique(ids):
        found = ends[ids == one, :, 0].ravel()
        axes.bar(one, found.mean(), color=colours[ids == one][0], width=0.8)
        axes.plot(np.full(len(found), one), found, ".", color="0.25", ms=3)
    axes.axhline(0, color="0.6", lw=0.8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    charts.named(axes, "x at the end, by skill", "id of the skill", "x, m")
