"""A plane with a point on it that evaluation takes for a robot, and an agent that moves it."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import torch

from foreground import envs as environments
from foreground.agents.base import Held
from foreground.agents.memory import Memory
from foreground.agents.skills import SkillConfig, Skills
from foreground.evaluation import posture
from foreground.world_models.rssm import State

PLANE = posture.Body((0, 1), ())
SPEED = 0.1  # m a step


class Plane(gymnasium.Env):
    """A point that actions move; its picture says where it is. Rewards going east."""

    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    metadata = {"render_fps": 10.0}  # noqa: RUF012
    task, physics, length = "plane-go", None, 30

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.step_number = np.random.default_rng(seed).uniform(-1, 1, 2), 0
        return self.picture(), {}

    def step(self, action):
        self.place = self.place + SPEED * action
        self.step_number += 1
        return self.picture(), float(action[0]), False, self.step_number >= self.length, {}

    def simulator_state(self):
        return self.place.copy()

    def picture(self):
        """Place in hundredths, from -100 m, as two bytes each."""
        number = np.round((self.place + 100) * 100).astype(int)
        return (
            np.stack([number // 256, number % 256], -1)
            .astype(np.uint8)
            .reshape(1, 4, 1)
            .repeat(3, -1)
        )


def place_of(image: torch.Tensor) -> torch.Tensor:
    pairs = image[..., 0].reshape(-1, 2, 2).float()
    return (pairs[..., 0] * 256 + pairs[..., 1]) / 100 - 100


class Walker:
    """An agent that moves along its skill from the place in the image; sense -1 moves back."""

    device = torch.device("cpu")
    skills = Skills(SkillConfig(size=2))
    commander = None

    def __init__(self, sense: float = 1.0):
        self.sense = sense
        move = SimpleNamespace(direction=lambda before, after: after - before)
        move.reward = lambda before, after, skill: ((after - before) * skill).sum(-1)
        self.discovery = move
        self.world_model = SimpleNamespace(
            imagine=lambda state, action: State(state.deterministic + SPEED * action, state[1])
        )

    def initial_state(self, number):
        state = State(torch.zeros(number, 2), torch.zeros(number, 0))
        age = torch.zeros(number, dtype=torch.long)
        return Memory(
            state,
            torch.zeros(number, 2),
            torch.zeros(number, 1, 4, 3),
            self.skills.draw(number),
            age,
        )

    def observe_step(self, memory, image, is_first, sample):
        return State(place_of(image), torch.zeros(len(image), 0))

    def select_action(self, state, skill):
        return self.sense * skill

    def act(self, memory, image, is_first, explore=True, commander=None):
        state, held = (
            self.observe_step(memory, image, is_first, explore),
            Held(memory.condition, memory.age),
        )
        if commander:
            held = commander(memory, lambda: state, is_first, explore)
        action = self.select_action(state, held.condition)
        return action, memory._replace(
            state=state, action=action, condition=held.condition, age=held.age
        )


class Bare(gymnasium.Env):
    """The plane without its simulator."""

    action_space, metadata = Plane.action_space, Plane.metadata

    def __init__(self):
        self.inner = Plane()

    def reset(self, **options):
        return self.inner.reset(**options)

    def step(self, action):
        return self.inner.step(action)


def simulated(monkeypatch) -> None:
    """Let evaluation read the plane as it reads a robot's simulator."""
    monkeypatch.setattr(posture, "body", lambda physics: PLANE)
    nothing = SimpleNamespace(
        violations=lambda action: dict.fromkeys("abcd", 0.25),
        read=lambda action: np.array([1.0, -0.25]),
    )
    monkeypatch.setattr(environments, "Signals", lambda *_: nothing)
    monkeypatch.setattr(environments, "USES", {"plane": ""}, raising=False)
