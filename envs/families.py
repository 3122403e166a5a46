"""Families of games: one body, many games, each with a descriptor that a policy's latent may depend
on.

A game is a task, a target speed, a direction, a hidden target, or a body with other masses,
friction and motors. games.py applies it to the simulator; this file holds numbers and names only.
Source: MRA (arXiv 2108.12988), where a family is a number of agents.

Shapes: M games of training, D descriptor.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foreground.envs import registry
from foreground.envs.family_options import FamilyConfig
from foreground.errors import UserError, nearest

SPEEDS = (-10.0, 10.0)  # m/s, the range of the family of speeds
RUN = {"walker": 8.0, "cheetah": 10.0}  # m/s at which dm_control's run pays all
WALK = 1.0  # the same of a walker's walk
RING = 0.15  # m, distance of a reacher's targets from its root
REACH = 0.2  # m, the largest distance of a target, as in dm_control
ALIKE = ("walker", "hopper", "humanoid")  # domains whose tasks differ in their reward only
SCALES = ("mass", "friction", "gain")  # of all bodies, of all surfaces, of all motors


@dataclass(frozen=True)
class Game:
    """A member of a family: a name, its descriptor of D numbers, and values for the simulator."""

    name: str
    descriptor: tuple[float, ...]
    values: tuple[float, ...] = ()


class Family(Protocol):
    """Games of training, held-out games, and games by name.

    relabels   whether games share their physics, so that every step has a reward in each of them
    """

    train: tuple[Game, ...]
    heldout: tuple[Game, ...]
    relabels: bool

    def game(self, text: str) -> Game: ...


class Tasks:
    """Tasks of one domain; descriptors are one-hot, so that none can be held out."""

    relabels = True

    def __init__(self, config: FamilyConfig, task: str):
        if len(config.tasks) < 2:
            raise UserError(
                "a family of tasks has two or more", "family.tasks", "name them with commas between"
            )
        names = tuple(map(registry.canonical, config.tasks))
        bodies = {registry.body_of(name) for name in (*names, task)}
        if len(bodies) > 1:
            what = f"the games have different bodies: {', '.join(sorted(bodies))}"
            raise UserError(what, "family.tasks", "choose tasks of one body, that of --task")
        for name in names:
            registry.check_dmc(name, video=False, where="family.tasks")
        if not bodies <= set(ALIKE):
            what = (
                f"tasks of {bodies.pop()} differ in more than their reward: start, physics or "
                "number of actions"
            )
            raise UserError(what, "family.tasks", f"choose tasks of one of {', '.join(ALIKE)}")
        _check_once(names, "family.tasks")
        eye = np.eye(len(names)).tolist()
        self.train = tuple(Game(name, tuple(row)) for name, row in zip(names, eye))
        self.heldout: tuple[Game, ...] = ()

    def game(self, text: str) -> Game:
        return _named(
            text, self.train, "choose one of the tasks of training: a one-hot describes no other"
        )


class Speeds:
    """Target speeds of a walker or cheetah, below 0 backward.

    The reward is dm_control's: a walker's stand, walk and run are 0, 1 and 8 m/s.
    """

    relabels = True

    def __init__(self, config: FamilyConfig, task: str):
        self.body = _body_of(task, tuple(RUN), "speeds")
        self.exact = config.exact
        if not config.speeds:
            raise UserError(
                "there is no game to train in", "family.speeds", "name speeds, like 0,1,8"
            )
        speeds = (*config.speeds, *config.heldout_speeds)
        _check_once(speeds, "family.speeds, family.heldout_speeds")
        self.train = tuple(self._made(speed) for speed in config.speeds)
        self.heldout = tuple(self._made(speed) for speed in config.heldout_speeds)

    def _made(self, speed: float) -> Game:
        _check_range("speed", speed, *SPEEDS)
        if not speed and self.body == "cheetah" and not self.exact:
            what = "at a speed of 0 a cheetah is paid for whatever it does"
            raise UserError(what, "family.speeds", "name others, like -5,5, or --family.exact true")
        share = float(np.copysign(np.log1p(abs(speed)) / np.log1p(SPEEDS[1]), speed))
        return Game(f"speed={speed:g}", (share,), (speed,))

    def game(self, text: str) -> Game:
        return self._made(_numbers(text, ("speed",))["speed"])


class Directions:
    """Moving forward and backward; the values are speeds. The reward is that of dm_control's run,
    and on walker-walk that of its walk.

    Standing pays a walker a sixth in both games. A walk is learned long before a run, so that it
    soon pays more. No behaviour is good in both games, and no picture tells which one is played.
    """

    relabels = True
    exact = False

    def __init__(self, config: FamilyConfig, task: str):
        run = RUN[_body_of(task, tuple(RUN), "directions")]
        speed = WALK if registry.canonical(task) == "walker-walk" else run
        self.train: tuple[Game, ...] = (
            Game("forward", (1.0,), (speed,)),
            Game("backward", (-1.0,), (-speed,)),
        )
        self.heldout: tuple[Game, ...] = ()

    def game(self, text: str) -> Game:
        return _named(text, self.train, "choose one of the directions")


class Targets:
    """Places that a reacher's finger is to be at, which the image does not show.

    The targets of training are spread evenly over a circle, the held-out ones lie between them.
    """

    relabels = True

    def __init__(self, config: FamilyConfig, task: str):
        _body_of(task, ("reacher",), "targets")
        number = config.num_games
        self.train = tuple(self._at(index / number) for index in range(number))
        gaps = np.arange(config.num_heldout_games) * number // max(config.num_heldout_games, 1)
        self.heldout = tuple(
            self._at((gap + (place + 1) / (count + 1)) / number)
            for gap, count in Counter(gaps.tolist()).items()
            for place in range(count)
        )

    def _at(self, turn: float) -> Game:
        """Return the game with a target on the circle, by its share of a turn."""
        angle = 2 * np.pi * turn
        return self._made(RING * np.cos(angle), RING * np.sin(angle))

    @staticmethod
    def _made(x: float, y: float) -> Game:
        x, y = (round(float(value), 3) + 0.0 for value in (x, y))  # no -0
        _check_range("the target's distance", float(np.hypot(x, y)), 0.0, REACH)
        return Game(f"x={x:g},y={y:g}", (x / REACH, y / REACH), (x, y))

    def game(self, text: str) -> Game:
        given = _numbers(text, ("x", "y"))
        return self._made(given.get("x", 0.0), given.get("y", 0.0))


class Dynamics:
    """Factors on mass, friction and motor gain, log-uniform; held-out ones are outside the training
    range.
    """

    relabels = False

    def __init__(self, config: FamilyConfig, task: str):
        from scipy.stats import qmc  # a slow import that few runs need

        self.config = config
        # (M, 3), the same for every seed.
        shares = qmc.LatinHypercube(len(SCALES), seed=0).random(config.num_games)
        low, high = np.log(config.low), np.log(config.high)
        self.train = tuple(self._made(np.exp(low + (high - low) * row)) for row in shares)
        shares = qmc.LatinHypercube(len(SCALES), seed=1).random(config.num_heldout_games)
        below = np.log(config.low) - np.log(config.heldout_low)
        above = np.log(config.heldout_high) - np.log(config.high)
        outside = shares * (below + above)
        rows = np.where(
            outside < below,
            np.log(config.heldout_low) + outside,
            np.log(config.high) + outside - below,
        )
        self.heldout = tuple(self._made(np.exp(row)) for row in rows)

    def _made(self, values: np.ndarray) -> Game:
        values = np.round(values, 3)
        low, high = self.config.heldout_low, self.config.heldout_high
        for name, value in zip(SCALES, values):
            _check_range(name, value, low, high)
        name = ",".join(f"{scale}={value:g}" for scale, value in zip(SCALES, values))
        middle, half = np.log(low * high) / 2, np.log(high / low) / 2
        return Game(
            name, tuple(((np.log(values) - middle) / half).tolist()), tuple(values.tolist())
        )

    def game(self, text: str) -> Game:
        given = _numbers(text, SCALES)
        return self._made(np.array([given.get(name, 1.0) for name in SCALES]))


FAMILIES = {
    "tasks": Tasks,
    "speed": Speeds,
    "direction": Directions,
    "target": Targets,
    "dynamics": Dynamics,
}


def make_family(config: FamilyConfig, task: str) -> Family | None:
    """Return the family of a run's task; None where there is one game.

    Raises: UserError when the task does not belong to it.
    """
    if config.kind != "none" and registry.is_gymnasium(task):
        raise UserError(
            f"{task} has no family of games",
            "family.kind",
            "leave it out, or choose a task of dm_control's suite",
        )
    if config.kind == "none":
        return None
    family: Family = FAMILIES[config.kind](config, task)
    if config.only:
        family.train, family.heldout = (family.game(config.only),), ()
    return family


def _body_of(task: str, bodies: tuple[str, ...], games: str) -> str:
    """Return the body of a task.

    Raises: UserError when it is none of those that the games are for.
    """
    body = registry.body_of(task)
    if body not in bodies:
        names = " or ".join(bodies)
        what = f"the family of {games} is for the {names}, not for {task}"
        raise UserError(what, "family.kind", f"choose a task of the {names}")
    return body


def _named(text: str, games: tuple[Game, ...], remedy: str) -> Game:
    for game in games:
        if game.name == text:
            return game
    raise UserError(
        f"there is no game {text!r}", "game", f"{remedy} ({', '.join(game.name for game in games)})"
    )


def _numbers(text: str, names: tuple[str, ...]) -> dict[str, float]:
    """Return the numbers of a text such as "mass=0.6,gain=1.2".

    Raises: UserError for other names, or values that are not numbers.
    """
    given = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name in given:
            raise UserError(f"{name} is given twice", f"game {text}", "give it once")
        if name not in names:
            raise UserError(f"a game of this family has no {name!r}", "game", nearest(name, names))
        try:
            given[name] = float(value)
        except ValueError:
            raise UserError(
                f"{value!r} is not a number", f"game {text}", f"write {name}=1.0"
            ) from None
    return given


def _check_once(values: Iterable, where: str) -> None:
    for value, number in Counter(values).items():
        if number > 1:
            raise UserError(f"{value} is named {number} times", where, "name each game once")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(
            f"{name} {value:g} is outside of the family's range",
            "game",
            f"choose {low:g} to {high:g}",
        )
