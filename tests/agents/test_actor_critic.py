"""Test the actor-critic: lambda-returns, normalised advantages, one critic per reward."""

import math

import pytest
import torch
from torch.func import functional_call

from foreground.agents.actor_critic import ActorCritic, ActorCriticConfig
from foreground.agents.policy import Policy
from foreground.agents.returns import ReturnScale, lambda_returns
from foreground.world_models.rssm import State
from tests.support.points import CONFIG, Point, learn, make, scaled, start, towards


def test_lambda_returns_of_rlax():
    reward, discount = (
        torch.tensor([[1.0, 0, -1, 0, 1]]).T,
        torch.tensor([[0.5, 0.9, 1, 0.5, 0.8]]).T,
    )
    value = torch.tensor([[3.0, 1, 5, -5, 3]]).T
    expected = torch.tensor([1.6460547, 0.72281253, 0.7375001, 0.6500001, 3.4])
    assert torch.allclose(lambda_returns(reward, discount, value, 0.75)[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("trace", [0.0, 0.9, 1.0])
def test_lambda_returns_against_the_definition(trace):
    """R^lambda = (1 - lambda) sum_n lambda^{n-1} R^(n) + lambda^{H-1} R^(H)."""
    reward, value, discount = torch.randn(5, 3), torch.randn(5, 3), 0.9

    def n_step(t: int, n: int) -> torch.Tensor:
        return sum(discount**k * reward[t + k] for k in range(n)) + discount**n * value[t + n - 1]

    for t in range(5):
        left = 5 - t
        slow = trace ** (left - 1) * n_step(t, left)
        slow = slow + sum((1 - trace) * trace ** (n - 1) * n_step(t, n) for n in range(1, left))
        assert torch.allclose(lambda_returns(reward, discount, value, trace)[t], slow, atol=1e-5)


def plain_losses(
    agent: ActorCritic, imagined, reward: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Actor and critic of one reward, written out: DreamerV3's with the score function."""
    config, critic = agent.config, agent.critics["task"]
    feature = imagined.feature.detach()
    logits = critic.network(feature)
    value = critic.head.mean(logits).detach()
    returns, following = [], value[-1]
    for step in reversed(range(config.horizon)):
        following = reward[step] + config.discount * (
            (1 - config.lam) * value[step + 1] + config.lam * following
        )
        returns.insert(0, following)
    returns = torch.stack(returns)
    ordered = returns.flatten().sort().values
    low, high = (
        torch.lerp(ordered[int(place)], ordered[int(place) + 1], place % 1)
        for place in (share * (len(ordered) - 1) for share in (0.05, 0.95))
    )
    advantage = (returns - value[:-1]) / (high - low).clamp(min=config.return_norm_min)
    mean, std = agent.actor(feature[:-1])
    log_prob = (
        -0.5 * ((imagined.action - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)
    ).sum(-1)
    entropy = (std.log() + 0.5 * (1 + math.log(2 * math.pi))).sum(-1)
    entropy = entropy + (1 - mean.square() + 1e-6).log().sum(-1)
    actor = -(log_prob * advantage + config.entropy_coef * entropy).mean()
    return actor, -critic.head.log_prob(logits[:-1], returns).mean()


def test_one_critic_with_weight_one_is_the_plain_agent():
    """Values and gradients are bit-identical to those of an agent with a single reward."""
    agent = make(return_norm_min=0.01)
    learn(agent, {"task": towards(0.3)}, updates=3)
    agent.scales["task"] = ReturnScale(agent.config)
    with torch.no_grad():
        imagined = agent.imagine(Point(), start(), None)
    reward = towards(0.3)(imagined)
    losses, _ = agent.improve(imagined, {"task": lambda _: reward})
    for loss, plain in zip(
        (losses["actor"], losses["critic"]), plain_losses(agent, imagined, reward)
    ):
        assert torch.equal(loss, plain)
        network = [weight for weight in agent.parameters() if weight.requires_grad]
        one, other = (
            torch.autograd.grad(x, network, retain_graph=True, allow_unused=True)
            for x in (loss, plain)
        )
        assert any(x is not None and x.any() for x in one)
        for x, y in zip(one, other):
            assert (x is None and y is None) or torch.equal(x, y)


@pytest.mark.parametrize("head", ["two_hot", "unit_normal"])
def test_a_critic_that_runs_once_gives_the_gradients_of_two_passes(head):
    """Of logits to its weights and none to the feature; of values to the feature and none to its
    weights.
    """
    torch.manual_seed(0)
    agent = make(actor_grad="dynamics", critic_head=head)
    critic, feature = agent.critics["task"], torch.randn(4, 7, 2, requires_grad=True)
    torch.nn.init.normal_(critic.network[-1].weight)
    weights = list(critic.network.parameters())
    fixed = {name: weight.detach() for name, weight in critic.network.named_parameters()}
    logits, value = critic.logits_and_values(feature)
    plain = (
        critic.network(feature.detach()),
        critic.head.mean(functional_call(critic.network, fixed, (feature,))),
    )
    for ours, slow, own, other in (
        (logits, plain[0], weights, [feature]),
        (value, plain[1], [feature], weights),
    ):
        assert torch.allclose(ours, slow, atol=1e-6)
        upstream = torch.randn_like(ours)
        one, two = (torch.autograd.grad(x, own, upstream, retain_graph=True) for x in (ours, slow))
        assert all(torch.allclose(x, y, rtol=1e-4, atol=1e-5) for x, y in zip(one, two))
        assert not any(
            x is not None and x.any()
            for x in torch.autograd.grad(
                ours, other, upstream, allow_unused=True, retain_graph=True
            )
        )


def open_loop(agent: ActorCritic, imagined, reward) -> torch.Tensor:
    """The actor's loss whose slope counts what each action does, the later actions left as they
    were: written out.
    """
    action, config = imagined.action.detach().requires_grad_(), agent.config
    taken = action.clamp(-1, 1)
    following = torch.cat([taken, imagined.state.stochastic[1:].detach()], -1)
    _, value = agent.critics["task"].logits_and_values(following)
    returns = lambda_returns(reward(taken), config.discount, value, config.lam)
    scale = agent.scales["task"].update(returns.detach(), None)
    (slope,) = torch.autograd.grad((returns / scale).mean(), action)
    mean, std = agent.actor(imagined.feature[:-1].detach())
    return -(slope * (mean + std * ((imagined.action - mean) / std).detach())).sum()


@pytest.mark.parametrize("feedback", [0.0, 1.0])
def test_the_path_stops_or_goes_on_where_the_policy_sees_what_it_did(feedback):
    agent = make(
        actor_grad="dynamics", entropy_coef=0.0, policy_input_grad=feedback, return_norm_min=1e-3
    )
    learn(agent, {"task": towards(0.3)}, updates=3)
    agent.scales["task"] = ReturnScale(agent.config)
    imagined = agent.imagine(Point(), start(), None)
    losses, _ = agent.improve(imagined, {"task": towards(0.3)})
    agent.scales["task"] = ReturnScale(agent.config)
    reference = open_loop(agent, imagined, lambda taken: 1 - (taken[..., 0] - 0.3).square())
    weights = list(agent.actor.parameters())
    own, written = (
        torch.cat([x.flatten() for x in torch.autograd.grad(one, weights)])
        for one in (losses["actor"], reference)
    )
    apart = float((own - written).norm() / written.norm())
    assert apart > 0.05 if feedback else apart < 1e-4


def test_feedback_weighs_the_gradient_of_one_loop_linearly():
    """With two steps the loop is closed once, so that the gradient is linear in its share."""
    found = []
    for feedback in (0.0, 0.3, 1.0):
        agent = make(
            actor_grad="dynamics",
            entropy_coef=0.0,
            policy_input_grad=feedback,
            horizon=2,
            return_norm_min=1e-3,
        )
        with torch.no_grad():
            agent.actor.network[-1].weight.normal_()
        torch.manual_seed(1)
        losses, _ = agent.loss(Point(), start(), {"task": towards(0.3)})
        gradient = torch.autograd.grad(losses["actor"], list(agent.actor.parameters()))
        found.append(torch.cat([x.flatten() for x in gradient]))
    assert float((found[2] - found[0]).norm()) > 0.01 * float(found[0].norm())
    torch.testing.assert_close(found[1], 0.7 * found[0] + 0.3 * found[2], rtol=1e-3, atol=1e-6)


def gradient(agent: ActorCritic, rewards: dict) -> torch.Tensor:
    torch.manual_seed(5)
    losses, _ = agent.loss(Point(), start(), rewards)
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(losses["actor"], list(agent.actor.parameters()))]
    )


def test_scaling_one_reward_leaves_the_actor_where_it_was():
    """With a critic each (fresh critics say 0) and a floor far below, the scale of a reward does
    not matter.
    """
    fields = {
        "rewards": {"a": 1.0, "b": 1.0},
        "return_norm_min": 1e-8,
        "entropy_coef": 0.0,
        "lam": 1.0,
    }
    plain = gradient(make(**fields), {"a": towards(0.5), "b": towards(-1.0)})
    for factor in (0.01, 100.0):
        other = gradient(make(**fields), {"a": scaled(towards(0.5), factor), "b": towards(-1.0)})
        assert torch.allclose(plain, other, rtol=1e-3, atol=1e-6), factor
    summed = {"rewards": {"sum": 1.0}} | {k: v for k, v in fields.items() if k != "rewards"}
    one = gradient(make(**summed), {"sum": lambda i: towards(0.5)(i) + towards(-1.0)(i)})
    other = gradient(make(**summed), {"sum": lambda i: 100 * towards(0.5)(i) + towards(-1.0)(i)})
    assert torch.nn.functional.cosine_similarity(one, other, 0) < 0.99


def test_permuting_critics_changes_nothing():
    weights = {"a": 1.0, "b": 0.3}
    one = gradient(make(rewards=weights), {"a": towards(0.5), "b": towards(-1.0)})
    turned = make(rewards={"b": 0.3, "a": 1.0})
    turned.load_state_dict(make(rewards=weights).state_dict())
    assert torch.allclose(one, gradient(turned, {"b": towards(-1.0), "a": towards(0.5)}), atol=1e-7)


def test_a_reward_of_weight_zero_changes_nothing():
    agent = make(rewards={"task": 1.0, "other": 0.0})
    one = gradient(agent, {"task": towards(0.5), "other": towards(-1.0)})
    two = gradient(
        make(rewards={"task": 1.0, "other": 0.0}), {"task": towards(0.5), "other": towards(9.0)}
    )
    assert torch.equal(one, two)


def test_a_constant_reward_is_not_blown_up():
    """Scale has a floor, so a reward that hardly varies adds hardly any gradient (not amplified
    noise).
    """
    agent = make(entropy_coef=0.0)
    noise = gradient(agent, {"task": lambda imagined: 1e-4 * torch.randn_like(imagined.log_prob)})
    signal = gradient(make(entropy_coef=0.0), {"task": towards(0.5)})
    assert float(noise.norm()) < 0.01 * float(signal.norm())


def test_return_scale_is_the_spread_of_percentiles():
    scale = ReturnScale(ActorCriticConfig(return_norm_min=0.01))
    returns = torch.linspace(0, 10, 1001)
    assert float(scale.update(returns)) == pytest.approx(9.0, abs=0.01)
    assert float(ReturnScale(ActorCriticConfig(return_norm_min=20.0)).update(returns)) == 20.0
    for number in (1, 7, 64):
        returns = torch.randn(number, 3)
        low, high = returns.quantile(0.05), returns.quantile(0.95)
        fresh = ReturnScale(ActorCriticConfig(return_norm_min=1e-6))
        assert float(fresh.update(returns)) == pytest.approx(float(high - low), abs=1e-6)


@pytest.mark.parametrize("way", ["reinforce", "dynamics", "own_return", "both"])
def test_only_the_policy_is_touched_by_its_losses(way):
    agent = make(actor_grad=way)
    losses, _ = agent.loss(Point(), start(), {"task": towards(0.5)})
    touched = torch.autograd.grad(
        losses["actor"], list(agent.critics.parameters()), allow_unused=True, retain_graph=True
    )
    assert all(gradient is None for gradient in touched)
    touched = torch.autograd.grad(
        losses["critic"], list(agent.actor.parameters()), allow_unused=True
    )
    assert all(gradient is None for gradient in touched)


def test_condition_reaches_actor_and_critics():
    torch.manual_seed(0)
    agent = ActorCritic(CONFIG, feature=2, action=1, condition=3)
    condition = torch.eye(3)[torch.arange(64) % 3]
    imagined = agent.imagine(Point(), start(), condition)
    assert imagined.feature.shape == (5, 64, 5)
    assert torch.equal(imagined.feature[-1, :, 2:], condition)


def test_policy_density():
    policy = Policy(torch.tensor([[0.3, -0.2]]), torch.tensor([[0.5, 0.1]]))
    reference = torch.distributions.Normal(policy.mean, policy.std)
    action = torch.tensor([[0.1, 0.0]])
    assert torch.allclose(policy.log_prob(action), reference.log_prob(action).sum(-1))
    assert torch.allclose(policy.entropy(), reference.entropy().sum(-1))


def test_each_game_has_a_scale_of_its_own():
    """Against torch.quantile of each game's columns; a game without a column keeps what it had."""
    torch.manual_seed(0)
    game = torch.tensor([0, 2, 2, 0, 2, 2, 0])
    member = torch.nn.functional.one_hot(game, 3).float()
    returns = torch.randn(5, 7) * torch.tensor([1.0, 0.0, 50.0])[game]
    scale = ReturnScale(ActorCriticConfig(return_norm_min=1e-3, norm_rate=0.5), 3)
    found = scale.update(returns, member)
    for index in (0, 2):
        own = returns[:, game == index].flatten()
        spread = torch.quantile(own, 0.95) - torch.quantile(own, 0.05)
        torch.testing.assert_close(scale.scale[index], spread)
        torch.testing.assert_close(found[game == index], spread.expand(int((game == index).sum())))
    assert scale.scale[1] == pytest.approx(1e-3)
    assert scale.updates.tolist() == [1, 0, 1]
    scale.update(returns[:, game == 2], member[game == 2])
    assert scale.updates.tolist() == [1, 0, 2]
    torch.testing.assert_close(scale.scale[2], spread)


def test_one_game_is_no_games():
    returns, one = torch.randn(6, 9), torch.ones(9, 1)
    with_games, without = (
        ReturnScale(ActorCriticConfig(return_norm_min=1e-3), games) for games in (1, 0)
    )
    torch.testing.assert_close(with_games.update(returns, one), without.update(returns).expand(9))


def slow_returns(agent: ActorCritic, value, reward, is_first) -> list[list[float | None]]:
    """By the definition, row by row from behind; None where the row teaches nothing."""
    config, rows = agent.config, []
    for b in range(len(reward)):
        following, row = float(value[b, -1]), []
        for t in reversed(range(reward.shape[1] - 1)):
            if is_first[b, t + 1]:
                following = float(value[b, t])
                row.insert(0, None)
                continue
            mixed = (1 - config.lam) * float(value[b, t + 1]) + config.lam * following
            following = float(reward[b, t + 1]) + config.discount * mixed
            row.insert(0, following)
        rows.append(row)
    return rows


def test_replayed_returns_end_with_the_episode_and_rows_without_history_teach_nothing():
    agent = make(discount=0.9)
    learn(agent, {"task": towards(0.3)}, updates=20)
    state = State(torch.randn(3, 6, 1), torch.randn(3, 6, 1))
    reward, is_first, known = (
        torch.rand(3, 6),
        torch.zeros(3, 6, dtype=torch.bool),
        torch.ones(3, 6, dtype=torch.bool),
    )
    is_first[1, 3], known[2, :2] = True, False
    critic = agent.critics["task"]
    logits, value = critic(state.feature)
    losses, over = [], []
    for b, row in enumerate(slow_returns(agent, value, reward, is_first)):
        for t, expected in enumerate(row):
            if expected is not None and known[b, t]:
                losses.append(
                    -float(critic.head.log_prob(logits[b, t], torch.tensor(expected)).detach())
                )
                over.append(float(value[b, t]) - expected)
    loss, exceeds = agent.replayed(state, reward, is_first, known)
    assert len(losses) == 12
    assert float(loss.detach()) == pytest.approx(sum(losses) / 12, rel=1e-4)
    assert float(exceeds) == pytest.approx(sum(over) / 12, abs=1e-4)


def test_a_critic_learns_the_value_from_replayed_rows_alone():
    """A reward of 1 at every step and a discount of 0.9: 10."""
    agent = make(discount=0.9)
    adam = torch.optim.Adam(agent.critics.parameters(), 6e-3)
    nothing = torch.zeros(8, 12, dtype=torch.bool)
    for _ in range(400):
        state = State(torch.randn(8, 12, 1), torch.randn(8, 12, 1))
        loss, _ = agent.replayed(state, torch.ones(8, 12), nothing, ~nothing)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert float(agent.critics["task"](state.feature)[1].mean()) == pytest.approx(10, rel=0.05)
