"""Test probes on latents that copy the state, the background, or neither."""

import functools
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from foreground.agents.actor_critic import ActorCriticConfig
from foreground.agents.agent import WorldModelAgent
from foreground.agents.config import AgentConfig
from foreground.envs.backgrounds import BackgroundConfig
from foreground.envs.dmc import make
from foreground.envs.dmc_video import make_video
from foreground.evaluation import nats, probes
from foreground.evaluation.record import Record, collect
from foreground.evaluation.similarity import similarity
from foreground.world_models.rssm import RSSMConfig, State
from foreground.world_models.world_model import Spaces
from tests.support.small import world_config


def record(latent: str, episodes: int = 8, length: int = 120, seed: int = 0) -> Record:
    """Episodes of a made-up pendulum before one of three clips; the latent is a fixed mixture of
    what it is to hold.
    """
    random = np.random.default_rng(seed)
    number = np.repeat(np.arange(episodes), length)
    time = np.tile(np.arange(length), episodes)
    angle = (
        time * random.uniform(0.05, 0.3, episodes)[number] + random.uniform(0, 6, episodes)[number]
    )
    state = np.stack([np.sin(angle), np.cos(angle), random.normal(size=len(angle))], 1)
    clip = (number + number // 4) % 3  # all three in both halves
    phase = (time + 37 * number) % length / length
    base = random.normal(size=(3, 2, 12))
    pixels = base[clip, 0] * np.sin(6.28 * phase)[:, None] + base[clip, 1]
    background = np.concatenate([np.eye(3)[clip], pixels], 1)
    held = {
        "state": state,
        "background": background,
        "nothing": random.normal(size=(len(angle), 5)),
    }[latent]
    mixed = held @ random.normal(size=(held.shape[1], 32)) + 0.01 * random.normal(
        size=(len(angle), 32)
    )
    names = ("sin", "cos", "noise")
    reward = state[:, 1]
    action = np.zeros((len(angle), 1), np.float32)
    return Record(
        mixed,
        state,
        names,
        action,
        reward,
        reward if latent == "state" else 0 * reward,
        clip,
        phase,
        pixels,
        number,
    )


def test_a_latent_that_copies_the_state():
    reading = probes.read(record("state"))
    for kind in ("linear", "network"):
        assert reading[f"state/{kind}/mean"] > 0.95
        assert reading[f"background/{kind}/pixels"] < 0.15
        assert (
            reading[f"background/{kind}/clip_accuracy"] < reading["background/clip_chance"] + 0.25
        )
    assert reading["reward_explained"] == pytest.approx(1.0)
    assert reading["similarity"] > 0.5  # a mixture turns and stretches
    # Rows that follow one another are neighbours in both, which `compressed` takes for 0.28 nats.
    for estimator, floor in (("knn", 0.25), ("diffusion", 0.25), ("compressed", 0.4)):
        assert (
            reading[f"state/nats/{estimator}"]
            > 1.0
            > floor
            > reading[f"background/nats/{estimator}"]
        )


def test_a_latent_that_copies_the_background():
    reading = probes.read(record("background"))
    for kind in ("linear", "network"):
        assert reading[f"state/{kind}/mean"] < 0.15
        assert reading[f"background/{kind}/pixels"] > 0.9
        assert reading[f"background/{kind}/clip_accuracy"] > 0.95
    assert reading["reward_explained"] < 0.1
    assert reading["similarity"] < 0.35
    assert reading["background/nats/clip"] > 0.9 * np.log(3)
    for estimator in ("knn", "diffusion"):
        assert (
            reading[f"background/nats/{estimator}"]
            > 1.0
            > 0.25
            > reading[f"state/nats/{estimator}"]
        )


def test_a_latent_that_holds_nothing():
    reading = probes.read(record("nothing"))
    for kind in ("linear", "network"):
        assert reading[f"state/{kind}/mean"] < 0.1
        assert reading[f"background/{kind}/pixels"] < 0.1
    assert reading["similarity"] == pytest.approx(0.2, abs=0.05)
    for side in ("state", "background"):
        for estimator in ("knn", "diffusion"):
            assert reading[f"{side}/nats/{estimator}"] < 0.15


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.97])
def test_nats_of_correlated_gaussians(rho):
    random = np.random.default_rng(0)
    true = random.normal(size=(4000, 2))
    reading = rho * true + np.sqrt(1 - rho**2) * random.normal(size=true.shape)
    known = -0.5 * np.log(1 - rho**2)
    found = nats.of_columns(100 * reading + 3, true)  # units do not matter
    assert found["knn"] == pytest.approx(known, abs=0.06)
    assert found["diffusion"] == pytest.approx(known, abs=0.1)


