"""Test rollouts of skills, goals and planning in a world with known answers."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch

from foreground import envs as environments
from foreground.agents.base import Held
from foreground.agents.memory import Memory
from foreground.agents.skills import SkillConfig, Skills
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.evaluation import (
    downstream,
    goal_report,
    goals,
    paths,
    posture,
    skill_report,
    skills,
    verdicts,
)
from foreground.evaluation.report import Evaluator
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


@pytest.fixture(autouse=True)
def on_the_plane(monkeypatch):
    monkeypatch.setattr(posture, "body", lambda physics: PLANE)
    nothing = SimpleNamespace(
        violations=lambda action: dict.fromkeys("abcd", 0.25),
        read=lambda action: np.array([1.0, -0.25]),
    )
    monkeypatch.setattr(environments, "Signals", lambda *_: nothing)
    monkeypatch.setattr(environments, "USES", {"plane": ""}, raising=False)


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


class Bare(gymnasium.Env):
    """The plane without its simulator."""

    action_space, metadata = Plane.action_space, Plane.metadata

    def __init__(self):
        self.inner = Plane()

    def reset(self, **options):
        return self.inner.reset(**options)

    def step(self, action):
        return self.inner.step(action)


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


def test_goals_are_reached_by_an_agent_whose_map_is_right_and_missed_by_one_whose_is_not():
    targets = goals.draw(Plane, 20, 20, seed=0)
    assert np.array_equal(targets[3].state, goals.draw(Plane, 20, 20, seed=0)[3].state)
    steps = 40
    row = goals.measures(goals.attempt(Walker(), Plane, targets, steps, seed=0))
    assert row["hit_1"] > 0.9
    assert row["end_1"] > 0.9
    assert row["stay_3"] > 0.4
    assert row["stay_1"] <= row["stay_3"]
    lost = goals.measures(goals.attempt(Walker(sense=-1.0), Plane, targets, steps, seed=0))
    assert lost["end_3"] == 0
    assert lost["distance"] > row["distance"]


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


def test_shares_of_goals_are_counted_by_radius():
    distance = np.array([[4.0, 0.5, 2.0], [9.0, 3.0, 3.5]])  # (goals, T)
    row = goals.measures(goals.Attempts(distance, np.array([True, False]), np.zeros(0)))
    assert row["hit_1"] == 0.5
    assert row["end_1"] == 0
    assert row["stay_1"] == pytest.approx(1 / 6)
    assert row["hit_3"] == 1
    assert row["end_3"] == 0.5
    assert row["stay_3"] == 0.5
    assert row["distance"] == 1.75
    assert row["same_clip"] == 0.5


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
