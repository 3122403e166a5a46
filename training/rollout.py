"""The loop that steps environments with a policy and returns rows.

Each step gives one row: action[t] led to image[t], and reward[t] came with it. Where is_first is
set an episode begins, and action and reward are zero. Gymnasium's NEXT_STEP autoreset gives exactly
such rows.

A row holds the fields of a layout, name -> (shape, type). The environment gives image, action,
reward, is_first, is_terminal, and the fields of `info` that its `metadata["info_fields"]` names.
The policy's fields are read from its memory after it has acted. A memory with a field of the
environment receives it before the policy acts.

Shapes: N environments, A action.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv

from foreground.agents.base import Layout
from foreground.errors import UserError, WorkerLost


class Episode(NamedTuple):
    """A finished episode: index of its environment, return, length in agent steps."""

    index: int
    score: float
    length: int


ActFn = Callable[[Any, torch.Tensor, torch.Tensor], tuple[torch.Tensor, Any]]
"""(memory, image (N,H,W,C), is_first (N,)) -> (action (N, A), memory)."""


def random_policy(envs: VectorEnv, generator: np.random.Generator) -> ActFn:
    """Return a policy of uniform actions, which passes its memory through."""
    shape = envs.action_space.shape

    def act(memory: Any, image: torch.Tensor, is_first: torch.Tensor) -> tuple[torch.Tensor, Any]:
        return torch.from_numpy(generator.uniform(-1, 1, shape).astype(np.float32)), memory

    return act


def _like(kept: Any, saved: Any) -> Any:
    """Return a loaded value with the structure and device of `kept`; checkpoints store named tuples
    as tuples, those of older versions without the last fields.

    Raises: ValueError when structure, shape or type differ.
    """
    if isinstance(kept, tuple):
        if hasattr(kept, "_fields"):
            saved = (*saved, *[None] * (len(kept) - len(saved)))
        parts = [_like(one, other) for one, other in zip(kept, saved, strict=True)]
        return type(kept)(*parts) if hasattr(kept, "_fields") else tuple(parts)
    if kept is None and saved is None:
        return None
    if type(kept) is not type(saved) or kept.shape != saved.shape:
        raise ValueError("it is of another shape")
    exact = (
        isinstance(kept, np.ndarray)
        or not kept.is_floating_point()
        or not saved.is_floating_point()
    )
    # Floats on a device may have lower precision.
    if exact and kept.dtype != saved.dtype:
        raise ValueError("it is of another type")
    return saved.to(kept.device) if isinstance(kept, torch.Tensor) else saved


def _narrowed(name: str, value: Any, task: str, kind: type[np.generic] = np.float32) -> np.ndarray:
    """Return numbers of an environment as the type that the replay stores.

    Raises: UserError for one that is not finite in that type: a float64 may overflow float32.
    """
    with np.errstate(over="ignore"):
        narrow = np.asarray(value).astype(kind)
    if not np.isfinite(narrow).all():
        remedy = f"check its {name}, then start in a new folder"
        if not task.startswith("gymnasium:"):  # a task of the suite
            remedy = "start in a new folder with another --seed, and report the task"
        raise UserError(f"its {name} is not finite in float32", task, remedy, exit_code=5)
    return narrow


def check_action(action: np.ndarray) -> None:
    """Raise UserError for an action that is not finite, before an environment receives it."""
    if not np.isfinite(action).all():
        remedy = "resume from an earlier checkpoint with lower learning rates"
        raise UserError("the action of the policy is not finite", "the policy", remedy, exit_code=3)


def layout_of(envs: VectorEnv | gymnasium.Env) -> Layout:
    """Return the layout of the fields that environments give."""
    several = hasattr(envs, "single_observation_space")
    image = envs.single_observation_space if several else envs.observation_space
    action = envs.single_action_space if several else envs.action_space
    return {
        "image": (image.shape, image.dtype.type),
        "action": (action.shape, np.float32),
        "reward": ((), np.float32),
        "is_first": ((), np.bool_),
        "is_terminal": ((), np.bool_),
    } | dict(envs.metadata.get("info_fields", {}))


@runtime_checkable
class Sending(Protocol):
    """Environments that step by themselves between two calls."""

    def send(self, action: np.ndarray) -> None: ...

    def receive(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]: ...


class Rollout:
    """Steps a vector environment with a policy, whose memory it holds.

    envs     with NEXT_STEP autoreset
    memory   the policy's memory before the first image
    seed     of the first reset
    layout   of a row; none: the fields of the environments
    """

    def __init__(self, envs: VectorEnv, memory: Any, seed: int, layout: Layout | None = None):
        self.envs = envs
        self.memory = memory
        self.seed = seed
        given = layout_of(envs)
        self.layout = given if layout is None else layout
        self._info_fields = envs.metadata.get("info_fields", {})
        self._task = envs.metadata.get("task", "an environment")
        self._held = {name: field for name, field in self.layout.items() if name not in given}
        self.number = envs.num_envs
        self.row: dict[str, np.ndarray] | None = None
        self.finished: list[Episode] = []
        self.diverged = 0
        self._action: np.ndarray | None = None  # that was sent and not answered yet
        self._done = np.zeros(self.number, bool)
        self._score = np.zeros(self.number)
        self._length = np.zeros(self.number, int)

    def step(self, policy: ActFn) -> dict[str, np.ndarray]:
        """Return the next row (N, ...). The first call resets; `finished` holds the episodes that
        this step ended.

        Raises: as `send` and `receive`.
        """
        self.send(policy)
        return self.receive()

    def send(self, policy: ActFn) -> None:
        """Choose the next actions, and let environments in processes begin their step.

        Raises: UserError for an action that is not finite (exit code 3).
        """
        if self.row is None:
            return
        image, is_first = (
            torch.from_numpy(self.row["image"]),
            torch.from_numpy(self.row["is_first"]),
        )
        action, self.memory = policy(self.memory, image, is_first)
        self._action = action.detach().cpu().numpy().astype(np.float32)
        check_action(self._action)
        if isinstance(self.envs, Sending):
            self.envs.send(self._action)

    def receive(self) -> dict[str, np.ndarray]:
        """The row that the actions led to; without actions that of a reset.

        Errors: UserError for numbers of an environment that are not finite (exit code 5).
        """
        self.finished = []
        action, self._action = self._action, None
        if action is None:
            return self._reset()
        try:
            answer = (
                self.envs.receive() if isinstance(self.envs, Sending) else self.envs.step(action)
            )
        except WorkerLost:
            self._begin_again()
            return self._reset()
        image, reward, terminated, truncated, info = answer
        is_first = self._done
        reward = _narrowed("reward", reward, self._task)
        extras = self._extras(info)
        self.diverged += int(np.sum(info.get("diverged", 0)))
        self.row = {
            "image": image,
            "action": np.where(is_first[:, None], 0, action).astype(np.float32),
            "reward": np.where(is_first, 0, reward),
            "is_first": is_first,
            "is_terminal": np.asarray(terminated, bool),
        } | extras
        self._account(np.asarray(terminated | truncated, bool))
        return self.row

    def _reset(self) -> dict[str, np.ndarray]:
        image, info = self.envs.reset(seed=self.seed)
        self._done, self._score, self._length = (
            np.zeros_like(self._done),
            self._score * 0,
            self._length * 0,
        )
        self.row = self._first_row(image) | self._extras(info)
        return self.row

    def _begin_again(self) -> None:
        """Restart all environments with a new seed, and drop the incomplete transition."""
        self.row = None
        self.seed = (self.seed + 1_000_003) % 2**31

    def _first_row(self, image: np.ndarray) -> dict[str, np.ndarray]:
        zero = np.zeros(self.number, np.float32)
        action = np.zeros(self.envs.action_space.shape, np.float32)
        first, terminal = np.ones(self.number, bool), np.zeros(self.number, bool)
        return {
            "image": image,
            "action": action,
            "reward": zero,
            "is_first": first,
            "is_terminal": terminal,
        }

    def _extras(self, info: dict) -> dict[str, np.ndarray]:
        """Return the other fields of a row, of the environments and of the policy's memory."""
        fields = {
            name: _narrowed(name, info[name], self._task, kind)
            for name, (_, kind) in self._info_fields.items()
        }
        if fields and hasattr(self.memory, "with_fields"):
            self.memory = self.memory.with_fields(fields)
        held = {name: getattr(self.memory, name) for name in self._held}
        held = {
            name: value.detach().cpu().numpy().astype(self._held[name][1])
            for name, value in held.items()
        }
        return {name: value for name, value in fields.items() if name in self.layout} | held

    def _account(self, done: np.ndarray) -> None:
        acted = ~self.row["is_first"]
        self._score[~acted] = 0
        self._length[~acted] = 0
        self._score += self.row["reward"]
        self._length += acted
        for index in np.flatnonzero(done):
            self.finished.append(
                Episode(int(index), float(self._score[index]), int(self._length[index]))
            )
        self._done = done

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on, except the policy: environments, memory, row,
        current episodes.

        It is empty where an environment offers no snapshot; a resumed run then begins new episodes.
        """
        if self.row is None:
            return {}
        try:
            snapshots = list(self.envs.get_attr("snapshot"))
        except WorkerLost:
            self._begin_again()
            return {}
        if any(snapshot is None for snapshot in snapshots):
            return {}
        episodes = {"done": self._done, "score": self._score, "length": self._length}
        # The policy's input; the replay has the rest.
        row = {name: self.row[name] for name in ("image", "is_first")}
        return {"envs": snapshots, "memory": self.memory, "row": row, "episodes": episodes}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a `state`, with a memory of the same kind.

        Raises: ValueError when an environment cannot continue (another MuJoCo), or shapes differ.
        """
        if not state:
            return
        space, none = self.envs.single_observation_space, np.zeros(self.number, bool)
        row = {"image": np.zeros((self.number, *space.shape), space.dtype), "is_first": none}
        episodes = {"done": none, "score": self._score, "length": self._length}
        memory = _like(self.memory, state["memory"])
        row = {name: _like(value, state["row"][name]) for name, value in row.items()}
        episodes = {name: _like(value, state["episodes"][name]) for name, value in episodes.items()}
        try:
            self.envs.set_attr("snapshot", state["envs"])
        except WorkerLost:
            return  # with new episodes
        self.memory = memory
        self.row = row
        self._done, self._score, self._length = episodes.values()

    @property
    def agent_steps(self) -> int:
        """Environment steps in the last row; rows of a reset do not count."""
        return int((~self.row["is_first"]).sum()) if self.row is not None else 0
