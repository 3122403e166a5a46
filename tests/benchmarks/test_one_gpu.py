"""The program that measures the options of the training loop, at a tiny size on the CPU."""

import json
from pathlib import Path

import pytest

from benchmarks import one_gpu
from foreground.configs import run as runs
from foreground.errors import UserError
from tests.faults.runs import PLAIN

TINY = ["--num_envs", "2", "--seconds", "3", "--evaluate_every", "100"]
TRAIN = " ".join([*PLAIN, "--agent", "dreamer", "--training.checkpoint_every", "1000000"])


@pytest.mark.parametrize("name", one_gpu.SETS)
def test_every_set_is_a_command_of_its_options(name):
    words = one_gpu.command(one_gpu.LoopConfig(), name, Path("run"))[2:]
    config = runs.read(words, cuda=True)
    assert config.training.overlap is (name not in ("plain", "act"))
    assert (config.cuda_graphs == "act") is (name not in ("plain", "overlap"))
    assert bool(config.training.evaluate_every) is (name in one_gpu.EVALUATED)
    assert config.training.evaluate_async is (name == "apart")


@pytest.mark.slow
def test_sets_are_measured(capfd):
    one_gpu.main([*TINY, "--sets", "plain,apart", f"--train={TRAIN}"])
    row = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert list(row["sets"]) == ["plain", "apart"]
    assert all(found["frames_per_second"] > 0 for found in row["sets"].values())
    assert row["sets"]["plain"]["evaluations"] == 0
    assert row["sets"]["apart"]["evaluations"] > 0
    assert row["times_plain"]["plain"] == 1.0


def test_a_run_that_fails_is_one_line(tmp_path):
    config = one_gpu.LoopConfig(train="--task nowhere-walk")
    with pytest.raises(UserError, match="unknown task"):
        one_gpu.measure(config, "plain", tmp_path / "run")
