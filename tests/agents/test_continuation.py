"""Test episodes that end in a terminal state: learned continuation, and values that are known."""

import numpy as np
import pytest
import torch
from torch import nn

from foreground.agents.actor_critic import ActorCritic, ActorCriticConfig
from foreground.agents.returns import lambda_returns
from foreground.configs import run as runs
from foreground.world_models.rssm import State
from tests.agents.test_hierarchical import HOLD, in_the_plane, make_hierarchical
from tests.support import toys
from tests.support.marks import slow
from tests.support.small import FIXED, make_agent, make_batch

DISCOUNT, LONGEST = 0.9, 6
KNOWN = [
    (1 - DISCOUNT**left) / (1 - DISCOUNT) for left in range(LONGEST + 1)
]  # of Countdown, by the steps that are left


class Counting(nn.Module):
    """Countdown as a world model that is known: a state is a one-hot of the steps that are left; 0
    stays 0.
    """

    def __init__(self, ends: bool = True):
        super().__init__()
        self.continuation = goes_on if ends else None

    def imagine(self, state: State, action: torch.Tensor) -> State:
        left = (state.deterministic.argmax(-1) - 1).clamp(min=0)
        return State(one_hot(left), state.stochastic)


def one_hot(left: torch.Tensor) -> torch.Tensor:
    return nn.functional.one_hot(left, LONGEST + 1).float()


def goes_on(feature: torch.Tensor) -> torch.Tensor:
    return 1 - feature[..., 0]


def pay(imagined) -> torch.Tensor:
    return torch.ones_like(imagined.log_prob)


def learned_values(horizon: int, trace: float, ends: bool = True) -> list[float]:
    """What a critic says of each state after some hundred updates in the known model."""
    torch.manual_seed(0)
    config = ActorCriticConfig(units=32, layers=1, horizon=horizon, discount=DISCOUNT, lam=trace)
    agent = ActorCritic(config, feature=LONGEST + 2, action=1)
    optimiser = torch.optim.Adam(agent.critics.parameters(), 1e-2)
    for _ in range(400):
        start = State(one_hot(torch.randint(0, LONGEST + 1, (64,))), torch.zeros(64, 1))
        losses, _ = agent.loss(Counting(ends), start, {"task": pay})
        optimiser.zero_grad()
        losses["critic"].backward()
        optimiser.step()
    every = torch.cat([one_hot(torch.arange(LONGEST + 1)), torch.zeros(LONGEST + 1, 1)], -1)
    return agent.critics["task"](every)[1].tolist()


@pytest.mark.parametrize(("horizon", "trace"), [(3, 0.95), slow((10, 0.95)), (2, 0.0)])
def test_the_learned_value_is_the_known_one(horizon, trace):
    """Of every state but the terminal one, which nothing reads."""
    assert learned_values(horizon, trace)[1:] == pytest.approx(KNOWN[1:], rel=0.05)


@pytest.mark.slow
def test_without_continuation_the_value_is_that_of_an_endless_episode():
    values = learned_values(10, 0.95, ends=False)
    assert min(values) > 0.8 / (1 - DISCOUNT)


def imagined_of(agent: ActorCritic, left: int):
    start = State(one_hot(torch.full((1,), left)), torch.zeros(1, 1))
    imagined = agent.imagine(Counting(), start, None)
    return imagined._replace(continuation=goes_on(imagined.state_feature))


