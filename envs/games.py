"""A game of a family, played in one environment: drawn at each reset, told to the simulator, its reward computed.

Shapes: M games, D descriptor.
"""

import numpy as np

from foreground.envs.families import Family, Game, Speeds
from foreground.envs.simulator import mujoco, suite


class Playing:
    """The games of one environment; `reset` before each episode, `reward` and `read` after each frame.

    names   of the M numbers that `read` gives: the reward in every game of training, where games share their physics
    """

    def __init__(self, family: Family, games: tuple[Game, ...], environment, domain: str):
        self.family, self.games, self.game = family, games, games[0]
        self.physics, self._task = environment.physics, environment.task
        every = dict.fromkeys((*family.train, *games)) if family.relabels else ()
        self._tasks = {game: _task_of(family, game, domain) for game in every}
        self.names = tuple(game.name for game in family.train) if family.relabels else ()
        model = self.physics.model
        fields = ("body_mass", "body_inertia", "geom_friction", "actuator_gainprm", "actuator_biasprm")
        self._originals = {name: np.array(getattr(model, name)) for name in fields}

    @property
    def descriptor(self) -> np.ndarray:
        """Of the game that is played, float32 (D,)."""
        return np.array(self.game.descriptor, np.float32)

    def reset(self, random: np.random.Generator) -> None:
        """Draw a game and tell the simulator; before the physics is reset."""
        self.game = self.games[int(random.integers(len(self.games)))]
        if not self.family.relabels:
            self._scale(*self.game.values)

    def _scale(self, mass: float, friction: float, gain: float) -> None:
        model, original = self.physics.model, self._originals
        model.body_mass[:] = original["body_mass"] * mass
        model.body_inertia[:] = original["body_inertia"] * mass
        model.geom_friction[:] = original["geom_friction"] * friction
        model.actuator_gainprm[:] = original["actuator_gainprm"] * gain
        model.actuator_biasprm[:] = original["actuator_biasprm"] * gain  # 0 for motors; a servo's stiffness is both
        mujoco.mj_setConst(model.ptr, self.physics.data.ptr)  # what the solver derives from masses

    def reward(self) -> float:
        """Of this frame, in the game that is played."""
        return float(self._tasks.get(self.game, self._task).get_reward(self.physics))

    def read(self, action: np.ndarray) -> np.ndarray:
        """The reward of this frame in every game of training, float32 (M,)."""
        return np.array([self._tasks[game].get_reward(self.physics) for game in self.family.train], np.float32)


def _task_of(family: Family, game: Game, domain: str):
    """dm_control's task that pays the reward of a game."""
    if isinstance(family, Speeds):
        return suite.walker.PlanarWalker(move_speed=game.values[0])
    return suite.load(domain, game.name.partition("-")[2]).task