def test_nats_leave_pythons_generator_alone_and_count_labels():
    before = random.getstate()
    nats.of_columns(
        np.random.default_rng(0).normal(size=(200, 1)),
        np.random.default_rng(1).normal(size=(200, 1)),
    )
    assert random.getstate() == before
    labels = np.arange(300) % 3
    assert nats.of_labels(2 - labels, labels) == pytest.approx(np.log(3))
    assert nats.of_labels(np.zeros(300), labels) == pytest.approx(0.0)


def test_similarity_is_the_share_of_pairs_in_the_same_fifth():
    """By hand: of six pairs only the farthest is in the same fifth.

    The rest: what grakel 0.1.11 gives on these graphs.
    """
    one, other = np.array([[0.0], [1], [3], [7]]), np.array([[0.0], [5], [1], [7]])
    assert similarity(one, other) == 1 / 6
    rng = np.random.default_rng(0)
    latent, noise = rng.standard_normal((200, 8)), rng.standard_normal((200, 3))
    state = latent[:, :3] + 0.5 * noise
    assert [similarity(latent, state, seed) for seed in (0, 1)] == [
        0.30961968680089486,
        0.29109619686800897,
    ]
    assert similarity(latent[:40], state[:40]) == 0.258974358974359


def test_similarity_of_latents_whose_answer_is_known():
    random = np.random.default_rng(0)
    state = random.normal(size=(400, 4))
    state = (state - state.mean(0)) / state.std(0)
    turn, _ = np.linalg.qr(random.normal(size=(4, 4)))
    noise = random.normal(size=(400, 16))
    assert similarity(state, state) == pytest.approx(1.0)
    assert similarity(3 * state @ turn + 1, state) == pytest.approx(1.0)  # distances are kept
    assert similarity(state * [1, 9, 1, 1], 2 * state * [1, 5, 1, 1]) == pytest.approx(
        similarity(state * [1, 9, 1, 1], state)
    )
    found = [similarity(np.hstack([state, noise[:, :extra]]), state) for extra in (0, 1, 4, 16)]
    assert found == sorted(found, reverse=True)  # the more of something else, the less alike
    assert 0.35 < similarity(state[:, :2], state) < 0.6
    assert similarity(noise, state) == pytest.approx(0.2, abs=0.04)
    assert similarity(np.zeros((400, 3)), state) < 0.3


def test_what_does_not_vary_is_left_out():
    rows = record("state")
    rows.state[:, 2] = 1.0
    reading = probes.read(rows)
    assert "state/linear/noise" not in reading
    assert reading["state/linear/mean"] > 0.95


@pytest.fixture(scope="module")
def agent() -> WorldModelAgent:
    torch.manual_seed(0)
    return WorldModelAgent(
        AgentConfig(world_config(), ActorCriticConfig(units=32, layers=1)), Spaces(32, 1)
    )


