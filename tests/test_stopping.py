"""What tells a run to stop: six signals, two of them at once, ignored ones; and an evaluation that was broken off or fails."""

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import train
from benchmarks.fault import lacking, runs
from envs.workers import broken
from errors import UserError
from evaluation import interrupt
from evaluation.report import Evaluator
from training import checkpoint, system
from training.periodic import Every, Metrics
from training.state import completed, moved

ROOT = Path(__file__).parents[1]
OTHERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)

# ------------------------------------------------------------------------------------------------------------- signals

WITHIN = """
import signal, sys, types
import train
from evaluation import interrupt

trainer = types.SimpleNamespace(stop_signal=0)
train.listen(trainer)
places = 0

def again(frame, event, _):
    global places
    frame.f_trace_opcodes = True
    places += 1
    sys.settrace(None)
    signal.raise_signal(signal.SIGHUP)
    for _ in range(3):  # the handler runs here, within the first one
        pass
    sys.settrace(again)
    return again

sys.settrace(again)
signal.raise_signal(signal.SIGTERM)
for _ in range(3):
    pass
sys.settrace(None)
print(trainer.stop_signal, interrupt.asked, places > 20)
"""


def test_a_signal_may_come_at_any_place_within_the_handler_of_another():
    """With a lock in the handler, such as an Event's, the second one waits for ever."""
    words = [sys.executable, "-c", WITHIN]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[1:] == ["True", "True"], done.stderr


PAIRS = """
import sys, types
import train
from evaluation import interrupt

trainer = types.SimpleNamespace(stop_signal=0)
train.listen(trainer)
print("ready", flush=True)
while True:
    if trainer.stop_signal:
        trainer.stop_signal = 0
        interrupt.ask(False)
        print("told", flush=True)
"""


