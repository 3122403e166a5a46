"""Test the latent policy: alternation, constraint, starts, acting, and what it ignores."""

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from gymnasium import spaces as gym_spaces
from torch.func import functional_call

from foreground import build
from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import Step
from foreground.agents.config import AgentConfig, ModesConfig
from foreground.agents.skills import SkillConfig
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training.rollout import Rollout, layout_of
from foreground.world_models.world_model import Spaces
from tests.support.latent import (
    GAMES,
    MODAL,
    batch_of,
    changed,
    inputs,
    make_agent,
    parts_of,
    states,
)
from tests.support.small import INFOPOWER, world_config

# ----------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize("gradient", ["dynamics", "reinforce"])
def test_relation_modes_and_classifier_move_once_a_round(gradient):
    agent = make_agent(gradient=gradient)
    for number in range(1, 7):
        moved = parts_of(changed(agent, lambda n=number: agent.update(batch_of(agent, n))))
        always = {"actor.policy", "critics", "world_model"}
        assert moved == (
            always | {"actor.relation", "modes.choice", "classifier"} if number % 3 == 0 else always
        ), number


def test_targets_are_hard_copies_once_a_round():
    agent = make_agent()
    critic = agent.actor_critic.critics["game"]

    def alike() -> bool:
        return all(
            torch.equal(one, other)
            for one, other in zip(critic.slow.parameters(), critic.network.parameters())
        )

    seen = []
    for number in range(6):
        agent.update(batch_of(agent, number))
        seen.append(alike())
    assert seen == [False, False, True, False, False, True]


def test_all_terms_multipliers_and_slacks_are_told():
    agent = make_agent()
    for number in range(3):
        metrics = agent.update(batch_of(agent, number))
    assert all(torch.isfinite(value).all() for value in metrics.values())
    for game in range(3):
        assert {
            f"modes/game_{game}/{key}"
            for key in ("slack", "multiplier", "best", "return_0", "return_2")
        } <= set(metrics)
    assert metrics["modes/information/action_cap"] == pytest.approx(math.log(3))
    assert -1e-3 <= float(metrics["modes/information/action"]) <= math.log(3)
    assert float(metrics["modes/information/game"]) <= math.log(3)


def told(agent, values: torch.Tensor, rounds=40) -> dict:
    """The constraint after rounds in which the critic says values (M, K) whatever the state."""
    index = torch.arange(30) % 3
    for _ in range(rounds):
        metrics = agent.modes.constrain(values[index], index)
    return metrics


def test_a_multiplier_rises_where_modes_fall_short_and_falls_where_none_does():
    """Uniform modes with a tolerance of a fifth.

    (10, 10, 10) has no shortfall, (10, 10, 5) a mean shortfall of a sixth, (10, 4, 4) two fifths.
    """
    agent = make_agent()
    for parameter in agent.modes.choice.parameters():
        torch.nn.init.zeros_(parameter)
    metrics = told(agent, torch.tensor([[10.0, 10, 10], [10, 10, 5], [10, 4, 4]]))
    slack = [float(metrics[f"game_{m}/slack"]) for m in range(3)]
    assert slack == pytest.approx([0.2, 0.2 - 1 / 6, 0.2 - 0.4], abs=1e-5)
    multiplier = [float(metrics[f"game_{m}/multiplier"]) for m in range(3)]
    assert multiplier[0] == multiplier[1] == 1 < multiplier[2]  # 1 is the least
    again = [
        float(told(agent, torch.full((3, 3), 10.0), 5)[f"game_{m}/multiplier"]) for m in range(3)
    ]
    assert 1 < again[2] < multiplier[2]


def test_returns_below_zero_have_a_slack_too():
    agent = make_agent()
    for parameter in agent.modes.choice.parameters():
        torch.nn.init.zeros_(parameter)
    metrics = told(agent, torch.tensor([[-10.0, -10, -10], [-10, -13, -13], [-10, -11, -11]]))
    assert [float(metrics[f"game_{m}/slack"]) for m in range(3)] == pytest.approx(
        [0.2, 0.0, 0.2 - 2 / 30], abs=1e-5
    )


def test_the_best_seen_is_kept_but_not_for_ever():
    agent = make_agent()
    told(agent, torch.tensor([[10.0, 0, 0]] * 3), 1)
    told(agent, torch.tensor([[5.0, 5, 5]] * 3), 60)
    assert 5.0 < float(agent.modes.best[0]) < 10
    told(agent, torch.tensor([[5.0, 5, 5]] * 3), 600)
    assert float(agent.modes.best[0]) == pytest.approx(5, abs=0.1)


