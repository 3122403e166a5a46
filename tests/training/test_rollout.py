"""Test the acting loop of training on an environment whose image encodes what happened."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from foreground import envs
from foreground.errors import UserError
from foreground.evaluation import report
from foreground.evaluation.episodes import Scores, play
from foreground.training.rollout import Rollout
from foreground.training.trainer import Every, Metrics


class Diary(gymnasium.Env):
    """The image holds [step in the episode, last action * 100]; the reward is the step; episodes
    last 3 steps.
    """

    observation_space = gymnasium.spaces.Box(0, 255, (1, 2, 1), np.uint8)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    metadata = {"render_fps": 25.0}  # noqa: RUF012

    def _image(self, action: float) -> np.ndarray:
        return np.array([self.now, round(100 * action)], np.uint8).reshape(1, 2, 1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now = 0
        return self._image(0), {}

    def step(self, action):
        self.now += 1
        return self._image(float(action[0])), float(self.now), False, self.now == 3, {}


def diary_envs(number: int = 2) -> SyncVectorEnv:
    return SyncVectorEnv([Diary] * number, autoreset_mode=AutoresetMode.NEXT_STEP)


def counting_policy(memory, image, is_first):
    """Acts 0.01, 0.02, ... and remembers how often it was asked."""
    return torch.full((len(image), 1), (memory + 1) / 100), memory + 1


def test_rows_are_aligned():
    """action[t] led to image[t], reward[t] came with it; a row a step; zeros where an episode
    begins.
    """
    rollout = Rollout(diary_envs(), 0, seed=0)
    rows = [{k: v.copy() for k, v in rollout.step(counting_policy).items()} for _ in range(9)]
    assert [int(row["image"][0, 0, 0, 0]) for row in rows] == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert [bool(row["is_first"][1]) for row in rows] == [True, False, False, False] * 2 + [True]
    for row in rows:
        assert round(100 * float(row["action"][0, 0])) == int(row["image"][0, 0, 1, 0])
        assert float(row["reward"][0]) == float(row["image"][0, 0, 0, 0])


def test_finished_episodes_and_agent_steps():
    rollout, steps, finished = Rollout(diary_envs(), 0, seed=0), 0, []
    for _ in range(9):
        rollout.step(counting_policy)
        steps += rollout.agent_steps
        finished += rollout.finished
    assert steps == 2 * 6
    assert [(e.index, e.score, e.length) for e in finished] == [(0, 6.0, 3), (1, 6.0, 3)] * 2


def test_episodes_that_diverged_are_counted():
    env = envs.make("cartpole-balance", size=16)
    rollout = Rollout(
        SyncVectorEnv([lambda: env], autoreset_mode=AutoresetMode.NEXT_STEP), 0, seed=0
    )
    for spoilt in (False, True, False, True):
        rollout.step(counting_policy)
        if spoilt:
            env.physics.data.qpos[0] = float("nan")
        for _ in range(3):
            rollout.step(counting_policy)
    assert rollout.diverged == 2


class Generous(Diary):
    """Its numbers fit float64, and one of them not float32."""

    def __init__(self, name: str, value: float):
        self.name, self.value = name, value
        self.metadata = self.metadata | {
            "info_fields": {"signals": ((1,), np.float32), "game": ((1,), np.float32)}
        }

    def reset(self, *, seed=None, options=None):
        image, _ = super().reset(seed=seed)
        return image, {
            "signals": np.zeros(1),
            "game": np.array([self.value if self.name == "game of a reset" else 1.0]),
        }

    def step(self, action):
        image, reward, terminated, truncated, info = super().step(action)
        values = {"reward": reward, "signals": 0.0, "game": 1.0} | {self.name: self.value}
        info |= {name: np.array([values[name]]) for name in ("signals", "game")}
        return image, values["reward"], terminated, truncated, info


@pytest.mark.parametrize("name", ["reward", "signals", "game", "game of a reset"])
def test_a_number_that_float32_cannot_hold_is_refused(name):
    def stepped(value: float) -> Rollout:
        envs = SyncVectorEnv(
            [lambda: Generous(name, value)], autoreset_mode=AutoresetMode.NEXT_STEP
        )
        rollout = Rollout(envs, 0, seed=0)
        rollout.step(counting_policy)
        rollout.step(counting_policy)
        return rollout

    assert stepped(1e38).row[name.split()[0]].dtype == np.float32
    with pytest.raises(UserError, match=f"its {name.split()[0]} is not finite in float32") as error:
        stepped(1e39)
    assert error.value.exit_code == 5


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (
            "gymnasium:my/Arm-v0",
            "gymnasium:my/Arm-v0: check its reward, then start",
        ),
        ("walker-walk", "walker-walk: start in a new folder with another --seed, and report"),
    ],
)
def test_the_environment_of_a_number_that_is_not_finite_is_named(task, words):
    env = Generous("reward", float("inf"))
    env.metadata = env.metadata | {"task": task}
    rollout = Rollout(SyncVectorEnv([lambda: env], autoreset_mode=AutoresetMode.NEXT_STEP), 0, 0)
    rollout.step(counting_policy)
    with pytest.raises(UserError, match=words) as error:
        rollout.step(counting_policy)
    assert error.value.exit_code == 5


def test_play_gives_every_environment_the_same_number_of_episodes():
    scores = play(Diary, lambda _: (counting_policy, 0), 7, seed=0)
    assert scores.returns == [6.0] * 7
    assert [int(image[0, 0, 0]) for image in scores.film] == [0, 1, 2, 3]
    assert scores.render_fps == 25.0


def test_interval_of_a_mean():
    low, high = Scores([0.0, 10.0] * 50, np.zeros((1, 1, 1, 3))).interval()
    assert low == pytest.approx(4.0, abs=0.3)
    assert high == pytest.approx(6.0, abs=0.3)


def test_panels_are_observation_what_the_latent_keeps_and_difference():
    film, kept = np.full((5, 8, 8, 3), 210, np.uint8), [np.full((8, 8, 3), 200, np.uint8)] * 4
    panels, labels = report.panels_of(film, kept)
    assert labels == ("observation", "what the latent keeps", "difference")
    assert [(len(panel), panel.min(), panel.max()) for panel in panels] == [
        (4, 210, 210),
        (4, 200, 200),
        (4, 10, 10),
    ]
    (only,), (label,) = report.panels_of(film, [])  # an agent that draws nothing
    assert (len(only), label) == (5, "observation")


def test_every_is_true_once_a_period():
    every = Every(10, 0)
    assert [every(now) for now in (4, 8, 12, 16, 31, 39, 40)] == [
        False,
        False,
        True,
        False,
        True,
        False,
        True,
    ]
    assert not Every(0, 0)(100)


def test_metrics_are_means_between_lines():
    metrics = Metrics()
    metrics.add({"a": torch.tensor(1.0), "b": torch.tensor(4)})
    metrics.add({"a": torch.tensor(3.0), "b": torch.tensor(4)})
    assert metrics.flush() == {"a": 2.0, "b": 4.0}
    assert metrics.flush() == {}


def test_the_explained_share_is_the_ratio_of_two_means():
    """A batch without variance counts; the share is undefined where no batch varied."""
    metrics = Metrics()
    for residual, variance in ((0.2, 0.0), (0.4, 2.0)):
        metrics.add({"x/residual": torch.tensor(residual), "x/variance": torch.tensor(variance)})
    assert metrics.flush() == {"x/explained": pytest.approx(0.7)}
    metrics.add({"x/residual": torch.tensor(0.2), "x/variance": torch.tensor(0.0)})
    assert metrics.flush() == {}
