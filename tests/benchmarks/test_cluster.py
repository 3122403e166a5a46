"""Test engines: the same jobs on this machine and on two Ray machines, one of them killed."""

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import psutil
import pytest

from benchmarks import engine, machine, pool, returns, suite_progress
from benchmarks.program import IN_USE, Job, Program
from foreground.errors import UserError
from foreground.training import lock
from tests.faults import lost_machine
from tests.support import loopback

loopback.close_to_others()
ROOT = Path(__file__).parents[2]
COUNT = """
import os, signal, sys, time
place, end = sys.argv[1], int(sys.argv[2])
done = int(open(place).read()) if os.path.exists(place) else 0

def save(text):
    with open(place + ".new", "w") as file:
        file.write(str(done))
    os.replace(place + ".new", place)
    print(text, done, flush=True)

def stop(number, _):
    save("saved at")
    sys.exit(128 + number)

signal.signal(signal.SIGTERM, stop)
print("begun at", done, flush=True)
while done < end:
    time.sleep(0.1)
    done += 1
    if done % 10 == 0:
        save("checkpoint")
print("ended at", done, flush=True)
"""
DRIVE = """
import contextlib, sys
from functools import partial
from pathlib import Path
from benchmarks import engine, pool
from benchmarks.program import Job
from foreground.errors import run_main

def main(argv):
    name, address, folder, count = argv[0], argv[1], Path(argv[2]), argv[3]
    job = Job("long", [count, str(folder / "long"), "1000"], folder / "long.log")
    opened = engine.opened(name, 2, folder, address, 0, 1)
    with contextlib.closing(opened), pool.stoppable():
        for _ in pool.finished([("long", partial(opened.start, job))], opened.places):
            pass

run_main(main, sys.argv[1:])
"""


@pytest.fixture
def count(tmp_path) -> Path:
    path = tmp_path / "count.py"
    path.write_text(COUNT)
    return path


def job(count: Path, name: str, steps: int) -> Job:
    return Job(
        name, [str(count), str(count.parent / name), str(steps)], count.parent / f"{name}.log"
    )


def said(count: Path, name: str, words: str) -> list[int]:
    """Return the numbers behind these words in a job's log."""
    path = count.parent / f"{name}.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [int(line.removeprefix(words)) for line in lines if line.startswith(words)]


def until(condition, seconds: float = 60):
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def machines():
    """Two Ray machines with one core each."""
    pytest.importorskip("ray", reason="ray is not installed: pip install -e .[cluster]")
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        started = []
        try:
            started.append(loopback.Machine("127.0.0.2", Path(folder)))
            started.append(loopback.Machine("127.0.0.3", Path(folder), started[0].head))
            yield started
        finally:
            for each in reversed(started):
                each.kill()


def test_a_machine_that_differs_is_named_in_a_line_for_each_difference(
    machines, tmp_path, monkeypatch, capfd
):
    before = machine.facts(tmp_path)
    monkeypatch.setattr(
        machine, "facts", lambda meeting: before | {"torch": "9.9", "shared folder": meeting.name}
    )
    with pytest.raises(SystemExit) as end:
        engine.opened("ray", 1, tmp_path, machines[0].head, -1, 1)
    assert end.value.code == 2
    version = before["torch"]
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert sorted(line.split(": give all machines")[0] for line in lines) == [
        (f"error: its torch is {version}, here 9.9: machine {each.address} ({os.uname().nodename})")
        for each in machines
    ]
    assert [path.name for path in tmp_path.iterdir()] == []


def test_no_machine_has_room_for_a_run(machines, tmp_path):
    with pytest.raises(
        UserError, match=r"none of the 2 machines of the cluster has 64 cores and 0 GPUs"
    ):
        engine.opened("ray", 1, tmp_path, machines[0].head, -1, 64)


