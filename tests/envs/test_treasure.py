"""Test collect_treasure in arrays, alone and step by step against mpe2 where it is installed."""

import copy
import importlib.util

import numpy as np
import pytest

from foreground.envs import treasure
from foreground.envs.treasure import Arena, Treasures

with_mpe2 = pytest.mark.skipif(
    importlib.util.find_spec("mpe2") is None, reason="mpe2 is optional: pip install -e .[games]"
)


def taken_over(arena: Arena, world) -> None:
    """mpe2's state into the first copy."""
    arena.place[0] = [agent.state.p_pos for agent in world.agents]
    arena.speed[0] = [agent.state.p_vel for agent in world.agents]
    arena.holds[0] = [
        -1 if one.holding is None else one.holding for one in world.agents[: arena.collectors]
    ]
    arena.treasure[0] = [one.state.p_pos for one in world.landmarks]
    arena.kind[0] = [one.type for one in world.landmarks]
    arena.there[0] = [one.alive for one in world.landmarks]
    arena.random = [copy.deepcopy(world.np_random)]


def shown(seen: np.ndarray, index: int, collectors: int) -> np.ndarray:
    """A row (F,) out of what mpe2 shows agent `index`."""
    collects, types = index < collectors, treasure.TYPES
    holds, rest = (
        (seen[4 : 4 + types], seen[4 + types :]) if collects else (np.zeros(types), seen[4:])
    )
    takes = np.zeros(types) if collects else np.eye(types)[index - collectors]
    others = collectors + treasure.DEPOSITS - 1
    slots = np.zeros((treasure.SLOTS, treasure.SLOT))
    slots[:others, :2] = 1
    slots[:others, 2:10] = rest[: others * 8].reshape(others, 8)
    treasures = rest[others * 8 :].reshape(treasure.TREASURES, 4)
    last = slots[-treasure.TREASURES :]
    last[:, 0], last[:, 2:4], last[:, -2:] = (
        treasures[:, 2:].sum(-1),
        treasures[:, :2],
        treasures[:, 2:],
    )
    return np.concatenate([seen[:4], holds, [float(collects)], takes, slots.ravel()])


@with_mpe2
@pytest.mark.parametrize("collectors", [3, 9])
def test_it_is_the_game_of_mpe2(collectors):
    """Heading for treasures and deposits, so that things happen: places, speeds, rewards, what is
    held and what is seen.
    """
    from mpe2 import collect_treasure_v1

    env = collect_treasure_v1.parallel_env(
        num_collectors=collectors, max_cycles=200, continuous_actions=True
    )
    env.reset(seed=3)
    world, arena = env.unwrapped.world, Arena(collectors, 1)
    taken_over(arena, world)
    random, paid = np.random.default_rng(0), 0
    for _ in range(199):
        goal = np.where(
            (arena.holds[0] < 0)[:, None],
            arena.treasure[0][np.arange(collectors) % treasure.TREASURES],
            arena.place[0, collectors + np.maximum(arena.holds[0], 0)],
        )
        force = np.clip(10 * (goal - arena.place[0, :collectors]), -1, 1)
        force = np.concatenate([force, random.uniform(-1, 1, (2, 2))]).astype(np.float32)
        five = np.zeros((len(force), 5), np.float32)
        five[:, [1, 3]], five[:, [2, 4]] = np.clip(-force, 0, 1), np.clip(force, 0, 1)
        seen, reward, *_ = env.step(dict(zip(env.possible_agents, five)))
        own = arena.step(force[None])
        np.testing.assert_allclose(
            arena.place[0], [agent.state.p_pos for agent in world.agents], atol=1e-5
        )
        np.testing.assert_allclose(
            arena.speed[0], [agent.state.p_vel for agent in world.agents], atol=1e-5
        )
        np.testing.assert_allclose(
            own[0], [reward[name] for name in env.possible_agents], atol=1e-5
        )
        assert arena.holds[0].tolist() == [
            -1 if one.holding is None else one.holding for one in world.agents[:collectors]
        ]
        rows = arena.features()[0]
        for index, name in enumerate(env.possible_agents):
            np.testing.assert_allclose(rows[index], shown(seen[name], index, collectors), atol=1e-6)
        paid += int(own.max() > 3)
    assert paid > 5


