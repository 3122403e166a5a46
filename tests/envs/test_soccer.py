"""Test dm_control's soccer: rows against the simulator, one policy for teams of several sizes."""

import numpy as np
import pytest
import torch

from foreground.agents.actor_critic import ActorCriticConfig
from foreground.agents.config import ModesConfig, OptimiserConfig
from foreground.agents.set_policy import SetPolicy, SetPolicyConfig
from foreground.envs import soccer
from foreground.envs.soccer import Soccer
from foreground.errors import UserError

STEPS = 4


@pytest.fixture(scope="module")
def matches() -> Soccer:
    return Soccer((1, 3), 1)


def test_rows_are_what_the_simulator_says(matches):
    rows = matches.reset(3)
    match = matches.matches[1]
    physics, players, ball = match.physics, match.task.players, match.task.ball
    places = [physics.bind(player.walker.root_body).xpos.copy() for player in players]
    turns = [physics.bind(player.walker.root_body).xmat.reshape(3, 3).copy() for player in players]
    where = physics.bind(ball.root_body).xpos
    for index in range(6):
        row = rows[2 + index]
        ball_at = 3 * 5 + 2
        # Heights differ by where a body has its middle.
        seen = (where - places[index]) @ turns[index]
        np.testing.assert_allclose(row[ball_at : ball_at + 2] * 20, seen[:2], atol=1e-4)
        slots = row[soccer.OWN :].reshape(soccer.SLOTS, soccer.SLOT)
        mates = [other for other in range(6) if other != index and other // 3 == index // 3]
        others = [other for other in range(6) if other // 3 != index // 3]
        assert slots[:, 0].tolist() == [1, 1, 0, 1, 1, 1, 0]
        assert slots[:, 1].tolist() == [1, 1, 0, 0, 0, 0, 0]
        for slot, other in zip(slots[[0, 1, 3, 4, 5]], mates + others):
            np.testing.assert_allclose(
                slot[2:5] * 20, (places[other] - places[index]) @ turns[index], atol=1e-4
            )
    assert rows.shape == (8, soccer.FEATURE)
    assert matches.descriptor[:, 0].tolist() == pytest.approx([0, 0] + [np.log(3) / np.log(4)] * 6)


def test_seeds_repeat_and_actions_move(matches):
    action = np.tile([1.0, 0.0, 0.0], (8, 1))
    first, other, again = matches.reset(7), matches.reset(8), matches.reset(7)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    for _ in range(10):
        rows, *_ = matches.step(action)
    still = matches.reset(7)
    assert np.abs(rows - still).max() > 0.05


def test_a_goal_pays_a_team_and_costs_the_other(matches):
    matches.reset(0)
    match = matches.matches[0]
    goal = match.task.arena.away_goal  # what home players score in
    middle = (np.array(goal.upper) + np.array(goal.lower)) / 2
    match.task.ball.set_pose(match.physics, [*middle[:2], 1.0])
    total = sum(matches.step(np.zeros((8, 3)))[1] for _ in range(3))
    assert total[:2].tolist() == [1, -1]
    assert not total[2:].any()


def test_a_policy_plays_in_every_team_and_learns(matches):
    torch.manual_seed(0)
    games = tuple(game.descriptor for game in matches.games)
    policy = ActorCriticConfig(rewards={"game": 1.0}, units=16, layers=1)
    config = SetPolicyConfig(
        policy,
        ModesConfig(num_modes=2, units=8, update_every=1),
        OptimiserConfig(warmup=0),
        parts=2,
    )
    agent = SetPolicy(config, soccer.OWN, soccer.SLOTS, soccer.SLOT, soccer.ACTION, games)
    before = [parameter.clone() for parameter in agent.actor_critic.actor.parameters()]
    game = torch.from_numpy(matches.descriptor)
    mode, feature = agent.modes.draw(game), matches.reset(1)
    action, reward = np.zeros((8, 3), np.float32), np.zeros(8, np.float32)
    columns = {"image": [], "action": [], "reward": []}
    for _ in range(STEPS + 1):
        for name, value in (("image", feature), ("action", action), ("reward", reward)):
            columns[name].append(torch.as_tensor(value))
        action = agent.act(torch.from_numpy(feature), mode, game).numpy()
        feature, _, reward = matches.step(action)
    batch = {name: torch.stack(column, 1) for name, column in columns.items()}
    batch |= {
        name: value[:, None].expand(-1, STEPS + 1, -1)
        for name, value in (("condition", mode), ("game", game))
    }
    metrics = agent.update(batch)
    assert all(torch.isfinite(value).all() for value in metrics.values())
    moved = [
        not torch.equal(old, new) for old, new in zip(before, agent.actor_critic.actor.parameters())
    ]
    assert sum(moved) >= len(moved) - 1  # heads of a mode that was not sampled may stay


def test_a_match_that_is_over_says_so():
    short = Soccer((1,), 1, time_limit=0.06)
    short.reset(0)
    still = np.zeros((2, 3))
    for _ in range(3):
        short.step(still)
    with pytest.raises(RuntimeError, match="a match is over"):
        short.step(still)


def test_a_team_that_there_are_no_places_for_is_refused():
    with pytest.raises(UserError, match="5 players a team are outside of the family's range"):
        Soccer((5,), 1)
