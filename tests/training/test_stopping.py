"""Test what stops a run: six signals, two at once, ignored ones."""

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

import pytest

from foreground.training import system
from tests.faults import runs

ROOT = Path(__file__).parents[2]
OTHERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
WITHIN = """
import signal, sys, types
from foreground import train
from foreground.evaluation import interrupt

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
from foreground import train
from foreground.evaluation import interrupt

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
    """As systemd and make do: one to the process, one to its group, some microseconds apart."""
    chance = random.Random(0)
    process = subprocess.Popen(
        [sys.executable, "-c", PAIRS], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
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
    """A closed terminal, a scheduler's warning, a limit on CPU time.

    No checkpoint would be due for long.
    """
    run = tmp_path / "run"
    process = runs.begin(run, *runs.ENDLESS, "--training.checkpoint_every", "100000000")
    try:
        assert (
            runs.wait_for(
                process, lambda: (run / "metrics.jsonl").exists() and "clock" in runs.text(run)
            )
            == ""
        )
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
    """The kernel sends HUP to all processes there, and refuses whatever they print afterwards."""
    folder, (ours, theirs) = tmp_path / "run", os.openpty()
    words = runs.command(
        folder,
        *runs.ENDLESS,
        "--environment.num_envs",
        "2",
        "--training.checkpoint_every",
        "100000000",
    )
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
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGTERM)
    }
    try:
        assert set(system.STOPPING) - set(system.stop_signals()) == {signal.SIGHUP}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert set(system.stop_signals()) == set(system.STOPPING)


def test_before_training_a_second_signal_changes_nothing():
    script = "import os, signal, train\n"
    script += (
        "signal.signal(signal.SIGHUP, train.ended)\ntry:\n    "
        "signal.raise_signal(signal.SIGHUP)\nfinally:\n"
    )
    script += (
        "    os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGUSR1); "
        "print('put away')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGHUP, "put away\n", "")
