"""Evaluations in a process of their own: the figures of the others, each once, whatever ends."""

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from foreground import build
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.evaluation import apart
from foreground.evaluation.report import Evaluator
from foreground.training import checkpoint
from foreground.training.evaluating import Evaluating
from foreground.training.logger import Logger
from tests.faults import checkpoint_ablation
from tests.faults import runs as programs
from tests.faults.states import described
from tests.support.evaluations import failing, made, mortal, patient, returned
from tests.support.programs import ROOT, metrics
from tests.support.training_runs import OFTEN, Told

ASYNC = [*OFTEN, "--training.evaluate_async", "true"]


class Hooked(Told):
    """Calls a function with the env frame at each step."""

    def __init__(self, hook=lambda frame: None):
        super().__init__()
        self.seen = []
        self.video = lambda *words: self.seen.append(words)
        self.tick = hook


def small(folder: Path, evaluate, words: list[str] = ASYNC):
    torch.set_num_threads(1)
    process = Evaluating(folder, functools.partial(made, evaluate))
    trainer = checkpoint_ablation.make(folder, words, evaluating=process)
    trainer.resume()
    return trainer


def train(trainer, frames: int, told: Hooked) -> Hooked:
    trainer.frames = frames
    trainer.run(told, told)
    return told


def left(trainer) -> list[str]:
    root = trainer.folder / "under_evaluation"
    return [path.name for path in root.iterdir()] if root.exists() else []


def frames_of(told: Told) -> list[int]:
    return [frame for frame, _ in told.rows]


# ------------------------------------------------------------------------------------ in a trainer


def test_training_goes_on_and_the_weights_that_were_evaluated_are_kept(tmp_path):
    go, logged_at = tmp_path / "go", []

    def hook(frame: int) -> None:
        if frame >= 70:
            go.touch()
        logged_at.append((frame, len(told.rows)))

    trainer = small(tmp_path / "run", functools.partial(patient, go=go))
    told = train(trainer, 130, told := Hooked(hook))
    assert frames_of(told) == [40, 80, 120]
    assert (60, 0) in logged_at
    assert [frame for frame, _ in told.seen] == [40, 80, 120]
    best = json.loads((trainer.folder / "best.json").read_text())
    assert best["env_frame"] == 40
    kept = checkpoint.load(trainer.folder / best["checkpoint"])
    assert returned(40, trainer.folder / best["checkpoint"]).metrics == told.rows[0][1]
    assert kept["clocks"]["agent_step"] * 2 == 40
    assert not (trainer.folder / "checkpoints" / "step-000000000040").exists()
    assert left(trainer) == []


def test_a_killed_run_evaluates_each_frame_once_and_ends_as_another(tmp_path):
    whole = small(tmp_path / "whole", returned)
    wanted = train(whole, 160, Hooked())
    trainer = small(tmp_path / "run", functools.partial(patient, go=tmp_path / "go"))

    def die(frame: int) -> None:
        if frame >= 60:
            trainer.save(told)  # later than the frame that is evaluated
            raise KeyboardInterrupt

    told = Hooked(die)
    with pytest.raises(KeyboardInterrupt):
        train(trainer, 160, told)
    assert told.rows == []
    assert left(trainer) == ["step-000000000040"]
    again = small(tmp_path / "run", returned)
    assert again.env_frame == 60
    assert again.evaluated == 40
    found = train(again, 160, Hooked())
    assert found.rows == wanted.rows
    ends = [described(checkpoint_ablation.state_of(each.folder)) for each in (whole, again)]
    assert ends[0] == ends[1]
    assert left(again) == []


def test_a_run_that_goes_on_earlier_forgets_later_ones(tmp_path):
    trainer = small(tmp_path / "run", returned)
    train(trainer, 60, Hooked())
    path = checkpoint.steps(trainer.folder / "checkpoints")[0]
    trainer.evaluations.process.root.mkdir()
    path.rename(trainer.evaluations.process.root / "step-000000000099")
    again = small(tmp_path / "run", returned)
    assert frames_of(train(again, 70, Hooked())) == []
    assert left(again) == []


