"""The state of a simulator within an episode as plain values, so that a resumed run continues
exactly.

Positions and velocities alone restore 14 of dm_control's 28 benchmark tasks bit by bit, and
MuJoCo's own integration state 20; the others move their targets in the model. So both are stored.
The task's own state is not: its numbers are constant in all of dm_control's tasks, and its
generator is used and seeded at resets only.
"""

import numpy as np

from foreground.envs.simulator import mujoco

# Large parts of a model that no task writes to.
UNCHANGING = ("tex", "mesh", "skin", "name", "text", "bvh", "path")
KIND = mujoco.mjtState.mjSTATE_INTEGRATION


class Snapshots:
    """Takes and restores the changing state of one dm_control environment; make it before its first
    reset.
    """

    def __init__(self, environment):
        self._physics = environment.physics
        self._model = {name: value.copy() for name, value in self._arrays()}

    def _arrays(self):
        """Yield (name, array) of all of the model that a task may change."""
        model = self._physics.model.ptr
        for name in dir(model):
            if not name.startswith(("_", *UNCHANGING)):
                value = getattr(model, name)
                # Integers are indices, which no task changes; a forged one would make MuJoCo access
                # other memory.
                if (
                    isinstance(value, np.ndarray)
                    and value.size
                    and value.flags.writeable
                    and value.dtype.kind == "f"
                ):
                    yield name, value

    def take(self) -> dict:
        """Return the state as plain arrays, numbers and strings in nested dicts."""
        model = self._physics.model.ptr
        data = self._physics.data.ptr
        state = np.empty(mujoco.mj_stateSize(model, KIND))
        mujoco.mj_getState(model, data, state, KIND)
        changed = {
            name: value.copy()
            for name, value in self._arrays()
            if not np.array_equal(value, self._model[name])
        }
        return {"mujoco": mujoco.__version__, "data": state, "model": changed}

    def restore(self, taken: dict) -> None:
        """Restore what `take` returned, in this environment or another of the same task.

        Raises: ValueError when another version of MuJoCo took it, or it belongs to another task.
        """
        if taken["mujoco"] != mujoco.__version__:
            raise ValueError(
                f"MuJoCo {taken['mujoco']} took this snapshot, and {mujoco.__version__} is here"
            )
        strange = {*taken["model"]} - {*self._model}
        if strange:
            raise ValueError(f"no task changes {min(strange)}"[:60])
        model = self._physics.model.ptr
        data = self._physics.data.ptr
        for name, value in self._arrays():
            value[...] = taken["model"].get(name, self._model[name])
        mujoco.mj_setState(model, data, taken["data"], KIND)
        mujoco.mj_forward(model, data)  # derived quantities
        # The warm start, which mj_forward changed.
        mujoco.mj_setState(model, data, taken["data"], KIND)
        mujoco.mj_step1(model, data)  # dm_control's step ends here
