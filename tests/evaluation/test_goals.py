"""Test the way to goal pictures in a world with known answers."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.studies import goal_chance
from foreground import build
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.evaluation import goal_report, goals, measures, posture, skills
from foreground.evaluation.config import EvalConfig
from tests.support.plane import PLANE, Bare, Plane, Walker, place_of, simulated


@pytest.fixture(autouse=True)
def on_the_plane(monkeypatch):
    simulated(monkeypatch)


def test_goals_are_reached_by_an_agent_whose_map_is_right_and_missed_by_one_whose_is_not():
    targets = goals.draw(Plane, 20, 20, seed=0)
    assert np.array_equal(targets[3].state, goals.draw(Plane, 20, 20, seed=0)[3].state)
    steps = 40
    row = goals.measures(goals.attempt(Walker(), Plane, targets, steps, seed=0))
    assert row["hit_1"] > 0.9
    assert row["end_1"] > 0.9
    assert row["stay_3"] > 0.4
    assert row["stay_1"] <= row["stay_3"]
    assert row["other_end_1"] < 0.2  # it went to its own goals, not to those that follow
    lost = goals.measures(goals.attempt(Walker(sense=-1.0), Plane, targets, steps, seed=0))
    assert lost["end_3"] == 0
    assert lost["distance"] > row["distance"]


@pytest.mark.parametrize(("duration", "walk", "way"), [(20, 20, 40), (50, 50, 60), (80, 60, 60)])
def test_the_robot_has_twice_the_steps_of_the_walk_within_an_episode(
    monkeypatch, duration, walk, way
):
    words = ["--agent", "metra", "--skill.duration", str(duration)]
    words += ["--environment.time_limit", "120", "--environment.action_repeat", "2"]
    config, draw, walks = runs.read(words, cuda=False), goals.draw, []
    monkeypatch.setattr(goals, "draw", lambda *given: walks.append(given[2]) or draw(*given))
    aims, attempts = goals.tried(config, Walker(), Plane, 2, "the plane")
    assert (len(aims), walks) == (2, [walk])
    assert attempts.distance.shape == (2, way)
    assert attempts.render_fps == 10


def test_waves_of_environments_start_at_other_places():
    aims = goals.draw(Plane, 20, 1, seed=0)
    found = goals.attempt(Walker(), Plane, aims, 1, seed=0)
    starts = [Plane().reset(seed=10_000 + index)[0] for index in range(20)]
    places = np.stack([place_of(torch.from_numpy(image))[0].numpy() for image in starts])
    begun = [posture.distance(PLANE, *pair) for pair in zip(places, (aim.state for aim in aims))]
    # One step of 0.1 m is 0.4 bins.
    np.testing.assert_allclose(found.distance[:, 0], np.maximum(np.array(begun) - 0.4, 0), atol=0.1)


def test_goals_without_a_simulator_are_refused_before_anything_is_played(monkeypatch):
    config = runs.read(["--agent", "metra", "--task", "gymnasium:Hopper-v5"], cuda=False)
    asked = EvalConfig("run", reach=True)
    for made, refused in ((Bare, True), (Plane, False)):
        monkeypatch.setattr(build, "environment_maker", lambda *_, made=made: made)
        with pytest.raises(UserError, match="offers no simulator") if refused else nullcontext():
            measures.check_skills(asked, config)


class Backed(Plane):
    """The plane before one of a few clips, drawn at each reset."""

    clips = 2

    def reset(self, *, seed=None, options=None):
        drawn = int(np.random.default_rng([seed, 7]).integers(self.clips))
        self.background = SimpleNamespace(clip=drawn)
        return super().reset(seed=seed)


def test_another_clip_plays_behind_the_robot_than_behind_the_goal(monkeypatch):
    targets = goals.draw(Backed, 20, 5, seed=0)
    assert {goal.clip for goal in targets} == {0, 1}
    found = goals.attempt(Walker(), Backed, targets, 30, seed=0)
    assert not found.same_clip.any()
    assert found.distance.shape == (20, 30)
    assert found.film.shape[:2] == (skills.SIDE_BY_SIDE, 30)
    for index, goal in enumerate(targets):
        env = Backed()
        seed, same = goals.start(env, goal, 10_000 + index)
        env.reset(seed=seed)
        assert env.background.clip != goal.clip
        assert not same
        assert (seed - index) % 1000 == 0
    monkeypatch.setattr(Backed, "clips", 1)  # of a single clip there is no other
    aims = goals.draw(Backed, 3, 5, seed=0)
    alone = goals.attempt(Walker(), Backed, aims, 5, seed=0)
    assert alone.same_clip.all()
    row = goals.measures(alone)
    assert row["same_clip"] == 1
    said = goal_report.text_of({"heldout": row}, 3)
    assert "the clip of the goal plays behind the robot for 100% of them" in said
    pages = list(goal_report.tiles(aims, alone))
    assert len(pages) == 5
    assert all(page.shape == pages[0].shape for page in pages)


class Ending(Plane):
    """The plane where an episode ends early, as a robot's that falls."""

    def reset(self, *, seed=None, options=None):
        self.length = 9 if seed % 20 < 16 else 4
        return super().reset(seed=seed)


def test_rollouts_that_end_early_have_as_many_steps_as_the_others():
    """In two waves of environments, of which the second ends first."""
    aims = goals.draw(Ending, 20, 12, seed=0)
    assert goals.attempt(Walker(), Ending, aims, 12, seed=0).distance.shape == (20, 12)
    record = skills.play(Walker(), Ending, Walker.skills.grid(16), repeats=2, steps=12, seed=15)
    assert record.state.shape == (16, 2, 13, 2)
    np.testing.assert_array_equal(record.state[:, 1, 4], record.state[:, 1, 12])


def test_moves_without_a_goal_hit_more_goals_than_they_end_at():
    """A robot that stands still ends at every goal that it hits, and one that moves does not."""
    targets = goals.draw(Plane, 20, 20, seed=0)
    still = goal_chance.measured(Plane, targets, 30, 0, goal_chance.moving(0.0, 0.0))
    assert 0 < still["hit_3"] == still["end_3"] < 0.7
    about = goal_chance.measured(Plane, targets, 30, 0, goal_chance.moving(1.0, 0.9))
    assert about["hit_3"] > still["hit_3"]
    assert about["end_3"] < about["hit_3"]


def test_shares_of_goals_are_counted_by_radius():
    distance = np.array([[4.0, 0.5, 2.0], [9.0, 3.0, 3.5]])  # (goals, T)
    other = np.array([[4.0, 2.0, 2.0], [9.0, 9.0, 9.0]])
    row = goals.measures(goals.Attempts(distance, other, np.array([True, False]), np.zeros(0)))
    assert [row[f"other_{name}_3"] for name in ("hit", "end", "stay")] == [0.5, 0.5, 1 / 3]
    assert (row["other_hit_1"], row["other_distance"]) == (0, 5.5)
    said = goal_report.text_of({"clean": row}, 50)
    assert "50% of the goals are hit within one bin, and 0% are held at the end" in said
    assert "by chance: 0% and 0%, measured from the same moves" in said
    alone = goals.Attempts(distance[:1], other[:1], np.array([True]), np.zeros(0))
    assert not any(key.startswith("other") for key in goals.measures(alone))
    assert row["hit_1"] == 0.5
    assert row["end_1"] == 0
    assert row["stay_1"] == pytest.approx(1 / 6)
    assert row["hit_3"] == 1
    assert row["end_3"] == 0.5
    assert row["stay_3"] == 0.5
    assert row["distance"] == 1.75
    assert row["same_clip"] == 0.5
