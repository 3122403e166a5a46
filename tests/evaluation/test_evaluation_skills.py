"""Test rollouts of skills and planning in a world with known answers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from foreground import envs as environments
from foreground.agents.skills import SkillConfig, Skills
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.evaluation import (
    downstream,
    paths,
    skill_report,
    skills,
    verdicts,
)
from foreground.evaluation.report import Evaluator
from foreground.world_models.rssm import State
from tests.support.plane import SPEED, Bare, Plane, Walker, simulated


@pytest.fixture(autouse=True)
def on_the_plane(monkeypatch):
    simulated(monkeypatch)


def test_every_skill_is_played_from_the_same_starts_and_stays_in_its_row():
    chosen = Walker.skills.grid(20)  # two waves of environments
    record = skills.play(Walker(), Plane, chosen, repeats=3, steps=10, seed=5)
    assert record.state.shape == (20, 3, 11, 2)
    moved = record.state[:, :, -1] - record.state[:, :, 0]
    np.testing.assert_allclose(
        moved, (10 * SPEED * chosen.numpy())[:, None].repeat(3, 1), atol=1e-6
    )
    assert np.ptp(record.state[:, :, 0], axis=0).max() == 0
    assert np.ptp(record.state[0, :, 0], axis=0).min() > 0.01
    np.testing.assert_allclose(record.reward.sum(-1), 10 * SPEED, atol=0.03)  # the picture rounds
    np.testing.assert_allclose(
        record.way, record.state[:, :, 1:] - record.state[0, 0, 0], atol=0.02
    )
    row = skills.measure(record)
    assert row["return/use"] == 10
    assert row["return/safety"] == -2.5
    assert row["violation/mean"] == 0.25
    assert (
        row["discovery_explained/way"] > 0.8
    )  # the map is the place, but for the rounding of the picture


def test_what_needs_a_simulator_or_signals_is_left_out_without_them(monkeypatch):
    chosen = Walker.skills.grid(3)
    bare = skills.play(Walker(), Bare, chosen, repeats=2, steps=4, seed=5)
    assert skills.measure(bare).keys() == {"return/discovery"}
    assert "offers no simulator" in verdicts.of_skills(skills.measure(bare))[0]
    monkeypatch.setattr(environments, "USES", {}, raising=False)
    row = skills.measure(skills.play(Walker(), Plane, chosen, repeats=2, steps=4, seed=5))
    assert "coverage/places" in row
    assert not any(key.startswith(("violation/", "return/use")) for key in row)


def test_a_skill_that_stands_there_again_has_other_starts():
    chosen = Skills(SkillConfig(size=2, kind="one_hot")).grid(4)
    starts = skills.play(Walker(), Plane, chosen, repeats=2, steps=3, seed=0).state[:, :, 0]
    assert np.array_equal(starts[0], starts[1])
    assert not np.isclose(starts[0], starts[2]).any()
    assert len(np.unique(starts[[0, 2]].reshape(-1, 2), axis=0)) == 4


def test_the_best_skill_goes_where_the_reward_is():
    class North(Plane):
        def step(self, action):
            image, _, *rest = super().step(action)
            return image, float(action[1]), *rest

    best, score, mean = downstream.best_skill(Walker(), North, 16, 2, seed=0)
    assert best == 4  # a quarter of the circle
    assert score == pytest.approx(Plane.length)
    assert mean == pytest.approx(0, abs=1e-4)


def test_planning_finds_the_way_to_the_reward():
    """Reward in the north only: sequences that begin north are best, from each state."""
    torch.manual_seed(0)
    planner = downstream.Planner(
        Walker(), lambda feature: feature[:, 1].clamp(max=50), hold=5, sequences=256, depth=1
    )
    skill = planner.plan(State(torch.zeros(3, 2), torch.zeros(3, 0)))
    assert skill.shape == (3, 2)
    assert (skill[:, 1] > 0.98).all()
    state = planner.agent.initial_state(2)
    image = torch.from_numpy(np.stack([Plane().reset(seed=1)[0]] * 2))
    held = []
    for step in range(10):
        action, state = planner.agent.act(
            state, image, torch.tensor([step == 0] * 2), commander=planner
        )
        held.append(state.condition)
    assert torch.equal(held[0], held[4])
    assert not torch.equal(held[4], held[5])
    assert torch.equal(action, state.condition)


def test_planning_looks_further_than_the_first_skill():
    """Worth something only after going east for two skills: one skill's look sees nothing of it."""
    torch.manual_seed(0)
    far = downstream.Planner(
        Walker(), lambda feature: (feature[:, 0] > 0.8).float(), hold=5, sequences=512, depth=2
    )
    skill = far.plan(State(torch.zeros(4, 2), torch.zeros(4, 0)))
    assert (skill[:, 0] > 0.5).all()


