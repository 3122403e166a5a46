"""Test the use and safety of a state: known poses, ranges in every domain, info of a step."""

import mujoco
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from foreground import envs
from foreground.envs.dmc import make
from foreground.envs.signals import FALLS, USES, Signals
from foreground.errors import UserError
from tests.support.marks import mostly_slow

DOMAINS = sorted({task.split("-")[0] for task in envs.TASKS} | {"quadruped"})
FIRST = {task.split("-")[0]: task for task in reversed(envs.TASKS)} | {
    "quadruped": "quadruped-walk"
}


def test_every_benchmark_domain_has_signals():
    assert set(USES) == set(DOMAINS)
    assert set(FALLS) <= set(USES)


@pytest.mark.parametrize("domain", mostly_slow(DOMAINS, ("cartpole", "finger", "walker")))
def test_signals_stay_in_their_ranges_and_move(domain):
    env = make(
        FIRST[domain], seed=1, size=16, action_repeat=2, time_limit=120, signals=("use", "safety")
    )
    rows, random = [], np.random.default_rng(0)
    try:
        _, info = env.reset(seed=1)
        assert np.array_equal(info["signals"], [0, 0])
        for _ in range(60):
            action = random.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            *_, info = env.step(action)
            rows.append(info["signals"] / info["env_frames"])
    finally:
        env.close()
    use, safety = np.array(rows).T
    assert info["signals"].dtype == np.float32
    assert (use >= 0).all()
    assert (use <= 1 + 1e-6).all()
    assert (safety >= -1).all()
    assert (safety <= 0).all()
    assert use.std() > 1e-6
    assert safety.std() > 1e-6  # a random action saturates now and then


def walker(height: float = 1.3, pitch: float = 0.0):
    env = make("walker-stand", size=16, signals=("use", "safety"))
    env.reset(seed=0)
    with env.physics.reset_context():
        env.physics.named.data.qpos["rootz"] = height - 1.3
        env.physics.named.data.qpos["rooty"] = pitch
    return env


def test_a_walker_that_stands_is_useful_and_one_that_lies_has_fallen():
    still = np.zeros(6)
    stands, lies = walker(), walker(0.2, np.pi / 2)
    assert stands.signals.read(still) == pytest.approx([1, 0], abs=1e-3)
    use, safety = lies.signals.read(still)
    assert use < 0.1
    assert lies.signals.violations(still)["fall"] == 1
    assert safety <= -0.25
    assert stands.signals.use_is == "uprightness and height: of the torso"
    for env in (stands, lies):
        env.close()


def test_violations_are_measured_where_they_are():
    env = walker()
    physics, signals = env.physics, env.signals
    assert signals.violations(np.array([1, -1, 0.95, 0.9, 0, 0]))["saturation"] == pytest.approx(
        2.5 / 6
    )
    low, high = physics.named.model.jnt_range["right_knee"]
    for place, expected in (
        (high, 0.0),
        (high + 0.02 * (high - low) / 2, 0.4),
        (high + high - low, 1.0),
    ):
        with physics.reset_context():
            physics.named.data.qpos["right_knee"] = place
        assert signals.violations(np.zeros(6))["limit"] == pytest.approx(expected / 6, abs=1e-6)
    env.close()


def test_a_contact_is_as_hard_as_the_weight_at_rest_and_harder_after_a_fall():
    env = walker()
    physics, signals = env.physics, env.signals
    weight = float(np.asarray(physics.model.body_mass).sum()) * 9.81
    assert signals.contact() < 1e-6  # in the air
    with physics.reset_context():
        physics.named.data.qpos["rootz"] = 1.5
    largest = 0.0
    for _ in range(600):
        physics.step()
        largest = max(largest, signals.contact())
    assert largest > weight
    for _ in range(4000):
        physics.step()
    assert 0.1 * weight < signals.contact() < 2 * weight  # it lies, its weight on a few points
    env.close()


def test_they_pass_through_vector_environments_and_are_zero_at_resets():
    maker = lambda: make(  # noqa: E731
        "walker-walk", size=16, action_repeat=4, time_limit=20, signals=("safety", "use")
    )
    vector = SyncVectorEnv([maker, maker], autoreset_mode=AutoresetMode.NEXT_STEP)
    _, info = vector.reset(seed=0)
    rows = [info["signals"]]
    for _ in range(12):
        *_, info = vector.step(vector.action_space.sample())
        rows.append(info["signals"])
    vector.close()
    table = np.array(rows)  # (steps, N, K)
    assert table.shape == (13, 2, 2)
    resets = np.flatnonzero((table == 0).all((1, 2)))
    assert list(resets) == [0, 6, 12]
    assert (table[1:6, :, 1] > 0).all()  # in the order asked for: safety, use
    assert (table[..., 0] <= 0).all()


def test_what_does_not_exist_is_refused():
    with pytest.raises(UserError, match="safety"):
        make("walker-walk", size=16, signals=("safty",))
    env = make("walker-walk", size=16)
    with pytest.raises(UserError, match="no signals"):
        Signals(env.physics, "lqr", ("use",))
    assert "signals" not in env.reset(seed=0)[1]
    assert mujoco.mj_id2name(env.physics.model.ptr, mujoco.mjtObj.mjOBJ_BODY, 1) == "torso"
    env.close()


@pytest.mark.parametrize("task", ["walker-stand", "cheetah-run", "humanoid-stand"])
def test_contact_is_that_of_now_and_looking_changes_nothing(task):
    """Compare with a full forward pass on a copy, and a simulator whose signals are not read."""
    looked, other = (
        make(task, seed=1, size=16, signals=("use", "safety")),
        make(task, seed=1, size=16),
    )
    random = np.random.default_rng(0)
    looked.reset()
    other.reset()
    found = []
    for _ in range(60):
        action = random.uniform(-1, 1, looked.action_space.shape)
        looked.step(action)
        other.step(action)
        model, data = looked.physics.model.ptr, mujoco.MjData(looked.physics.model.ptr)
        whole = mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(model, whole))
        mujoco.mj_getState(model, looked.physics.data.ptr, state, whole)
        mujoco.mj_setState(model, data, state, whole)
        mujoco.mj_forward(model, data)
        force, largest = np.zeros(6), 0.0
        for index in range(data.ncon):
            mujoco.mj_contactForce(model, data, index, force)
            largest = max(largest, float(np.linalg.norm(force[:3])))
        assert looked.signals.contact() == pytest.approx(largest, rel=1e-6)
        found.append(largest)
        np.testing.assert_array_equal(looked.simulator_state(), other.simulator_state())
    assert max(found) > 1
