"""Test what train.py and eval.py show of skills, and runs that begin with a run of skills."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from foreground import build, saved
from foreground.agents.config import HierarchyConfig
from foreground.agents.discovery import DiscoveryConfig
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.evaluation import skill_report
from foreground.training import checkpoint, options
from tests.support.programs import PLAIN, assert_one_line, run, written

WORDS = [word for index, word in enumerate(PLAIN) if "--task" not in (word, PLAIN[index - 1])]


@pytest.fixture(scope="module")
def skill_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("skills") / "metra"
    few = [
        "--evaluation.num_skills",
        "4",
        "--skill.duration",
        "5",
        "--evaluation.episodes",
        "1",
        "--discovery.units",
        "32",
    ]
    result = run(
        "train.py",
        *WORDS,
        *few,
        "--task",
        "cartpole-balance",
        "--agent",
        "metra",
        "--total_frames",
        400,
        "--folder",
        folder,
    )
    assert result.returncode == 0, result.stderr
    return folder


def test_a_skill_run_shows_its_skills(skill_run):
    rows = [json.loads(line) for line in (skill_run / "metrics.jsonl").read_text().splitlines()]
    told = rows[-1]
    assert (
        -1
        < told["evaluation/skills/identifiability/nats"]
        <= told["evaluation/skills/identifiability/cap"]
    )
    for name in ("skills-heldout.mp4", "skills-heldout.png"):
        assert (skill_run / name).stat().st_size > 200
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(skill_run))
    events.Reload()
    assert "skills/heldout" in events.Tags()["images"]


def test_skills_are_measured_and_planned_with(skill_run):
    few = [
        "--episodes",
        1,
        "--goals",
        2,
        "--skill_number",
        4,
        "--best_of",
        2,
        "--plan_episodes",
        1,
        "--threads",
        1,
    ]
    words = [
        "--skills",
        "--reach",
        "--plan",
        "--random",
        "--background",
        "clean,heldout",
        "--task",
        "cartpole-swingup",
    ]
    result = run("eval.py", skill_run, *few, *words)
    place = written(result)
    assert "-cartpole-swingup-clean+heldout-random-skills-reach-plan-episodes=1-" in place.name
    kept = json.loads((place / "skills.json").read_text())
    assert (place / "skills.png").stat().st_size > 5000
    assert (
        "too few to tell: 12 rollouts, 3 of a skill; a verdict needs 48 or more (--skill_number 16)"
    ) in result.stdout
    assert "clean task:\n" in result.stdout
    assert "are told right from the robot's states (chance 25%, at most 100%)" in result.stdout
    assert set(kept["skills"]) == {"clean", "heldout", "untrained, clean"}
    measured = kept["skills"]["clean"]
    for key in (
        "identifiability/accuracy",
        "goals/hit_3",
        "downstream/cartpole-swingup/best_skill",
        "coverage/postures",
    ):
        assert key in measured
    assert "heldout" in kept["gaps"]
    aimed = json.loads((place / "goals.json").read_text())["goals"]
    assert set(aimed) == {"clean", "heldout", "untrained, clean"}
    assert {row["same_clip"] for row in aimed.values()} == {0.0}
    assert aimed["clean"]["hit_3"] == measured["goals/hit_3"]
    assert (place / "goals-heldout.mp4").stat().st_size > 1000
    assert "too few to tell: 2 goals; a verdict needs 20 or more (--goals 20)" in result.stdout
    scores = json.loads((place / "scores.json").read_text())["scores"]
    assert {"planned, clean", "planned, heldout"} <= set(scores)
    one = run(
        "eval.py", skill_run, "--skill", 3, "--episodes", 1, "--background", "clean", "--threads", 1
    )
    assert one.returncode == 0, one.stderr


@pytest.mark.parametrize("agent", runs.FOLLOWING)
def test_a_run_begins_with_the_world_model_of_a_skill_run(skill_run, tmp_path, agent):
    words = [
        "--device",
        "cpu",
        "--threads",
        "1",
        "--training.prefill",
        "100",
        "--background.source",
        "procedural",
    ]
    words += ["--evaluation.episodes", "1", "--training.batch_length", "8"]
    words += ["--training.train_ratio", "1", "--task", "cartpole-swingup", "--total_frames", "300"]
    words += ["--environment.time_limit", "100"]
    words += ["--agent", agent, "--init_from", skill_run, "--folder", tmp_path / "run"]
    result = run("train.py", *words)
    assert result.returncode == 0, result.stderr
    config = runs.load(tmp_path / "run")
    assert config.world_model.rssm.deterministic == 32
    assert config.size == "cpu"
    there, here = (
        checkpoint.load(checkpoint.latest(folder / "checkpoints")[0])["agent"]
        for folder in (skill_run, tmp_path / "run")
    )
    old, new = there["weights"] | there["average"]["values"], here["weights"]  # as in evaluation
    if agent == "hierarchical":
        same = [
            name for name in new if name.startswith(("world_model.rssm", "world_model.encoder"))
        ]
        assert same
        assert all(torch.equal(new[name], old[name]) for name in same)
        policy = [name for name in new if name.startswith("skill_policy.")]
        assert policy
        assert all(
            torch.equal(new[name], old[name.replace("skill_policy", "actor_critic.actor")])
            for name in policy
        )
        resumed = run("train.py", *words)
        assert "resumed      at frame" in resumed.stdout, resumed.stderr
        assert (
            run(
                "eval.py",
                tmp_path / "run",
                "--episodes",
                1,
                "--background",
                "clean",
                "--threads",
                1,
            ).returncode
            == 0
        )


def test_the_weights_of_the_other_run_are_where_learning_starts(skill_run):
    words = [
        "--agent",
        "finetune",
        "--init_from",
        str(skill_run),
        "--background.source",
        "none",
        "--task",
        "cartpole-swingup",
    ]
    config = runs.read(words, cuda=False)
    assert config.skill.size == 0
    agent = build.make_agent(config, build.action_space(config), "cpu")
    fresh = {name: value.clone() for name, value in agent.state_dict().items()}
    assert saved.load_pretrained(agent, config).folder == skill_run.resolve()
    kept = checkpoint.load(checkpoint.latest(skill_run / "checkpoints")[0])["agent"]
    old = kept["weights"]  # not their average, since they are trained further
    weight = "world_model.rssm.recurrence.input.weight"
    assert not torch.equal(kept["average"]["values"][weight], old[weight])
    for name, value in agent.state_dict().items():
        new = name.startswith(("world_model.terms.reward.", "world_model.rule.", "actor_critic."))
        assert torch.equal(value, (fresh if new else old)[name]), name
    assert not torch.equal(
        fresh["world_model.rssm.recurrence.input.weight"],
        old["world_model.rssm.recurrence.input.weight"],
    )


def test_a_run_may_begin_with_a_checkpoint(skill_run):
    newest = checkpoint.latest(skill_run / "checkpoints")[0]
    config = runs.read(["--agent", "hierarchical", "--init_from", str(newest)], cuda=False)
    assert (config.skill.size, config.hierarchy.duration, config.hierarchy.units) == (2, 25, 32)
    assert saved.find_run(newest) == (skill_run, newest)


def test_looking_at_skills_leaves_the_agent_as_it_was(skill_run, tmp_path):
    config = replace(runs.load(skill_run), discovery=DiscoveryConfig("lipschitz"))
    agent = build.make_agent(config, build.action_space(config), "cpu")
    before, random = (
        {name: value.clone() for name, value in agent.state_dict().items()},
        torch.get_rng_state(),
    )
    skill_report.show(config, agent, tmp_path, "clean", "clean", targets=2, number=2)
    skill_report.best_skill(config, agent, "clean", number=2, episodes=1)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())
    assert agent.training


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--task", "cheetah-run"], ["body is cartpole", "choose a task of cartpole"]),
        (["--environment.image_size", "64"], ["image_size is 32 there and 64 here"]),
        (["--size", "12m"], ["size is cpu there and 12m here"]),
        (["--world_model.depth", "16"], ["depth is 4 there and 16 here"]),
    ],
)
def test_a_skill_run_that_does_not_fit_is_refused(skill_run, words, parts):
    assert_one_line(
        run("train.py", "--agent", "hierarchical", "--init_from", skill_run, *words), *parts
    )


def test_without_a_run_to_begin_with_it_is_said(tmp_path):
    with pytest.raises(UserError, match="with which run finetune begins"):
        runs.read(["--agent", "finetune"], cuda=False)
    with pytest.raises(UserError, match="not a run folder"):
        runs.read(["--agent", "hierarchical", "--init_from", str(tmp_path)], cuda=False)
    with pytest.raises(UserError, match="infopower has no hierarchy"):
        runs.read(["--agent", "infopower", "--hierarchy.duration", "5"], cuda=False)
    (tmp_path / "mine.yaml").write_text(f"init_from: {tmp_path}\n")
    with pytest.raises(UserError, match="stands in a file"):
        runs.read(["--agent", "infopower", "--config", str(tmp_path / "mine.yaml")], cuda=False)


def test_skills_that_are_not_held_are_no_hierarchy(skill_run):
    with pytest.raises(UserError, match="skills are held for 0 steps"):
        runs.read(
            ["--agent", "hierarchical", "--init_from", str(skill_run), "--hierarchy.duration", "0"],
            cuda=False,
        )


def test_an_agent_that_begins_with_nothing_is_not_given_a_run(skill_run):
    with pytest.raises(UserError, match="slim does not begin with another run"):
        runs.read(["--agent", "slim", "--init_from", str(skill_run)], cuda=False)


def test_skills_of_skills_are_refused(skill_run, tmp_path):
    config = replace(runs.load(skill_run), hierarchy=HierarchyConfig(5), init_from="runs/below")
    (tmp_path / "config.yaml").write_text(options.to_yaml(config))
    with pytest.raises(UserError, match="give the run of its skills, runs/below"):
        runs.read(["--agent", "hierarchical", "--init_from", str(tmp_path)], cuda=False)


def test_actions_of_another_number_are_refused(skill_run, monkeypatch):
    """Swimmers of 6 and of 15 links are one domain."""
    config = runs.read(
        ["--agent", "hierarchical", "--init_from", str(skill_run), "--task", "cartpole-swingup"],
        cuda=False,
    )
    sizes = {"cartpole-swingup": 14, "cartpole-balance": 5}
    monkeypatch.setattr(
        build, "action_space", lambda one: SimpleNamespace(shape=(sizes[one.task],))
    )
    agent = SimpleNamespace(spaces=SimpleNamespace(action=14))
    with pytest.raises(
        UserError, match="takes 14 actions, and the skills of cartpole-balance give 5"
    ):
        saved.load_pretrained(agent, config)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--skill", "48"], ["there is no skill 48", "choose 0 to 47"]),
        (["--task", "walker-walk"], ["body is cartpole", "choose a task of cartpole"]),
        (["--task", "cartpole-swing"], ["unknown task", "cartpole-swingup"]),
    ],
)
def test_what_skills_cannot_do_is_one_line(skill_run, words, parts):
    assert_one_line(run("eval.py", skill_run, *words), *parts)