@pytest.mark.parametrize("words", [ASYNC, OFTEN], ids=["async", "not any more"])
def test_what_is_logged_already_is_not_logged_again(tmp_path, words):
    """The run was killed before it forgot the checkpoint, or before its next one."""
    trainer = small(tmp_path / "run", functools.partial(patient, go=tmp_path / "go"))

    def die(frame: int) -> None:
        if frame >= 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(trainer, 160, Hooked(die))
    with Logger(trainer.folder) as logger:
        logger.scalars(40, {"return_clean": 1.0}, "evaluation")
    again = small(tmp_path / "run", returned, words)
    again.evaluations.evaluate = lambda frame: {"return_clean": 1.0}
    assert again.env_frame == 40
    assert frames_of(train(again, 90, Hooked())) == [80]
    assert left(again) == []


def test_what_was_handed_over_is_evaluated_though_the_option_is_gone(tmp_path):
    trainer = small(tmp_path / "run", functools.partial(patient, go=tmp_path / "go"))

    def die(frame: int) -> None:
        if frame >= 60:
            trainer.save(told)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(trainer, 160, told := Hooked(die))
    again = small(tmp_path / "run", returned, OFTEN)
    again.evaluations.evaluate = lambda frame: {"return_clean": 1.0}
    assert frames_of(train(again, 90, Hooked())) == [40, 80]


def test_a_run_that_is_told_to_stop_does_not_wait(tmp_path):
    trainer = small(tmp_path / "run", functools.partial(patient, go=tmp_path / "never"))
    pids = []

    def hook(frame: int) -> None:
        if frame >= 50:
            pids.append(trainer.evaluations.process._process.pid)
            trainer.stop_signal = signal.SIGTERM

    train(trainer, 160, Hooked(hook))
    assert trainer.env_frame == trainer.checkpointer.saved_at == 50
    assert left(trainer) == ["step-000000000040"]
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


ALONE = """
import functools, sys, time
from pathlib import Path
from foreground.training import checkpoint
from foreground.training.evaluating import Evaluating
from tests.support.evaluations import made, patient

folder = Path(sys.argv[1])
evaluate = functools.partial(patient, go=folder / "never")
process = Evaluating(folder, functools.partial(made, evaluate))
process.begin(checkpoint.save(folder / "checkpoints", 40, {"weights": 1}))
print(process._process.pid, flush=True)
time.sleep(600)
"""


def test_a_process_ends_with_a_trainer_that_is_killed(tmp_path):
    """Even in the middle of an evaluation, which sees nothing of the closed pipe."""
    words = [sys.executable, "-c", ALONE, str(tmp_path)]
    trainer = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        child = psutil.Process(int(trainer.stdout.readline()))
        assert programs.wait_for(trainer, (tmp_path / "began").exists) == ""
    finally:
        trainer.kill()
        trainer.wait()
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive or child.status() == psutil.STATUS_ZOMBIE


def test_an_evaluation_that_fails_is_a_warning(tmp_path):
    told = train(small(tmp_path / "run", failing), 90, Hooked())
    assert told.rows == []
    assert told.said == [
        f"warning: the evaluation at frame {frame} failed (no clips: clips: put them back); "
        "training continues"
        for frame in (40, 80)
    ]


def test_a_process_that_cannot_evaluate_ends_the_run_after_a_save(tmp_path):
    trainer = small(tmp_path / "run", None)
    with pytest.raises(UserError, match=r"it cannot evaluate .no renderer: MUJOCO_GL") as error:
        train(trainer, 160, Hooked())
    assert error.value.exit_code == 5
    assert str(error.value).count("\n") == 0
    assert trainer.checkpointer.saved_at == trainer.env_frame >= 40
    assert left(trainer) == ["step-000000000040"]