def test_steps_behind_the_end_weigh_nothing():
    """From 3 steps before the end on: the actor and the critic learn from 3 states, and from none
    behind the end.
    """
    agent = ActorCritic(
        ActorCriticConfig(units=32, layers=1, horizon=6), feature=LONGEST + 2, action=1
    )
    imagined = imagined_of(agent, 3)
    assert imagined.alive[:, 0].tolist() == [1, 1, 1, 0, 0, 0]
    assert (
        imagined_of(agent, 0).alive.sum() == 0
    )  # an imagination that starts from a terminal state
    nn.init.normal_(
        agent.critics["task"].network[-1].weight
    )  # it starts at 0, behind which nothing gets a gradient
    losses, _ = agent.improve(imagined, {"task": pay})
    losses["critic"].backward()
    first = next(
        agent.critics["task"].network.parameters()
    ).grad  # (units, features): a column a state
    assert [bool(column.any()) for column in first.T[: LONGEST + 1]] == [
        False,
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_expected_continuation_multiplies_the_discount():
    reward, value, going = torch.rand(5, 3), torch.rand(5, 3), torch.rand(5, 3)
    returns = lambda_returns(reward, DISCOUNT * going, value, 0.95)
    following = value[-1]
    for step in reversed(range(5)):
        following = reward[step] + DISCOUNT * going[step] * (0.05 * value[step] + 0.95 * following)
        torch.testing.assert_close(returns[step], following)


def countdown_batch(seed: int, batch=16, length=12) -> dict[str, torch.Tensor]:
    """Rows of Countdown as a replay has them: episode behind episode, each with the row of its
    reset.
    """
    rows = make_batch(batch, length, toys.SIDE, action=2, seed=seed)
    rows["reward"][:], rows["is_first"][:], rows["is_terminal"][:] = 0, False, False
    random = np.random.default_rng(seed)
    for row in range(batch):
        left = 0
        for step in range(length):
            first = left == 0
            left = int(random.integers(1, LONGEST + 1)) if first else left - 1
            rows["image"][row, step] = torch.from_numpy(toys.picture(left))
            rows["is_first"][row, step], rows["is_terminal"][row, step] = first, left == 0
            rows["reward"][row, step] = float(not first)
    rows["action"][rows["is_first"]] = 0
    return rows


@pytest.fixture(scope="module")
def taught():
    """A whole agent that saw some hundred batches of Countdown."""
    agent = make_agent(
        FIXED | {"continuation": 1.0}, (), policy={"discount": DISCOUNT}, random_shift=0
    )
    rows = [agent.update(countdown_batch(seed)) for seed in range(400)]
    return agent, rows


@pytest.mark.slow
def test_a_whole_agent_learns_where_episodes_end_and_what_that_is_worth(taught):
    agent, rows = taught
    model, batch = agent.world_model, countdown_batch(1000)
    _, states = model.observe(batch)
    feature = states.state.feature
    with torch.no_grad():
        going, (_, value) = model.continuation(feature), agent.actor_critic.critics["task"](feature)
    assert going[batch["is_terminal"]].max() < 0.1
    assert going[~batch["is_terminal"]].min() > 0.9
    assert rows[-1]["model/continuation/explained"] > 0.9
    assert rows[-1]["model/objective/continuation"] > -0.05
    pictures = np.stack([toys.picture(left) for left in range(LONGEST + 1)])
    left = (
        np.abs(batch["image"].numpy()[..., None, :, :, :].astype(int) - pictures)
        .sum((-1, -2, -3))
        .argmin(-1)
    )
    for steps in range(1, LONGEST + 1):
        assert value[torch.from_numpy(left == steps)].mean().item() == pytest.approx(
            KNOWN[steps], rel=0.15
        ), steps


def test_without_the_term_an_update_does_not_read_what_is_terminal():
    """Updates and samples are bit-identical, as on tasks without termination."""
    one, two = make_agent(FIXED, ()), make_agent(FIXED, ())
    batch = make_batch()
    torch.manual_seed(1)
    one.update(batch)
    torch.manual_seed(1)
    two.update(batch | {"is_terminal": torch.ones_like(batch["is_terminal"])})
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values())
    )
    assert not any("continuation" in name for name in one.state_dict())


def test_replayed_values_end_with_a_terminal_row():
    torch.manual_seed(0)
    agent = ActorCritic(
        ActorCriticConfig(units=32, layers=1, discount=DISCOUNT, lam=0.5),
        feature=LONGEST + 2,
        action=1,
    )
    left = torch.tensor([[3, 2, 1, 0, 4, 3]])
    state = State(one_hot(left), torch.zeros(1, 6, 1))
    reward = torch.tensor([[0.0, 1, 1, 1, 0, 1]])
    is_first = torch.tensor([[True, False, False, False, True, False]])
    known, terminal = torch.ones_like(is_first), left == 0
    optimiser = torch.optim.Adam(agent.critics.parameters(), 1e-2)
    for _ in range(500):
        loss, _ = agent.replayed(state, reward, is_first, known, terminal)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    value = agent.critics["task"](state.feature)[1][0]
    assert value[:3].tolist() == pytest.approx([KNOWN[3], KNOWN[2], KNOWN[1]], rel=0.05)


@pytest.mark.parametrize(
    ("words", "learned"),
    [
        (["--task", "walker-walk"], False),
        (["--task", "gymnasium:toys/Countdown-v0", "--env_module", "tests.support.toys"], True),
        (
            [
                "--task",
                "gymnasium:toys/Countdown-v0",
                "--env_module",
                "tests.support.toys",
                "--environment.terminates",
                "false",
            ],
            False,
        ),
        (["--task", "walker-walk", "--environment.terminates", "true"], True),
    ],
)
def test_continuation_is_learned_where_an_environment_can_terminate(words, learned):
    for agent in ("infopower", "dreamer"):
        config = runs.read(["--agent", agent, *words], cuda=False)
        objective = config.world_model.objective
        assert ("continuation" in objective.terms) == learned
        assert ("continuation" in objective.constraint) == (
            learned and "reward" in objective.constraint
        )


def test_a_step_of_a_high_level_policy_counts_as_much_as_the_episode_goes_on(monkeypatch):
    """At continuation 0.5, K steps continue with 0.5^K and the k-th reward counts 0.5^k."""
    agent = make_hierarchical(terms={"reward": 1.0, "continuation": 1.0})
    in_the_plane(agent, monkeypatch, reward=lambda feature: torch.ones_like(feature[..., 0]))
    monkeypatch.setattr(
        agent.world_model.terms["continuation"],
        "mean",
        lambda feature: torch.full_like(feature[..., 0], 0.5),
    )
    imagined, reward = agent.learners["decisions"].imagine(agent.world_model.initial(5))
    discount = 0.8 ** (1 / HOLD)
    assert torch.allclose(
        reward, torch.full((2, 5), sum((0.5 * discount) ** k for k in range(HOLD)))
    )
    assert torch.allclose(imagined.continuation[1:], torch.full((2, 5), 0.5**HOLD))
    before = {
        name: value.clone()
        for name, value in agent.world_model.terms["continuation"].named_parameters()
    }
    agent.update(make_batch(condition=2))
    after = dict(agent.world_model.terms["continuation"].named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before), (
        "it is the skill run's, and stays"
    )