@pytest.mark.parametrize("name", ["local", "ray"])
def test_a_program_saves_when_its_suite_is_stopped(name, machines, count, tmp_path):
    words = [sys.executable, "-c", DRIVE, name, machines[0].head, str(tmp_path), str(count)]
    # A file, since processes of Ray may hold a pipe after the program has ended.
    log = tmp_path / "errors"
    with log.open("w") as file, subprocess.Popen(words, cwd=ROOT, stderr=file) as driver:
        until(lambda: said(count, "long", "checkpoint"))
        driver.terminate()
        driver.wait(180)  # Ray takes 10 seconds to end, and beside other tests once over 60
    errors = log.read_text()
    assert driver.returncode == 128 + signal.SIGTERM, errors
    assert "Traceback" not in errors
    # On a busy machine the program may save after its driver has ended.
    [saved] = until(lambda: said(count, "long", "saved at"))
    assert int((tmp_path / "long").read_text()) == saved >= 10


def test_a_machine_ends_a_job_whose_driver_left_word_and_starts_none(count, tmp_path):
    """Without Ray's cancellation, which may not arrive."""
    work, meeting = job(count, "long", 600), tmp_path / "meeting"
    meeting.mkdir()
    here = machine.facts(meeting)
    with ThreadPoolExecutor(1) as thread:
        code = thread.submit(machine.run, work, here, meeting, "there")
        until(lambda: said(count, "long", "checkpoint"))
        machine.ask_to_stop(work, meeting)
        assert code.result(60) == -signal.SIGTERM
    [saved] = said(count, "long", "saved at")
    assert int((tmp_path / "long").read_text()) == saved < 600
    assert machine.run(work, here, meeting, "there") == -signal.SIGTERM
    assert said(count, "long", "begun at") == [0]


def test_an_exit_code_is_an_answer_and_a_signal_from_outside_is_none(machines, tmp_path):
    """On Ray: a program that ends by itself is not started again, one that was ended is."""
    script = tmp_path / "once.py"
    script.write_text(
        "import os, pathlib, signal, sys\n"
        "print('begun', flush=True)\n"
        "first = len(pathlib.Path(sys.argv[1]).read_text().splitlines()) == 1\n"
        "if first and sys.argv[2] == 'signal': os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.exit(3)\n"
    )
    log = {name: tmp_path / f"{name}.log" for name in ("code", "signal")}
    with closing(engine.opened("ray", 1, tmp_path, machines[0].head, -1, 1)) as cluster:
        starts = [
            (name, partial(cluster.start, Job(name, [str(script), str(path), name], path)))
            for name, path in log.items()
        ]
        codes = {name: ended.returncode for name, ended in pool.finished(starts, cluster.places)}
    assert codes == {"code": 3, "signal": 3}
    assert log["code"].read_text() == "begun\n"
    assert log["signal"].read_text() == "begun\n" * 2


def test_runs_of_a_killed_machine_go_on_elsewhere_and_no_run_ends_twice(
    machines, count, tmp_path, capfd
):
    """The last test of the two machines: one is gone then."""
    lost, ended, going = machines[1], [], []
    with closing(engine.opened("ray", 1, tmp_path, machines[0].head, -1, 1)) as cluster:
        jobs = [job(count, "short", 3), job(count, "one", 40), job(count, "other", 40)]
        starts = [(each.name, partial(cluster.start, each)) for each in jobs]

        def watch(started: list[str]) -> None:
            going.append(cluster.running(started))
            running = [words for words in lost.command_lines() if str(count) in words]
            if (
                "short" in dict(ended)
                and running
                and said(count, Path(running[0][-2]).name, "checkpoint")
            ):
                lost.kill()

        for name, process in pool.finished(starts, cluster.places, watch):
            ended.append((name, process.returncode))
    assert sorted(ended) == [("one", 0), ("other", 0), ("short", 0)]
    assert max(going) == 2
    assert [said(count, name, "ended at") for name in ("short", "one", "other")] == [
        [3],
        [40],
        [40],
    ]
    begun = sorted((said(count, name, "begun at") for name in ("short", "one", "other")), key=len)
    assert begun[:2] == [[0], [0]]
    first, again = begun[2]
    assert first == 0 < again
    assert not list(tmp_path.glob(".cluster-*"))
    assert (
        "warning: machine 127.0.0.3 is lost; its runs continue elsewhere\n"
        in capfd.readouterr().err
    )


