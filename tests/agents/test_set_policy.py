"""Test a latent policy over sets of agents: masks, modes, learning, PPO, collect_treasure."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import treasure as program
from foreground.agents.actor_critic import ActorCritic, ActorCriticConfig
from foreground.agents.config import ModesConfig, OptimiserConfig
from foreground.agents.estimators import Score
from foreground.agents.policy import Policy
from foreground.agents.set_policy import SetPolicy, SetPolicyConfig, index_columns
from foreground.envs import treasure
from foreground.errors import UserError

OWN, SLOTS, SLOT, H = 2, 5, 4, 6
GAMES = ((-1.0,), (1.0,))


def make_agent(modes=3, seed=0, way="reinforce", **fields) -> SetPolicy:
    torch.manual_seed(seed)
    policy = ActorCriticConfig(
        rewards={"game": 1.0},
        units=32,
        layers=1,
        discount=0.9,
        entropy_coef=1e-3,
        return_norm_min=0.1,
        actor_grad=way,
    )
    optimiser = OptimiserConfig(actor_lr=3e-3, critic_lr=3e-3, warmup=0)
    config = SetPolicyConfig(
        policy,
        ModesConfig(num_modes=modes, units=8, update_every=2, lr=3e-3),
        optimiser,
        units=16,
        **fields,
    )
    return SetPolicy(config, OWN, SLOTS, SLOT, 1, GAMES)


def states(number=7, there=3, seed=1) -> torch.Tensor:
    torch.manual_seed(seed)
    own, slots = torch.randn(number, OWN), torch.randn(number, SLOTS, SLOT)
    slots[..., 0] = 1
    slots[:, there:] = 0
    return torch.cat([own, slots.flatten(1)], -1)


def acted(agent, feature, mode=0):
    one = agent.modes.one_hot(torch.full((len(feature),), mode))
    return agent.act(feature, one, torch.zeros(len(feature), 1), explore=False)


def test_modes_pick_apart():
    agent, feature = make_agent(), states()
    assert not torch.allclose(acted(agent, feature), acted(agent, feature, mode=1))


def test_who_is_not_there_has_no_say():
    """A row is a mean over who is there, so that a number that was never trained on is in range."""
    agent, feature = make_agent(), states(there=2)
    noise = feature.clone()
    noise[:, OWN + 3 * SLOT + 1 : OWN + 4 * SLOT] = 5.0  # of an absent one
    torch.testing.assert_close(acted(agent, feature), acted(agent, noise))
    actor = agent.actor_critic.actor
    context, slots, there = actor.slots(feature)
    rows = actor.relation(context, slots, there)  # (N, K, S)
    torch.testing.assert_close(rows[..., :2].sum(-1), torch.ones(7, 3))
    torch.testing.assert_close(actor.slots.pool(slots, rows)[..., 0], torch.ones(7, 3))
    alone = states(there=0)
    assert torch.isfinite(acted(agent, alone)).all()


def episodes(agent, number=64, seed=0):
    """A game of one wish: the nearest way to be paid is to act like the descriptor says, through
    the mode.
    """
    torch.manual_seed(seed)
    game = torch.tensor(GAMES)[torch.arange(number) % 2]
    mode, rows = agent.modes.draw(game), {"image": [], "action": [], "reward": []}
    action, reward = torch.zeros(number, 1), torch.zeros(number)
    for step in range(H + 1):
        feature = states(number, seed=1000 * seed + step)
        for name, value in (("image", feature), ("action", action), ("reward", reward)):
            rows[name].append(value)
        action = agent.act(feature, mode, game)
        reward = -(action.clamp(-1, 1) - 0.7 * game).abs().squeeze(-1)
    held = {"condition": mode, "game": game}
    batch = {name: torch.stack(column, 1) for name, column in rows.items()}
    return batch | {name: value.unsqueeze(1).expand(-1, H + 1, -1) for name, value in held.items()}


@pytest.mark.slow
def test_modes_come_to_serve_the_games():
    agent = make_agent()
    first = float(episodes(agent)["reward"].mean())
    for seed in range(180):
        metrics = agent.update(episodes(agent, seed=seed))
    assert all(torch.isfinite(value).all() for value in metrics.values())
    assert {
        "modes/information/action",
        "modes/game_1/slack",
        "policy/game/return",
        "gradient/relation",
    } <= set(metrics)
    one, other = agent.modes(torch.tensor(GAMES)).argmax(-1).tolist()
    assert one != other
    assert acted(agent, states(), one).mean() < -0.2
    assert acted(agent, states(), other).mean() > 0.2
    assert float(episodes(agent)["reward"].mean()) > 0.6 * first > first


def test_the_first_step_on_fresh_episodes_is_the_score_function():
    """Where the ratio of policies is 1 the gradient of PPO's surrogate is that of log pi times the
    gain.
    """
    agent = make_agent()
    rollout, reward = agent.rollout(episodes(agent))
    losses = []
    for behaviour in (rollout.behaviour, None):
        critic = ActorCritic.improve(
            agent.actor_critic, rollout._replace(behaviour=behaviour), {"game": lambda _: reward}
        )
        losses.append(
            torch.autograd.grad(critic[0]["actor"], agent.actor_critic.actor.policy.parameters())
        )
    for one, other in zip(*losses):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_parts_of_a_roll_out_are_whole_episodes():
    """And all parts together teach what the whole does."""
    agent = make_agent()
    rollout, reward = agent.rollout(episodes(agent, 8))

    def gradient(rollout, reward):
        loss = agent.actor_critic.improve(rollout, {"game": lambda _: reward})[0]["actor"]
        return torch.autograd.grad(loss, agent.actor_critic.actor.policy.network[0].weight)[0]

    agent.actor_critic.scales["game"].rate = 0.0  # one scale for all
    whole = gradient(rollout, reward)
    parts = [
        gradient(index_columns(rollout, index), reward[:, index])
        for index in torch.arange(8).chunk(4)
    ]
    torch.testing.assert_close(torch.stack(parts).mean(0), whole, atol=1e-6, rtol=1e-4)


def test_the_surrogate_stops_where_the_policy_has_moved_far_enough():
    ratio = torch.tensor([0.0, 1.0, -1.0, 1.0, -1.0])  # ln of it
    gain = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0])
    mean = torch.zeros(5, 1, requires_grad=True)
    policy, action = Policy(mean, torch.ones(5, 1)), torch.full((5, 1), 0.5)
    rollout = SimpleNamespace(action=action, behaviour=policy.log_prob(action).detach() - ratio)
    value, _ = Score()(rollout, policy, gain, gain)
    value.sum().backward()
    assert value.detach().tolist() == pytest.approx([1.0, 1.2, np.exp(-1), -np.exp(1), -0.8])
    assert (mean.grad != 0).flatten().tolist() == [True, False, True, True, False]


@pytest.mark.parametrize("way", ["dynamics", "own_return", "both"])
def test_a_gradient_along_a_path_is_refused(way):
    with pytest.raises(UserError, match="no model"):
        make_agent(way=way)


def test_a_number_that_there_are_no_places_for_is_refused():
    with pytest.raises(UserError, match="13 collectors are outside of the family's range"):
        treasure.game_of(13)
    assert treasure.game_of(3).descriptor == (0.0,)
    assert treasure.game_of(12).descriptor == (1.0,)


def test_what_there_is_to_be_had():
    config = program.TreasureConfig(copies=32)
    for number in (3, 12):
        assert (
            program.scripted(number, config, 8.0) > 10 > 1 > program.scripted(number, config, 0.0)
        )


@pytest.mark.slow
def test_the_program_prints_its_arms(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program, "RESULTS", tmp_path)
    words = [
        "--arms",
        "mra,reptile",
        "--seeds",
        "0",
        "--iterations",
        "2",
        "--copies",
        "1",
        "--response",
        "1",
        "--episodes",
        "1",
    ]
    program.main(words)
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["failed"] == []
    assert {len(row) for row in json.loads(lines[-1])["scripted"].values()} == {5}
    row = json.loads((tmp_path / "mra-seed0.json").read_text())
    assert set(row["scores"]) == {"3", "4", "6", "9", "12"}
    assert len(row["modes"][0]) == 6
    assert row["command"] == " ".join(["python -m benchmarks.treasure", *words])
    (tmp_path / "reptile-seed0.json").unlink()  # as if it had been stopped before
    program.main(words)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["runs"] == 1
    assert {path.stem for path in tmp_path.iterdir()} == {"mra-seed0", "reptile-seed0", "scripted"}
    with pytest.raises(UserError, match="unknown arm"):
        program.main(["--arms", "mrra"])


def test_arms_train_on_the_collectors_that_are_asked_for():
    """Results of other numbers have other names; those of the default are comparable with older
    ones.
    """
    config, larger = program.TreasureConfig(), program.TreasureConfig(collectors=(6, 9, 12))
    assert config.games("joint") == (3, 6, 9)
    assert larger.games("joint") == larger.games("mra") == (6, 9, 12)
    assert larger.games("single") == (6,)
    assert (config.name("mra", 1), larger.name("mra", 1)) == ("mra-seed1", "mra-of-6-9-12-seed1")
    kept = json.loads((program.RESULTS / "mra-seed0.json").read_text())["settings"]
    assert kept == config.settings != larger.settings
    agent, curve = program.learn(replace(larger, iterations=1, copies=1), "joint", 0)
    assert [game[0] for game in agent.modes.games.tolist()] == pytest.approx(
        [treasure.game_of(number).descriptor[0] for number in (6, 9, 12)]
    )
    assert len(curve) == 1
