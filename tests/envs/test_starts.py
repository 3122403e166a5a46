"""Where an episode starts."""

import numpy as np
import pytest

from foreground import envs
from foreground import eval as evaluate
from foreground.configs import run as runs
from foreground.envs.tasks import ANY_WAY_UP
from foreground.errors import UserError
from foreground.training import options


def uprightness(task: str, start: str, seed: int, steps: int = 50) -> float:
    """Return the z axis of the torso, along the world's, after steps without action."""
    env = envs.make(task, start=start, action_repeat=2)
    env.reset(seed=seed)
    for _ in range(steps):
        env.step(np.zeros(env.action_space.shape))
    found = float(env.physics.torso_upright())
    env.close()
    return found


@pytest.mark.parametrize("task", ANY_WAY_UP)
def test_a_quadruped_stays_on_its_feet_where_it_starts_on_them(task):
    own = [uprightness(task, "own", seed) for seed in range(4)]
    upright = [uprightness(task, "upright", seed) for seed in range(4)]
    assert min(upright) > 0.95
    assert np.mean(own) < 0


def test_an_upright_start_is_above_the_floor_and_drawn_anew_by_seed():
    env = envs.make("quadruped-walk", start="upright")
    states = []
    for seed in (0, 1, 0):
        env.reset(seed=seed)
        assert env.physics.data.ncon == 0
        states.append(env.simulator_state())
    np.testing.assert_array_equal(states[0], states[2])
    assert not np.array_equal(states[0], states[1])
    np.testing.assert_array_equal(states[0][:2], 0)
    env.close()


def test_a_start_that_a_task_does_not_have_is_refused():
    with pytest.raises(UserError, match="unknown start"):
        envs.make("quadruped-walk", start="flying")
    with pytest.raises(UserError, match="walker-walk draws no orientation of the robot"):
        envs.make("walker-walk", start="upright")
    words = ["--agent", "metra", "--environment.start", "upright", "--task"]
    with pytest.raises(UserError, match=r"environment\.start.*quadruped-walk and quadruped-run"):
        runs.read([*words, "walker-walk"], cuda=False)
    for task in ("quadruped-run", "dmc:quadruped-run"):
        assert runs.read([*words, task], cuda=False).environment.start == "upright"


def test_a_run_that_begins_with_another_chooses_its_own_start(tmp_path):
    words = ["--task", "quadruped-walk", "--environment.start", "upright"]
    skills = runs.read(["--agent", "metra", *words], cuda=False)
    (tmp_path / "config.yaml").write_text(options.to_yaml(skills))
    begin = ["--agent", "finetune", "--init_from", str(tmp_path)]
    assert runs.read([*begin, *words], cuda=False).environment.start == "upright"
    for task in ("quadruped-walk", "quadruped-fetch"):
        assert runs.read([*begin, "--task", task], cuda=False).environment.start == "own"
    assert evaluate.in_task(skills, "quadruped-run").environment.start == "upright"
    assert evaluate.in_task(skills, "quadruped-fetch").environment.start == "own"
