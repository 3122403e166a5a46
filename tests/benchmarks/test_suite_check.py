"""Test that mistakes in the options of a suite are told before a run starts."""

from types import SimpleNamespace

import pytest

from benchmarks import engine, returns, suite_check
from foreground.errors import UserError
from tests.benchmarks.test_suites import written
from tests.support.programs import run

PLAIN = {"agents": ["dreamer"], "options": ""}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"agents": ["dreamr"]}, ["--agent", "did you mean dreamer?"]),
        ({"tasks": {"walker-wlak": ""}}, ["unknown task", "did you mean walker-walk?"]),
        ({"backgrounds": {"video": "/nowhere/clips"}}, ["no such file or folder", "give a folder"]),
        ({"backgrounds": {"video": "procedual"}}, ["no such file", "did you mean procedural?"]),
        ({"options": "--total_frame 9"}, ["unknown option", "did you mean --total_frames?"]),
        ({"tasks": {"quadruped-escape": ""}, "backgrounds": {"v": "procedural"}}, ["no video"]),
    ],
)
def test_a_mistake_in_a_suite_is_found_before_a_run_starts(tmp_path, monkeypatch, changes, parts):
    monkeypatch.setattr(engine.Local, "start", lambda *_: pytest.fail("a run was started"))
    suite = written(tmp_path, **PLAIN | {"folder": str(tmp_path / "runs")} | changes)
    with pytest.raises(UserError) as error:
        returns.main([suite])
    assert error.value.exit_code == 2
    for part in (suite, "-seed0: ", *parts):
        assert part in str(error.value)


def test_every_mistake_has_a_line_that_names_a_run(tmp_path):
    """Also those of runs behind valid ones, each once."""
    changes = {"agents": ["dreamer", "dreamr"], "seeds": [0, 1, 2], "folder": str(tmp_path / "a")}
    suite = written(tmp_path, **PLAIN | changes | {"backgrounds": {"no": "none", "v": "/nowhere"}})
    done = run("benchmarks.returns", suite, OMP_NUM_THREADS="1")  # as a user does
    assert (done.returncode, done.stdout) == (2, "")
    first, second = sorted(done.stderr.splitlines())
    assert first == (
        f"error: no such file or folder: {suite}: walker-stand-dreamer-v-seed0 and 2 other runs: "
        "/nowhere: give a folder with videos, or use starter or procedural"
    )
    assert second.startswith(
        f"error: unknown agent 'dreamr': {suite}: walker-stand-dreamr-no-seed0 and 5 other runs: "
    )


def test_a_run_that_begins_with_another_of_its_suite_may_wait_for_it(tmp_path):
    begin = "--init_from FOLDER/walker-stand-slim-clean-seed{seed}"
    for folder, known in ((tmp_path / "runs", True), (tmp_path / "others", False)):
        above = f"--agent hierarchical {begin.replace('FOLDER', str(folder))}"
        suite = written(tmp_path, **PLAIN | {"agents": {"slim": "--agent slim", "above": above}})
        words_of = dict(returns.jobs(returns.read_suite(suite)))
        if known:
            suite_check.check(words_of, tmp_path / "runs", suite, cuda=False)
            continue
        with pytest.raises(UserError, match="not a run folder"):
            suite_check.check(words_of, tmp_path / "runs", suite, cuda=False)


def test_replays_that_do_not_fit_on_the_disk_are_a_warning(tmp_path, monkeypatch, capsys):
    """50,000 agent steps of 64 x 64 x 3 bytes each are 0.6 GB."""
    words = ["--agent", "metra", "--task", "walker-walk", "--total_frames", "100000", "--seed"]
    words_of = {f"run{seed}": [*words, str(seed)] for seed in range(4)}
    begin = ["--agent", "finetune", "--init_from", str(tmp_path / "run9"), "--seed", "0"]
    words_of |= {"after": begin, "run9": [*words, "9"]}  # run9 is the work of another machine
    waiting = ["run0", "run1", "run2", "run3", "after"]
    needed = 4 * 50_000 * 64 * 64 * 3
    for free in (needed, needed - 1):
        disk = SimpleNamespace(free=free)
        monkeypatch.setattr(suite_check.shutil, "disk_usage", lambda _, disk=disk: disk)
        suite_check.warn_of_space(words_of, waiting, tmp_path, "mine.yaml", cuda=False)
        said = capsys.readouterr().err
        assert ("need 2 GB" in said) == (free < needed)
        assert ("delete the folder replay of finished runs" in said) == (free < needed)
