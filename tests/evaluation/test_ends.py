"""Test the last lines of a run: what was trained and learned, and the next command."""

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from foreground import build, messages
from foreground.configs import run as runs
from foreground.evaluation import interrupt, probes
from foreground.evaluation.report import Evaluator


def trainer(frame: int, update: int = 0) -> SimpleNamespace:
    return SimpleNamespace(env_frame=frame, update=update, action_repeat=2)


@pytest.fixture
def config():
    return runs.read(["--total_frames", "3000", "--environment.action_repeat", "2"], cuda=False)


def test_totals_of_the_run_stand_apart_from_what_this_process_did(config):
    whole = messages.at_end(config, trainer(3000, 81), False, (0, 0), 5.2)
    assert whole == "trained 3000 frames, 81 updates, in 5 s"
    rest = messages.at_end(config, trainer(3000, 81), False, (2400, 60), 5.2)
    assert rest == "trained 3000 frames, 81 updates; 600 frames and 21 updates of them now, in 5 s"


@pytest.mark.parametrize(
    ("frame", "words"), [(3000, ""), (3001, ""), (3600, ", beyond --total_frames 3000")]
)
def test_fewer_frames_than_are_done_are_told(config, frame, words):
    assert (
        messages.at_end(config, trainer(frame), True, (frame, 0), 0.1)
        == f"finished at frame {frame}{words}; nothing to train"
    )


def test_the_first_line_names_the_family():
    alone = runs.read([], cuda=False)
    family = runs.read(
        ["--agent", "mra", "--task", "walker-walk", "--family.kind", "speed"], cuda=False
    )
    assert messages.family(alone) == ""
    assert messages.family(family) == ", family of speed: 3 games to train on, 1 held out"


def test_the_next_commands_name_programs_that_exist(tmp_path, monkeypatch):
    python, program = (tmp_path / "my venv" / "bin" / name for name in ("python", "tensorboard"))
    program.parent.mkdir(parents=True)
    program.touch()
    monkeypatch.setattr("sys.executable", str(python))
    monkeypatch.chdir(tmp_path)
    run = Path("runs/one")
    assert messages.tensorboard(run) == "'my venv/bin/tensorboard' --logdir runs"
    assert messages.skills(run).startswith("'my venv/bin/python' /")
    words = shlex.split(messages.skills(run))
    assert Path(words[1]).is_file()
    assert words[2:] == ["runs/one", "--skills"]
    monkeypatch.chdir("my venv")
    monkeypatch.setattr("sys.executable", str(Path("/elsewhere") / "python"))
    assert messages.tensorboard(run) == "/elsewhere/python -m tensorboard.main --logdir runs"
    monkeypatch.setattr("sys.executable", str(python))
    assert messages.tensorboard(run) == "bin/tensorboard --logdir runs"
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path / "beside")
    assert messages.tensorboard(run) == f"'{program}' --logdir runs"


def test_sizes_have_a_unit_that_suits_them():
    assert build.size_text(2_000_000) == "2 MiB"
    assert build.size_text(3 << 29) == "1.5 GiB"


def test_a_stop_says_what_is_there_and_what_is_missing(config):
    assert (
        messages.when_stopped(config, trainer(2998))
        == "stopped and saved at frame 2998; the same command continues from there"
    )
    assert messages.when_stopped(config, trainer(3000)) == (
        "training is complete and saved at frame 3000; the evaluation at its end is missing: "
        "the same command makes it"
    )


def test_a_run_of_skills_says_what_it_learned(tmp_path):
    slim = runs.read(["--agent", "slim"], cuda=False)
    evaluator = Evaluator(slim, None, tmp_path)
    size = slim.skill.size
    assert (
        evaluator.learned() == f"learned skills, the directions of a sphere of {size} dimensions; "
        "they were not measured"
    )
    assert evaluator.lead.startswith("walker-stand is not what it learns; ")
    evaluator.measured = {
        "identifiability/accuracy": 0.9,
        "identifiability/chance": 1 / 48,
        "identifiability/nats": 3.5,
        "identifiability/cap": 3.871,
        "coverage/postures": 52.0,
        "violation/mean": 0.1,
    }
    assert "held-out clips:\n  the skills differ: 90% are told right" in evaluator.learned()
    few = replace(slim, evaluation=replace(slim.evaluation, num_skills=4))
    seldom = Evaluator(few, None, tmp_path)
    seldom.measured = evaluator.measured
    assert "too few to tell: 12 rollouts" in seldom.learned()
    diayn = runs.read(["--agent", "diayn"], cuda=False)
    assert (
        Evaluator(diayn, None, tmp_path)
        .learned()
        .startswith(f"learned {diayn.skill.size} skills; ")
    )
    for agent in ("infopower", "mra"):
        task = Evaluator(runs.read(["--agent", agent], cuda=False), None, tmp_path)
        assert (task.learned(), task.lead) == ("", "")


def test_an_evaluation_that_is_told_to_end_fits_no_more_probes():
    row = np.eye(8, dtype=np.float32)
    probes._fit(Ridge(1.0), row, row)
    interrupt.ask()
    try:
        with pytest.raises(interrupt.Interrupted):
            probes._fit(Ridge(1.0), row, row)
    finally:
        interrupt.ask(False)
