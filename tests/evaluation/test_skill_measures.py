"""Test the measures of skills on records with known answers."""

import numpy as np
import pytest

from foreground.agents.skills import SkillConfig, Skills
from foreground.evaluation import downstream, posture, skill_report, skills

PLANE = posture.Body((0, 1), ())


MEASURED = [f"identifiability/{key}" for key in ("nats", "cap", "accuracy", "chance")] + [
    "coverage/postures",
    "violation/mean",
]


def record_of(state: np.ndarray, skill: np.ndarray, **more) -> skills.SkillRecord:
    """Of states (K, R, T+1, S) alone."""
    number, repeats, steps = state.shape[0], state.shape[1], state.shape[2] - 1
    nothing = np.zeros((number, repeats, steps, 0))
    rows = {
        "direction": nothing,
        "way": nothing,
        "reward": nothing.sum(-1),
        "violation": np.zeros((number, repeats, steps, 4)),
        "signal": np.zeros((number, repeats, steps, 2)),
        "film": np.zeros((number, steps, 1, 1, 3), np.uint8),
    }
    return skills.SkillRecord(skill=skill, state=state, body=PLANE, render_fps=10, **(rows | more))


@pytest.mark.parametrize("kind", ["one_hot", "sphere"])
def test_skills_that_states_tell_are_identified(kind):
    random = np.random.default_rng(0)
    prior = Skills(SkillConfig(size=8 if kind == "one_hot" else 2, kind=kind))
    skill = prior.grid(8).numpy()
    ends = 5 * skill @ random.normal(size=(skill.shape[1], 3))
    state = ends[:, None, None] + 0.1 * random.normal(size=(8, 3, 21, 3))
    told = skills.identifiability(record_of(state, skill))
    assert told["cap"] == pytest.approx(np.log(8))
    assert told["accuracy"] > 0.95
    assert 0.85 * np.log(8) < told["nats"] <= np.log(8)


def test_skills_that_states_do_not_tell_have_no_nats():
    random = np.random.default_rng(1)
    skill = Skills(SkillConfig(size=16, kind="one_hot")).grid(48).numpy()  # each three times
    told = skills.identifiability(record_of(random.normal(size=(48, 3, 21, 4)), skill))
    assert told["chance"] == pytest.approx(1 / 16)
    assert told["accuracy"] < 0.2
    assert abs(told["nats"]) < 0.05


def test_half_of_the_information_is_half_of_it():
    """Skills 0 and 1 do the same, and 2 and 3: ln 2 of ln 4."""
    random = np.random.default_rng(2)
    skill = Skills(SkillConfig(size=4, kind="one_hot")).grid(24).numpy()
    group = np.arange(24) % 4 // 2
    state = group[:, None, None, None] * 4.0 + 0.1 * random.normal(size=(24, 3, 21, 2))
    told = skills.identifiability(record_of(state, skill))
    assert told["nats"] == pytest.approx(np.log(2), abs=0.06)
    assert 0.3 < told["accuracy"] < 0.7


def test_some_skills_that_go_elsewhere_once_cost_little(monkeypatch):
    """Half of 48 skills copy others in one repeat of three.

    A softmax without a uniform share would be certain of the wrong skill.
    """
    random = np.random.default_rng(2)
    skill = Skills(SkillConfig(size=2)).grid(48).numpy()
    ends = np.repeat((5 * skill)[:, None], 3, 1)
    ends[:24, 2] = ends[random.permutation(24), 2]
    record = record_of(ends[:, :, None] + 0.1 * random.normal(size=(48, 3, 21, 2)), skill)
    told = skills.identifiability(record)
    monkeypatch.setattr(skills, "UNIFORM", (0.0,))
    sure = skills.identifiability(record)
    assert told["accuracy"] == sure["accuracy"] > 0.5
    assert told["nats"] > 0.7 > 0.3 > sure["nats"]


def test_what_the_simulator_explains_of_discovery():
    random = np.random.default_rng(3)
    state = random.normal(size=(48, 3, 21, 2)).cumsum(2)
    step = np.diff(state, axis=2)
    noise = random.normal(size=step.shape)
    skill = Skills(SkillConfig(size=2)).grid(48).numpy()
    both = record_of(state, skill, direction=step, way=state[:, :, 1:])
    assert min(skills.discovery_explained(both).values()) > 0.9
    half = skills.discovery_explained(record_of(state, skill, direction=step + noise, way=noise))
    assert 0.3 < half["step"] < 0.6
    assert half["way"] < 0.1
    assert skills.discovery_explained(record_of(state, skill)) == {}