def test_copies_do_not_meet_and_seeds_repeat():
    envs, action = Treasures((3, 6), 4), np.random.default_rng(0).uniform(-1, 1, (4 * 5 + 4 * 8, 2))
    first = [envs.reset(7), *(envs.step(action)[0] for _ in range(5))]
    again = [envs.reset(7), *(envs.step(action)[0] for _ in range(5))]
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first[0], axis=0)) == len(envs) == 52
    assert envs.descriptor[:20].max() == 0
    assert envs.descriptor[20:].min() == pytest.approx(0.5)
    assert np.bincount(envs.copy).tolist() == [5] * 4 + [8] * 4


def test_what_is_taken_is_brought_and_paid_to_all():
    arena = Arena(3, 2)
    arena.reset(np.array([0, 1]))
    arena.place[:] = np.linspace(-1, 1, 10).reshape(1, 5, 2)
    arena.treasure[:] = 5.0
    arena.treasure[0, 2], arena.kind[0, 2] = arena.place[0, 1], 1
    before = arena.random[0].bit_generator.state
    reward = arena.step(np.zeros((2, 5, 2)))
    assert arena.holds.tolist() == [[-1, 1, -1], [-1, -1, -1]]
    assert (reward[0] > 3).all()
    assert (reward[1] < 0).all()
    assert not arena.there[0, 2]
    arena.place[0, 1] = arena.place[0, 3 + 1] + 0.01  # at its deposit
    reward = arena.step(np.zeros((2, 5, 2)))
    assert arena.holds[0].tolist() == [-1, -1, -1]
    assert (reward[0] > 3).all()
    assert arena.there[0, 2]
    assert np.abs(arena.treasure[0, 2]).max() <= 0.95
    assert arena.random[0].bit_generator.state != before
    arena.place[0, 0] = arena.place[0, 2]  # two collectors on one place
    reward = arena.step(np.zeros((2, 5, 2)))
    assert reward[0, 0] < -4.9
    assert reward[0, 1] > -1


def test_credit_is_ones_own_part_and_the_way_made():
    arena = Arena(3, 1)
    arena.reset(np.array([0]))
    arena.place[:] = np.linspace(-1, 1, 10).reshape(1, 5, 2)
    arena.treasure[:] = 5.0
    arena.treasure[0, 2], arena.kind[0, 2] = arena.place[0, 1], 1
    arena.speed[0, 0] = [0.3, 0.4]  # towards where the treasure is, 0.05 in a step
    aim = arena.wanted()[0]
    np.testing.assert_allclose(aim[:3], arena.treasure[0, [2, 2, 2]])
    before = np.linalg.norm(arena.place[0] - aim, axis=-1)
    reward = arena.step(np.zeros((1, 5, 2)))[0]
    made = before - np.linalg.norm(arena.place[0] - aim, axis=-1)
    assert made[0] > 0.04
    taken = np.array([0, 1, 0, 0, 0]) * treasure.PAID
    np.testing.assert_allclose(
        arena.credit[0] - treasure.PROGRESS * made, reward - treasure.PAID + taken, atol=1e-9
    )
    np.testing.assert_allclose(arena.wanted()[0, 1], arena.place[0, 4])  # now its deposit
    np.testing.assert_allclose(arena.wanted()[0, 4], arena.place[0, 1])
    np.testing.assert_allclose(arena.wanted()[0, 3], arena.place[0, :3].mean(0))
    arena.place[0, 1] = arena.place[0, 4] + 0.01
    reward = arena.step(np.zeros((1, 5, 2)))[0]
    brought = np.array([0, 1, 0, 0, 1]) * treasure.PAID  # by whom, and to whom
    progress = arena.credit[0] - (reward - treasure.PAID + brought)
    assert np.abs(progress).max() < treasure.PROGRESS * 0.1  # no more than a way of a step


def test_an_agent_of_nobody_is_a_zero():
    rows = Treasures((3,), 1).reset(0)
    slots = rows[:, treasure.OWN :].reshape(5, treasure.SLOTS, treasure.SLOT)
    assert slots[:, :, 0].sum(1).tolist() == [4 + treasure.TREASURES] * 5
    assert not slots[:, 4:13].any()
