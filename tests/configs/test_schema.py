"""Test that runs of earlier versions load, with renamed and missing parts."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from foreground.configs import renamed
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training import options
from foreground.training.state import SCHEMA, completed

RESULTS = Path(__file__).resolve().parents[2] / "results"
# Of eight results of the first version with modes, and of ten of a day that had `recency`.
GONE = {"actor_critic.clip", "training.recency"}
CLOCKS = {"agent_step": 0, "update": 0, "owed": 0.0}


def old_config(agent: str, path) -> runs.RunConfig:
    """The config that a run of an agent wrote, without what earlier versions did not name, read
    back.
    """
    words = [
        "--agent",
        agent,
        *(["--task", "walker-walk"] if agent in ("mra", "unimodal", "task_conditioned") else []),
    ]
    config = runs.read(words, cuda=False)
    mapping = yaml.safe_load(options.to_yaml(config))
    del mapping["commander"], mapping["learners"], mapping["init_weights"]
    path.write_text(yaml.safe_dump(mapping))
    return config, runs.written(path)


NAMED = ("goal",)  # came when commanders and learners had names


@pytest.mark.parametrize("agent", sorted(set(runs.AGENTS) - {*runs.FOLLOWING, *NAMED}))
def test_a_config_from_before_commanders_and_learners_had_names(agent, tmp_path):
    config, read = old_config(agent, tmp_path / "config.yaml")
    assert read == config


def test_what_earlier_configs_did_not_name_is_what_a_preset_has():
    parts = runs.parts_of(
        {
            "agent": "hierarchical",
            "hierarchy": {"duration": 25},
            "actor_critic": {"rewards": {"task": 1.0}},
        }
    )
    learners = ["frozen_model", "decisions"]
    assert parts == {
        "init_weights": "skills",
        "commander": "high_level_policy",
        "learners": learners,
    }
    parts = runs.parts_of({"actor_critic": {"rewards": {"discovery+use": 1.0}}})
    assert parts == {"init_weights": "nothing", "learners": ["model", "discovery", "imagination"]}
    assert runs.parts_of({"agent": "finetune"}) == {"init_weights": "world_model"}


def test_weights_of_modes_lay_in_a_base_before():
    weights = {"base.world_model.x": torch.zeros(1), "modes.choice": torch.ones(1)}
    state = {
        "agent": {"weights": weights, "optimisers": {}},
        "clocks": CLOCKS,
        "episodes": {},
        "random": {},
    }
    assert set(completed(state)["agent"]["weights"]) == {"world_model.x", "modes.choice"}
    kept = completed(state | {"schema": SCHEMA})["agent"]["weights"]
    assert set(kept) == set(weights)  # of today: nothing is renamed
    with pytest.raises(ValueError, match="schema 99"):
        completed(state | {"schema": 99})


def with_old_names(mapping: dict, prefix: str = "") -> dict:
    """Return the options of a run under the names, and with the values, that they had before."""
    olds = {new: old for old, new in renamed.RENAMED.items() if old != "actor_critic.closed_loop"}
    found = {}
    for name, value in mapping.items():
        key = f"{prefix}{name}"
        old = olds.get(key, key)
        if isinstance(value, dict) and key not in olds:
            value = with_old_names(value, f"{key}.")
        elif old in renamed.VALUES:
            value = {now: before for before, now in renamed.VALUES[old].items()}[value]
        found[old.removeprefix(prefix)] = value
    return found


@pytest.mark.parametrize("agent", ["infopower", "infopower_paper", "slim", "mra"])
def test_a_config_with_the_old_names_is_the_same(agent, tmp_path):
    words = ["--agent", agent, "--task", "walker-walk", "--actor_critic.actor_grad", "dynamics"]
    config = runs.read(words, cuda=False)
    old = with_old_names(options.to_dict(config))
    assert {"frames", "skills", "begin"} <= set(old)
    assert {"entropy", "gradient", "starts", "closed_loop"} - set(old["actor_critic"]) == {
        "closed_loop"
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    assert runs.load(tmp_path) == config


def test_an_option_that_is_gone_loads_where_it_did_nothing(tmp_path):
    config = runs.read(["--agent", "infopower", "--size", "cpu"], cuda=False)
    for value in (1.0, 50.0):
        old = options.to_dict(config)
        old["training"]["recency"] = value
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
        if value == 1.0:
            assert runs.load(tmp_path) == config
        else:
            with pytest.raises(UserError, match="unknown option 'recency'"):
                runs.load(tmp_path)
    flat = {"training.recency": 1.0, "seed": 3}
    assert renamed.of_today(flat) == renamed.BEFORE | {"seed": 3}


def test_every_old_name_leads_to_an_option():
    known = options.leaves(runs.RunConfig)
    for old, new in renamed.RENAMED.items():
        assert old not in known
        assert new in known
        # `mapping_of_today` keeps to the section.
        assert old.rpartition(".")[0] == new.rpartition(".")[0]


@pytest.mark.parametrize(
    ("old", "value", "today"),
    [
        ("actor_critic.closed_loop", False, ("actor_critic.policy_input_grad", 0.0)),
        ("actor_critic.closed_loop", 0.3, ("actor_critic.policy_input_grad", 0.3)),
        ("actor_critic.gradient", "path", ("actor_critic.actor_grad", "dynamics")),
        ("actor_critic.factors", {"use": 2.0}, ("actor_critic.reward_scales", {"use": 2.0})),
        ("actor_critic.horizon", 15, ("actor_critic.horizon", 15)),
    ],
)
def test_an_old_option_has_its_name_and_value_of_today(old, value, today):
    assert renamed.renamed(old, value) == today


def test_a_command_of_before_is_the_same_in_todays_names():
    old = (
        "python train.py --skills runs/frames --actor_critic.gradient path "
        "--optimiser.model_rate=1e-3 --frames 9"
    )
    now = "python train.py --init_from runs/frames --actor_critic.actor_grad dynamics "
    now += "--optimiser.model_lr=1e-3 --total_frames 9"
    assert renamed.command_of_today(old) == now
    assert renamed.command_of_today(now) == now


def test_results_name_options_of_today():
    known = options.leaves(runs.RunConfig)
    seen = 0
    for path in sorted(RESULTS.rglob("*.json")):
        row = json.loads(path.read_text())
        if isinstance(row, dict) and str(row.get("command", "")).startswith("python train.py"):
            words = renamed.command_of_today(row["command"]).split()
            named = {word[2:] for word in words if word.startswith("--")}
            assert named - GONE - {"config"} <= set(known), path
            assert set(renamed.of_today(row.get("settings", {}))) - GONE <= set(known), path
            seen += 1
    assert seen > 100


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--frames", "9"], "unknown option --frames: command line: write --total_frames"),
        (["--skills=runs/x"], "write --init_from"),
        (["--actor_critic.entropy", "0.1"], "write --actor_critic.entropy_coef"),
        (
            ["--actor_critic.gradient", "path"],
            r"write --actor_critic.actor_grad \(reinforce for score, dynamics for path\)",
        ),
    ],
)
def test_an_old_option_on_a_command_line_is_answered_with_the_new_one(words, answer):
    with pytest.raises(UserError, match=answer):
        runs.read(words, cuda=False)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("frames: 9", "unknown option 'frames': FILE: write total_frames"),
        ("actor_critic: {trace: 0.9}", "unknown option 'trace': FILE: actor_critic: write lam"),
        (
            "world_model: {contrastive: {source: state}}",
            "unknown option 'source': FILE: world_model.contrastive: write anchor "
            "(posterior for state, prior for prediction)",
        ),
        ("actor_critic: {lamb: 1}", "unknown option 'lamb': FILE: actor_critic: did you mean lam?"),
    ],
)
def test_an_old_option_in_a_file_is_answered_with_the_new_one(tmp_path, text, error):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as raised:
        runs.read(["--config", str(file)], cuda=False)
    assert str(raised.value) == f"error: {error.replace('FILE', str(file))}"


def test_new_names_of_options_are_in_the_same_section():
    """A file is answered with the last part of the new name alone."""
    sections = {
        old: [key.rpartition(".")[0] for key in (old, new)] for old, new in renamed.RENAMED.items()
    }
    assert [old for old, (before, now) in sections.items() if before != now] == []
