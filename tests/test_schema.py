"""Runs of earlier versions load: what their config and checkpoint did not name, or named otherwise."""

import pytest
import torch
import yaml

from foreground.configs import run as runs
from foreground.training import options
from foreground.training.state import SCHEMA, completed

CLOCKS = {"agent_step": 0, "update": 0, "owed": 0.0}


def old_config(agent: str, path) -> runs.RunConfig:
    """The config that a run of an agent wrote, without what earlier versions did not name, read back."""
    words = ["--agent", agent, *(["--task", "walker-walk"] if agent in ("mra", "unimodal", "task_conditioned") else [])]
    config, _ = runs.read(words, cuda=False)
    mapping = yaml.safe_load(options.to_yaml(config))
    del mapping["commander"], mapping["learners"], mapping["begin"]
    path.write_text(yaml.safe_dump(mapping))
    return config, runs.written(path)


@pytest.mark.parametrize("agent", [name for name in runs.AGENTS if name not in runs.FOLLOWING])
def test_a_config_from_before_commanders_and_learners_had_names(agent, tmp_path):
    config, read = old_config(agent, tmp_path / "config.yaml")
    assert read == config


def test_what_earlier_configs_did_not_name_is_what_a_preset_has():
    parts = runs.parts_of({"agent": "hierarchical", "hierarchy": {"hold": 25}, "actor_critic": {"rewards": {"task": 1.0}}})
    learners = ["frozen_model", "decisions"]
    assert parts == {"begin": "skills", "commander": "high_level_policy", "learners": learners}
    parts = runs.parts_of({"actor_critic": {"rewards": {"discovery+use": 1.0}}})
    assert parts == {"begin": "nothing", "learners": ["model", "discovery", "imagination"]}
    assert runs.parts_of({"agent": "finetune"}) == {"begin": "world_model"}


def test_weights_of_modes_lay_in_a_base_before():
    weights = {"base.world_model.x": torch.zeros(1), "modes.choice": torch.ones(1)}
    state = {"agent": {"weights": weights, "optimisers": {}}, "clocks": CLOCKS, "episodes": {}, "random": {}}
    assert set(completed(state)["agent"]["weights"]) == {"world_model.x", "modes.choice"}
    kept = completed(state | {"schema": SCHEMA})["agent"]["weights"]
    assert set(kept) == set(weights)  # of today: nothing is renamed
    with pytest.raises(ValueError, match="schema 99"):
        completed(state | {"schema": 99})
