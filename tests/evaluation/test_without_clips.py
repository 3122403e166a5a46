"""Runs with distractions and no video: what evaluations play, and what they call it."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import plot_tables, result_files
from benchmarks.studies import experience, policy, representation
from foreground import build
from foreground.configs import run as runs
from foreground.evaluation import (
    films,
    goal_report,
    goals,
    measures,
    report,
    skill_report,
    verdicts,
)
from foreground.evaluation.config import EvalConfig
from foreground.evaluation.episodes import Scores
from foreground.training import options
from tests.evaluation.test_verdicts import LATENT, SKILLS

DISTRACTED = ["--background.source", "none", "--distraction.noise", "3"]
SCORES = Scores([2.0] * 5, np.zeros((1, 64, 64, 3), np.uint8))


def config_of(*words: str) -> runs.RunConfig:
    return runs.read(["--task", "walker-walk", *words], cuda=False)


@pytest.mark.parametrize(
    ("words", "sides"),
    [
        (DISTRACTED, ("train", "heldout")),
        (["--background.source", "none"], ("clean", "clean")),
        (["--background.source", "starter"], ("train", "heldout")),
    ],
)
def test_sides_of_a_run(words, sides):
    config = config_of(*words)
    assert (config.training_side, config.fresh_side) == sides
    assert config.has_clips == ("starter" in words)


def test_no_clips_are_named_where_none_play():
    config = config_of(*DISTRACTED)
    results = {"heldout": SCORES, "random policy, heldout": SCORES, "clean": SCORES}
    said = report.verdict(config, results)
    assert said.startswith("return 2.0 on the run's distractions (95 % interval 2.0 to 2.0; random")
    assert said.endswith("2.0 on the clean task (95 % interval 2.0 to 2.0)")
    latent = report.latent_text(config, {"heldout": LATENT, "clean": LATENT}, 64)
    assert latent.startswith("the run's distractions:\n")
    skills = skill_report.text_of(report.shown(config, {"heldout": SKILLS, "clean": SKILLS}), 48)
    assert "gap, the run's distractions" in skills
    for text in (said, latent, skills):
        assert "held-out" not in text
    behind_video = config_of("--background.source", "starter")
    assert report.shown(behind_video, results) is results
    assert "on held-out clips" in report.verdict(behind_video, results)


def test_learned_skills_are_of_the_distractions(tmp_path):
    evaluator = report.Evaluator(config_of("--agent", "diayn", *DISTRACTED), None, tmp_path)
    evaluator.measured = SKILLS
    assert "\nthe run's distractions:\n" in evaluator.learned()


def test_goals_are_of_the_distractions(tmp_path, monkeypatch, capsys):
    config = config_of("--agent", "goal", *DISTRACTED)
    far = np.ones((2, 3))
    attempts = goals.Attempts(far, far, np.zeros(2, bool), np.zeros((0, 3, 4, 4, 3)))
    named = []
    monkeypatch.setattr(goals, "tried", lambda *given: named.append(given[-1]) or ([], attempts))
    page = np.zeros((4, 4, 3), np.uint8)
    monkeypatch.setattr(goal_report, "tiles", lambda *given: named.append(given[-1]) or [page])
    monkeypatch.setattr(films, "write_both", lambda *_: None)
    agent = build.make_agent(config, build.action_space(config), "cpu")
    asked = EvalConfig("run", reach=True, goals=2, background=("heldout",))
    measures.measure_goals(asked, config, agent, 0, tmp_path)
    assert named == ["the run's distractions", "walker-walk, the run's distractions"]
    said = capsys.readouterr().out
    assert "the run's distractions:" in said
    assert "held-out" not in said


def test_names_of_several_words_and_paths_stay():
    assert verdicts.side_in_words("untrained, heldout", False) == (
        "untrained, the run's distractions"
    )
    assert verdicts.side_in_words("videos/train", False) == "videos/train"
    assert verdicts.without_clips({"clean": 1, "gap, heldout": 2}) == {
        "clean": 1,
        "gap, the run's distractions": 2,
    }


class Asked(Exception):
    """The environments that a study plays."""


@pytest.mark.parametrize(("study", "side"), [(representation, "heldout"), (policy, "train")])
def test_a_study_plays_the_distractions_of_its_run(study, side, tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text(options.to_yaml(config_of(*DISTRACTED)))
    monkeypatch.setattr(experience.checkpoint, "latest", lambda _: (tmp_path, None))
    monkeypatch.setattr(experience.checkpoint, "load", lambda _: {})
    monkeypatch.setattr(experience, "completed", lambda state: state)
    monkeypatch.setattr(experience.Experience, "replay", lambda _: None)
    weights = SimpleNamespace(state_dict=dict, load_state_dict=lambda _: None)
    agent = SimpleNamespace(world_model=weights)
    monkeypatch.setattr(experience.Experience, "agent", lambda _: agent)
    monkeypatch.setattr(build, "make_agent", lambda *_: agent)
    monkeypatch.setattr(study, "learn", lambda *_: {})
    made = build.environment_maker

    def environment_maker(config, asked):
        if made_by_study:
            raise Asked(asked, config.distraction.noise)
        made_by_study.append(asked)  # the first one is of_run's
        return made(config, asked)

    made_by_study: list[str] = []
    monkeypatch.setattr(build, "environment_maker", environment_maker)
    with pytest.raises(Asked) as asked:
        study.main([str(tmp_path)])
    assert asked.value.args == (side, 3)


def test_tables_do_not_call_a_run_with_distractions_clean(tmp_path):
    row = {"task": "walker-walk", "method": "infopower", "background": "none", "scores": {}}
    for name, more in (("a", {"distraction": {"noise": 3}}), ("b", {})):
        result_files.write(tmp_path / f"{name}.json", row | more)
    assert {background for _, background in plot_tables.read(tmp_path)} == {"distractions", "clean"}


def test_the_config_of_an_unfinished_run_tells_its_distractions(tmp_path):
    (tmp_path / "config.yaml").write_text(options.to_yaml(config_of(*DISTRACTED)))
    (tmp_path / "metrics.jsonl").write_text("")
    assert result_files.of_run(tmp_path)["distraction"] == {"noise": 3}
