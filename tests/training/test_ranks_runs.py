"""Stop and kill one of two ranks: the run ends like an uninterrupted one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import several_gpus
from foreground import ranks
from foreground.training import checkpoint
from tests.faults import runs
from tests.faults.states import described, differing
from tests.support.programs import ROOT, metrics
from tests.support.together import free_port, variables

FRAMES = 310
WORDS = [
    "--total_frames",
    str(FRAMES),
    "--training.train_ratio",
    "4",
    "--evaluation.training_episodes",
    "1",
]
WORDS += ["--training.evaluate_every", "200"]
APART = ["--training.evaluate_async", "true"]


def pair(run: Path, *words: str) -> list:
    """Start both ranks, as torchrun does."""
    port = free_port()
    return [runs.begin(run, *WORDS, *words, **variables(rank, 2, port)) for rank in range(2)]


def folders(run: Path) -> list[Path]:
    return [run, run / "ranks" / "001"]


def newest(run: Path) -> list[int]:
    return [runs.good(folder) for folder in folders(run)]


def ended(processes: list) -> list[int]:
    return [process.wait(120) for process in processes]


def states(run: Path) -> list[dict[str, str]]:
    """All that the last checkpoint of each rank holds."""
    return [
        described(checkpoint.load(checkpoint.steps(folder / "checkpoints")[-1]))
        for folder in folders(run)
    ]


def evaluations(run: Path) -> list[tuple[int, float]]:
    """Frame and return of each evaluation that is logged."""
    key = "evaluation/return_heldout"
    return [(row["step"], row[key]) for row in metrics(run) if key in row]


def errors_of(run: Path) -> list[str]:
    return [
        line for line in runs.log_of(run).read_text().splitlines() if line.startswith("error: ")
    ]


@pytest.fixture(scope="module")
def untouched(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("untouched") / "run"
    assert ended(pair(run)) == [0, 0], runs.log_of(run).read_text()
    return run


def test_ranks_learn_together(untouched):
    zero, one = (
        checkpoint.load(checkpoint.steps(folder / "checkpoints")[-1])
        for folder in folders(untouched)
    )
    assert described(zero["agent"]) == described(one["agent"])
    assert zero["clocks"] == one["clocks"]
    assert zero["clocks"]["agent_step"] * 2 >= FRAMES
    assert zero["clocks"]["evaluated"] == 200
    # 4 replayed steps for each step of any rank after the prefill; an update replays two batches.
    assert zero["clocks"]["update"] == (FRAMES - 100) // 2 * 4 // (2 * 2 * 8)
    for part in ("replay", "rollout", "random"):
        assert described(zero[part]) != described(one[part])
    assert [row["step"] for row in metrics(untouched) if "evaluation/return_heldout" in row][
        :1
    ] == [200]
    assert (untouched / "scores.json").exists()
    assert sorted(path.name for path in (untouched / "ranks" / "001").iterdir()) == [
        ".lock",
        "checkpoints",
        "replay",
    ]


def test_another_number_of_ranks_is_refused(untouched):
    before = errors_of(untouched)
    alone = runs.begin(untouched, *WORDS)
    assert alone.wait(60) == 2
    assert "ranks is 2 there, 1 here" in errors_of(untouched)[-1]
    assert ended(pair(untouched, "--ranks", "3")) == [2, 2]
    assert "3 ranks are asked for, and 2 started" in errors_of(untouched)[-1]
    assert len(errors_of(untouched)) == len(before) + 2


@pytest.mark.slow
def test_stopped_and_killed_ranks_end_where_others_do(untouched, tmp_path):
    """A process of rank 0 evaluates meanwhile, and no rank waits."""
    run = tmp_path / "run"
    processes = pair(run, *APART)
    assert not runs.wait_for(processes[0], lambda: min(newest(run)) >= 140)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    assert ended(processes) == [143, 143], runs.log_of(run).read_text()
    zero, one = newest(run)
    assert zero == one < FRAMES
    assert f"stopped and saved at frame {zero}" in runs.log_of(run).read_text()

    processes = pair(run, *APART)
    assert not runs.wait_for(processes[0], lambda: newest(run)[1] >= zero + 40)
    processes[1].send_signal(signal.SIGKILL)
    assert ended(processes) == [ranks.LOST, -signal.SIGKILL], runs.log_of(run).read_text()
    assert "another rank ended" in errors_of(run)[-1]

    assert ended(pair(run, *APART)) == [0, 0], runs.log_of(run).read_text()
    for found, wanted in zip(states(run), states(untouched)):
        assert found == wanted, differing(found, wanted)
    assert evaluations(run) == evaluations(untouched)


@pytest.mark.long
def test_torchrun_starts_killed_ranks_again(untouched, tmp_path):
    run = tmp_path / "run"
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "2",
    ]
    command = [*words, *runs.command(run, *WORDS)[1:]]
    told = runs.variables(tmp_path, GLOO_SOCKET_IFNAME="lo")
    with runs.log_of(run).open("a") as log:
        refused = subprocess.run(command, cwd=ROOT, env=told, stdout=log, stderr=log, timeout=120)
        assert refused.returncode == 1
        assert f"{ranks.SHARED_STORE}=1" in errors_of(run)[0]
        torchrun = subprocess.Popen(
            command, cwd=ROOT, env=told | {ranks.SHARED_STORE: "1"}, stdout=log, stderr=log
        )
    try:
        assert not runs.wait_for(torchrun, lambda: min(newest(run)) >= 180)
        os.kill(int((run / "ranks" / "001" / ".lock").read_text().split()[0]), signal.SIGKILL)
        assert torchrun.wait(240) == 0, runs.log_of(run).read_text()
    finally:
        torchrun.terminate()
    assert "resumed " in runs.log_of(run).read_text()
    for found, wanted in zip(states(run), states(untouched)):
        assert found == wanted, differing(found, wanted)


@pytest.mark.long
def test_the_program_that_measures_several_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    config = several_gpus.GpusConfig(
        ranks=2, frames=600, train=" ".join([*runs.SMALL, "--training.train_ratio", "16"])
    )
    row = several_gpus.measure(config, tmp_path)
    assert row["survives_kill"]
    assert list(row["ranks"]) == ["1", "2"]
    assert all(speed["updates_per_second"] > 0 for speed in row["ranks"].values())
