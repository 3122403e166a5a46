"""Environments of dm_control behind a procedural video, and random actions in them."""

import numpy as np

from foreground import envs

PROCEDURAL = envs.BackgroundConfig("procedural")


def video_environment(task="walker-walk", **changes):
    config = envs.BackgroundConfig("procedural", **changes)
    return envs.make(task, seed=0, background=envs.load_background(config, "train"))


def play(environment, steps: int, seed: int):
    """Return the observations, rewards and simulator states of `steps` random actions."""
    random = np.random.default_rng(1)
    observations = [environment.reset(seed=seed)[0]]
    rewards, states = [], [environment.simulator_state()]
    for _ in range(steps):
        observation, reward, *_ = environment.step(
            random.uniform(-1, 1, environment.action_space.shape)
        )
        observations.append(observation)
        rewards.append(reward)
        states.append(environment.simulator_state())
    return np.stack(observations), np.array(rewards), np.stack(states)
