"""A simulator in the middle of an episode as plain arrays and numbers, so that a resumed run sees the same next frame.

Positions and velocities alone bring 14 of dm_control's 28 benchmark tasks back to the bit, MuJoCo's own integration state 20;
the others move their targets in the model. So both are kept. What the task itself holds is not: its numbers stand still in all
of dm_control's tasks, and its generator draws when an episode begins, and each reset seeds it anew.
"""

import numpy as np

from foreground.envs.simulator import mujoco

UNCHANGING = ("tex", "mesh", "skin", "name", "text", "bvh", "path")  # large parts of a model that no task writes to
KIND = mujoco.mjtState.mjSTATE_INTEGRATION


class Snapshots:
    """Takes and restores what changes in one dm_control environment. To be made before its first reset."""

    def __init__(self, environment):
        self._physics = environment.physics
        self._model = {name: value.copy() for name, value in self._arrays()}

    def _arrays(self):
        """(name, array) of all of the model that a task may write to."""
        model = self._physics.model.ptr
        for name in dir(model):
            if not name.startswith(("_", *UNCHANGING)):
                value = getattr(model, name)
                # Whole numbers are indices, which no task changes: a forged one would lead MuJoCo out of its memory.
                if isinstance(value, np.ndarray) and value.size and value.flags.writeable and value.dtype.kind == "f":
                    yield name, value

    def take(self) -> dict:
        """Plain arrays, numbers and strings in nested dicts."""
        model, data = self._physics.model.ptr, self._physics.data.ptr
        state = np.empty(mujoco.mj_stateSize(model, KIND))
        mujoco.mj_getState(model, data, state, KIND)
        changed = {name: value.copy() for name, value in self._arrays() if not np.array_equal(value, self._model[name])}
        return {"mujoco": mujoco.__version__, "data": state, "model": changed}

    def restore(self, taken: dict) -> None:
        """Back to what `take` gave, in this environment or another of the same task.

        Errors: ValueError when another MuJoCo took it, whose next step may be another, or none of this task's.
        """
        if taken["mujoco"] != mujoco.__version__:
            raise ValueError(f"MuJoCo {taken['mujoco']} took this snapshot, and {mujoco.__version__} is here")
        strange = {*taken["model"]} - {*self._model}
        if strange:
            raise ValueError(f"no task keeps {min(strange)}"[:60])
        model, data = self._physics.model.ptr, self._physics.data.ptr
        for name, value in self._arrays():
            value[...] = taken["model"].get(name, self._model[name])
        mujoco.mj_setState(model, data, taken["data"], KIND)
        mujoco.mj_forward(model, data)  # all that follows from the state
        mujoco.mj_setState(model, data, taken["data"], KIND)  # and the solver's warm start, which that changed
        mujoco.mj_step1(model, data)  # where dm_control's step ends
