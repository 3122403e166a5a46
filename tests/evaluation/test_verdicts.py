"""Test the sentences about results: known values, with chance and maximum."""

import math
import re

import numpy as np
import pytest

from foreground.evaluation import charts, verdicts
from foreground.evaluation.episodes import Scores

LATENT = {
    "state/network/mean": 0.874,
    "state/linear/mean": 0.6,
    "background/network/clip_accuracy": 0.92,
    "background/clip_chance": 0.5,
    "background/network/pixels": 0.04,
    "reward_explained": -0.2,
    "ahead/10/reward_explained": 0.3,
}
SKILLS = {
    "identifiability/accuracy": 0.03,
    "identifiability/chance": 1 / 48,
    "identifiability/nats": 0.01,
    "identifiability/cap": 3.871,
    "coverage/postures": 52.0,
    "violation/mean": 0.125,
    "goals/hit_1": 0.4,
}
GAMES = {
    "speed=1": {
        "kind": "train",
        "mode_0": 10.0,
        "mode_1": 30.0,
        "zero_shot": 30.0,
        "best_of": 30.0,
    },
    "speed=3": {
        "kind": "heldout",
        "mode_0": 50.0,
        "mode_1": 20.0,
        "zero_shot": 20.0,
        "best_of": 50.0,
    },
    "information": {"action": 0.9, "action_cap": 1.39, "game": 0.0, "game_cap": 0.69},
}
ADAPTED = {
    "game": "speed=3",
    "returns": {"0": 10.0, "50": 44.0},
    "best_of": 50.0,
    "best_of_frames": 8000,
    "frames": 4000,
}


def test_returns_stand_beside_the_random_policy():
    rows = {
        "heldout": (812.04, (780.0, 840.0)),
        "clean": (830.0, (825.0, 835.0)),
        "random policy, heldout": (34.2, (30, 40)),
    }
    assert verdicts.of_returns(rows) == (
        "return 812.0 on held-out clips (95 % interval 780.0 to 840.0; random policy 34.2), "
        "830.0 on the clean task (95 % interval 825.0 to 835.0)"
    )


def test_a_latent_that_holds_robot_and_clip():
    state, clip, picture, reward = verdicts.of_latent(LATENT)
    assert (
        state == "the latent holds most of the robot's state: "
        "a probe reads it with R2 0.87 (chance 0, at most 1)"
    )
    assert (
        clip == "it holds most of the clip: "
        "a probe tells 92% of the clips right (chance 50%, at most 100%)"
    )
    assert picture.startswith(
        "it holds hardly any of the clip's picture: a probe reads its pixels with R2 0.04"
    )
    assert "explains hardly any of the reward on fresh episodes: 0% of its variance" in reward
    alone = verdicts.of_latent(LATENT | {"background/clip_chance": 1.0})
    assert alone[1].startswith("one clip alone played")
    assert verdicts.paragraph("heldout", alone).splitlines()[:2] == [
        "held-out clips:",
        f"  {state}",
    ]
    assert (
        len(
            verdicts.of_latent(
                {key: LATENT[key] for key in ("state/network/mean", "reward_explained")}
            )
        )
        == 2
    )


@pytest.mark.parametrize(
    ("value", "chance", "most", "words"),
    [(0.55, 0.5, 1, "some"), (0.5, 0.5, 1, "hardly any"), (3, 0, 4, "most")],
)
def test_words_count_from_chance_to_the_most(value, chance, most, words):
    assert verdicts.how_much(value, chance, most) == words


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_said_to_be_unknown(position, value):
    given = [0.5, 0.0, 1.0]
    given[position] = value
    assert verdicts.how_much(*given) == "an unknown part"


def nothing_measured(row: dict) -> dict:
    return {key: math.nan if isinstance(value, float) else value for key, value in row.items()}


@pytest.mark.parametrize(
    ("sentences", "first"),
    [
        (
            lambda: verdicts.of_latent(nothing_measured(LATENT)),
            "the latent holds an unknown part of the robot's state",
        ),
        (
            lambda: verdicts.of_skills(nothing_measured(SKILLS)),
            "whether the skills differ is not known: no number are told",
        ),
        (
            lambda: verdicts.of_games({key: nothing_measured(row) for key, row in GAMES.items()}),
            "games of training: the mode chosen without a frame returns no number",
        ),
        (
            lambda: verdicts.of_adaptation(
                ADAPTED | {"returns": {"0": 10.0, "50": math.nan}, "best_of": math.nan}
            ),
            "50 steps on 4000 frames of speed=3 have an unknown effect on the return: "
            "10.0 after 0 steps, no number after 50",
        ),
        (
            lambda: [verdicts.of_returns({"clean": (math.nan, (math.nan, math.nan))})],
            "return no number on the clean task",
        ),
        (
            lambda: [
                verdicts.short_table({"clean": {"reward_explained": math.nan}}, verdicts.LATENT)
            ],
            " ",
        ),
    ],
)
def test_no_sentence_judges_what_is_no_number(sentences, first):
    told = sentences()
    assert told[0].startswith(first)
    assert all("no number" in sentence for sentence in told)
    assert not any(re.search(r"\bnan\b|\binf\b|\bmost\b of", sentence) for sentence in told)


def test_skills_that_do_the_same():
    same, reach, hit = verdicts.of_skills(SKILLS)
    assert same.startswith(
        "the skills do the same: 3% are told right from the robot's states "
        "(chance 2%, at most 100%), 0.01 nats"
    )
    assert "at most 3.87" in same
    assert verdicts.of_skills(SKILLS | {"identifiability/accuracy": 0.5})[0].startswith(
        "the skills do the same"
    )  # by luck
    assert verdicts.of_skills(SKILLS | {"identifiability/nats": 2.5})[0].startswith(
        "the skills differ: "
    )
    assert (
        reach == "they reach 52 bins of postures; "
        "violations 12.5%, the mean over their kinds (at best 0%)"
    )
    assert hit == "40% of the goals are hit within one bin (at most 100%)"