def test_a_program_hears_that_its_starter_was_killed(count):
    code = (
        "import sys; from tests.benchmarks.test_cluster import *; Program(job(Path(sys.argv[1]), "
        "'orphan', 1000)).wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(count)], cwd=ROOT) as starter:
        until(lambda: said(count, "orphan", "checkpoint"))
        [child] = psutil.Process(starter.pid).children()
        starter.kill()
    child.wait(20)
    assert said(count, "orphan", "saved at")


def test_a_program_whose_folder_is_in_use_waits_and_is_started_again(tmp_path):
    script = tmp_path / "busy.py"
    tried = "print('tried', flush=True); tries = len(open(sys.argv[1]).readlines())"
    script.write_text(f"import sys; {tried}; sys.exit({IN_USE} if tries < 3 else 0)")
    log = tmp_path / "busy.log"
    began = time.monotonic()
    assert Program(Job("busy", [str(script), str(log)], log), pause=0.3).wait(60) == 0
    assert log.read_text() == "tried\n" * 3
    assert time.monotonic() - began > 0.6
    assert lock.IN_USE == IN_USE


def test_a_program_that_waits_for_its_folder_can_be_stopped(tmp_path):
    script = tmp_path / "busy.py"
    script.write_text(f"import sys; sys.exit({IN_USE})")
    started = Program(Job("busy", [str(script)], tmp_path / "busy.log"), pause=1000)
    until(lambda: started.poll() is None and started._child is None)
    started.terminate()
    assert started.wait(1) == -signal.SIGTERM


def test_facts_that_tell_machines_apart(tmp_path):
    (tmp_path / "words").write_text("a")
    here = machine.facts(tmp_path)
    assert machine.differences(here, machine.facts(tmp_path)) == []
    gone = machine.facts(tmp_path / "nowhere")
    assert machine.differences(here, gone) == [
        ("shared folder", "not there (No such file or directory)")
    ]
    other = here | {"commit": "b", "sources": "c"}
    assert machine.differences(here, other) == [("commit", "b")]
    assert machine.differences(here, here | {"sources": "c"}) == [("sources", "c")]


def write_metrics(run: Path, *lines: str) -> None:
    run.mkdir(exist_ok=True)
    (run / "metrics.jsonl").write_text("\n".join(lines))


def test_the_line_of_a_suite(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    words_of = {name: ["--total_frames", "30000", "--size", "cpu"] for name in ("a", "b", "c")}
    local = engine.Local(2)
    line = suite_progress.SuiteProgress(
        words_of, tmp_path, kept=4, engine=local, stream=io.StringIO()
    )
    line.tick(["a", "b"])
    write_metrics(tmp_path / "a", '{"step": 1000, "x": 1}', '{"step": 3000}', '{"step": 40')
    assert line.text(2) == "2 running, 1 waiting, time left: measuring"
    now[0] += 30
    line.tick(["a", "b"])
    assert line.text(2) == "2 running, 1 waiting, 100 frames/s, 14 min left"  # 87,000 frames left
    assert line.display.stream.getvalue() == (
        "run 4/7, 2 running, 1 waiting, 100 frames/s, 14 min left\n"
    )
    write_metrics(tmp_path / "a", '{"step": 3000}')
    line.end("a")
    now[0] += 30
    line.tick(["b", "c"])
    assert line.display.stream.getvalue().splitlines()[1] == (
        "run 5/7, 2 running, 0 waiting, 500 frames/s, 2 min left"  # 30,000 frames in a minute
    )


def test_shares_are_all_the_runs_each_once():
    rows = list("abcdefg")
    assert returns.share(rows, "") == rows
    shares = [returns.share(rows, f"{number}/3") for number in range(3)]
    assert shares == [["a", "d", "g"], ["b", "e"], ["c", "f"]]
    for wrong in ("3/3", "1", "-1/3", "a/b", "1/", "/", "0/0", "1/3/4"):
        with pytest.raises(UserError, match="--only: write I/N"):
            returns.share(rows, wrong)


@pytest.mark.long
def test_real_runs_of_a_killed_machine_go_on_elsewhere(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install -e .[cluster]")
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        row = lost_machine.measure(Path(folder), 3000, tmp_path / "log")
    assert row["right"], row
    assert row["results"] == 6
