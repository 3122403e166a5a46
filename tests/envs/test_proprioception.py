"""Test proprioception: the second input, from the environment to the latent."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import foreground
from foreground import build, envs
from foreground.agents.actor_critic import ActorCriticConfig
from foreground.agents.agent import WorldModelAgent
from foreground.agents.config import AgentConfig
from foreground.configs import run as runs
from foreground.envs import adapter
from foreground.errors import UserError
from foreground.training.rollout import _like
from foreground.world_models.world_model import Spaces, WorldModel
from tests.faults import checkpoint_ablation
from tests.support.small import make_batch, world_config
from tests.support.training_runs import OFTEN, run

WORDS = [*OFTEN, "--environment.proprioception", "true"]


def joined(env) -> np.ndarray:
    return np.concatenate([np.ravel(value) for value in env.state_observation().values()])


def test_an_environment_tells_the_tasks_own_observation_with_each_image():
    env = envs.make("cartpole-swingup", size=32, proprioception=True)
    assert env.metadata["info_fields"] == {"proprioception": ((5,), np.float32)}
    _, info = env.reset(seed=3)
    rows = [info["proprioception"]]
    np.testing.assert_allclose(rows[0], joined(env), rtol=1e-6)
    for _ in range(3):
        info = env.step(np.ones(1))[4]
        np.testing.assert_allclose(info["proprioception"], joined(env), rtol=1e-6)
        rows.append(info["proprioception"])
    assert all((a != b).any() for a, b in pairwise(rows))
    env.close()


def test_it_is_not_told_unless_asked_for():
    env = envs.make("cartpole-swingup", size=32)
    assert env.metadata["info_fields"] == {}
    assert "proprioception" not in env.reset(seed=3)[1]
    env.close()


def test_a_restored_snapshot_tells_the_same_numbers():
    env, other = (envs.make("cartpole-swingup", size=32, proprioception=True) for _ in range(2))
    env.reset(seed=3)
    env.step(np.ones(1))
    other.reset(seed=4)
    other.snapshot = env.snapshot
    a, b = (each.step(-np.ones(1))[4]["proprioception"] for each in (env, other))
    assert np.array_equal(a, b)
    env.close()
    other.close()


def test_an_environment_of_gymnasium_tells_its_numbers():
    env = adapter.make_pixels(
        "gymnasium:toys/Plane-v0", "tests.support.toys", size=16, proprioception=True
    )
    assert env.metadata["info_fields"] == {"proprioception": ((2,), np.float32)}
    _, info = env.reset(seed=0)
    np.testing.assert_allclose(info["proprioception"], env.env.unwrapped.place, rtol=1e-6)
    info = env.step(np.ones(2))[4]
    np.testing.assert_allclose(info["proprioception"], env.env.unwrapped.place, rtol=1e-6)
    assert info["proprioception"].dtype == np.float32


def test_one_that_observes_pictures_alone_is_refused():
    with pytest.raises(UserError, match="has no numbers") as caught:
        adapter.make_pixels(
            "gymnasium:toys/Countdown-v0", "tests.support.toys", size=16, proprioception=True
        )
    assert "--environment.proprioception" in str(caught.value)


def test_agents_with_skills_refuse_it():
    words = ["--agent", "metra", "--size", "cpu", "--environment.proprioception", "true"]
    with pytest.raises(UserError, match="goals are images"):
        build.check_agent(runs.read(words, cuda=False))


def test_the_latent_depends_on_the_numbers_and_without_them_nothing_is_added():
    torch.manual_seed(0)
    model, plain = (
        WorldModel(world_config(), Spaces(32, 2, proprioception=3)),
        WorldModel(world_config(), Spaces(32, 2)),
    )
    added = set(model.state_dict()) - set(plain.state_dict())
    assert {name.split(".")[0] for name in added} == {"proprioception"}
    batch = make_batch() | {"proprioception": torch.randn(4, 8, 3)}
    other = batch | {"proprioception": batch["proprioception"] + 1}
    embedding = model.observe(batch)[0]
    assert not torch.allclose(embedding, model.observe(other)[0])
    model.loss(batch).losses["world_model"].backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.proprioception.parameters())


def test_large_numbers_do_not_drown_the_image():
    """They enter by their symlog: from 1 to 1,000,000 the input grows from 0.7 to 13.8."""
    model, batch = WorldModel(world_config(), Spaces(32, 2, proprioception=3)), make_batch()
    seen = []
    model.proprioception.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0])
    )
    model.observe(batch | {"proprioception": torch.full((4, 8, 3), 1e6)})
    assert float(seen[0].max()) == pytest.approx(13.8155, abs=1e-3)


def test_acting_reads_the_numbers_that_came_with_the_image(tmp_path):
    """The row of an image holds them, and so did the memory when the agent acted on it."""
    torch.set_num_threads(1)
    trainer = checkpoint_ablation.make(tmp_path, WORDS)
    assert trainer.replay.layout["proprioception"] == ((5,), torch.float32)
    act, read = trainer.agent.act, []

    def noted(memory, image, is_first, *rest):
        read.append((image.clone(), memory.proprioception.clone()))
        return act(memory, image, is_first, *rest)

    trainer.agent.act = noted
    run(trainer, 200)
    rows = trainer.replay.newest(0, len(read) + 1)
    assert len(read) > 80
    for index, (image, numbers) in enumerate(read):
        assert torch.equal(rows["image"][0, index], image[0])
        assert torch.equal(rows["proprioception"][0, index], numbers[0])
    assert rows["proprioception"].std(1).min() > 0


def test_a_run_goes_on_to_the_bit_with_it(tmp_path):
    torch.set_num_threads(1)
    whole = checkpoint_ablation.make(tmp_path / "whole", WORDS)
    run(whole, 230)
    run(checkpoint_ablation.make(tmp_path / "cut", WORDS), 150)
    again = checkpoint_ablation.make(tmp_path / "cut", WORDS)
    assert again.resume() == []
    run(again, 230)
    a, b = (trainer.agent.state_dict() for trainer in (whole, again))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_memory_saved_before_there_was_such_a_field_loads():
    agent = WorldModelAgent(
        AgentConfig(world_config(), ActorCriticConfig(units=32, layers=1)), Spaces(32, 2)
    )
    memory = agent.initial_state(2)
    saved = tuple(tuple(part) if isinstance(part, tuple) else part for part in memory)[:-1]
    loaded = _like(memory, saved)
    assert loaded.proprioception is None
    assert torch.equal(loaded.noise, memory.noise)


def test_a_player_asks_for_them():
    agent = WorldModelAgent(
        AgentConfig(world_config(), ActorCriticConfig(units=32, layers=1)),
        Spaces(32, 2, proprioception=3),
    )
    player, image = foreground.Player(agent), np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(UserError, match="none are given"):
        player(image)
    player(image, {"proprioception": np.array([1.0, 2.0, 3.0])})
    assert player._memory.proprioception.tolist() == [[1.0, 2.0, 3.0]]
