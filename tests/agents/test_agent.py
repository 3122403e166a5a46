"""Test WorldModelAgent: acting, updating, presets, exact state."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from gymnasium.spaces import Box

from foreground import build, preflight
from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import AgentSpec
from foreground.agents.memory import next_noise
from foreground.agents.optimiser import Divergence, Optimiser, descend
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training.trainer import Trainer
from foreground.world_models.objective import FixedWeights, Lagrangian
from foreground.world_models.world_model import Spaces
from tests.support.marks import mostly_slow
from tests.support.small import (
    DREAMER,
    FIXED,
    assert_nan_is_stopped,
    make_agent,
    make_batch,
)


@pytest.mark.parametrize("terms", [FIXED, DREAMER])
def test_dreamer_and_c_dreamer_train(terms):
    agent = make_agent(terms, ())
    metrics = agent.update(make_batch())
    assert all(torch.isfinite(value).all() for value in metrics.values())


def test_update_changes_every_module_and_nothing_else():
    agent = make_agent()
    before = {name: value.clone() for name, value in agent.named_parameters()}
    agent.update(make_batch())
    agent.update(make_batch(seed=1))
    still = {name for name, value in agent.named_parameters() if torch.equal(before[name], value)}
    # the offset of a critic is free in NCE, and has no gradient there
    assert {name for name in still if "offset" not in name} == set()


def test_replayed_rows_move_the_critic_of_the_task_and_nothing_else():
    """Against the same update without them."""
    found = []
    for weight in (0.0, 1.0):
        agent = make_agent()
        policy = replace(agent.config.actor_critic, replay_value_coef=weight)
        torch.manual_seed(0)
        agent = WorldModelAgent(replace(agent.config, actor_critic=policy), agent.spaces)
        torch.manual_seed(1)
        metrics = agent.update(make_batch())
        assert ("policy/task/over_replay" in metrics) == bool(weight)
        found.append({name: value.clone() for name, value in agent.named_parameters()})
    moved = {name for name, value in found[0].items() if not torch.equal(value, found[1][name])}
    assert moved
    assert all(name.startswith("actor_critic.critics.task") for name in moved)


def test_deterministic_policy_is_deterministic_and_actions_are_in_range():
    agent = make_agent()
    image, first = make_batch()["image"][:, 0], torch.ones(4, dtype=torch.bool)
    one, _ = agent.act(agent.initial_state(4), image, first, explore=False)
    two, memory = agent.act(agent.initial_state(4), image, first, explore=False)
    assert torch.equal(one, two)
    sampled, _ = agent.act(memory, image, ~first)
    assert float(sampled.abs().max()) <= 1


def test_the_memory_holds_the_action_that_was_taken():
    """While the replay is filled the action is noise, and not what the agent would have done."""
    agent, wanted = make_agent(), torch.tensor([[0.25, -3.0]] * 4)
    image, first = make_batch()["image"][:, 0], torch.ones(4, dtype=torch.bool)
    looks_on = SimpleNamespace(
        spec=AgentSpec({}, False, True),
        act=lambda *seen: (torch.zeros(4, 2), agent.act(*seen)[1]._replace(noise=wanted)),
    )
    action, memory = Trainer.fill(
        SimpleNamespace(agent=looks_on), agent.initial_state(4), image, first
    )
    assert torch.equal(action, torch.tensor([[0.25, -1.0]] * 4))
    assert torch.equal(memory.action, action)
    assert torch.equal(memory.image, image)


def test_where_no_action_explores_the_replay_is_filled_by_the_agent():
    own = torch.rand(4, 2), make_agent().initial_state(4)._replace(noise=None)
    filled = Trainer.fill(
        SimpleNamespace(
            agent=SimpleNamespace(spec=AgentSpec({}, False, False), act=lambda *seen: own)
        ),
        None,
        None,
        None,
    )
    assert filled == own


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_noise_is_of_deviation_1_and_correlated_over_time(correlation):
    torch.manual_seed(0)
    noise = [torch.randn(500, 2)]
    for _ in range(200):
        noise.append(next_noise(noise[-1], correlation))
    now, later = torch.stack(noise[:-3]), torch.stack(noise[3:])
    assert float(now.std()) == pytest.approx(1, abs=0.02)
    assert float((now * later).mean()) == pytest.approx(correlation**3, abs=0.03)
    assert float((now[..., 0] * now[..., 1]).mean()) == pytest.approx(
        0, abs=0.02
    )  # of one motor, not of another


def test_actions_are_off_the_mean_by_the_noise_that_is_remembered():
    agent = make_agent()
    image, first = make_batch()["image"][:, 0], torch.ones(4, dtype=torch.bool)
    action, memory = agent.act(agent.initial_state(4), image, first)
    policy = agent.actor_critic.actor(agent.actor_critic.inputs(memory.state, memory.condition))
    assert torch.allclose(action, (policy.mean + policy.std * memory.noise).clamp(-1, 1))
    _, kept = agent.act(memory, image, first, explore=False)
    assert torch.equal(kept.noise, memory.noise)
    before, after = [], []
    for _ in range(300):
        before.append(memory.noise)
        _, memory = agent.act(memory, image, ~first)
        after.append(memory.noise)
    wanted = agent.config.actor_critic.noise_correlation
    assert (
        0
        < wanted
        == pytest.approx(float((torch.stack(before) * torch.stack(after)).mean()), abs=0.1)
    )


@pytest.mark.parametrize(
    "name",
    mostly_slow(sorted(set(runs.AGENTS) - set(runs.FOLLOWING)), ("infopower", "mra", "slim")),
)
def test_parameters_are_counted_without_making_them(name):
    run = runs.read(["--agent", name, "--size", "cpu"], cuda=False)
    config, space = run.agent_config, Box(-1, 1, (2,))
    random = torch.get_rng_state()
    number = preflight.number_of_parameters(config, build.spaces_of(run, space))
    assert torch.equal(random, torch.get_rng_state())
    agent = build.make_agent(run, space, "cpu")
    assert number == sum(parameter.numel() for parameter in agent.parameters())
    trained = sum(parameter.numel() for parameter in agent.parameters() if parameter.requires_grad)
    assert trained == sum(agent.parameters_by_module().values())  # what train.py says first
    assert len(list(agent.named_parameters(remove_duplicate=False))) == len(
        list(agent.named_parameters())
    )  # each saved once


@pytest.mark.slow
def test_a_compiled_agent_learns_the_same():
    """The path that CUDA takes; the numbers that are drawn are the same."""
    plain, compiled = make_agent(), make_agent()
    compiled.compile_parts(backend="aot_eager", dynamic=False)
    rows = []
    for agent in (plain, compiled):
        torch.manual_seed(1)
        rows.append([agent.update(make_batch(seed=seed)) for seed in range(3)])
    for ours, theirs in zip(*rows):
        for name, value in ours.items():
            assert float(theirs[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-4), name
    compiled_names, names = compiled.state_dict().keys(), plain.state_dict().keys()
    assert compiled_names == names  # a checkpoint does not know


@pytest.mark.slow
def test_acting_compiles_nothing():
    agent = make_agent()
    calls = []
    agent.compile_parts(
        backend=lambda graph, inputs: calls.append(graph) or graph.forward, dynamic=False
    )
    image, first = make_batch()["image"][:, 0], torch.ones(4, dtype=torch.bool)
    agent.act(agent.initial_state(4), image, first)
    agent.render(make_batch())
    assert not calls
    agent.update(make_batch())
    assert calls


def test_memory_is_forgotten_at_is_first():
    agent = make_agent()
    image, first = make_batch()["image"][:, 0], torch.ones(4, dtype=torch.bool)
    fresh, _ = agent.act(agent.initial_state(4), image, first, explore=False)
    _, memory = agent.act(agent.initial_state(4), image.flip(1), first, explore=False)
    again, _ = agent.act(memory, image, first, explore=False)
    assert torch.allclose(fresh, again, atol=1e-6)
    other, _ = agent.act(memory, image, ~first, explore=False)
    assert not torch.equal(fresh, other)


def test_nan_is_stopped_before_the_weights():
    assert_nan_is_stopped(make_agent())


def test_infinite_gradient_is_stopped():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = Optimiser("toy", [weight], 0.1, 1.0, 1e-8)
    with pytest.raises(Divergence, match="gradient of toy"):
        descend(
            {"toy": optimiser}, {"toy": weight.sqrt().sum()}
        )  # its derivative at zero is infinite
    assert float(weight.detach()) == 0.0


def test_state_round_trip_continues_exactly():
    one, two = make_agent(seed=1), make_agent(seed=2)
    for seed in range(6):
        one.update(make_batch(seed=seed))
    two.load_training_state(copy.deepcopy(one.training_state()))
    for agent in (one, two):
        torch.manual_seed(9)
        agent.update(make_batch(seed=7))
    for (name, left), right in zip(one.state_dict().items(), two.state_dict().values()):
        assert torch.equal(left, right), name


def test_a_picture_of_every_image():
    agent, batch = make_agent(), make_batch()
    pictures = agent.render(batch)
    assert pictures.shape == batch["image"].shape
    assert pictures.dtype == torch.uint8


# ---------------------------------------------------------------------------- methods are presets


@pytest.mark.parametrize(
    ("name", "rule", "reads", "rewards"),
    [
        (
            "infopower",
            Lagrangian,
            {"contrastive", "predictability", "reward", "empowerment", "control"},
            {"task", "empowerment"},
        ),
        ("c_dreamer", FixedWeights, {"contrastive", "predictability", "reward"}, {"task"}),
        ("dreamer", FixedWeights, {"reconstruction", "predictability", "reward"}, {"task"}),
        (
            "infopower_paper",
            Lagrangian,
            {"contrastive", "predictability", "reward", "empowerment"},
            {"task", "empowerment"},
        ),
        (
            "slim",
            Lagrangian,
            {"contrastive", "predictability", "empowerment", "control", "use", "safety"},
            {"discovery", "use", "safety"},
        ),
        (
            "slim_sum",
            Lagrangian,
            {"contrastive", "predictability", "empowerment", "control", "use", "safety"},
            {"discovery+use+safety"},
        ),
        (
            "metra",
            Lagrangian,
            {"contrastive", "predictability", "empowerment", "control"},
            {"discovery"},
        ),
    ],
)
def test_a_method_is_a_preset(name, rule, reads, rewards):
    config = runs.read(["--agent", name], cuda=False)
    agent = WorldModelAgent(config.agent_config, Spaces(64, 2, config.skill.size, config.signals))
    assert isinstance(agent.world_model.rule, rule)
    assert set(agent.world_model.terms) == reads
    assert set(agent.actor_critic.critics) == rewards


@pytest.mark.parametrize(
    ("size", "low", "high"),
    [
        ("cpu", 1.5e6, 3.2e6),
        ("12m", 10e6, 15e6),
        ("25m", 20e6, 30e6),
        ("50m", 40e6, 60e6),
        ("100m", 80e6, 120e6),
    ],
)
def test_sizes_hold_what_their_names_say(size, low, high):
    config = runs.read(["--size", size, "--agent", "infopower"], cuda=False)
    with torch.device("meta"):  # shapes alone
        agent = WorldModelAgent(
            replace(config.agent_config, compile="false"), Spaces(64, 6), "meta"
        )
    # as DreamerV3 counts them: what is trained, the decoder for pictures included
    assert low < sum(agent.parameters_by_module().values()) < high


def test_an_agent_in_a_file_is_refused_and_not_half_obeyed(tmp_path):
    (tmp_path / "mine.yaml").write_text("agent: dreamer\n")
    with pytest.raises(UserError, match="give --agent dreamer instead"):
        runs.read(["--config", str(tmp_path / "mine.yaml")], cuda=False)


def test_unknown_agent_names_the_nearest():
    with pytest.raises(UserError, match="did you mean infopower"):
        runs.read(["--agent", "infopowr"], cuda=False)


def test_an_image_array_may_be_used_again():
    """An environment may render each image into one array; memory keeps the previous image."""
    agent, first = make_agent(), torch.zeros(1, dtype=torch.bool)
    images = torch.randint(
        0, 256, (2, 1, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    array = images[0].clone()
    _, memory = agent.act(agent.initial_state(1), array, ~first)
    array.copy_(images[1])
    assert torch.equal(memory.image, images[0])