def test_a_process_that_is_lost_is_replaced_once(tmp_path, capfd):
    once = small(tmp_path / "once", functools.partial(mortal, marks=tmp_path, deaths=1))
    assert frames_of(train(once, 90, Hooked())) == [40, 80]
    assert capfd.readouterr().err.count("was killed (signal 9); another one") == 1
    twice = small(tmp_path / "twice", functools.partial(mortal, marks=tmp_path, deaths=9))
    with pytest.raises(UserError, match=r"was killed .signal 9., 2 times in a row"):
        train(twice, 90, Hooked())


# ------------------------------------------------------------------------------- real evaluations


REAL = [
    *["--task", "reacher-easy", "--agent", "slim", *checkpoint_ablation.WORDS],
    *["--evaluation.episodes", "2", "--evaluation.num_skills", "4", "--skill.duration", "5"],
    *["--optimiser.ema_decay", "0.9", "--training.evaluate_every", "130"],
]


def evaluated(folder: Path, asked: str) -> tuple[Hooked, dict[str, str]]:
    """Return what a run logs of its evaluations, and its end."""
    words = [*REAL, "--training.evaluate_async", asked]
    config = runs.read(words, cuda=False, ours=checkpoint_ablation.SMALL)
    making = apart.Making(config, build.action_space(config), torch.device("cpu"), 1, folder)
    trainer = checkpoint_ablation.make(folder, words, evaluating=Evaluating(folder, making))
    evaluator = Evaluator(config, trainer.agent, folder)
    told = evaluator.logger = Hooked()
    trainer.evaluations.evaluate = evaluator.during_training
    train(trainer, 140, told)
    return told, described(checkpoint_ablation.state_of(folder))


def test_figures_and_films_are_those_of_an_evaluation_in_the_trainer(tmp_path):
    (here, end), (there, other) = (
        evaluated(tmp_path / asked, asked) for asked in ("false", "true")
    )
    assert frames_of(here) == [130]
    for (_, one), (_, two) in zip(here.rows, there.rows, strict=True):
        found = {key: (repr(value), repr(two[key])) for key, value in one.items()}
        assert one.keys() == two.keys()
        assert [key for key, (mine, its) in found.items() if mine != its] == []
    assert any(key.startswith("skills/") for key in here.rows[0][1])
    one, two = ([words for words in told.seen if words[0] == 130] for told in (here, there))
    assert [words[:2] for words in one] == [words[:2] for words in two]
    assert all((mine[2] == its[2]).all() for mine, its in zip(one, two, strict=True))
    for name in ("best.json", "latent-heldout.png", "skills-heldout.mp4"):
        texts = [(tmp_path / asked / name).read_bytes() for asked in ("false", "true")]
        assert texts[0] == texts[1], name
    assert end == other


@pytest.mark.slow
def test_a_run_that_is_stopped_and_killed_logs_each_evaluation_once(tmp_path):
    words = ["--total_frames", "300", "--training.evaluate_every", "100"]
    words += ["--evaluation.training_episodes", "1"]
    folder, other = tmp_path / "run", tmp_path / "other"
    begin = functools.partial(programs.begin, folder, *words, "--training.evaluate_async", "true")
    handed = folder / "under_evaluation"
    straight = programs.begin(other, *words)
    for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        process = begin()
        assert programs.wait_for(process, lambda: any(handed.glob("step-*"))) == ""
        process.send_signal(number)
        assert process.wait(60) == code, programs.log_of(folder).read_text()
        assert programs.orphans(process.pid) == []
        assert any(handed.glob("step-*"))
    assert begin().wait(120) == 0, programs.log_of(folder).read_text()
    assert straight.wait(120) == 0
    found, wanted = (
        [
            (row["step"], row["evaluation/return_heldout"])
            for row in sorted(metrics(run), key=lambda row: row["step"])
            if "evaluation/return_heldout" in row
        ]
        for run in (folder, other)
    )
    assert [frame for frame, _ in found] == [100, 200, 300]
    assert found == wanted
    assert (folder / "best.json").read_bytes() == (other / "best.json").read_bytes()
    assert "warning" not in programs.log_of(folder).read_text()
