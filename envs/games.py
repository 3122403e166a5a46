"""A game of a family in one environment: drawn at each reset, applied to the simulator, its reward
computed.

Shapes: M games, D descriptor.
"""

import functools
from typing import Any, Protocol

import numpy as np

from foreground.envs.families import Directions, Dynamics, Family, Game, Speeds, Targets, Tasks
from foreground.envs.simulator import mujoco, suite


class Rules(Protocol):
    """What games of one kind change in the simulator, and what they pay."""

    def apply(self, game: Game) -> None:
        """Change the model, before the physics is reset."""

    def begin(self) -> None:
        """Change what the reset has set."""

    def reward(self, game: Game) -> float:
        """Return the reward of this frame."""


class Playing:
    """The games of one environment; call `reset` before each reset of the physics and `begin`
    after it, `reward` and `read` after each frame.

    names   of the M numbers of `read`: the reward in every training game, where games share their
            physics
    """

    def __init__(self, family: Family, games: tuple[Game, ...], environment, domain: str):
        self.family = family
        self.games = games
        self.game = games[0]
        self.names = tuple(game.name for game in family.train) if family.relabels else ()
        self._rules: Rules = RULES[type(family)](family, environment, domain)

    @property
    def descriptor(self) -> np.ndarray:
        """The descriptor of the current game, float32 (D,)."""
        return np.array(self.game.descriptor, np.float32)

    def reset(self, random: np.random.Generator) -> None:
        """Draw a game and apply it to the simulator."""
        self.game = self.games[int(random.integers(len(self.games)))]
        self._rules.apply(self.game)

    def begin(self) -> None:
        """Change what the reset of the physics has set."""
        self._rules.begin()

    def reward(self) -> float:
        """Return the reward of this frame in the current game."""
        return float(self._rules.reward(self.game))

    def read(self, action: np.ndarray) -> np.ndarray:
        """Return the reward of this frame in every training game, float32 (M,)."""
        return np.array([self._rules.reward(game) for game in self.family.train], np.float32)


class TaskRules:
    """The rewards of dm_control's tasks of one domain."""

    def __init__(self, family: Tasks, environment, domain: str):
        self._physics = environment.physics
        self._task = functools.cache(lambda name: suite.load(domain, name).task)

    def apply(self, game: Game) -> None:
        """Change nothing: the tasks have the same physics."""

    def begin(self) -> None:
        """Change nothing."""

    def reward(self, game: Game) -> float:
        return self._task(game.name.partition("-")[2]).get_reward(self._physics)


def share_of_speed(velocity: float, speed: float, exact: bool) -> float:
    """Return how much of a target speed a velocity is, in [0, 1], linear as in dm_control.

    exact   whether it falls beyond the target as it rises before it
    """
    short = velocity - speed if speed < 0 else speed - velocity
    short = abs(short) if exact else max(short, 0.0)
    if not exact and not speed:
        return 1.0
    return max(1 - short / (abs(speed) or 1.0), 0.0)


class SpeedRules:
    """dm_control's rewards of a walker or cheetah with a target speed on either side of zero."""

    def __init__(self, family: Speeds | Directions, environment, domain: str):
        self._physics = environment.physics
        self._exact = family.exact
        self._stand = suite.walker.PlanarWalker(move_speed=0) if domain == "walker" else None

    def apply(self, game: Game) -> None:
        """Change nothing: the speeds have the same physics."""

    def begin(self) -> None:
        """Change nothing."""

    def reward(self, game: Game) -> float:
        (speed,) = game.values
        physics = self._physics
        if self._stand is None:
            return share_of_speed(physics.speed(), speed, self._exact)
        stands = self._stand.get_reward(physics)
        moves = share_of_speed(physics.horizontal_velocity(), speed, self._exact)
        return stands * (5 * moves + 1) / 6


class TargetRules:
    """A reacher's targets: dm_control's reward, 1 where the finger touches the target.

    dm_control's own target is invisible and at the root, where its place tells nothing.
    """

    def __init__(self, family: Targets, environment, domain: str):
        self._physics: Any = environment.physics
        self._physics.named.model.geom_rgba["target", 3] = 0

    def apply(self, game: Game) -> None:
        """Change nothing: a target is in the reward alone."""

    def begin(self) -> None:
        self._physics.named.model.geom_pos["target", :2] = 0
        self._physics.forward()

    def reward(self, game: Game) -> float:
        finger = self._physics.named.data.geom_xpos["finger", :2]
        radii = self._physics.named.model.geom_size[["target", "finger"], 0].sum()
        return float(np.linalg.norm(finger - np.array(game.values)) <= radii)


class DynamicsRules:
    """Factors on masses, frictions and motors; the reward is the task's own."""

    FIELDS = (
        "body_mass",
        "body_inertia",
        "geom_friction",
        "actuator_gainprm",
        "actuator_biasprm",
    )

    def __init__(self, family: Dynamics, environment, domain: str):
        self._physics = environment.physics
        self._task = environment.task
        model = self._physics.model
        self._originals = {name: np.array(getattr(model, name)) for name in self.FIELDS}

    def apply(self, game: Game) -> None:
        mass, friction, gain = game.values
        model = self._physics.model
        original = self._originals
        model.body_mass[:] = original["body_mass"] * mass
        model.body_inertia[:] = original["body_inertia"] * mass
        model.geom_friction[:] = original["geom_friction"] * friction
        model.actuator_gainprm[:] = original["actuator_gainprm"] * gain
        # 0 for motors; a servo's stiffness is both.
        model.actuator_biasprm[:] = original["actuator_biasprm"] * gain
        mujoco.mj_setConst(model.ptr, self._physics.data.ptr)  # what the solver derives from masses

    def begin(self) -> None:
        """Change nothing."""

    def reward(self, game: Game) -> float:
        return self._task.get_reward(self._physics)


RULES = {
    Tasks: TaskRules,
    Speeds: SpeedRules,
    Directions: SpeedRules,
    Targets: TargetRules,
    Dynamics: DynamicsRules,
}