def test_the_worst_kind_of_violation_stands_beside_their_mean():
    kinds = {
        "violation/fall": 0.86,
        "violation/limit": 0.1,
        "violation/contact": 0.05,
        "violation/saturation": math.nan,
    }
    assert verdicts.of_violations(kinds | {"violation/mean": 0.258}) == (
        "violations 25.8%, the mean over their kinds (at best 0%); worst: falls 86.0%"
    )


@pytest.mark.parametrize(
    ("verdict", "what", "needed"),
    [
        (lambda number: verdicts.of_latent(LATENT, number), "episodes", 32),
        (lambda number: verdicts.of_skills(SKILLS, number), "rollouts, 3 of a skill", 48),
        (lambda number: verdicts.of_games(GAMES, number), "episodes of a game", 5),
        (lambda number: verdicts.of_adaptation(ADAPTED | {"episodes": number}), "episodes", 5),
    ],
)
def test_of_too_few_there_is_no_verdict_but_the_number_that_it_needs(verdict, what, needed):
    few, enough = verdict(needed - 1), verdict(needed)
    assert few[0].startswith(
        f"too few to tell: {needed - 1} {what}; a verdict needs {needed} or more (--"
    )
    assert len(few) == len(enough) + 1
    assert not any("too few" in sentence for sentence in enough)
    judging = ("holds most", "hardly any of", "skills do the same", " raise the return")
    assert not any(words in sentence for words in judging for sentence in few)


def test_few_episodes_have_no_interval():
    for number, told in ((1, None), (4, None), (5, (2.0, 2.0))):
        assert Scores([2.0] * number, np.zeros((1, 1, 1, 3))).interval() == told
    said = verdicts.of_returns(
        {"heldout": (2.0, None), "clean": (3.0, None), "random policy, heldout": (1.0, None)}
    )
    assert said == (
        "return 2.0 on held-out clips (random policy 1.0), 3.0 on the clean task; "
        "too few episodes for an interval, which needs 5"
    )
    assert "too few" not in verdicts.of_returns(
        {"clean": (2.0, (1.0, 3.0)), "random policy, clean": (1.0, None)}
    )


def test_games_and_adaptation():
    train, held, differ = verdicts.of_games(GAMES)
    assert train == (
        "games of training: the mode chosen without a frame returns 30.0, "
        "the best mode found by trying 30.0 (mean over 1)"
    )
    assert held.startswith("held-out games: the mode chosen without a frame returns 20.0")
    assert differ.startswith(
        "the modes differ: a mode tells 0.90 nats of the action (chance 0, at most 1.39)"
    )
    (adapted,) = verdicts.of_adaptation(ADAPTED)
    assert adapted.startswith(
        "50 steps on 4000 frames of speed=3 raise the return: 10.0 after 0 steps, 44.0 after 50"
    )


def test_a_short_table_has_what_is_there():
    text = verdicts.short_table(
        {"clean": {"reward_explained": 0.5}, "heldout": LATENT}, verdicts.LATENT
    ).splitlines()
    assert text[0].split("  ")[-1].strip() == "held-out clips"
    (row,) = [line for line in text if line.startswith("reward explained")]
    assert row.split()[-2:] == ["0.50", "-0.20"]
    (row,) = [line for line in text if line.startswith("clips told right")]
    assert row.split()[-1] == "0.92"
    assert len(text) == 1 + 7  # no line without a number
    estimates = {f"{side}/nats/compressed": 0.25 for side in ("state", "background")}
    rows = verdicts.short_table({"heldout": {"state/nats/knn": 0.5} | estimates}, verdicts.LATENT)
    assert [line.split()[-1] for line in rows.splitlines()[1:]] == ["0.50", "0.25", "0.25"]


def test_a_number_of_bins_is_a_whole_number():
    rows = {"clean": {"coverage/postures": 48.0}, "gap, heldout": {"coverage/postures": 0.125}}
    assert verdicts.short_table(rows, verdicts.SKILLS).splitlines()[1].split()[-2:] == [
        "48",
        "0.12",
    ]


@pytest.mark.parametrize(
    ("draw", "results"),
    [
        (
            charts.latent,
            {"heldout": LATENT, "clean": {"state/network/mean": 0.9, "reward_explained": 0.9}},
        ),
        (charts.skills, {"heldout": SKILLS, "untrained, heldout": SKILLS}),
        (charts.games, {"heldout": GAMES, "clean": GAMES}),
        (charts.adaptation, {"heldout": ADAPTED}),
    ],
)
def test_each_measurement_has_a_picture(draw, results):
    picture = draw(results, "infopower on walker-walk after 100,000 env frames")
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    colour = np.array([int(charts.COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)])
    assert (
        np.abs(picture.astype(int) - colour).sum(2) < 30
    ).sum() > 50  # the first background's marks


def test_goals_of_skills_stand_beside_those_hit_by_chance():
    (alone,) = [line for line in verdicts.of_skills(SKILLS) if "goals" in line]
    assert alone == "40% of the goals are hit within one bin (at most 100%)"
    said = verdicts.of_skills(SKILLS | {"goals/other_hit_1": 0.3})
    assert said[-1] == "40% of the goals are hit within one bin (by chance 30%, at most 100%)"
