"""Test the learning check: task, thresholds, and failure where nothing is learned."""

import json

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from benchmarks import learning
from foreground.agents.commanders import Fixed
from foreground.agents.memory import Memory
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.evaluation.report import uniform_policy
from foreground.world_models.rssm import State


def test_the_task_is_an_environment():
    check_env(learning.Dot(), skip_render_check=True)


def test_the_square_moves_and_pays():
    env = learning.Dot()
    image, _ = env.reset(seed=3)
    places, rewards = [env.place], []
    for _ in range(learning.LENGTH):
        direction = np.sign((learning.SIZE - learning.SQUARE) / 2 - env.place)
        image, reward, _, truncated, _ = env.step(np.array([direction], np.float32))
        places.append(env.place)
        rewards.append(reward)
    assert truncated
    assert rewards[0] < 0.5 < 0.75 < rewards[-1]  # all or nothing overshoots
    assert abs(places[1] - places[0]) == pytest.approx(learning.SPEED)
    columns = np.flatnonzero((image[16] == (250, 200, 40)).all(-1))
    assert columns[0] == round(env.place)


def test_the_yardsticks():
    best, random = (
        learning.mean_return(policy) for policy in (learning.best_policy, uniform_policy(0))
    )
    assert 23 < best < learning.LENGTH
    assert 5 < random < 12


class Seer:
    """An agent that goes to the place of its goal picture, or to the opposite one."""

    def __init__(self, opposite: bool):
        self.opposite, self.commander, self.to = opposite, self, Fixed

    def initial_state(self, number):
        state = State(torch.zeros(number, 1), torch.zeros(number, 0))
        numbers = torch.zeros(number, 1)
        return Memory(state, numbers, numbers, numbers, torch.zeros(number, dtype=torch.long))

    def act(self, memory, image, is_first, explore, commander):
        yellow = (image[:, 16] == torch.tensor([250, 200, 40], dtype=torch.uint8)).all(-1)
        place = yellow.float().argmax(-1, keepdim=True).float()
        aim = commander(memory, None, is_first, explore).condition
        aim = learning.SIZE - learning.SQUARE - aim if self.opposite else aim
        action = ((aim - place) / learning.SPEED).clamp(-1, 1)
        return action, memory._replace(state=State(place, memory.state.stochastic))


def test_the_goals_of_others_are_not_reached():
    assert learning.reached(Seer(False)) > 0.9
    assert learning.reached(Seer(True)) < 0


@pytest.mark.slow
def test_an_agent_that_does_not_learn_is_named(capsys):
    with pytest.raises(SystemExit, match="1"):
        learning.main(["repo", "--training.train_ratio", "0.5"])  # five updates
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["failed"] == ["repo"]


@pytest.mark.slow
def test_an_error_fails_the_check(capsys):
    with pytest.raises(SystemExit, match="1"):
        learning.main(["dreamer", "--discovery.units", "8"])  # an option that it does not read
    said = capsys.readouterr().out
    first, last = map(json.loads, said.removeprefix("FAIL ").splitlines())
    assert "discovery.units" in first["error"]
    assert last["failed"] == ["dreamer"]


def test_training_ends_where_an_agent_stays_well_above_the_threshold(monkeypatch):
    """Not at a single high measurement, and at the end of its frames where it does not."""
    words = ["--training.prefill", "30", "--training.train_ratio", "16"]
    monkeypatch.setattr(learning, "FRAMES", 90)
    monkeypatch.setattr(learning, "EVERY", 10)
    shares = iter([0.9, 0.7, 0.9, 0.8, 0.9])
    monkeypatch.setattr(learning, "yardstick", lambda *_: lambda: next(shares))
    row = learning.learn("c_dreamer", words)
    assert row["shares"] == [0.9, 0.7, 0.9, 0.8]
    assert row["closed"] == 0.8
    monkeypatch.setattr(learning, "yardstick", lambda *_: lambda: 0.79)
    row = learning.learn("c_dreamer", words)
    assert len(row["shares"]) == 6
    assert row["updates"] == 7


def test_an_agent_that_follows_a_run_begins_with_its_world_model(monkeypatch):
    short = learning.SMALL.replace("prefill 300", "prefill 30").replace("ratio 64", "ratio 16")
    monkeypatch.setattr(learning, "SMALL", short)
    monkeypatch.setattr(learning, "FRAMES", 90)
    monkeypatch.setattr(learning, "yardstick", lambda *_: lambda: 0.0)
    begun = []

    def load(agent, config):
        loaded = load_pretrained(agent, config)
        kept, there = agent.world_model.state_dict(), loaded.state["agent"]["weights"]
        alike = [
            torch.equal(value, there[f"world_model.{key}"])
            for key, value in kept.items()
            if key.startswith("rssm.")
        ]
        begun.append((runs.load(loaded.folder).agent, len(alike) > 5 and all(alike)))

    load_pretrained = learning.saved.load_pretrained
    monkeypatch.setattr(learning.saved, "load_pretrained", load)
    assert learning.learn("goal_from", [])["updates"] == 7
    assert begun == [("goal", True)]
    assert {*runs.FOLLOWING} - {*learning.CHECKED} == {"hierarchical"}


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_names_agents_and_options(word, capsys):
    learning.main([word])
    said = capsys.readouterr().out
    for part in ("Check that every agent still learns.", "[AGENT ...]", "infopower", "train.py"):
        assert part in said


def test_an_unknown_agent_is_refused():
    with pytest.raises(UserError, match="infopower"):
        learning.main(["infopowr"])


def test_the_toy_goes_on_from_a_snapshot():
    """In an episode and behind its end; a trainer's checkpoint asks for it."""
    for steps in (3, learning.LENGTH):
        one, other = learning.Dot(), learning.Dot()
        one.reset(seed=0)
        other.reset(seed=1)
        for _ in range(steps):
            one.step([0.5])
        other.snapshot = one.snapshot
        assert (one.step([1.0])[0] == other.step([1.0])[0]).all()
        assert one.place == other.place


@pytest.mark.parametrize("name", [name for name in learning.CHECKED if name not in runs.FOLLOWING])
def test_every_agent_accepts_the_options_of_the_check(name):
    """Reading them raises where they contradict the agent: families of games refuse most tasks."""
    assert runs.read(["--agent", name], cuda=False, ours=learning.SMALL.split()).agent == name