@pytest.mark.parametrize("video", [True, False])
def test_episodes_are_collected_with_what_was_true(agent, video):
    arguments = {"size": 32, "action_repeat": 4, "time_limit": 80}
    maker = functools.partial(make, "cartpole-swingup", **arguments)
    if video:
        maker = functools.partial(
            make_video, "cartpole-swingup", BackgroundConfig("procedural"), "heldout", **arguments
        )
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two = (collect(agent, maker, 4, 7) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(vars(one).values(), vars(two).values()):
        assert np.array_equal(a, b)
    assert one.latent.shape == (4 * 20, agent.world_model.rssm.feature_size)
    assert one.names == ("position[0]", "position[1]", "position[2]", "velocity[0]", "velocity[1]")
    assert np.allclose(one.state[:, 1] ** 2 + one.state[:, 2] ** 2, 1, atol=1e-4)
    assert np.array_equal(np.unique(one.episode), np.arange(4))
    assert (one.clip >= 0).all() == video
    assert ((one.phase >= 0) & (one.phase <= 1)).all()
    assert (one.pixels.std() > 0) == video
    # Every second episode walks at random, the same walk for every agent.
    assert one.part(one.episode == 1).state[:, 0].std() > 0
    assert all(np.isfinite(value) for value in probes.read(one).values())
    ahead = probes.foresee(agent, one, (1, 3))
    assert torch.equal(before, torch.get_rng_state())
    assert set(ahead) == {
        f"ahead/{step}/{what}" for step in (1, 3) for what in ("reward_explained", "state")
    }
    # Episodes of 20 rows are too short for 20 steps ahead.
    assert set(probes.foresee(agent, one, (3, 20))) == {"ahead/3/reward_explained", "ahead/3/state"}
    assert probes.foresee(agent, one, (20,)) == {}


@pytest.mark.slow
def test_agents_that_read_the_episodes_of_one_list_of_actors_read_the_same(agent):
    torch.manual_seed(1)
    other = WorldModelAgent(
        AgentConfig(
            world_config(rssm=RSSMConfig(deterministic=24, hidden=32, groups=8, classes=4)),
            ActorCriticConfig(units=32, layers=1),
        ),
        Spaces(32, 1),
    )
    maker = functools.partial(make, "cartpole-swingup", size=32, action_repeat=4, time_limit=80)
    own = collect(agent, maker, 8, 7)
    one = collect(agent, maker, 8, 7, (agent, other))
    torch.rand(1)  # nor does it depend on what was drawn before
    two = collect(other, maker, 8, 7, (agent, other))
    for name in ("state", "action", "reward", "episode"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert one.latent.shape != two.latent.shape
    same = [
        np.array_equal(own.part(own.episode == k).action, one.part(one.episode == k).action)
        for k in range(8)
    ]
    # The other acts in 4 and 6; 5 and 7 are walks.
    assert same == [True, True, True, True, False, True, False, True]
    for half in probes.halves(one):
        assert set(np.unique(half.episode) // 4) == {0, 1}  # both actors in both halves


def test_a_model_that_knows_the_dynamics_foresees_them():
    """A latent that is a rotating vector, and a model that turns it: all ahead is explained;
    standing still is not it.
    """
    random = np.random.default_rng(0)
    episode = np.repeat(np.arange(4), 50)
    angle = 0.4 * np.tile(np.arange(50), 4) + random.uniform(0, 6, 4)[episode]
    state = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    zero = np.zeros(200, np.float32)
    record = Record(
        state,
        state,
        ("cos", "sin"),
        zero[:, None],
        state[:, 0],
        zero,
        zero - 1,
        zero,
        zero,
        episode,
    )
    turn = torch.tensor(
        [[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]], dtype=torch.float32
    )

    def fake(matrix):
        rssm = SimpleNamespace(
            config=SimpleNamespace(deterministic=1), latent=SimpleNamespace(size=1)
        )

        def imagine(now, action):
            return State(*(now.feature @ matrix.T).split([1, 1], -1))

        model = SimpleNamespace(
            rssm=rssm, imagine=imagine, reward=lambda feature: feature[:, 0], rewarded=True
        )
        return SimpleNamespace(world_model=model, device=torch.device("cpu"))

    right, still = (
        probes.foresee(fake(matrix), record, (1, 5), 2) for matrix in (turn, torch.eye(2))
    )
    for key, value in right.items():
        assert value > 0.98, key
    assert right["ahead/5/reward_explained"] > 0.999
    assert still["ahead/5/reward_explained"] < 0
