"""Test that every agent keeps the contract of agents/base.py.

A new skill method or high-level policy is one short file and a preset.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import nn

from foreground import build
from foreground.agents import registry
from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import Held
from foreground.agents.commanders import Fixed, SkillPrior, due, resampled
from foreground.agents.learners import Part
from foreground.agents.optimiser import descend
from foreground.agents.skills import Skills
from foreground.configs import run as runs
from foreground.errors import UserError
from tests.faults.runs import PLAIN
from tests.support.small import batch_for, make_batch

SIZES = [
    *PLAIN,
    "--task",
    "walker-walk",
    "--world_model.rssm.groups",
    "4",
    "--world_model.rssm.classes",
    "4",
    "--optimiser.warmup",
    "0",
]


def make(name: str, monkeypatch, *words: str) -> tuple[WorldModelAgent, dict[str, torch.Tensor]]:
    """A small agent of a preset, and a batch for it."""
    if name in runs.FOLLOWING:  # only the command line asks for the run that it begins with
        monkeypatch.setattr(runs, "check_skills", lambda config, there: None)
        words = (*words, *(["--skill.size", "2"] if name == "hierarchical" else []))
    config = runs.read(["--agent", name, *words], cuda=False, ours=SIZES)
    # An environment draws, which the ranks of a test, forked from it, must not.
    monkeypatch.setattr(build, "proprioception_size", lambda config: 24)
    agent = build.make_agent(config, Box(-1, 1, (2,)), "cpu")
    return agent, batch_for(agent.spaces)


def weights(agent: WorldModelAgent) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in agent.state_dict().items()}


@pytest.mark.parametrize("name", runs.AGENTS)
def test_every_agent_keeps_the_contract(name, monkeypatch):
    agent, batch = make(name, monkeypatch)
    image, first = batch["image"][:, 0], torch.ones(4, dtype=torch.bool)
    memory = agent.initial_state(4)

    # It acts: in range, the same twice where nothing but the skill is drawn, and its layout is what
    # its memory holds.
    acted = []
    for _ in range(2):
        torch.manual_seed(1)
        acted.append(agent.act(memory, image, first, explore=False))
    (one, held), (two, _) = acted
    assert torch.equal(one, two)
    explored, after = agent.act(memory, image, first)
    assert explored.shape == (4, 2)
    assert float(explored.abs().max()) <= 1
    assert (after.noise is not None) == agent.spec.explores
    for field, (shape, kind) in agent.spec.layout.items():
        value = getattr(held, field).numpy()
        assert (value.shape, value.dtype) == ((4, *shape), np.dtype(kind))

    # Another commander may replace its own.
    wanted = torch.zeros(4, agent.spaces.condition) + 0.5
    _, told = agent.act(memory, image, first, explore=False, commander=Fixed(wanted))
    assert torch.equal(told.condition, wanted)

    # It learns: finite metrics without gradient, and every learner's weights move.
    before = weights(agent)
    for seed in range(3):
        metrics = agent.update(
            make_batch(seed=seed) | {k: v for k, v in batch.items() if k not in ("image", "action")}
        )
    assert all(
        torch.isfinite(value).all() and not value.requires_grad for value in metrics.values()
    )
    names = {id(parameter): key for key, parameter in agent.named_parameters()}
    for optimiser in agent.optimisers.values():
        if optimiser.steps:
            moved = [
                names[id(p)]
                for p in optimiser.parameters
                if not torch.equal(p, before[names[id(p)]])
            ]
            assert moved, optimiser.name
    trained = {
        names[id(p)] for optimiser in agent.optimisers.values() for p in optimiser.parameters
    }
    still = [
        key for key in before if key in names.values() and key not in trained and "slow" not in key
    ]
    assert all(torch.equal(before[key], agent.state_dict()[key]) for key in still)

    # It renders, and resumes from its state: weights and optimiser moments.
    if agent.spec.renders:
        assert agent.render(batch).shape == batch["image"].shape
    other, _ = make(name, monkeypatch, "--seed", "5")
    other.load_training_state(agent.training_state())
    ends = []
    for each in (agent, other):
        torch.manual_seed(1)
        each.update(batch)
        ends.append(weights(each))
    assert all(torch.equal(ends[0][key], value) for key, value in ends[1].items())


def test_an_unknown_commander_or_learner_is_named(monkeypatch):
    with pytest.raises(UserError, match="did you mean skill_prior"):
        make("infopower", monkeypatch, "--commander", "skil_prior")
    with pytest.raises(UserError, match="did you mean imagination"):
        make("infopower", monkeypatch, "--learners", "model,imaginaton")
    with pytest.raises(UserError, match="--learners model,discovery,imagination"):
        make("slim", monkeypatch, "--learners", "model,imagination")


def test_a_name_means_one_thing():
    with pytest.raises(ValueError, match="twice"):
        registry.commander("skill_prior")(Fixed)
    assert registry.commander("skill_prior")(SkillPrior) is SkillPrior


# ------------------------------------------------------------------ what a new method takes: a file


class ByProjection(Part):
    """A learner with its own network: a linear map that is fitted to the current skill."""

    def __init__(self, agent: WorldModelAgent):
        super().__init__(agent)
        self.map = nn.Linear(agent.world_model.rssm.feature_size, agent.skills.size)
        self.modules = {"projection": self.map}

    def begin(self, records: bool) -> None:
        self.optimise("projection", list(self.map.parameters()), 1e-2, 10.0)

    def __call__(self, update) -> dict[str, torch.Tensor]:
        loss = (self.map(update.state.feature) - update.batch["condition"]).square().mean()
        descend(self.optimisers, {"projection": loss})
        return {"projection/error": loss}


class Greedy(SkillPrior):
    """A high-level policy of one's own: of 16 skills the one whose action is the largest, every 3
    steps.
    """

    def __call__(self, memory, see: Callable, is_first: torch.Tensor, explore: bool) -> Held:
        skills = Skills(self.config.skill).grid(16)  # (16, C)
        feature = see().feature.unsqueeze(1).expand(-1, 16, -1)
        inputs = torch.cat([feature, skills.expand(len(feature), -1, -1)], -1)
        best = self.actor(inputs).mean.square().sum(-1).argmax(1)
        return resampled(memory, due(memory, is_first, 3), skills[best])


PRESET = """
agent: slim
commander: greedy
learners: [model, discovery, projection, imagination]
"""


def test_a_new_method_is_a_file_and_a_preset(monkeypatch, tmp_path):
    monkeypatch.setitem(registry.COMMANDERS, "greedy", Greedy)
    monkeypatch.setitem(registry.LEARNERS, "projection", ByProjection)
    (tmp_path / "mine.yaml").write_text(PRESET)
    agent, batch = make("slim", monkeypatch, "--config", str(tmp_path / "mine.yaml"))
    assert list(agent.learners) == ["model", "discovery", "projection", "imagination"]
    assert agent.parameters_by_module()["projection"] > 0
    errors = [float(agent.update(batch)["projection/error"]) for _ in range(40)]
    assert errors[-1] < 0.9 * errors[0]
    assert "projection" in agent.training_state()["optimisers"]
    memory, conditions = agent.initial_state(2), []
    for step in range(4):
        _, memory = agent.act(
            memory, batch["image"][:2, step], torch.tensor([step == 0] * 2), explore=False
        )
        conditions.append(memory.condition)
    assert torch.equal(conditions[0], conditions[2])
    assert memory.age.tolist() == [1, 1]  # chosen anew at the fourth step
    assert any(torch.equal(conditions[3][0], skill) for skill in agent.skills.grid(16))