@pytest.mark.timeout(60)
def test_pairs_of_signals_hang_nothing():
    """As from systemd beside make: one to the process, one to its group, some microseconds apart."""
    chance = random.Random(0)
    process = subprocess.Popen([sys.executable, "-c", PAIRS], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        for _ in range(100):
            process.send_signal(signal.SIGTERM)
            end = time.perf_counter() + chance.uniform(0, 5e-5)
            while time.perf_counter() < end:
                pass
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "told\n"
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", OTHERS)
def test_each_signal_that_warns_is_a_save(tmp_path, number):
    """A closed terminal, a scheduler's warning, a limit on CPU time. No checkpoint would be due for long."""
    run = tmp_path / "run"
    process = runs.begin(run, *runs.ENDLESS, "--training.checkpoint_every", "100000000")
    try:
        assert runs.wait_for(process, lambda: (run / "metrics.jsonl").exists() and "clock" in runs.text(run)) == ""
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    finally:
        process.kill()
    said = runs.log_of(run).read_text()
    assert "stopped and saved at frame" in said
    assert "Traceback" not in said
    assert runs.good(run) >= 100


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_terminal_that_closes_is_a_save(tmp_path):
    """The kernel sends HUP to all processes there, and whatever they print from then on is refused."""
    folder, (ours, theirs) = tmp_path / "run", os.openpty()
    words = runs.command(folder, *runs.ENDLESS, "--environment.number", "2", "--training.checkpoint_every", "100000000")
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=runs.variables(tmp_path),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    try:
        os.close(theirs)
        os.set_blocking(ours, False)

        def learning() -> bool:
            with contextlib.suppress(BlockingIOError):
                os.read(ours, 1 << 16)
            return (folder / "metrics.jsonl").exists() and "clock" in runs.text(folder)

        assert runs.wait_for(process, learning) == ""
        os.close(ours)
        assert process.wait(30) == 128 + signal.SIGHUP
        assert runs.orphans(process.pid) == []
    finally:
        process.kill()
        process.wait()
    assert runs.good(folder) >= 100


def test_a_signal_that_was_ignored_at_the_start_stays_ignored():
    """As under nohup. The two that people send on purpose are taken even so."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        assert set(system.STOPPING) - set(system.stop_signals()) == {signal.SIGHUP}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert set(system.stop_signals()) == set(system.STOPPING)


def test_before_training_a_second_signal_changes_nothing():
    script = "import os, signal, train\n"
    script += "signal.signal(signal.SIGHUP, train.ended)\ntry:\n    signal.raise_signal(signal.SIGHUP)\nfinally:\n"
    script += "    os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGUSR1); print('put away')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGHUP, "put away\n", "")


# ---------------------------------------------------------------------------------------------------------- evaluations

OFTEN = [*lacking.WORDS, "--training.evaluate_every", "40", "--training.checkpoint_every", "40"]


class Told(SimpleNamespace):
    """A logger and a progress bar; it remembers what a run says."""

    def __init__(self):
        super().__init__(rows=[], said=[], video=lambda *_: None, update=lambda *_: None, tick=lambda *_: None)

    def scalars(self, frame: int, row: dict, prefix: str = "") -> None:
        if prefix == "evaluation":
            self.rows.append((frame, row))

    def message(self, sentence: str) -> None:
        self.said.append(sentence)


def run(trainer, frames: int) -> Told:
    told = Told()
    trainer.frames = frames
    trainer.run(told, told)
    return told


@pytest.fixture
def trainer(tmp_path):
    torch.set_num_threads(1)
    return lacking.make(tmp_path / "run", OFTEN)


ENDS = [
    (UserError("no clips", "clips", "put them back"), "no clips: clips: put them back"),
    (FileNotFoundError(2, "No such file or directory", "clips/a.mp4"), "clips/a.mp4"),
    (broken("RuntimeError: the pole is gone"), "the pole is gone"),
    (MemoryError(), "(out of memory)"),
    (RuntimeError("a fault of ours"), "please report it with"),
]


@pytest.mark.parametrize(("error", "words"), ENDS, ids=["clips", "file", "environment", "memory", "fault"])
def test_an_evaluation_that_fails_is_a_warning(trainer, tmp_path, monkeypatch, error, words):
    """And the save that was due at its frame is there before it."""
    monkeypatch.chdir(tmp_path)  # a traceback is kept there

    def fail(frame: int):
        assert checkpoint.step_of(checkpoint.steps(trainer.folder / "checkpoints")[-1]) == frame
        raise error

    trainer.evaluate = fail
    told = run(trainer, 100)
    assert [sentence.split(" failed (")[0] for sentence in told.said] == [
        f"warning: the evaluation at frame {frame}" for frame in (40, 80)
    ]
    assert all(words in sentence and "training goes on" in sentence for sentence in told.said)
    assert told.rows == []
    assert trainer.env_frame == 100


def test_pictures_that_fail_are_a_warning(trainer, monkeypatch):
    monkeypatch.setattr(type(trainer), "show", lambda *_: 1 / 0)
    trainer.config = trainer.config.__class__(**vars(trainer.config) | {"video_every": 60})
    told = run(trainer, 130)
    assert [sentence.split(" failed (")[0] for sentence in told.said] == ["warning: the pictures at frame 120"]


def broken_off(trainer, at: int):
    """An evaluation that a signal breaks off at a frame, and that is good at others."""

    def evaluate(frame: int):
        if frame != at:
            return {"return": float(frame)}
        trainer.stop_signal = int(signal.SIGTERM)
        return None

    return evaluate


@pytest.mark.parametrize("at", [80, 120])
def test_an_evaluation_that_was_broken_off_is_made_up_for(trainer, at):
    straight = lacking.make(trainer.folder.parent / "straight", OFTEN)
    straight.evaluate = lambda frame: {"return": float(frame)}
    wanted = run(straight, 160)
    assert [frame for frame, _ in wanted.rows] == [40, 80, 120]  # the one at the end follows
    begun = lacking.make(trainer.folder, OFTEN)  # again: it draws from the generators of torch
    begun.evaluate = broken_off(begun, at)
    first = run(begun, 160)
    assert begun.env_frame == at
    resumed = lacking.make(trainer.folder, OFTEN)
    resumed.evaluate = lambda frame: {"return": float(frame)}
    assert resumed.resume() == []
    assert first.rows + run(resumed, 160).rows == wanted.rows
    ends = [lacking.described(lacking.state_of(each.folder)) for each in (straight, resumed)]
    assert ends[0] == ends[1]


def test_a_run_that_is_over_owes_no_evaluation(trainer):
    """The one at the end follows. A longer budget makes up for it."""
    trainer.evaluate = lambda frame: {"return": float(frame)}
    assert [frame for frame, _ in run(trainer, 80).rows] == [40]
    resumed = lacking.make(trainer.folder, OFTEN)
    resumed.evaluate = lambda frame: {"return": float(frame)}
    resumed.resume()
    assert run(resumed, 80).rows == []
    assert [frame for frame, _ in run(resumed, 90).rows] == [80]


def test_the_evaluator_says_that_it_was_broken_off(monkeypatch, tmp_path):
    def looked_at(*_):
        interrupt.check()

    monkeypatch.setattr(Evaluator, "looked_at", looked_at)
    evaluator = Evaluator(SimpleNamespace(background=SimpleNamespace(source="none")), None, tmp_path)
    interrupt.ask()
    try:
        assert evaluator.during_training(5) is None
    finally:
        interrupt.ask(False)
    interrupt.check()


def test_due_until_done():
    every = Every(10, 25)
    assert [every.due(now) for now in (25, 29, 30, 35)] == [False, False, True, True]
    every.done = 35
    assert [every.due(now) for now in (35, 39, 40)] == [False, False, True]
    assert Every(10, 20).due(55)
    assert not Every(0, 0).due(100)


def test_metrics_of_many_updates_take_little_room():
    metrics, once = Metrics(), Metrics()
    once.MOST_ROWS = 10**9
    for number in range(3 * Metrics.MOST_ROWS + 7):
        row = {"a": torch.tensor(float(number))} | ({"b": torch.tensor(1.0)} if number % 2 else {})
        metrics.add(row)
        once.add(row)
        assert len(metrics.rows) < Metrics.MOST_ROWS
    assert metrics.flush() == once.flush() == {"a": (3 * Metrics.MOST_ROWS + 6) / 2, "b": 1.0}
    assert metrics.flush() == {}


# --------------------------------------------------------------------------------------------- what a checkpoint keeps


def test_a_checkpoint_of_an_earlier_version_goes_on(trainer):
    """It has neither provenance nor the clock of evaluations: none is owed then."""
    trainer.evaluate = lambda frame: {"return": 1.0}
    run(trainer, 80)
    state = lacking.state_of(trainer.folder)
    del state["clocks"]["evaluated"], state["episodes"]["score"]
    assert "provenance" not in state
    assert completed(state)["clocks"]["evaluated"] is None
    checkpoint.save(trainer.folder / "checkpoints", 80, state)
    resumed = lacking.make(trainer.folder, OFTEN)
    resumed.evaluate = lambda frame: {"return": 1.0}
    assert resumed.resume() == []
    assert [frame for frame, _ in run(resumed, 130).rows] == [120]


CLOCKS = [
    {"agent_step": 2**63 // 2},
    {"agent_step": 41},
    {"agent_step": True},
    {"update": 2**60},
    {"evaluated": 82},
    {"evaluated": -1},
    {"evaluated": "80"},
    {"more": 1},
]


@pytest.mark.parametrize("forged", CLOCKS, ids=str)
def test_counters_are_held_against_each_other(trainer, forged):
    run(trainer, 80)
    state = lacking.state_of(trainer.folder)
    state["clocks"] |= forged
    checkpoint.save(trainer.folder / "checkpoints", 80, state)
    with pytest.raises(UserError, match="whole and does not fit"):
        lacking.make(trainer.folder, OFTEN).resume()


@pytest.mark.parametrize("forged", [{"count": 10**6}, {"count": -1}, {"diverged": 2.5}, {"score": "x"}], ids=str)
def test_numbers_of_episodes_are_those_of_a_run(trainer, forged):
    run(trainer, 80)
    state = lacking.state_of(trainer.folder)
    state["episodes"] |= forged
    checkpoint.save(trainer.folder / "checkpoints", 80, state)
    with pytest.raises(UserError, match="whole and does not fit"):
        lacking.make(trainer.folder, OFTEN).resume()


def test_a_resume_elsewhere_is_told(trainer):
    trainer.provenance = {"CPU": "one kind", "torch": "2.0", "renderer": "llvmpipe"}
    run(trainer, 40)
    resumed = lacking.make(trainer.folder, OFTEN)
    resumed.provenance = {"CPU": "one kind", "torch": "2.1", "renderer": "softpipe", "new": "fact"}
    [said] = resumed.resume()
    assert "saved with torch 2.0 (now 2.1), renderer llvmpipe (now softpipe): " in said
    run(resumed, 50)
    again = lacking.make(trainer.folder, OFTEN)
    again.provenance = dict(resumed.provenance)
    assert again.resume() == []
    with pytest.raises(ValueError, match="provenance"):
        moved([1], again.provenance)


def test_provenance_names_what_numbers_depend_on():
    facts = system.provenance("cpu")
    assert {"CPU", "CPU instructions", "device", "threads", "commit", "torch", "numpy", "mujoco", "dm_control"} <= set(facts)
    assert facts["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert all(isinstance(value, str) and value for value in facts.values())


# ------------------------------------------------------------------------------------------------------ a passing fault


def test_a_read_that_fails_for_now_sets_nothing_aside(trainer, monkeypatch):
    run(trainer, 120)
    before = sorted(path for path in trainer.folder.rglob("*"))
    opened = os.open

    def stale(path, *words, **options):
        if str(path).endswith("MANIFEST.json"):
            raise OSError(116, "Stale file handle")
        return opened(path, *words, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", stale)
        with pytest.raises(UserError, match=r"Stale file handle.*try again") as error:
            lacking.make(trainer.folder, OFTEN).resume()
    assert error.value.exit_code == 2
    assert sorted(path for path in trainer.folder.rglob("*")) == before
    resumed = lacking.make(trainer.folder, OFTEN)
    assert resumed.resume() == []
    assert resumed.env_frame == 120


def test_a_folder_that_moved_is_not_made_again(trainer, tmp_path):
    """Not by a save, and it is said; where it comes back, saves are made again."""
    from training.lock import lock

    with lock(trainer.folder) as held:
        trainer.check_folder = held.check
        run(trainer, 40)
        trainer.folder.rename(tmp_path / "moved")
        told = run(trainer, 60)
        assert not trainer.folder.exists()
        (sentence,) = told.said
        assert f"renamed, moved or replaced (it is now {tmp_path / 'moved'})" in sentence
        (tmp_path / "moved").rename(trainer.folder)
        assert run(trainer, 120).said == []
        trainer.folder.rename(tmp_path / "moved")  # one failure now and one before are not two in a row
        assert len(run(trainer, 140).said) == 1
        (tmp_path / "moved").rename(trainer.folder)
    resumed = lacking.make(trainer.folder, OFTEN)
    assert resumed.resume() == []
    assert resumed.env_frame == 120


def test_a_run_whose_folder_stays_away_ends_at_the_second_save(trainer, tmp_path):
    from training.lock import lock

    with lock(trainer.folder) as held:
        trainer.check_folder = held.check
        run(trainer, 40)
        trainer.folder.rename(tmp_path / "moved")
        with pytest.raises(UserError, match=f"2 saves in a row failed.*it is now {tmp_path / 'moved'}.*move it back") as error:
            run(trainer, 400)
    assert error.value.exit_code == 2
    assert trainer.env_frame == 120
    assert not trainer.folder.exists()
    (tmp_path / "moved").rename(trainer.folder)
    resumed = lacking.make(trainer.folder, OFTEN)
    assert resumed.resume() == []
    assert resumed.env_frame == 40


def test_another_run_that_came_and_went_before_the_lock_is_noticed(tmp_path, monkeypatch):
    """The config is compared under the lock."""
    words = [*runs.SMALL, "--frames", "200", "--background.source", "none", "--folder", str(tmp_path / "run")]
    real = train.lock.lock

    def late(folder):
        held = real(folder)
        config, _ = train.runs.read([*words, "--seed", "7"], cuda=False)
        (folder / "config.yaml").write_text(train.options.to_yaml(config))
        return held

    monkeypatch.setattr(train.lock, "lock", late)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(UserError, match="seed is 7 there, 0 here"):
        train.main(words)
