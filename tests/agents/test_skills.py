"""Test skills and discovery: the prior, when it is sampled, the rewards, the critics."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from foreground.agents.actor_critic import ActorCritic, ActorCriticConfig, Imagined
from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import Step
from foreground.agents.commanders import Fixed
from foreground.agents.config import AgentConfig, OptimiserConfig
from foreground.agents.discovery import KINDS, DiscoveryConfig
from foreground.agents.returns import RewardNorm
from foreground.agents.rewards import make_rewards
from foreground.agents.skills import SkillConfig, Skills
from foreground.errors import UserError
from foreground.world_models.rssm import State
from foreground.world_models.world_model import Spaces
from tests.support.small import INFOPOWER, make_batch, world_config

SPHERE, ONE_HOT = SkillConfig(size=3, duration=4), SkillConfig(size=5, kind="one_hot", duration=4)
TERMS = {"contrastive": 1.0, "predictability": 1.0, "empowerment": 1.0, "use": 1.0, "safety": 1.0}
REWARDS = {"discovery": 1.0, "use": 0.5, "safety": 0.2}


def skill_agent(form="wasserstein", skills=SPHERE, rewards=None, **policy) -> WorldModelAgent:
    torch.manual_seed(0)
    actor_critic = ActorCriticConfig(
        rewards=rewards or REWARDS, units=32, layers=1, horizon=5, imag_starts=16, **policy
    )
    optimiser = OptimiserConfig(model_lr=3e-3, actor_lr=3e-3, critic_lr=3e-3, warmup=0)
    world = world_config(TERMS, ("predictability", "use", "safety"))
    discovery = DiscoveryConfig(form, units=32, layers=1)
    learners = ("model", "discovery", "imagination")
    config = AgentConfig(world, actor_critic, optimiser, skills, discovery, learners=learners)
    return WorldModelAgent(config, Spaces(32, 2, skills.size, ("use", "safety")))


def skill_batch(skills=SPHERE, seed=0) -> dict[str, torch.Tensor]:
    batch = make_batch(seed=seed)
    torch.manual_seed(seed)
    shape = batch["reward"].shape
    batch["condition"] = Skills(skills).draw(shape[0])[:, None].expand(*shape, skills.size).clone()
    batch["signals"] = torch.rand(*shape, 2) * torch.tensor([1.0, -1.0])
    return batch


def test_skills_are_directions_or_centred_one_hots():
    torch.manual_seed(0)
    drawn = Skills(SPHERE).draw(4000)
    assert torch.allclose(drawn.norm(dim=-1), torch.ones(4000), atol=1e-5)
    assert drawn.mean(0).abs().max() < 0.05
    drawn = Skills(ONE_HOT).draw(1000)
    assert torch.allclose(drawn.sum(-1), torch.zeros(1000), atol=1e-5)
    assert torch.equal(drawn.max(-1).values, torch.ones(1000))
    assert drawn.argmax(-1).unique().tolist() == [0, 1, 2, 3, 4]
    assert Skills(SkillConfig()).draw(7).shape == (7, 0)
    spread = Skills(SkillConfig(size=2)).grid(8)
    assert torch.allclose(spread[0] + spread[4], torch.zeros(2), atol=1e-6)  # opposite directions
    assert torch.equal(Skills(SPHERE).grid(6), Skills(SPHERE).grid(6))


def test_no_skill_means_no_draw():
    state = torch.get_rng_state()
    skills = Skills(SkillConfig())
    assert skills.draw(3).shape == (3, 0)
    assert torch.equal(state, torch.get_rng_state())


def test_a_skill_is_held_and_drawn_anew_at_resets_and_after_its_time():
    torch.manual_seed(0)
    agent = skill_agent()
    image, seen = torch.zeros(2, 32, 32, 3, dtype=torch.uint8), []
    memory = agent.initial_state(2)
    for step in range(9):
        first = torch.tensor([step in (0, 6), step == 0])
        _, memory = agent.act(memory, image, first)
        seen.append(memory.condition.clone())
    changes = [
        [step for step in range(1, 9) if not torch.equal(seen[step][env], seen[step - 1][env])]
        for env in (0, 1)
    ]
    assert changes == [[4, 6], [4, 8]]  # held for 4 steps; the first environment was reset at 6
    wanted = Skills(SPHERE).grid(2)
    _, memory = agent.act(memory, image, torch.tensor([False, False]), commander=Fixed(wanted))
    assert torch.equal(memory.condition, wanted)


def test_the_actor_hears_the_skill():
    agent = skill_agent()
    with torch.no_grad():
        for parameter in agent.actor_critic.actor.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    image, first = torch.zeros(1, 32, 32, 3, dtype=torch.uint8), torch.tensor([True])
    up = torch.tensor([[1.0, 0, 0]])
    one, _ = agent.act(agent.initial_state(1), image, first, explore=False, commander=Fixed(up))
    two, _ = agent.act(agent.initial_state(1), image, first, explore=False, commander=Fixed(-up))
    assert not torch.allclose(one, two)


@pytest.mark.parametrize("form", KINDS)
def test_an_update_moves_everything_and_discovery_leaves_the_model_alone(form):
    agent = skill_agent(form, ONE_HOT if form == "classifier" else SPHERE)
    batch = skill_batch(agent.config.skill)
    before = {name: weight.clone() for name, weight in agent.state_dict().items()}
    metrics = agent.update(batch)
    moved = {
        name for name, weight in agent.state_dict().items() if not torch.equal(weight, before[name])
    }
    for part in (
        "discovery.map",
        "actor_critic.actor",
        "actor_critic.critics.use",
        "world_model.terms.safety",
    ):
        assert any(name.startswith(part) for name in moved), part
    assert {
        "policy/discovery/return",
        "policy/use/return",
        "policy/safety/return",
        "discovery/gradient",
    } <= set(metrics)
    assert all(torch.isfinite(value) for value in metrics.values())
    before = {name: weight.clone() for name, weight in agent.world_model.state_dict().items()}
    _, states = agent.world_model.observe(batch)
    agent.learners["discovery"](Step(batch, states.state))
    assert all(
        torch.equal(weight, before[name]) for name, weight in agent.world_model.state_dict().items()
    )


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("context", [0, 3, 99])
def test_steps_over_a_reset_and_from_rows_without_history_teach_discovery_nothing(begins, context):
    """A row has its whole history from the start of its episode on. Of a sequence too short for the
    context the last step is kept.
    """
    agent, batch = skill_agent(), skill_batch()
    learner = agent.learners["discovery"]
    model = replace(learner.config.world_model, context=context)
    learner.config = replace(learner.config, world_model=model)
    first = batch["is_first"]
    first[:, 0] = begins
    seen = []
    agent.discovery.loss = lambda previous, following, skill: (
        seen.append((previous, following, skill)),
        (sum(p.square().sum() for p in agent.discovery.parameters()), {}),
    )[1]
    _, states = agent.world_model.observe(batch)
    learner(Step(batch, states.state))
    rows, steps = first.shape
    late = min(max(context, 1), steps - 2)
    kept = [
        (row, step)
        for row in range(rows)
        for step in range(steps - 1)
        if not first[row, step + 1] and (step >= late or first[row, : step + 1].any())
    ]
    row, step = torch.tensor(kept).T
    # The skill is the one under which the action was taken.
    feature, skill = states.state.feature, batch["condition"]
    wanted = feature[row, step], feature[row, step + 1], skill[row, step + 1]
    assert all(torch.equal(*pair) for pair in zip(seen[0], wanted))


def test_the_discovery_reward_is_that_of_the_map_of_the_moment():
    agent = skill_agent()
    deterministic, stochastic = torch.randn(6, 3, 32), torch.randn(6, 3, 16)
    skill = Skills(SPHERE).draw(3)
    imagined = Imagined(
        State(deterministic, stochastic), None, torch.zeros(5, 3, 2), torch.zeros(5, 3), skill
    )
    reward = agent.learners["imagination"].rewards["discovery"](imagined)
    assert reward.shape == (5, 3)
    feature = imagined.state.feature
    place = agent.discovery.map(feature)
    assert torch.allclose(reward[2, 1], (place[3, 1] - place[2, 1]) @ skill[1], atol=1e-5)
    with torch.no_grad():
        agent.discovery.map[-1].weight.mul_(2)
    assert torch.allclose(
        agent.learners["imagination"].rewards["discovery"](imagined), 2 * reward, atol=1e-4
    )


def test_a_reward_in_units_of_itself_has_no_unit_and_does_not_blow_up_noise():
    config = ActorCriticConfig(reward_norm=True)
    generator = torch.Generator().manual_seed(0)
    rewards = [3 + torch.randn(5, 64, generator=generator) for _ in range(20)]
    for factor in (1e-2, 100.0):
        plain, scaled = RewardNorm(config), RewardNorm(config)
        for reward in rewards:
            assert torch.allclose(plain(reward), scaled(factor * reward), atol=1e-4)
    assert plain(rewards[0]).std() == pytest.approx(1, abs=0.1)
    constant = RewardNorm(config)
    for _ in range(20):
        out = constant(torch.full((5, 64), 0.7) + 1e-6 * torch.randn(5, 64, generator=generator))
    assert out.abs().max() < 1e-3
    silent = RewardNorm(config)
    for _ in range(20):
        out = silent(1e-7 * torch.randn(5, 64, generator=generator))
    assert out.abs().max() < 1e-2


class Line:
    """A model whose state moves by the first action."""

    continuation = None

    def imagine(self, state: State, action: torch.Tensor) -> State:
        return State(state.deterministic + action[..., :1], state.stochastic)


def gradient(
    rewards: dict[str, float], factors: dict[str, float], normalise: bool, how: str = "reinforce"
) -> torch.Tensor:
    """Of the actor, for a fixed roll-out: rewards go up, or out, along the line."""
    config = ActorCriticConfig(
        rewards=rewards,
        units=16,
        layers=1,
        horizon=4,
        actor_grad=how,
        reward_norm=normalise,
        return_norm_min=1e-6,
    )
    torch.manual_seed(0)
    policy = ActorCritic(config, 2, 1)
    functions = {
        "discovery": lambda imagined: imagined.following.deterministic[..., 0],
        "use": lambda imagined: -imagined.following.deterministic[..., 0].square(),
    }
    made = {
        name: lambda imagined, name=name: factors.get(name, 1.0) * functions[name](imagined)
        for name in functions
    }
    if "discovery+use" in rewards:
        made["discovery+use"] = lambda imagined: made["discovery"](imagined) + made["use"](imagined)
    start = State(torch.randn(32, 1), torch.zeros(32, 1))
    losses, _ = policy.loss(Line(), start, made)
    parameters = list(policy.actor.parameters())
    return torch.cat([g.flatten() for g in torch.autograd.grad(losses["actor"], parameters)])


def cosine(one: torch.Tensor, two: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, two, dim=0))


@pytest.mark.parametrize("how", ["reinforce", "dynamics"])
@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_a_factor_on_a_reward_turns_one_critic_and_not_several_normalised_ones(factor, how):
    several, one = {"discovery": 1.0, "use": 1.0}, {"discovery+use": 1.0}
    plain = gradient(several, {}, True, how)
    assert cosine(plain, gradient(several, {"discovery": factor}, True, how)) > 0.999
    assert (
        cosine(gradient(one, {}, False, how), gradient(one, {"discovery": factor}, False, how))
        < 0.98
    )


@pytest.mark.parametrize("factor", [2.0**-7, 2.0**7])
def test_training_is_the_same_to_the_bit_under_factors_that_rounding_does_not_touch(factor):
    """Whole updates do not depend on a reward's unit; with a sum of rewards they do."""
    unit, scaled = (
        skill_agent(reward_norm=True, reward_scales=factors) for factors in ({}, {"use": factor})
    )
    added = {"discovery": 1.0, "use+safety": 0.5}
    summed, other = (
        skill_agent(rewards=added, reward_norm=True, reward_scales=factors)
        for factors in ({}, {"use": factor})
    )
    for agent in (unit, scaled, summed, other):
        for seed in range(4):
            agent.update(skill_batch(seed=seed))
    assert all(torch.equal(one, two) for one, two in zip(unit.parameters(), scaled.parameters()))
    assert not all(
        torch.equal(one, two) for one, two in zip(summed.parameters(), other.parameters())
    )


