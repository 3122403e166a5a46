"""Test environments of other packages behind the adapter: Gymnasium's checker, training."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from benchmarks.doors import DOORS
from foreground.configs import run as runs
from foreground.envs import adapter

pytestmark = pytest.mark.outside


@pytest.mark.parametrize("name", sorted(DOORS))
def test_an_environment_of_others_shows_moves_and_ends(name):
    door = DOORS[name]
    pytest.importorskip(door.module, reason="make outside installs it, but for gym-pusht")
    config = runs.read(["--agent", "dreamer", *door.words.split()], cuda=False)
    env = adapter.make_pixels(config.task, config.env_module, config.env_arguments, action_repeat=4)
    check_env(env, skip_render_check=True)
    first, _ = env.reset(seed=0)
    assert first.std() > 3, "a picture, not a blank"
    ended = False
    for _ in range(400):
        image, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert np.isfinite(reward)
        ended = ended or terminated or truncated
        if ended:
            break
    assert ended
    assert (image != first).any()
    env.close()