def test_planning_takes_the_first_skill_of_the_best_sequence():
    """East and then north is paid, and north before east costs."""

    def reward(feature):
        east, north = (feature[:, 0] > 0.45).float(), (feature[:, 1] > 0.15).float()
        return east * (1 + 2 * north) - 2 * north * (1 - east)

    torch.manual_seed(0)
    planner = downstream.Planner(Walker(), reward, hold=5, sequences=1024, depth=2)
    skill = planner.plan(State(torch.zeros(4, 2), torch.zeros(4, 0)))
    assert (skill[:, 0] > skill[:, 1]).all()


def test_a_reward_head_learns_the_reward():
    class North(Plane):
        def step(self, action):
            image, _, *rest = super().step(action)
            return image, float(self.place[1]), *rest

    head = downstream.fit_reward(Walker(), North, 12, seed=0)
    told = head(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
    assert told[0] - told[1] > 1


def test_a_film_of_some_skills_is_of_these():
    """The picture says where the point is; more skills than fit into one forward pass."""
    chosen = Walker.skills.grid(20)
    whole = skills.play(Walker(), Plane, chosen, repeats=2, steps=3, seed=5)
    some = skills.play(Walker(), Plane, chosen, repeats=2, steps=3, seed=5, filmed=[0, 7, 18])
    assert whole.film.shape[:2] == (20, 3)
    np.testing.assert_array_equal(some.film, whole.film[[0, 7, 18]])
    assert not np.array_equal(some.film[0], some.film[1])


class Rendered(Plane):
    """The plane with a picture for people."""

    render_mode = "rgb_array"

    def render(self):
        return np.full((6, 8, 3), self.step_number, np.uint8)


def test_a_film_shows_what_the_environment_renders():
    film = skills.play(Walker(), Rendered, Walker.skills.grid(2), repeats=1, steps=3, seed=0).film
    assert film.shape == (2, 3, 6, 8, 3)
    assert film[1, :, 0, 0, 0].tolist() == [1, 2, 3]


def test_where_skills_lead():
    chosen = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-0.8, 0.6], [0.1, 0.0]])
    record = skills.play(Walker(), Plane, chosen, repeats=2, steps=10, seed=0)
    row = paths.measure(record)
    assert row["x_most"] == pytest.approx(1)
    assert row["x_least"] == pytest.approx(-0.8)
    assert (row["forward"], row["backward"]) == (0.25, 0.25)
    assert row["distance"] == pytest.approx((1 + 1 + 1 + 0.1) / 4)
    picture = paths.picture(record, SkillConfig(size=2), 0.1, "title")
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    bare = skills.play(Walker(), Bare, chosen, repeats=1, steps=2, seed=0)
    assert paths.measure(bare) == {}
    film = skill_report.pages_of(bare, np.arange(4), SkillConfig(size=2))
    assert len(film) == 2


def test_film_and_paths_of_an_evaluation_go_to_tensorboard(tmp_path, monkeypatch):
    film, picture = np.zeros((70, 4, 4, 3), np.uint8), np.ones((3, 5, 3), np.uint8)
    logged = []

    class Log:
        def video(self, frame, name, frames, fps):
            logged.append((frame, name, len(frames)))

        def image(self, frame, name, image):
            logged.append((frame, name, image.shape))

    config = runs.read(["--agent", "slim", "--background.source", "none"], cuda=False)
    evaluator = Evaluator(config, SimpleNamespace(spec=None), tmp_path)
    evaluator.logger = Log()
    for paths_of in (picture, None):
        shown = skill_report.Shown({"travel/forward": 0.5}, film, 20.0, paths_of)
        monkeypatch.setattr(skill_report, "show", lambda *_, shown=shown, **__: shown)
        assert evaluator.skills(100, "clean") == {"skills/travel/forward": 0.5}
    video = (100, "skills/clean", 64)
    assert logged == [video, (100, "skills/clean/paths", (3, 5, 3)), video]


def test_colours_go_around_with_the_angle_of_the_skill():
    circle, one_hot = SkillConfig(size=2), SkillConfig(size=5, kind="one_hot")
    turns = paths.turns_of(Skills(circle).grid(8).numpy(), circle)
    np.testing.assert_allclose(turns, np.arange(8) / 8, atol=1e-6)
    turns = paths.turns_of(Skills(one_hot).grid(12).numpy(), one_hot)
    np.testing.assert_allclose(turns, np.arange(12) % 5 / 5)
    other = SkillConfig(size=3)
    turns = paths.turns_of(Skills(other).grid(12).numpy(), other)
    np.testing.assert_allclose(turns, np.arange(12) / 12)


def test_a_skill_out_of_range_is_refused():
    one_hot = Skills(SkillConfig(size=5, kind="one_hot"))
    assert skill_report.skill_of(one_hot, 4)[4] == 1
    for prior, most in ((one_hot, 4), (Walker().skills, 47)):
        with pytest.raises(UserError, match=f"choose 0 to {most}"):
            skill_report.skill_of(prior, most + 1)
