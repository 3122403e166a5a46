"""Test the map of goals on walks whose temporal distances are known, and who chooses a goal."""

import math

import pytest
import torch

from foreground.agents.base import Held
from foreground.agents.discovery import DiscoveryConfig
from foreground.agents.goal import POOL, TemporalMap
from foreground.errors import UserError
from foreground.world_models.rssm import State
from tests.agents.test_contract import make

PLACES = torch.linspace(0, 1, 21)


def features(place: torch.Tensor, clip: torch.Tensor) -> torch.Tensor:
    """Return latents (..., 16): bumps along a line for the place (...,), then the clip (..., 4)."""
    bumps = torch.exp(-(((place.unsqueeze(-1) - torch.linspace(0, 1, 12)) / 0.15) ** 2) / 2)
    return torch.cat([bumps, clip.expand(*place.shape, 4)], -1)


def walks(seed: int) -> torch.Tensor:
    """Return random walks (8, 32, 16) on a line of length 1, each before a clip of its own."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(8, 1, generator=generator).expand(-1, 32).clone()
    for step in range(1, 32):
        moved = place[:, step - 1] + 0.08 * torch.randn(8, generator=generator)
        place[:, step] = moved.clamp(0, 1)
    return features(place, torch.randn(8, 1, 4, generator=generator))


@pytest.fixture(scope="module")
def learned() -> TemporalMap:
    torch.manual_seed(0)
    found = TemporalMap(DiscoveryConfig("temporal", 64, 1, temperature=0.3), 16, 16)
    adam = torch.optim.Adam(found.parameters(), 2e-3)
    first = torch.zeros(8, 32, dtype=torch.bool)
    for step in range(200):
        loss, metrics = found.loss(walks(step), first)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert float(metrics["nats"].detach()) > 0.15
    return found


@torch.no_grad()
def test_a_step_towards_the_goal_is_rewarded_before_another_clip_too(learned):
    ours, other = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    here = features(PLACES, ours)
    step = 1 / 20
    for goal in (0.2, 0.5, 0.8):
        condition = learned(features(torch.full((1,), goal), other))
        distance = (PLACES - goal).abs()
        known = (distance > step / 2) & (distance < 0.35)
        towards = features(PLACES + step * torch.sign(goal - PLACES), ours)
        reward = learned.reward(here, towards, condition.expand(21, -1))[known]
        away = learned.reward(towards, here, condition.expand(21, -1))[known]
        assert (reward > 0).float().mean() > 0.85, (goal, reward)
        assert torch.allclose(away, -reward)
    assert float(learned.reward(here, here, condition.expand(21, -1)).abs().max()) == 0


@torch.no_grad()
def test_the_map_says_where_the_robot_is_and_not_which_clip_plays(learned):
    clips = torch.randn(50, 1, 4, generator=torch.Generator().manual_seed(2))
    place = learned(features(PLACES.expand(50, 21), clips))  # (50, 21, C)
    assert torch.allclose(place.norm(dim=-1), torch.ones(50, 21))
    by_clip = (place - place.mean(0)).square().sum() / (place - place.mean((0, 1))).square().sum()
    torch.manual_seed(0)
    untrained = TemporalMap(DiscoveryConfig("temporal", 64, 1), 16, 16)
    first = untrained(features(PLACES.expand(50, 21), clips))
    before = (first - first.mean(0)).square().sum() / (first - first.mean((0, 1))).square().sum()
    assert before > 0.6
    assert by_clip < 0.3
    found = PLACES[(place[0] @ place[1].T).argmax(-1)]
    assert (found - PLACES).abs().mean() < 0.08


def test_the_loss_is_the_cross_entropy_with_geometric_lags():
    constant = TemporalMap(DiscoveryConfig("temporal", 8, 1, lag=2.0), 3, 4)
    with torch.no_grad():
        constant.map[-1].weight.zero_()
        constant.map[-1].bias.fill_(1.0)
    first = torch.zeros(2, 5, dtype=torch.bool)
    first[1, 3] = True  # episodes of 3 and 2 rows
    loss, metrics = constant.loss(torch.randn(2, 5, 3), first)
    numbers = [4] * 5 + [2] * 3 + [1] * 2
    assert float(loss.detach()) == pytest.approx(sum(math.log(n) for n in numbers) / 10)
    assert float(metrics["nats"].detach()) == pytest.approx(0, abs=1e-6)
    # Rows that are alone in their episode are left out.
    alone = torch.ones(1, 2, dtype=torch.bool)
    both = torch.cat([alone, torch.zeros(1, 2, dtype=torch.bool)])
    loss, _ = constant.loss(torch.randn(2, 2, 3), both)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)

    # p(lag) halves with each step for a mean lag of 2: two of three neighbours of a map that tells.
    telling = TemporalMap(DiscoveryConfig("temporal", 8, 1, lag=2.0, temperature=1.0), 3, 2)
    place = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    telling.forward = lambda feature: place
    loss, _ = telling.loss(torch.zeros(1, 3, 3), torch.zeros(1, 3, dtype=torch.bool))
    end = -(2 / 3) * (0 - math.log(1 + math.exp(-1))) - (1 / 3) * (-1 - math.log(1 + math.exp(-1)))
    assert float(loss.detach()) == pytest.approx((2 * end + math.log(2)) / 3, abs=1e-5)


def test_goals_are_replayed_states(monkeypatch):
    agent, batch = make("goal", monkeypatch, "--actor_critic.imag_starts", "24")
    torch.manual_seed(0)
    shape = batch["is_first"].shape
    size = agent.world_model.rssm.feature_size - 16
    state = State(torch.randn(*shape, size), torch.randn(*shape, 16))
    starts = agent.commander.starts(state, batch)
    feature = state.feature.flatten(0, 1)
    rows = [int((feature == row).all(-1).nonzero()) for row in starts.state.feature]
    every = agent.commander.map(feature).detach()
    goals = [int((every - goal).norm(dim=-1).argmin()) for goal in starts.condition]
    assert torch.allclose(every[goals], starts.condition, atol=1e-6)
    length = shape[1]
    later = sum(goal // length == row // length and goal >= row for goal, row in zip(goals, rows))
    assert later >= len(rows) // 2 - 6
    assert len({goal // length for goal in goals}) == len(batch["is_first"])

    # While acting, a goal is drawn from the states of the last update, and held.
    pool = agent.commander.map.pool
    assert pool.shape == (POOL, feature.shape[-1])
    assert all(bool((feature == row).all(-1).any()) for row in pool[:8])
    image, memory, held = batch["image"][:2], agent.initial_state(2), []
    places = agent.commander.map(pool).detach()
    for step in range(3):
        _, memory = agent.act(memory, image[:, step], torch.tensor([step == 0] * 2))
        held.append(memory.condition)
    assert torch.equal(held[0], held[2])
    old = memory._replace(age=torch.tensor([agent.config.skill.duration, 3]))
    following = agent.commander(old, lambda: None, torch.zeros(2).bool(), True)
    assert following.age.tolist() == [1, 4]
    assert not torch.equal(following.condition[0], held[2][0])
    assert torch.equal(following.condition[1], held[2][1])
    assert float((places @ held[0].T).max(0).values.min()) == pytest.approx(1, abs=1e-5)
    restored, _ = make("goal", monkeypatch, "--seed", "3")
    restored.load_training_state(agent.training_state())
    assert torch.equal(restored.commander.map.pool, pool)


def test_no_goal_is_a_state_with_too_little_history(monkeypatch):
    words = ["--world_model.context", "2", "--actor_critic.imag_starts", "0"]
    agent, batch = make("goal", monkeypatch, *words)
    shape = batch["is_first"].shape
    batch["is_first"] = torch.zeros(shape, dtype=torch.bool)
    step = torch.arange(shape[1]).float().expand(shape)  # its column in the sequence
    size = agent.world_model.rssm.feature_size - 16
    state = State(step.unsqueeze(-1).expand(*shape, size), torch.zeros(*shape, 16))
    agent.commander.map.forward = lambda feature: feature
    starts = agent.commander.starts(state, batch)
    assert float(starts.condition[:, 0].min()) >= 2
    assert agent.commander.map.pool[:, 0].unique().tolist() == list(range(2, shape[1]))


def test_a_goal_picture_is_a_condition(monkeypatch):
    agent, batch = make("goal", monkeypatch)
    feature = torch.randn(2, agent.world_model.rssm.feature_size)
    to = agent.commander.to(feature)
    memory = agent.initial_state(2)
    _, memory = agent.act(memory, batch["image"][:2, 0], torch.ones(2).bool(), False, to)
    assert torch.equal(memory.condition, agent.discovery(feature))
    assert isinstance(to(memory, lambda: None, torch.zeros(2).bool(), False), Held)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--discovery.kind", "contrastive"), "places on the map 'temporal'"),
        (("--skill.kind", "one_hot"), "place on the unit sphere"),
        (("--commander", "skill_prior"), "needs the commander 'goal_prior'"),
        (("--learners", "model,discovery,imagination"), "of goals, not of skills"),
    ],
)
def test_what_does_not_fit_goals_is_refused(monkeypatch, words, what):
    with pytest.raises(UserError, match=what):
        make("goal", monkeypatch, *words)
