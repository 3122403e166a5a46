"""Test our environments with gymnasium's checker, Stable-Baselines3 and torchrl."""

import gymnasium
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_match import check_environments_match
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from foreground import envs

pytestmark = pytest.mark.outside
CONFIG = envs.BackgroundConfig("procedural")
NAMES = [f"dmc/{task}-v0" for task in envs.TASKS] + [
    "dmc_video/walker-walk-v0",
    "dmc_video/cartpole-swingup-v0",
]


def make(name: str, **arguments) -> gymnasium.Env:
    return gymnasium.make(name, **arguments | ({"config": CONFIG} if "video" in name else {}))


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_checks_them(name):
    check_env(make(name).unwrapped)


@pytest.mark.parametrize("name", NAMES[::6] + NAMES[-2:])
def test_gymnasium_finds_two_of_a_seed_alike(name):
    check_environments_match(make(name), make(name), num_steps=60, seed=3)


def test_gymnasium_finds_those_unlike_that_are():
    """The check before: it would see another background."""
    with pytest.raises(AssertionError):
        check_environments_match(
            make("dmc/walker-walk-v0"), make("dmc_video/walker-walk-v0"), num_steps=5, seed=3
        )


@pytest.mark.parametrize("name", NAMES[::9] + NAMES[-2:])
def test_stable_baselines_checks_them(name):
    environment = make(name, render_mode="rgb_array")
    sb3_check_env(environment.unwrapped)
    environment.close()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_stable_baselines_trains_in_them(algorithm):
    """Short: that rewards, ends of episodes and pictures arrive where an agent of others looks for
    them.
    """
    environment = make("dmc_video/cartpole-balance-v0", time_limit=200)
    sizes = {PPO: {"n_steps": 128, "batch_size": 64, "n_epochs": 2}}
    sizes |= {SAC: {"buffer_size": 600, "learning_starts": 200, "batch_size": 32}}
    agent = algorithm("CnnPolicy", environment, seed=0, device="cpu", **sizes[algorithm])
    before = {name: value.detach().clone() for name, value in agent.policy.named_parameters()}
    agent.learn(512 if algorithm is PPO else 225)
    moved = [
        name
        for name, value in agent.policy.named_parameters()
        if not torch.equal(value, before[name])
    ]
    assert any("actor" in name or "action_net" in name for name in moved)
    assert len(agent.ep_info_buffer) >= 2  # Monitor saw whole episodes
    for episode in agent.ep_info_buffer:
        assert episode["l"] == 100  # 200 frames, repeated twice
        assert 0 < episode["r"] <= 200


@pytest.mark.parametrize("name", NAMES[::9] + NAMES[-2:])
def test_torchrl_checks_them(name):
    pytest.importorskip("torchrl", reason="make outside installs it")
    from torchrl.envs import GymWrapper
    from torchrl.envs.utils import check_env_specs

    environment = GymWrapper(make(name))
    check_env_specs(environment, seed=0)
    environment.close()
