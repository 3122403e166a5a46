"""Families of games: one body, many games, each with a descriptor that a policy's latent may depend
on.

A game is a task, a target speed, or a body with other masses, friction and motors. games.py applies
it to the simulator; this file holds numbers and names only. Source: MRA (arXiv 2108.12988), where a
family is a number of agents.

Shapes: M games of training, D descriptor.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foreground.envs import registry
from foreground.errors import UserError, nearest
from foreground.option import Rule, config_class, option

SPEEDS = (0.0, 10.0)  # m/s, the range of the family of speeds
ALIKE = ("walker", "hopper", "humanoid")  # domains whose tasks differ in their reward only
SCALES = ("mass", "friction", "gain")  # of all bodies, of all surfaces, of all motors


def _of(kind: str) -> Rule:
    """Return the rule of an option that only one kind of family reads."""
    return f"where --family.kind is {kind}", lambda family: family.kind == kind


@config_class
class FamilyConfig:
    kind: str = option(
        "none",
        "Games are tasks of one body, target speeds of a walker, or dynamics (mass, "
        "friction, motor gain).",
        choices=("none", "tasks", "speed", "dynamics"),
    )
    tasks: tuple[str, ...] = option(
        (), "tasks: the games, with commas between.", read_if=_of("tasks")
    )
    speeds: tuple[float, ...] = option(
        (0.0, 1.0, 8.0),
        "speed: speeds of training in m/s; 0, 1, 8 are stand, walk, run.",
        ge=0.0,
        read_if=_of("speed"),
    )
    heldout_speeds: tuple[float, ...] = option(
        (3.0,), "speed: held-out speeds.", ge=0.0, read_if=_of("speed")
    )
    num_games: int = option(
        6, "dynamics: number of training games.", ge=1, le=4096, read_if=_of("dynamics")
    )
    num_heldout_games: int = option(
        3, "dynamics: number of held-out games.", ge=0, le=4096, read_if=_of("dynamics")
    )
    low: float = option(
        0.75, "dynamics: the smallest factor in training.", gt=0.0, read_if=_of("dynamics")
    )
    high: float = option(
        1.5, "dynamics: the largest factor in training.", gt=0.0, read_if=_of("dynamics")
    )
    heldout_low: float = option(
        0.5,
        "dynamics: the smallest factor of all; held-out factors are below low or above high.",
        gt=0.0,
        read_if=_of("dynamics"),
    )
    heldout_high: float = option(
        2.0, "dynamics: the largest factor of all.", gt=0.0, read_if=_of("dynamics")
    )

    def __post_init__(self):
        if not self.heldout_low < self.low < self.high < self.heldout_high:
            what = (
                f"the factors {self.heldout_low}, {self.low}, {self.high}, {self.heldout_high} "
                "do not rise"
            )
            raise UserError(what, "family.low", "choose heldout_low < low < high < heldout_high")


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
    """A walker's target speed; the reward is dm_control's, with stand, walk and run at 0, 1 and 8
    m/s.
    """

    relabels = True

    def __init__(self, config: FamilyConfig, task: str):
        if registry.body_of(task) != "walker":
            raise UserError(
                f"the family of speeds is a walker's, not {task}'s",
                "family.kind",
                "choose a task of the walker",
            )
        if not config.speeds:
            raise UserError(
                "there is no game to train in", "family.speeds", "name speeds, like 0,1,8"
            )
        _check_once(
            (*config.speeds, *config.heldout_speeds), "family.speeds, family.heldout_speeds"
        )
        self.train = tuple(self._made(speed) for speed in config.speeds)
        self.heldout = tuple(self._made(speed) for speed in config.heldout_speeds)

    @staticmethod
    def _made(speed: float) -> Game:
        _check_range("speed", speed, *SPEEDS)
        return Game(f"speed={speed:g}", (float(np.log1p(speed) / np.log1p(SPEEDS[1])),), (speed,))

    def game(self, text: str) -> Game:
        return self._made(_numbers(text, ("speed",))["speed"])


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


FAMILIES = {"tasks": Tasks, "speed": Speeds, "dynamics": Dynamics}


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
    return FAMILIES[config.kind](config, task) if config.kind != "none" else None


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
