"""The loop that acts in evaluation: an episode in each of a few environments, with callbacks.

Unlike training's `Rollout` it starts each environment from a seed of its own, never begins a second
episode, and lets callbacks read the environments at each step.
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
from foreground.training.rollout import Policy, check_action


@dataclass
class Moment:
    """One step as callbacks see it: before the environments move, and again after."""

    envs: Sequence[gymnasium.Env]
    memory: Any  # the policy's, after it acted on the image
    image: np.ndarray  # (N, H, W, 3), what the policy saw
    reward: np.ndarray  # (N,), came with this image
    action: np.ndarray  # float32 (N, A)
    going: np.ndarray  # bool (N,), where the episode goes on: the others stay as they are


class Callback:
    """Looks on. Both calls do nothing unless they are overridden."""

    def acted(self, moment: Moment) -> None:
        """The policy has acted on an image; the environments have not moved yet."""

    def moved(self, moment: Moment) -> None:
        """The environments have moved; `image` and `reward` are now what came of the action."""


class Guard(Callback):
    """Raises UserError before an action that is not finite gets into an environment."""

    def acted(self, moment: Moment) -> None:
        check_action(moment.action)


class Ticks(Callback):
    """Counts steps for the line of progress, and ends an evaluation that was told to stop."""

    def acted(self, moment: Moment) -> None:
        progress.tick()


class Film(Callback):
    """Keeps what came of each action: `images`, a list of (N, H, W, 3)."""

    def __init__(self):
        self.images: list[np.ndarray] = []

    def moved(self, moment: Moment) -> None:
        self.images.append(moment.image.copy())


class Features(Callback):
    """Keeps what the latent was when the policy acted, `latents` [(N, F)], and the reward that had come, `rewards` [(N,)]."""

    def __init__(self):
        self.latents: list[torch.Tensor] = []
        self.rewards: list[np.ndarray] = []

    def acted(self, moment: Moment) -> None:
        self.latents.append(moment.memory.state.feature)
        self.rewards.append(moment.reward)


class Returns(Callback):
    """Adds up the rewards of each episode: `total` (N,)."""

    def __init__(self, number: int):
        self.total = np.zeros(number)

    def moved(self, moment: Moment) -> None:
        self.total += np.where(moment.going, moment.reward, 0.0)


def policy_of(agent, commander: Commander | None = None) -> Policy:
    """Return the deterministic policy of an agent; `commander` stands in for its own."""

    def act(memory: Memory, image: torch.Tensor, is_first: torch.Tensor) -> tuple[torch.Tensor, Memory]:
        return agent.act(memory, image, is_first, explore=False, commander=commander)

    return act


def memory_of(agent, number: int) -> Callable[[dict[str, np.ndarray]], Memory]:
    """Return what gives an agent's memory of `number` environments before the first image, once they were reset."""
    return lambda told: agent.initial_state(number).with_fields(told)


class Driver:
    """Acts with a policy in environments that it does not own.

    begin      (what the environments tell at their reset, (N, ...) by name) -> the policy's memory
               before the first image
    callbacks  in the order in which they are called; a guard and the progress come first
    """

    def __init__(
        self,
        envs: Sequence[gymnasium.Env],
        policy: Policy,
        begin: Callable[[dict[str, np.ndarray]], Any],
        callbacks: Sequence[Callback] = (),
    ):
        self.envs, self.policy, self.begin = envs, policy, begin
        self.callbacks = [Guard(), Ticks(), *callbacks]

    @torch.no_grad()
    def run(self, seeds: Sequence[int], steps: int = 0) -> Moment:
        """Play an episode in each environment from its seed, or at most `steps` steps of it; return the last moment."""
        number = len(self.envs)
        images, infos = zip(*(env.reset(seed=int(seed)) for env, seed in zip(self.envs, seeds, strict=True)))
        action = np.zeros((number, *self.envs[0].action_space.shape), np.float32)
        going, reward = np.ones(number, bool), np.zeros(number)
        told = {name: np.stack([info[name] for info in infos]) for name in self.envs[0].metadata.get("told", {})}
        now = Moment(self.envs, self.begin(told), np.stack(images), reward, action, going)
        first, step, over = torch.ones(number, dtype=torch.bool), 0, np.zeros(number, bool)
        while now.going.any() and (not steps or step < steps):
            action, now.memory = self.policy(now.memory, torch.from_numpy(now.image), first)
            now.action = action.detach().cpu().numpy().astype(np.float32, copy=False)
            for callback in self.callbacks:
                callback.acted(now)
            over = self._move(now)
            for callback in self.callbacks:
                callback.moved(now)
            now.going = now.going & ~over
            first, step = torch.zeros_like(first), step + 1
        return now

    def _move(self, now: Moment) -> np.ndarray:
        """Step the environments whose episode goes on; return where it ended, bool (N,)."""
        now.image, now.reward = now.image.copy(), np.zeros(len(self.envs))
        over = np.zeros(len(self.envs), bool)
        for index in np.flatnonzero(now.going):
            now.image[index], now.reward[index], terminated, truncated, _ = self.envs[index].step(now.action[index])
            over[index] = terminated or truncated
        return over