def test_a_game_comes_to_use_the_mode_that_returns_most():
    agent = make_agent()
    agent.modes.returns.copy_(torch.eye(3) * 5)
    optimiser = torch.optim.Adam(agent.modes.choice.parameters(), 0.02)
    index = torch.arange(3)
    for _ in range(200):
        optimiser.zero_grad()
        (-agent.modes.expected(agent.modes.games, torch.ones(3)).mean()).backward()
        optimiser.step()
    assert torch.equal(agent.modes(agent.modes.games).argmax(-1), index)


def learned_model(agent, batch):
    """The states of a batch after one step of the world model."""
    step = Step(batch)
    agent.learners["model"](step)
    return step.state


def test_starts_are_in_any_game_where_physics_is_shared_and_else_in_their_own():
    for shared in (True, False):
        agent = make_agent(shared=shared)
        batch = batch_of(agent)
        state = learned_model(agent, batch)
        mark = batch["game"].flatten(0, 1)
        feature = state.feature.flatten(0, 1)
        start, _, _, game = agent.commander.starts(state, batch)
        own = torch.stack([mark[(feature == row).all(-1).nonzero()[0, 0]] for row in start.feature])
        assert torch.equal(own, game) != shared


def test_one_loss_weighs_roll_outs():
    """Weight 0 removes a rollout from the loss; weights of 1 change nothing."""
    agent = make_agent()
    batch = batch_of(agent)
    state = learned_model(agent, batch)
    start, _, _, game = agent.commander.starts(state, batch)
    condition = torch.cat([agent.modes.one_hot(torch.zeros(16, dtype=torch.long)), game], -1)
    losses = []
    for weight in (None, torch.ones(16), torch.zeros(16)):
        torch.manual_seed(0)
        imagination = agent.learners["imagination"]
        found, _ = imagination.behaviour_losses(start, condition, weight, agent.modes.member(game))
        losses.append(found["actor"])
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
    assert float(losses[2].detach()) == 0


@pytest.mark.parametrize("game", [False, True])
def test_rounds_raise_the_information_that_they_are_for(game):
    """At the least multiplier, on fixed states; the policy stays as it is."""
    agent = make_agent(
        multiplier_min=1e-2,
        lr=1e-2,
        action_info_coef=float(not game),
        game_info_coef=float(game),
        uniform_prob=0.0,
    )
    feature = states(agent, 96)
    games = agent.modes.games[torch.arange(96) % 3]

    def informed() -> float:
        with torch.no_grad():
            torch.manual_seed(0)
            return float(agent.modes.information(agent.actor, feature, games)[int(game)].mean())

    with torch.no_grad():  # a policy that looks at its slots
        agent.actor.policy.network[-1].weight.normal_(0, 1)
    before = informed()
    for _ in range(120):
        agent.modes.round(
            agent.actor_critic, feature, games, lambda share: feature.sum() * 0, agent.optimisers
        )
    assert informed() > before + 0.15


@pytest.mark.slow
def test_rounds_give_a_game_the_mode_that_returns_most():
    """In each game another mode, as the critic says; nothing else has a say."""
    agent = make_agent(lr=1e-2, action_info_coef=0.0, game_info_coef=0.0)
    games = agent.modes.games[torch.arange(24) % 3]
    agent.modes.values = lambda critic, feature, game: 5 * torch.eye(3)[agent.modes.nearest(game)]
    for _ in range(200):
        agent.modes.round(
            agent.actor_critic,
            states(agent, 24),
            games,
            lambda share: torch.zeros(()),
            agent.optimisers,
        )
    assert agent.modes(agent.modes.games).argmax(-1).tolist() == [0, 1, 2]


def test_games_weigh_alike_however_many_states_they_have():
    weights = make_agent().modes._balance(torch.tensor([0, 0, 0, 2, 0, 0]))
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights[3]) == pytest.approx(3)
    assert float(weights[0]) == pytest.approx(3 / 5)


def test_a_classifier_that_looks_at_nothing_tells_nothing():
    """Whatever games are here, and however many states of each: at most 0 nats."""
    agent = make_agent()
    for parameter in agent.modes.classifier.parameters():
        torch.nn.init.zeros_(parameter)
    for counts in ((12, 0, 0), (9, 3, 0), (4, 4, 4)):
        games = agent.modes.games.repeat_interleave(torch.tensor(counts), 0)
        told = agent.modes.information(agent.actor, states(agent, 12), games)[1]
        assert (
            float((told * agent.modes._balance(agent.modes.nearest(games))).mean().detach()) <= 1e-6
        )


# ------------------------------------------------------------------------------------------- acting


