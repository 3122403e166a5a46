"""Test the high-level policy over frozen skills: freezing, imagination, learning."""

import itertools

import pytest
import torch

from foreground.agents.actor_critic import ActorCriticConfig
from foreground.agents.agent import WorldModelAgent
from foreground.agents.config import AgentConfig, HierarchyConfig, OptimiserConfig
from foreground.agents.optimiser import descend
from foreground.agents.policy import Policy
from foreground.agents.skills import SkillConfig
from foreground.errors import UserError
from foreground.training.periodic import Metrics
from foreground.world_models.rssm import State
from foreground.world_models.world_model import Spaces
from tests.foreground.test_docs import documented
from tests.support.small import make_batch, world_config

HOLD, PLANE = 3, SkillConfig(2)
COMMANDED = {"commander": "high_level_policy", "learners": ("frozen_model", "decisions")}


def make_hierarchical(skill=PLANE, terms=None) -> WorldModelAgent:
    torch.manual_seed(0)
    policy = ActorCriticConfig(
        units=32, layers=1, horizon=2, imag_starts=16, discount=0.8, entropy_coef=0.0
    )
    optimiser = OptimiserConfig(model_lr=3e-3, actor_lr=3e-3, critic_lr=3e-3, warmup=0)
    world = world_config(terms or {"reward": 1.0}, ())
    config = AgentConfig(
        world,
        policy,
        optimiser,
        skill,
        hierarchy=HierarchyConfig(HOLD, units=32, layers=1),
        **COMMANDED,
    )
    return WorldModelAgent(config, Spaces(32, 2, skill.size))


def in_the_plane(
    agent: WorldModelAgent, monkeypatch, reward=lambda feature: feature[..., 0]
) -> None:
    """An exact world: the skill moves the first two numbers of the state, by a tenth a step."""

    def imagine(state: State, action: torch.Tensor) -> State:
        moved = state.deterministic.clone()
        moved[..., :2] += 0.1 * action
        return State(moved, state.stochastic)

    monkeypatch.setattr(agent.world_model, "imagine", imagine)
    monkeypatch.setattr(agent.world_model, "reward", reward)
    monkeypatch.setattr(agent, "select_action", lambda state, skill, noise=None: skill)


def test_the_world_and_the_skills_stay_as_they_are():
    agent = make_hierarchical()
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    metrics = agent.update(make_batch(condition=2))
    assert all(torch.isfinite(value).all() for value in metrics.values())
    changed = {
        name for name, value in agent.state_dict().items() if not torch.equal(value, before[name])
    }
    learns = ("world_model.terms.reward.", "actor_critic.")
    assert {name for name in changed if not name.startswith(learns)} == set()
    for part in (*learns[:1], "actor_critic.actor.", "actor_critic.critics."):
        assert any(name.startswith(part) for name in changed), part


def test_a_step_of_it_is_many_steps_of_a_skill(monkeypatch):
    agent = make_hierarchical()
    in_the_plane(agent, monkeypatch)
    size, sample = agent.world_model.rssm.config.deterministic, agent.world_model.rssm.latent.size
    start = State(torch.zeros(5, size), torch.zeros(5, sample))
    imagined, reward = agent.learners["decisions"].imagine(start)
    assert imagined.state.deterministic.shape == (3, 5, size)
    assert reward.shape == (2, 5)
    place, discount = torch.zeros(5, 2), 0.8 ** (1 / HOLD)
    for step in range(2):
        skill = torch.nn.functional.normalize(imagined.action[step].clamp(-1, 1), dim=-1)
        total = torch.zeros(5)
        for inner in range(HOLD):
            place = place + 0.1 * skill
            total += discount**inner * place[:, 0]
        torch.testing.assert_close(reward[step], total)
        torch.testing.assert_close(imagined.state.deterministic[step + 1, :, :2], place)


@pytest.mark.parametrize("skill", [PLANE, SkillConfig(4, "one_hot")])
def test_it_learns_which_skill_pays(monkeypatch, skill):
    agent = make_hierarchical(skill)
    in_the_plane(agent, monkeypatch, lambda feature: feature[..., 0])
    monkeypatch.setattr(agent, "select_action", lambda state, skill, noise=None: skill[:, :2])
    size, sample = agent.world_model.rssm.config.deterministic, agent.world_model.rssm.latent.size
    for _ in range(150):
        place = torch.cat([torch.randn(64, 2), torch.zeros(64, size - 2)], -1)
        imagined, reward = agent.learners["decisions"].imagine(
            State(place, torch.zeros(64, sample))
        )
        losses, _ = agent.actor_critic.improve(imagined, {"task": lambda _, reward=reward: reward})
        descend(agent.optimisers, losses)
    feature = torch.cat([torch.randn(64, 2), torch.zeros(64, size - 2 + sample)], -1)
    chosen = agent.skills.nearest(agent.actor_critic.actor(feature).mean)
    assert (chosen[:, 0] > 0.9).float().mean() > 0.9  # east, by the sphere or by the first one-hot


def test_a_skill_is_held_and_drawn_anew_at_resets(monkeypatch):
    agent = make_hierarchical()
    image, memory, held = make_batch()["image"][:2, 0], agent.initial_state(2), []
    for step in range(2 * HOLD):
        first = torch.tensor([step == 0, step in (0, 2)])
        action, memory = agent.act(memory, image, first)
        held.append(memory.condition)
        assert action.abs().max() <= 1
    changed = [
        [not torch.equal(a[row], b[row]) for a, b in itertools.pairwise(held)] for row in range(2)
    ]
    assert changed[0] == [False, False, True, False, False]
    assert changed[1] == [False, True, False, False, True]  # its second episode began at step 2
    torch.testing.assert_close(memory.condition.norm(dim=-1), torch.ones(2))


def test_it_explores_by_skills_and_not_by_actions(monkeypatch):
    agent = make_hierarchical()
    skill = torch.tensor([[1.0, 0.0]] * 2)
    state = agent.world_model.initial(2)
    fixed = Policy(torch.zeros(2, 2), torch.ones(2, 2))
    monkeypatch.setattr(agent.skill_policy, "forward", lambda feature: fixed)
    assert torch.equal(agent.select_action(state, skill), torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ({"actor_grad": "dynamics"}, "choose reinforce"),
        ({"rewards": {"task": 1.0, "use": 0.1}}, "choose task=1"),
        ({"reward_scales": {"task": 2.0}}, "without reward_scales"),
        ({"terms": {"reward": 1.0, "contrastive": 1.0}}, "choose reward=1"),
    ],
)
def test_what_a_high_level_policy_has_nothing_to_do_with_is_refused(changed, remedy):
    terms = changed.pop("terms", {"reward": 1.0})
    policy = ActorCriticConfig(units=32, layers=1, **changed)
    config = AgentConfig(
        world_config(terms, ()),
        policy,
        skill=PLANE,
        hierarchy=HierarchyConfig(HOLD, 32, 1),
        **COMMANDED,
    )
    with pytest.raises(UserError, match=remedy):
        WorldModelAgent(config, Spaces(32, 2, 2))


def test_its_metrics_are_on_the_page():
    page = documented("reference/metrics.md")
    metrics = Metrics()
    metrics.add(make_hierarchical().update(make_batch(condition=2)))
    assert [key for key in metrics.flush() if not page.fullmatch(key)] == []
