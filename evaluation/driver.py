"""The loop that acts in evaluation: an episode in each of a few environments, with callbacks.

Unlike training's loop it starts each environment from its own seed, plays one episode only, and
lets callbacks read the environments at each step.

Shapes: N environments, A action.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch

from foreground.agents.base import Commander
from foreground.agents.memory import Memory
from foreground.evaluation import progress
from foreground.training.rollout import ActFn, check_action


@dataclass
class Moment:
    """One step as callbacks see it, before and after the environments move."""

    envs: Sequence[gymnasium.Env]
    memory: Any  # of the policy, after it has acted
    image: np.ndarray  # (N, H, W, 3), input of the policy
    reward: np.ndarray  # (N,), of this image
    action: np.ndarray  # float32 (N, A)
    active: np.ndarray  # bool (N,), where the episode continues; others stay unchanged


class Callback:
    """An observer of the loop; both methods do nothing by default."""

    def on_action(self, moment: Moment) -> None:
        """Read a moment after the policy has acted, before the environments move."""

    def on_step(self, moment: Moment) -> None:
        """Read a moment after the environments have moved; `image` and `reward` are new."""


class Guard(Callback):
    """Raises UserError for an action that is not finite, before an environment receives it."""

    def on_action(self, moment: Moment) -> None:
        check_action(moment.action)


class Ticks(Callback):
    """Counts steps for the progress line, and ends an interrupted evaluation."""

    def on_action(self, moment: Moment) -> None:
        progress.tick()


class Film(Callback):
    """Keeps the image after each action: `images`, a list of (J, H, W, 3).

    The image is the observation, or what the environment renders where it has a render mode.

    rows   the J environments that are filmed; none: all
    """

    def __init__(self, rows: Sequence[int] | None = None):
        self.rows = rows
        self.images: list[np.ndarray] = []

    def on_step(self, moment: Moment) -> None:
        rows = range(len(moment.envs)) if self.rows is None else self.rows
        self.images.append(
            np.stack([_picture_of(moment.envs[row], moment.image[row]) for row in rows])
        )


def _picture_of(env: gymnasium.Env, image: np.ndarray) -> np.ndarray:
    """Return what the environment renders, or else its observation."""
    rendered = env.render() if env.render_mode else None
    return image.copy() if rendered is None else np.asarray(rendered)


class Features(Callback):
    """Keeps the latent at each action, `latents` [(N, F)], and the reward before it, `rewards`
    [(N,)].
    """

    def __init__(self):
        self.latents: list[torch.Tensor] = []
        self.rewards: list[np.ndarray] = []

    def on_action(self, moment: Moment) -> None:
        self.latents.append(moment.memory.state.feature)
        self.rewards.append(moment.reward)


class Returns(Callback):
    """Sums the rewards of each episode: `total` (N,)."""

    def __init__(self, number: int):
        self.total = np.zeros(number)

    def on_step(self, moment: Moment) -> None:
        self.total += np.where(moment.active, moment.reward, 0.0)


def policy_of(agent, commander: Commander | None = None) -> ActFn:
    """Return the deterministic policy of an agent; `commander` replaces its own."""

    def act(
        memory: Memory, image: torch.Tensor, is_first: torch.Tensor
    ) -> tuple[torch.Tensor, Memory]:
        return agent.act(memory, image, is_first, explore=False, commander=commander)

    return act


def memory_of(agent, number: int) -> Callable[[dict[str, np.ndarray]], Memory]:
    """Return a function that gives an agent's memory before the first image, after the resets."""
    return lambda fields: agent.initial_state(number).with_fields(fields)


def with_fields(memory: Any, fields: dict[str, np.ndarray]) -> Any:
    """Return a memory, or a tuple of several, with the fields that came with the new image."""
    if hasattr(memory, "with_fields"):
        return memory.with_fields(fields)
    if type(memory) is not tuple:
        return memory
    return tuple(with_fields(one, fields) for one in memory)


class Driver:
    """Acts with a policy in environments that it does not own.

    begin      fields of the environments at their reset, (N, ...) by name -> the policy's memory
               before the first image
    callbacks  in the order in which they are called; a guard and the progress come first
    """

    def __init__(
        self,
        envs: Sequence[gymnasium.Env],
        policy: ActFn,
        begin: Callable[[dict[str, np.ndarray]], Any],
        callbacks: Sequence[Callback] = (),
    ):
        self.envs = envs
        self.policy = policy
        self.begin = begin
        self.callbacks = [Guard(), Ticks(), *callbacks]

    @torch.no_grad()
    def run(self, seeds: Sequence[int], steps: int = 0) -> Moment:
        """Play an episode in each environment from its seed; return the last moment.

        steps   how many are taken, also where episodes end before; 0: until all have ended
        """
        number = len(self.envs)
        images, infos = zip(
            *(env.reset(seed=int(seed)) for env, seed in zip(self.envs, seeds, strict=True))
        )
        action = np.zeros((number, *self.envs[0].action_space.shape), np.float32)
        active = np.ones(number, bool)
        reward = np.zeros(number)
        fields = self._fields(infos)
        now = Moment(self.envs, self.begin(fields), np.stack(images), reward, action, active)
        first = torch.ones(number, dtype=torch.bool)
        step = 0
        while step < steps if steps else now.active.any():
            action, now.memory = self.policy(now.memory, torch.from_numpy(now.image), first)
            now.action = action.detach().cpu().numpy().astype(np.float32, copy=False)
            for callback in self.callbacks:
                callback.on_action(now)
            over, infos = self._move(now, infos)
            now.memory = with_fields(now.memory, self._fields(infos))
            for callback in self.callbacks:
                callback.on_step(now)
            now.active = now.active & ~over
            first = torch.zeros_like(first)
            step = step + 1
        return now

    def _fields(self, infos: Sequence[dict]) -> dict[str, np.ndarray]:
        """Return the fields of `info` that are stored, (N, ...) by name."""
        names = self.envs[0].metadata.get("info_fields", {})
        return {name: np.stack([info[name] for info in infos]) for name in names}

    def _move(self, now: Moment, infos: Sequence[dict]) -> tuple[np.ndarray, list[dict]]:
        """Step the environments whose episode continues.

        Return where it ended, bool (N,), and the newest `info` of each environment.
        """
        infos = list(infos)
        now.image = now.image.copy()
        now.reward = np.zeros(len(self.envs))
        over = np.zeros(len(self.envs), bool)
        for index in np.flatnonzero(now.active):
            image, reward, terminated, truncated, info = self.envs[index].step(now.action[index])
            now.image[index], now.reward[index], infos[index] = image, reward, info
            over[index] = terminated or truncated
        return over, infos
