"""A game of a family in one environment: drawn at each reset, applied to the simulator, its reward
computed.

Shapes: M games, D descriptor.
"""

import numpy as np

from foreground.envs.families import Family, Game, Speeds
from foreground.envs.simulator import mujoco, suite


class Playing:
    """The games of one environment; call `reset` before each episode, `reward` and `read` after
    each frame.

    names   of the M numbers of `read`: the reward in every training game, where games share their
            physics
    """

    def __init__(self, family: Family, games: tuple[Game, ...], environment, domain: str):
        self.family = family
        self.games = games
        self.game = games[0]
        self.physics = environment.physics
        self._task = environment.task
        every = dict.fromkeys((*family.train, *games)) if family.relabels else ()
        self._tasks = {game: _task_of(family, game, domain) for game in every}
        self.names = tuple(game.name for game in family.train) if family.relabels else ()
        model = self.physics.model
        fields = (
            "body_mass",
            "body_inertia",
            "geom_friction",
            "actuator_gainprm",
            "actuator_biasprm",
        )
        self._originals = {name: np.array(getattr(model, name)) for name in fields}

    @property
    def descriptor(self) -> np.ndarray:
        """The descriptor of the current game, float32 (D,)."""
        return np.array(self.game.descriptor, np.float32)

    def reset(self, random: np.random.Generator) -> None:
        """Draw a game and apply it to the simulator; call it before the physics is reset."""
        self.game = self.games[int(random.integers(len(self.games)))]
        if not self.family.relabels:
            self._scale(*self.game.values)

    def _scale(self, mass: float, friction: float, gain: float) -> None:
        model = self.physics.model
        original = self._originals
        model.body_mass[:] = original["body_mass"] * mass
        model.body_inertia[:] = original["body_inertia"] * mass
        model.geom_friction[:] = original["geom_friction"] * friction
        model.actuator_gainprm[:] = original["actuator_gainprm"] * gain
        # 0 for motors; a servo's stiffness is both.
        model.actuator_biasprm[:] = original["actuator_biasprm"] * gain
        mujoco.mj_setConst(model.ptr, self.physics.data.ptr)  # what the solver derives from masses

    def reward(self) -> float:
        """Return the reward of this frame in the current game."""
        return float(self._tasks.get(self.game, self._task).get_reward(self.physics))

    def read(self, action: np.ndarray) -> np.ndarray:
        """Return the reward of this frame in every training game, float32 (M,)."""
        return np.array(
            [self._tasks[game].get_reward(self.physics) for game in self.family.train], np.float32
        )


def _task_of(family: Family, game: Game, domain: str):
    """Return dm_control's task with the reward of a game."""
    if isinstance(family, Speeds):
        return suite.walker.PlanarWalker(move_speed=game.values[0])
    return suite.load(domain, game.name.partition("-")[2]).task
