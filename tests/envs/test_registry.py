"""Test names of tasks: their meaning, and the errors for unknown ones."""

import pytest

from foreground import build, envs
from foreground.configs import run as runs
from foreground.envs import registry
from foreground.errors import UserError


def test_the_prefix_of_the_suite_changes_nothing(tmp_path):
    short = runs.read(["--task", "cartpole-swingup"], cuda=False)
    long = runs.read(["--task", "dmc:cartpole-swingup"], cuda=False)
    assert short == long
    assert short.task == "cartpole-swingup"
    assert build.run_folder(short) == build.run_folder(long)
    first, second = (
        envs.make(task, seed=3, size=16).reset()[0]
        for task in ("cartpole-swingup", "dmc:cartpole-swingup")
    )
    assert (first == second).all()


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (
            "walker-wlak",
            "did you mean walker-walk? Tasks of walker: walker-stand, walker-walk, walker-run",
        ),
        ("dmc:walker-wlak", "did you mean walker-walk?"),
        ("walker-jumping", "did you mean walker-run? Tasks of walker: "),
        ("waker-walk", "did you mean walker-walk? Tasks of walker: "),
        (
            "dog-tort",
            (
                "did you mean dog-trot? Tasks of dog: dog-stand, dog-walk, dog-trot, dog-run, "
                "dog-fetch"
            ),
        ),
        ("Hopper-v5", "an environment of Gymnasium is --task gymnasium:ENV_ID"),
        ("lqr-lqr_6_2", "its masses are thin lines"),
    ],
)
def test_a_wrong_task_is_told_the_nearest_and_those_of_its_body(task, told):
    with pytest.raises(UserError) as error:
        registry.check_dmc(task, video=False)
    assert told in str(error.value)
    assert str(error.value).startswith("error: ")


def test_a_body_is_shared_within_a_domain_and_by_no_environment_of_gymnasium():
    assert (
        registry.body_of("dmc:humanoid_CMU-run")
        == registry.body_of("humanoid_CMU-walk")
        == "humanoid_CMU"
    )
    assert registry.body_of("gymnasium:Walker2d-v5") != registry.body_of("walker-walk")
    assert registry.file_name("gymnasium:gym_pusht/PushT-v0") == "gymnasium-gym_pusht-PushT-v0"
