"""Test that a restored environment continues bit for bit, on all 28 tasks and over episodes."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from foreground import envs
from foreground.envs.backgrounds import BackgroundConfig, load_background
from foreground.envs.dmc import DMCEnv
from foreground.envs.families import FamilyConfig, make_family
from foreground.envs.signals import USES
from foreground.training import checkpoint
from foreground.training.rollout import Rollout, random_policy
from tests.support.marks import mostly_slow


def make(task: str, **more) -> DMCEnv:
    told = ("use", "safety") if task.split("-")[0] in USES else ()
    return DMCEnv(task, size=16, action_repeat=2, time_limit=24, signals=told, **more)


def rows_of(env: DMCEnv, rollout: Rollout, number: int) -> list[dict]:
    """Rows of a rollout with the simulator's state behind each."""
    random = np.random.default_rng(5)
    rows = []
    for _ in range(number):
        row = rollout.step(random_policy(rollout.envs, random))
        rows.append({**row, "simulator": env.simulator_state()})
    return rows


def vector(env: DMCEnv) -> Rollout:
    return Rollout(SyncVectorEnv([lambda: env], autoreset_mode=AutoresetMode.NEXT_STEP), None, 3)


# A posture; a target, which moves the model; an object that is drawn; two bodies.
QUICK = ("walker-walk", "reacher-easy", "manipulator-bring_ball", "ball_in_cup-catch")


@pytest.mark.parametrize("task", mostly_slow(envs.TASKS, QUICK))
def test_every_task_goes_on_to_the_bit(tmp_path, task):
    """Cut in an episode, at its last step and behind its reset; through a real checkpoint."""
    env = make(task)
    rollout = vector(env)
    rows_of(env, rollout, 6)
    for more in (0, 7, 1):  # 12 steps an episode: in the middle, after the last, after the reset
        rows_of(env, rollout, more)
        path = checkpoint.save(tmp_path, rollout.row["image"].shape[0] + more, rollout.state())
        other = make(task)
        resumed = vector(other)
        resumed.load(checkpoint.load(path))
        if more != 7:  # there the episode is over, and the next step is a reset
            np.testing.assert_array_equal(other._observation, env._observation)
        # The first also continues from its own snapshot, so that each cut begins where the last one
        # did.
        for one, two in zip(rows_of(env, rollout, 16), rows_of(other, resumed, 16)):
            for name in one:
                np.testing.assert_array_equal(one[name], two[name], err_msg=f"{name} after {more}")
        assert rollout.finished == resumed.finished


def test_what_is_left_out_is_missed():
    """Each part of a snapshot is needed: without it something differs within an episode and the
    next.
    """
    task = "reacher-easy"
    env = make(task)
    rollout = vector(env)
    rows_of(env, rollout, 6)
    state = rollout.state()
    whole = rows_of(env, rollout, 16)
    fresh = make(task)
    fresh.reset(seed=99)
    elsewhere = fresh.snapshot
    for part in ("data", "model", "random", "frame"):
        other = make(task)
        other.reset(seed=99)
        taken = {**state["envs"][0]}
        if part in elsewhere:
            taken[part] = elsewhere[part]
        else:
            taken["simulator"] = {**taken["simulator"], part: elsewhere["simulator"][part]}
        resumed = vector(other)
        resumed.load({**state, "envs": [taken]})
        again = rows_of(other, resumed, 16)
        same = all(
            np.array_equal(one[name], two[name]) for one, two in zip(whole, again) for name in one
        )
        assert not same, f"without {part} nothing differs"


def test_a_background_a_game_and_an_end_are_missed():
    """The clip's place; the game of this episode; that the episode is over: with another's
    something differs.
    """
    family = make_family(FamilyConfig(kind="speed"), "walker-walk")
    background = load_background(BackgroundConfig(source="procedural", redraw_every=5), "train", 16)

    def played() -> DMCEnv:
        return DMCEnv(
            "walker-walk",
            size=16,
            action_repeat=2,
            time_limit=24,
            background=background,
            family=family,
        )

    env = played()
    rollout = vector(env)
    for part in ("background", "game", "over"):
        rows_of(env, rollout, 4)
        state = rollout.state()
        whole = rows_of(env, rollout, 16)
        taken = {**state["envs"][0]}
        fresh = played()
        fresh.reset(seed=99)
        another = {
            "background": fresh.snapshot["background"],
            "game": (taken["game"] + 1) % 3,
            "over": not taken["over"],
        }
        taken[part] = another[part]
        other = played()
        other.reset(seed=99)
        resumed = vector(other)
        resumed.load({**state, "envs": [taken]})
        again = rows_of(other, resumed, 16)
        assert not all(
            np.array_equal(one[name], two[name]) for one, two in zip(whole, again) for name in one
        ), part


@pytest.mark.parametrize(
    ("kind", "task"),
    [("speed", "walker-walk"), ("direction", "cheetah-run"), ("target", "reacher-easy")],
)
def test_a_background_and_a_game_go_on(tmp_path, kind, task):
    """Clips drawn anew every fifth step, games at each reset; a clip that is not there any more is
    drawn again.
    """
    config = BackgroundConfig(source="procedural", redraw_every=5)
    family = make_family(FamilyConfig(kind=kind), task)
    played = {"background": load_background(config, "train", 16), "family": family}
    env, other = (DMCEnv(task, size=16, action_repeat=2, time_limit=24, **played) for _ in range(2))
    rollout, resumed = vector(env), vector(other)
    rows_of(env, rollout, 4)
    resumed.load(checkpoint.load(checkpoint.save(tmp_path, 1, rollout.state())))
    for one, two in zip(rows_of(env, rollout, 30), rows_of(other, resumed, 30)):
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)
    taken = env.snapshot
    taken["background"]["first"] += 1
    other.snapshot = taken
    assert (
        other.background.clip
        == int(np.searchsorted(other.background.clips.starts, other.background._first, "right")) - 1
    )
    assert other.background._first in other.background.clips.starts


def test_another_simulator_is_refused():
    env = make("cartpole-balance")
    env.reset(seed=0)
    taken = env.snapshot
    taken["simulator"]["mujoco"] = "1.2.3"
    with pytest.raises(ValueError, match=r"MuJoCo 1.2.3 took this snapshot"):
        env.snapshot = taken


def test_a_snapshot_is_a_copy():
    env = make("pendulum-swingup")
    env.reset(seed=0)
    taken = env.snapshot
    before = taken["simulator"]["data"].copy()
    for _ in range(3):
        env.step(np.ones(1))
    np.testing.assert_array_equal(taken["simulator"]["data"], before)
