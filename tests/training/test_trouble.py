"""Test unusual conditions of a run: closed streams, a full disk, signals, invalid states."""

import contextlib
import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial

import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv

from foreground import train
from foreground.agents.optimiser import Divergence, not_finite
from foreground.envs import workers
from foreground.errors import UserError, WorkerLost, run_main, say
from foreground.training import checkpoint
from foreground.training.files import NotSaved
from tests.envs.test_workers import Counting
from tests.faults import checkpoint_ablation, runs
from tests.faults.states import put

SHORT = ["--total_frames", "200", "--evaluation.episodes", "1"]


def test_a_line_that_cannot_be_written_is_not_worth_a_run(tmp_path):
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:  # its end is refused as well
        say("a line", full)
        full.detach()
    closed = (tmp_path / "log").open("w")
    closed.close()
    say("a line", closed)


@pytest.mark.slow
def test_a_run_goes_on_where_its_words_find_no_place(tmp_path):
    with open("/dev/full", "w") as full:
        words = runs.command(tmp_path / "run", *SHORT)
        code = subprocess.run(
            words, cwd=runs.ROOT, stdout=full, stderr=full, env=runs.variables(tmp_path)
        ).returncode
    assert code in (0, 120)  # 120: Python's own last word about such a stream
    assert (tmp_path / "run" / "scores.json").exists()


REFUSED = [
    (errno.ENOSPC, "make room"),
    (errno.EROFS, "another folder"),
    (errno.EIO, "--debug"),
    (errno.ENOMEM, "smaller"),
]


@pytest.mark.parametrize(("code", "word"), REFUSED)
def test_what_the_file_system_refuses_is_one_line(capsys, code, word):
    def main(_):
        raise OSError(code, os.strerror(code), "runs/a/config.yaml")

    with pytest.raises(SystemExit) as stopped:
        run_main(main, [])
    said = capsys.readouterr().err
    assert stopped.value.code == (4 if code == errno.ENOMEM else 2)
    assert said.startswith("error: the system refused to read or write")
    assert "runs/a/config.yaml" in said
    assert word in said