def test_bins_are_counted_and_a_roll_is_no_new_posture():
    numbers = (
        posture.Number(1, 0.1, False),
        posture.Number(2, posture.ANGLE_BIN, True),
        posture.Number(3, 0.5, False),
    )
    body = posture.Body((0,), numbers)
    state = np.array(
        [
            [0.0, 1.0, 0.1, 0.1],
            [0.3, 1.0, 0.1, 0.1],
            [0.3, 1.0, 0.1 + 2 * np.pi, 0.1],
            [0.3, 1.0, 0.1, 0.6],
        ]
    )
    assert posture.coverage(body, state) == {"postures": 2.0, "places": 2.0}
    assert posture.distance(body, state[:1], state[1:2])[0] == pytest.approx(
        0.3 / posture.PLACE_BIN
    )
    turned = state[:1] + np.array([0, 0, 2 * np.pi - 0.5, 0])
    assert posture.distance(body, state[:1], turned)[0] == pytest.approx(0.5 / posture.ANGLE_BIN)
    bent = state[:1] + np.array([0, 0, 0, 2 * np.pi])  # a joint with limits does not come around
    assert posture.distance(body, state[:1], bent)[0] == pytest.approx(4 * np.pi)


def test_returns_are_shares_of_the_experts():
    assert downstream.normalised("walker-walk", 485.5, 1000) == pytest.approx(0.5)
    assert downstream.normalised("cheetah-run", 100, 1000) == pytest.approx(0.1)
    assert downstream.normalised("walker-stand", 98.4, 100) == pytest.approx(1)
    assert downstream.normalised("quadruped-walk", 433, 1000) == pytest.approx(0.5)


def test_the_gap_is_the_share_that_is_lost():
    key = "identifiability/nats"
    results = {"clean": {key: 2.0, "return/use": 1.0}, "heldout": {key: 1.5, "return/use": 0.5}}
    results |= {"untrained, clean": {key: 0.1}}
    assert skill_report.gaps(results) == {"heldout": {key: 0.25}}
    results = {name: dict.fromkeys(MEASURED, 0.5) | row for name, row in results.items()}
    said = skill_report.text_of(results, 48).splitlines()
    assert "1.50 nats (chance 0, at most 0.50)" in said[4]
    (row,) = [line for line in said if line.startswith("nats of the skill")]
    assert row.split()[-4:] == ["2.00", "1.50", "0.10", "0.25"]


@pytest.mark.parametrize(
    ("task", "place", "numbers"),
    [
        ("walker-stand", ["rootx"], ["rootz", "rooty", "right_hip", "right_knee"]),
        ("cheetah-run", ["rootx"], ["rootz", "rooty", "bthigh", "bshin"]),
        ("hopper-hop", ["rootx"], ["rootz", "rooty", "waist", "hip"]),
        ("swimmer-swimmer6", ["rootx", "rooty"], ["rootz", "joint_0", "joint_1"]),
        ("point_mass-easy", ["root_x", "root_y"], []),
        ("reacher-easy", [], ["shoulder", "wrist"]),
        ("pendulum-swingup", [], ["hinge"]),
        ("finger-spin", [], ["proximal", "distal", "hinge"]),
    ],
)
def test_bodies_of_the_suite(task, place, numbers, monkeypatch):
    monkeypatch.undo()
    from dm_control import suite

    physics = suite.load(*task.split("-")).physics
    model, body = physics.model, posture.body(physics)
    names = {
        int(model.jnt_qposadr[joint]): model.id2name(joint, "joint") for joint in range(model.njnt)
    }
    assert [names[address] for address in body.place] == place
    assert [names[number.address] for number in body.posture] == numbers
    turning = {"rooty", "hinge", "shoulder"} if "rooty" not in place else {"rootz"}
    assert {names[number.address] for number in body.posture if number.turns} == turning & set(
        numbers
    )


@pytest.mark.parametrize(
    ("task", "numbers"), [("humanoid-stand", 4), ("quadruped-walk", 4), ("fish-swim", 4)]
)
def test_bodies_with_a_free_root(task, numbers, monkeypatch):
    monkeypatch.undo()
    from dm_control import suite

    physics = suite.load(*task.split("-")).physics
    body, qpos = posture.body(physics), physics.data.qpos.copy()
    state = np.concatenate([qpos, physics.data.qvel])[None]
    where, how = posture.in_bins(body, state)
    assert (where.shape[1], how.shape[1]) == (2, numbers)
    qpos[:3] += [2 * posture.PLACE_BIN, 0, posture.HEIGHT_BIN]
    qpos[3:7] = [np.cos(0.25), 0, np.sin(0.25), 0]  # pitched by 0.5 rad
    flat = state.copy()
    flat[0, 3:7] = [1, 0, 0, 0]
    moved = np.concatenate([qpos, physics.data.qvel])[None]
    assert posture.distance(body, flat, moved)[0] == pytest.approx(
        np.sqrt(4 + 1 + (0.5 / posture.ANGLE_BIN) ** 2)
    )