def test_the_order_of_the_critics_does_not_matter():
    several = {"discovery": 1.0, "use": 0.3}
    one = gradient(several, {}, True)
    # The critics start at zero, so their order alone is left.
    two = gradient(dict(reversed(several.items())), {}, True)
    assert cosine(one, two) > 0.9999


def test_skills_that_are_none_change_nothing():
    """Without skills, options of skills change no bit and sample nothing."""
    plain = ActorCriticConfig(rewards={"task": 1.0}, units=32, layers=1, horizon=5, imag_starts=16)
    found = []
    for skills in (SkillConfig(), SkillConfig(size=0, kind="one_hot", duration=1)):
        torch.manual_seed(0)
        agent = WorldModelAgent(
            AgentConfig(world_config(INFOPOWER), plain, skill=skills), Spaces(32, 2)
        )
        agent.update(make_batch())
        found.append(agent.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not any(
        "units" in name and "actor_critic.units" in name for name in found[0]
    )  # no moments are kept


def test_names_joined_by_a_plus_are_one_reward_and_factors_reach_inside():
    model = SimpleNamespace(
        terms={"use": None, "safety": None},
        reward=lambda feature, name: {"use": 2.0, "safety": -1.0}[name],
    )
    imagined = SimpleNamespace(reached=None)
    made = make_rewards(["use+safety", "use"], model, scales={"use": 10.0})
    assert made["use+safety"](imagined) == 19.0
    assert made["use"](imagined) == 20.0
    with pytest.raises(UserError, match="safety"):
        make_rewards(["use+safty"], model)
    with pytest.raises(UserError, match="a scale for 'usse', which is not maximised"):
        make_rewards(["use+safety"], model, scales={"usse": 0.01})


def test_discovery_without_skills_is_refused():
    with pytest.raises(UserError, match=r"skill\.size"):
        skill_agent(skills=SkillConfig())
    with pytest.raises(UserError, match="single skill"):
        SkillConfig(size=1, kind="one_hot")


def test_a_model_without_the_task_reward_is_read_without_it():
    agent = skill_agent()
    assert not agent.world_model.rewarded
    assert skill_agent().world_model.reward(torch.zeros(3, 48), "use").shape == (3,)


def test_every_imagined_start_has_a_skill_of_its_own():
    """The skill that led to a state was followed to its end there: it would teach nothing more."""
    agent, batch = skill_agent(), skill_batch()
    _, states = agent.world_model.observe(batch)
    start, skill, *_ = agent.commander.starts(states.state, batch)
    assert skill.shape == (len(start.deterministic), SPHERE.size)
    torch.testing.assert_close(skill.norm(dim=-1), torch.ones(len(skill)))
    assert len(skill.unique(dim=0)) == len(skill)
