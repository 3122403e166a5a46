"""Test first-order steps in a new game: their starts, Reptile and FOMAML, the game's reward."""

import itertools

import pytest
import torch

from foreground.agents.adaptation import META, Adaptation, fit_reward
from foreground.agents.base import Step
from tests.support.latent import batch_of, changed, inputs, make_agent, parts_of, states


def batches(agent):
    seed = 0
    while True:
        seed += 1
        yield {name: value for name, value in batch_of(agent, seed).items() if name != "signals"}


@pytest.mark.parametrize(
    ("scope", "moved"),
    [
        ("relation", {"actor.relation", "modes.choice", "critics"}),
        ("actor", {"actor.relation", "modes.choice", "critics", "actor.policy"}),
    ],
)
def test_adaptation_moves_what_it_says(scope, moved):
    agent = make_agent()
    adapting = Adaptation(agent, scope, 1e-3)
    # Whose values are all 0 before it has learned.
    for critic in agent.actor_critic.critics.values():
        torch.nn.init.normal_(critic.network[-1].weight)
        torch.nn.init.normal_(critic.slow[-1].weight)
    assert (
        parts_of(changed(agent, lambda: adapting.step(next(batches(agent)), agent.modes.games[0])))
        == moved
    )


def test_adaptation_raises_the_return_that_it_imagines_and_critics_follow():
    """The first action pays, whatever the state: after some steps its mean is higher, and all
    critics know it.
    """
    agent = make_agent(update_every=10)
    agent.learners["imagination"].rewards["game"] = lambda imagined: imagined.action[..., 0].clamp(
        -1, 1
    )
    adapting, source = Adaptation(agent, "actor", 1e-2), batches(agent)
    game, feature = agent.modes.games[0], states(agent)
    before = float(agent.actor(inputs(agent, feature, 0)).mean[:, 0].mean().detach())
    value = agent.modes.values(agent.actor_critic, feature, torch.zeros(6, 1))
    for _ in range(40):
        adapting.step(next(source), game)
    assert float(agent.actor(inputs(agent, feature, 0)).mean[:, 0].mean().detach()) > before + 0.3
    assert (
        float((agent.modes.values(agent.actor_critic, feature, torch.zeros(6, 1)) - value).mean())
        > 0.3
    )


def test_adaptation_starts_in_the_states_of_its_game():
    agent = make_agent()
    batch = next(batches(agent))
    adapting = Adaptation(agent, "relation", 1e-3)
    own = int((batch["game"] == agent.modes.games[0]).sum())
    assert len(adapting.starts(batch, agent.modes.games[0]).deterministic) == min(16, own) == 16
    assert len(adapting.starts(batch, agent.modes.games[2]).deterministic) == 8  # one sequence
    # a game of no sequence: starts come from any.
    assert len(adapting.starts(batch, torch.tensor([0.5])).deterministic) == 16


def test_reptile_goes_a_share_of_the_way():
    agent, share = make_agent(), 0.25
    adapting, source = Adaptation(agent, "relation", 1e-2), list(zip(range(8), batches(agent)))
    source = [batch for _, batch in source]
    before = adapting.snapshot()
    torch.manual_seed(0)
    META["reptile"](adapting, iter(source), agent.modes.games, 1, 3, share)
    after = adapting.snapshot()
    adapting.restore(before)
    agent.actor_critic.load_state_dict(make_agent().actor_critic.state_dict())
    adapting.restart()
    torch.manual_seed(0)
    for batch in source[:3]:
        adapting.step(batch, agent.modes.games[0])
    for begin, end, took in zip(before, adapting.snapshot(), after):
        torch.testing.assert_close(took, torch.lerp(begin, end, share), atol=1e-6, rtol=1e-4)


def test_fomaml_steps_from_the_start_by_the_gradient_at_the_end():
    agent = make_agent()
    adapting = Adaptation(agent, "relation", 1e-2)
    agent.learners["imagination"].rewards["game"] = lambda imagined: imagined.action[..., 0].clamp(
        -1, 1
    )
    begin, asked = adapting.snapshot(), []
    losses = adapting.losses
    adapting.losses = lambda batch, game: asked.append(losses(batch, game)) or asked[-1]
    known = {name: value.clone() for name, value in agent.actor_critic.critics.state_dict().items()}
    META["fomaml"](adapting, itertools.repeat(next(batches(agent))), agent.modes.games, 1, 3, 1e-3)
    assert all(
        torch.equal(value, known[name])
        for name, value in agent.actor_critic.critics.state_dict().items()
    )
    adapting.losses, gained = losses, []
    for values in (begin, adapting.snapshot()):
        adapting.restore(values)
        torch.manual_seed(0)
        gained.append(
            -float(losses(next(batches(agent)), agent.modes.games[0])["adapted"].detach())
        )
    assert gained[1] > gained[0]  # it went with the gradient, and not against it
    assert len(asked) == 4
    moved = [float((one - other).abs().max()) for one, other in zip(begin, adapting.snapshot())]
    assert 0 < max(moved) <= 1.01e-3  # one step of Adam, whatever happened within


def test_the_reward_of_a_game_is_fitted_and_nothing_else():
    agent = make_agent()
    source = batches(agent)
    names = changed(agent, lambda: fit_reward(agent, source, 3, 1e-3))
    assert names
    assert all(".terms.games." in name for name in names)


@pytest.mark.slow
def test_reward_heads_know_games_by_what_describes_them():
    """Overfit: the reward is the descriptor, of every game at every step."""
    agent = make_agent()
    batch = batch_of(agent)
    batch["signals"][:] = agent.modes.games[:, 0]
    for _ in range(400):
        agent.learners["model"](Step(batch))
    term = agent.world_model.terms["games"]
    feature = agent.world_model.observe(batch)[1].state.feature[0, :3]
    assert torch.allclose(term.mean(feature, agent.modes.games), agent.modes.games[:, 0], atol=0.3)