def test_what_nobody_foresaw_is_one_line_and_its_traceback_is_kept(capsys, tmp_path, monkeypatch):
    def main(words):
        raise KeyError("latent \udcff ☃")

    monkeypatch.chdir(tmp_path)  # where no runs are
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as stopped:
        run_main(main, ["--size", "cpu"])
    (line,) = capsys.readouterr().err.splitlines()
    (kept,) = tmp_path.iterdir()
    assert stopped.value.code == 1
    assert line.startswith("error: KeyError: 'latent ")
    assert line.endswith(f"please report it with {kept}")
    assert "Traceback" in kept.read_text()
    assert "in main" in kept.read_text()
    with pytest.raises(KeyError):
        run_main(main, ["--debug"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(SystemExit):
        run_main(main, [])
    assert "--debug shows more" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    with pytest.raises(SystemExit):
        run_main(main, [])
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_memory_that_python_lacks_is_code_4(capsys):
    def main(_):
        raise MemoryError

    with pytest.raises(SystemExit) as stopped:
        run_main(main, [])
    assert stopped.value.code == 4
    assert capsys.readouterr().err.startswith("error: out of memory: ")


BREAKS = """
import sys
from foreground import train
from foreground.envs.dmc import DMCEnv
from foreground.errors import run_main

def step(self, action, real=DMCEnv.step):
    if self._frame >= 60:
        raise RuntimeError("the motor burned")
    return real(self, action)

DMCEnv.step = step
run_main(train.main, sys.argv[1:])
"""


@pytest.mark.slow
def test_a_run_whose_environment_fails_ends_with_5(tmp_path):
    words = [sys.executable, "-c", BREAKS, *runs.command(tmp_path / "run", *SHORT)[2:]]
    done = subprocess.run(
        words,
        cwd=runs.ROOT,
        env=runs.variables(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert line.startswith("error: an environment failed (RuntimeError: the motor burned)")


def test_a_last_checkpoint_that_is_not_written_is_no_success(tmp_path, monkeypatch):
    def refuses(*_):
        raise NotSaved("no room")

    monkeypatch.setattr(checkpoint, "save", refuses)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match="the last checkpoint could not be written"):
        train.main([*runs.SMALL, *SHORT, "--folder", str(tmp_path / "run")])


@pytest.mark.slow
@pytest.mark.parametrize("when", ["in training", "at the end"])
def test_a_signal_ends_an_evaluation(tmp_path, when):
    """It would take many minutes: episodes of 100,000 frames."""
    run, mark = tmp_path / "run", tmp_path / "mark"
    words = [
        "--environment.time_limit",
        "100000",
        "--training.evaluate_every",
        "120",
        "--total_frames",
        "10000",
    ]
    if when == "at the end":
        words = ["--environment.time_limit", "100000", "--total_frames", "160"]
    process = runs.begin(run, *words, mark=mark)
    try:
        begun = (
            mark.exists
            if when == "in training"
            else lambda: runs.log_of(run).exists() and "trained 160" in runs.log_of(run).read_text()
        )
        assert runs.wait_for(process, begun) == ""
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    finally:
        process.kill()
    assert runs.good(run) >= 120
    said = runs.log_of(run).read_text()
    ended = (
        "training is complete and saved at frame 160; the evaluation at its end is missing: "
        "the same command makes it"
    )
    assert (ended if when == "at the end" else "stopped and saved at frame") in said
    assert "Traceback" not in said


class Hanging(Counting):
    """An environment whose process never finishes its start."""

    def __init__(self):
        super().__init__()
        if multiprocessing.parent_process() is not None:
            time.sleep(1000)


@pytest.mark.timeout(60)
def test_a_process_that_does_not_start_is_an_error(monkeypatch):
    monkeypatch.setattr(workers, "STARTING", 1.0)
    with pytest.raises(UserError, match=r"does not start \(TimeoutError\)") as error:
        workers.Workers([Hanging])
    assert error.value.exit_code == 5


@pytest.mark.timeout(60)
def test_a_stopped_process_does_not_hold_up_a_snapshot(capfd):
    envs = workers.Workers([Counting] * 2, patience=1.5)
    try:
        os.kill(envs.envs.processes[1].pid, signal.SIGSTOP)
        with pytest.raises(WorkerLost):
            envs.set_attr("slow", [0.0, 0.0])
        assert envs.reset(seed=0)[0].shape == (2, 8, 8, 3)
    finally:
        envs.close()
    assert "environment 1 gave no answer" in capfd.readouterr().err


def test_an_environment_of_this_process_that_fails_is_one_line():
    envs = SyncVectorEnv([partial(workers.in_process, partial(Counting, fails_at=1))])
    envs.reset(seed=0)
    with pytest.raises(
        UserError, match=r"an environment failed \(RuntimeError: the pendulum broke\)"
    ) as error:
        envs.step(np.zeros((1, 1), np.float32))
    assert error.value.exit_code == 5
    assert isinstance(error.value.__cause__, RuntimeError)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    """A small run that was saved once."""
    torch.set_num_threads(1)
    trainer = checkpoint_ablation.make(tmp_path_factory.mktemp("whole"), checkpoint_ablation.WORDS)
    checkpoint_ablation.run_to(trainer, checkpoint_ablation.CUT)
    return trainer


def without_clocks(state: dict) -> None:
    del state["clocks"]


def other_weights(state: dict) -> None:
    state["agent"]["weights"].popitem()


def a_shorter_manifest(state: dict) -> None:
    state["replay"]["manifest"].pop("chunks")


def updates_without_end(state: dict) -> None:
    state["clocks"]["owed"] = float("inf")


def time_before_the_first(state: dict) -> None:
    state["clocks"]["agent_step"] = -1


def a_generator_that_is_none(state: dict) -> None:
    state["random"]["torch"] = torch.zeros(3, dtype=torch.uint8)


UNFIT = [
    without_clocks,
    other_weights,
    a_shorter_manifest,
    updates_without_end,
    time_before_the_first,
]


@pytest.mark.parametrize("spoil", [*UNFIT, a_generator_that_is_none])
def test_a_whole_checkpoint_that_does_not_fit_is_one_line(trainer, tmp_path, spoil):
    state = checkpoint_ablation.state_of(trainer.folder)
    spoil(state)
    checkpoint.save(tmp_path / "checkpoints", checkpoint_ablation.CUT, state)
    with pytest.raises(UserError, match=r"begin in a new|move the folder away"):
        checkpoint_ablation.make(tmp_path, checkpoint_ablation.WORDS).resume()


@pytest.mark.parametrize("place", ["memory/0/0", "row/image", "episodes/length"])
def test_an_episode_of_another_shape_is_not_gone_on_with(trainer, tmp_path, place):
    state = checkpoint_ablation.state_of(trainer.folder)
    checkpoint.save(
        tmp_path / "checkpoints",
        checkpoint_ablation.CUT,
        put(state, f"/rollout/{place}", torch.zeros(7, 7)),
    )
    resumed = checkpoint_ablation.make(tmp_path, checkpoint_ablation.WORDS)
    [said] = resumed.resume()
    assert "a new one begins" in said
    assert resumed.rollout.row is None


def test_weights_that_are_not_finite_are_not_saved(trainer, tmp_path):
    """A checkpoint that cannot be resumed would replace a good one."""
    before = checkpoint.steps(trainer.folder / "checkpoints")
    assert not_finite(trainer.agent.training_state()) == ""
    name, weight = list(trainer.agent.named_parameters())[3]
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.view(-1)[0] = float("inf")
    with pytest.raises(Divergence, match=name.replace(".", r"\.")):
        trainer.save(None)
    with torch.no_grad():
        weight.copy_(kept)
    moments = next(iter(trainer.agent.optimisers["world_model"].adam.state.values()))
    moments["exp_avg"].view(-1)[0] = float("nan")
    with pytest.raises(Divergence, match="world_model's optimiser"):
        trainer.save(None)
    assert checkpoint.steps(trainer.folder / "checkpoints") == before


@pytest.mark.slow
def test_a_run_that_diverges_ends_with_3_and_goes_on_from_before(tmp_path):
    """Real processes: a rate that no network stands, then the remedy that the line names."""
    run, said = tmp_path / "run", runs.log_of(tmp_path / "run")
    assert runs.begin(run, "--total_frames", "300", "--evaluation.episodes", "1").wait(120) == 0
    before = runs.good(run)
    said.unlink()
    assert runs.begin(run, "--total_frames", "500", "--optimiser.model_lr", "1e30").wait(120) == 3
    errors = [line for line in said.read_text().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "not finite" in errors[0]
    assert "a lower --optimiser.model_lr" in errors[0]
    assert "Traceback" not in said.read_text()
    # Huge weights, but finite: what the line says of one that was too late.
    while runs.good(run) > before:
        shutil.rmtree(checkpoint.steps(run / "checkpoints")[-1])
    assert runs.good(run) == before
    said.unlink()
    assert runs.begin(run, "--total_frames", "400").wait(120) == 0, said.read_text()
    assert f"resumed      at frame {before}" in said.read_text()
    assert runs.good(run) == 400