class Told:
    """A vector environment of two, in games that change at each reset."""

    num_envs, single_action_space = 2, gym_spaces.Box(-1, 1, (2,))
    action_space = gym_spaces.Box(-1, 1, (2, 2))
    single_observation_space = observation_space = gym_spaces.Box(0, 255, (32, 32, 3), np.uint8)
    metadata: ClassVar[dict] = {"info_fields": {"game": ((1,), np.float32)}}

    def __init__(self):
        self.number = 0

    def _told(self):
        return {"game": np.array([GAMES[self.number // 4 % 3]] * 2, np.float32)}

    def reset(self, seed=None):
        return np.zeros((2, 32, 32, 3), np.uint8), self._told()

    def step(self, action):
        self.number += 1
        done = np.full(2, self.number % 4 == 3)
        return (
            np.zeros((2, 32, 32, 3), np.uint8),
            np.zeros(2),
            np.zeros(2, bool),
            done,
            self._told(),
        )


def test_the_mode_is_drawn_for_the_game_at_resets_and_kept():
    """Episodes of three steps; the row of a reset is the first that tells the new game."""
    agent = make_agent(uniform_prob=0.0)
    asked = []
    agent.modes.draw = lambda game: (
        asked.append(game.clone()) or agent.modes.one_hot((game[:, 0] + 1).round().long())
    )
    envs = Told()
    rollout = Rollout(envs, agent.initial_state(2), 0, layout_of(envs) | agent.spec.layout)
    rows = [rollout.step(agent.act) for _ in range(12)]
    for index, row in enumerate(rows):
        game = GAMES[index // 4 % 3][0]
        assert row["game"].tolist() == [[game]] * 2
        assert row["is_first"].all() == (index % 4 == 0)
        if not row["is_first"].all():
            assert row["condition"].argmax(-1).tolist() == [round(game + 1)] * 2


def test_evaluation_plays_the_likeliest_mode():
    agent = make_agent()
    agent.modes.choice.forward = lambda game: torch.log_softmax(
        torch.tensor([[0.0, 3.0, 0.0]]).expand(len(game), -1), -1
    )
    image, first = torch.zeros(4, 32, 32, 3, dtype=torch.uint8), torch.ones(4, dtype=torch.bool)
    _, memory = agent.act(agent.initial_state(4), image, first, explore=False)
    assert memory.condition.argmax(-1).tolist() == [1] * 4
    drawn = {int(agent.modes.draw(torch.zeros(1, 1)).argmax()) for _ in range(200)}
    assert drawn == {0, 1, 2}


def test_what_a_latent_policy_has_nothing_to_do_with_is_refused():
    agent = make_agent()
    for config, spaces in (
        (agent.config, Spaces(32, 2, 3)),
        (
            AgentConfig(agent.config.world_model, modes=ModesConfig(num_modes=3), **MODAL),
            agent.spaces,
        ),
        (
            replace(agent.config, skill=SkillConfig(2)),
            agent.spaces,
        ),
    ):
        with pytest.raises(UserError):
            WorldModelAgent(config, spaces)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--agent", "mra", "--skill.size", "2"], "neither skills nor a hierarchy"),
        (["--agent", "slim", "--family.kind", "speed"], "are not told where there is a family"),
    ],
)
def test_what_does_not_go_together_is_refused(words, part):
    with pytest.raises(UserError, match=part):
        runs.read(words, cuda=False)


def test_the_reward_of_a_game_needs_modes():
    config = runs.read(["--agent", "mra", "--modes.num_modes", "0"], cuda=False)
    with pytest.raises(UserError, match="0 modes"):
        build.make_agent(config, gym_spaces.Box(-1, 1, (6,)), "cpu")


def test_a_run_knows_its_family_before_anything_heavy_starts():
    words = [
        "--agent",
        "mra",
        "--family.kind",
        "tasks",
        "--family.tasks",
        "walker-walk,cheetah-run",
    ]
    with pytest.raises(UserError, match="different bodies"):
        runs.read([*words, "--task", "walker-walk"], cuda=False)
    with pytest.raises(UserError, match="a cheetah is paid for whatever it does"):
        runs.read(["--agent", "mra", "--task", "cheetah-run"], cuda=False)


def test_parameters_of_the_critic_are_untouched_by_values():
    agent = make_agent()
    value = agent.modes.values(agent.actor_critic, states(agent), torch.zeros(6, 1))
    assert value.shape == (6, 3)
    assert not value.requires_grad
    alone = functional_call(
        agent.actor_critic.critics["game"], {}, (inputs(agent, states(agent), 1),)
    )[1]
    torch.testing.assert_close(value[:, 1], alone)


def test_the_objective_needs_the_reward_of_games():
    agent = make_agent()
    config = replace(agent.config, world_model=world_config(INFOPOWER))
    with pytest.raises(UserError, match="games"):
        WorldModelAgent(config, agent.spaces)
