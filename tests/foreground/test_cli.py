"""Run train.py and eval.py as a user does: real processes, one-line errors."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foreground.evaluation import films
from tests.support.programs import (
    CACHE,
    PLAIN,
    ROOT,
    SMALL,
    assert_one_line,
    metrics,
    run,
    write_video,
    written,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("runs") / "one"
    result = run("train.py", *SMALL, "--total_frames", 600, "--folder", folder, OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr
    return folder, result


def test_first_lines_say_what_will_run(trained):
    _, result = trained
    for word in ("environment", "agent", "sizes", "parameters", "replay", "device", "folder"):
        assert any(line.startswith(word) for line in result.stdout.splitlines()), word
    assert "device       cpu, 1 thread\n" in result.stdout
    [command] = re.findall(r"^watch it +(.+)$", result.stdout, re.MULTILINE)
    assert (ROOT / shlex.split(command)[0]).is_file()


def test_a_run_leaves_everything_behind(trained):
    folder, result = trained
    scores = json.loads((folder / "scores.json").read_text())
    assert set(scores["scores"]) == {"heldout", "train", "clean", "random policy, heldout"}
    assert all(len(row["returns"]) == 2 for row in scores["scores"].values())
    assert {"commit", "hardware", "task", "agent", "seed", "env_frame"} <= set(scores)
    assert (folder / "config.yaml").exists()
    assert (folder / "evaluation-heldout.mp4").stat().st_size > 1000
    assert any("model/objective/contrastive" in row for row in metrics(folder))
    assert "tensorboard --logdir" in result.stdout
    steps = [row["step"] for row in metrics(folder)]
    assert steps == sorted(steps)
    assert max(steps) == 600


def test_the_same_command_resumes_with_its_replay(trained):
    folder, _ = trained
    result = run("train.py", *SMALL, "--total_frames", 800, "--folder", folder)
    assert result.returncode == 0, result.stderr
    assert "resumed      at frame 600" in result.stdout
    resumed = next(line for line in result.stdout.splitlines() if line.startswith("resumed"))
    assert int(resumed.split(",")[-1].split()[0]) > 300
    updates = [row["clock/update"] for row in metrics(folder) if "clock/update" in row]
    assert updates == sorted(updates)
    assert max(row["step"] for row in metrics(folder)) == 800


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_is_saved_and_says_so(tmp_path, number, code):
    words = [
        sys.executable,
        "train.py",
        *SMALL,
        "--total_frames",
        "100000",
        "--folder",
        str(tmp_path / "run"),
    ]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": CACHE,
        "PYTHONUNBUFFERED": "",
    }
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, env=environment)
        metrics_file, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 120
        while time.monotonic() < deadline and "clock/update" not in (
            metrics_file.read_text() if metrics_file.exists() else ""
        ):
            time.sleep(0.1)
        early = (tmp_path / "log").read_text()
        process.send_signal(number)
        assert process.wait(60) == code
        log.seek(0)
        said = log.read()
    assert "environment  cartpole-balance" in early, (
        "the first lines come at once, not when the run ends"
    )
    assert "stopped and saved at frame" in said
    assert "Traceback" not in said
    assert list((tmp_path / "run" / "checkpoints").glob("step-*/MANIFEST.json"))


def test_eval_of_a_run_is_deterministic_and_writes_films(trained):
    folder, _ = trained
    results = []
    for _ in range(2):
        result = run("eval.py", folder, "--episodes", 2, "--background", "clean,heldout")
        place = written(result)
        results.append(json.loads((place / "scores.json").read_text())["scores"])
    assert results[0] == results[1]
    assert set(results[0]) == {"clean", "heldout"}
    for name in ("evaluation-heldout", "latent-heldout"):
        assert films.length(place / f"{name}.mp4") >= 50
    assert result.stdout.count("too few episodes for an interval, which needs 5") == 1
    assert all(row["interval"] is None for row in results[0].values())
    assert (
        "heldout plays 8 clips of 8 recordings, the held-out side of procedural\n" in result.stdout
    )
    replaced = (
        f"warning: this evaluation replaces an earlier one in {place}: "
        "evaluation-clean.mp4, evaluation-heldout.mp4, "
    )
    assert replaced in result.stderr


def test_another_evaluation_has_another_folder(trained):
    """Of other backgrounds, kinds and checkpoints; nothing of the others goes."""
    folder, _ = trained
    step = sorted((folder / "checkpoints").glob("step-*"))[-1].name
    words = ("--episodes", 1, "--background")
    assert (
        written(run("eval.py", folder, *words, "clean"))
        == folder / "evaluation" / f"{step}-clean-episodes=1"
    )
    before = {
        path: path.read_bytes() for path in (folder / "evaluation").rglob("*") if path.is_file()
    }
    for more in (
        (folder / "best", *words, "clean", "--random"),
        (folder, *words, "clean", "--task", "cartpole-swingup"),
        (folder, *words, "clean", "--seed", 7),
    ):
        result = run("eval.py", *more)
        assert written(result).parent == folder / "evaluation"
        assert "replaces" not in result.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_eval_behind_other_clips(trained, tmp_path):
    """A folder of videos that the run never saw: its held-out side, named by the folder."""
    for name in ("train", "heldout"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        write_video(tmp_path / "clips" / name / f"{name}.mp4")
    words = ("--episodes", 1, "--background", tmp_path / "clips")
    result = run("eval.py", trained[0], *words)
    output = written(result)
    assert "-clips-episodes=1-" in output.name
    assert (
        f"plays 1 clip of 1 recording, the held-out side of {tmp_path / 'clips'}\n" in result.stdout
    )
    (found,) = json.loads((output / "scores.json").read_text())["scores"].items()
    assert found[0] == str(tmp_path / "clips")
    assert len(found[1]["returns"]) == 1
    assert (output / "evaluation-0-clips.mp4").stat().st_size > 1000


def test_another_objective_on_the_same_experience(trained):
    folder, _ = trained
    small = [word for word in PLAIN if word not in ("--task", "cartpole-balance")]
    result = run(
        "benchmarks.studies.representation",
        folder,
        "--updates",
        5,
        "--episodes",
        4,
        "--policy",
        *small,
        "--agent",
        "repo",
    )
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout.splitlines()[-1])
    assert (row["task"], row["agent"], row["updates"]) == ("cartpole-balance", "repo", 5)
    assert 0 <= row["state/network/mean"] <= 1
    assert "objective/multiplier" in row
    assert_one_line(
        run("benchmarks.studies.representation", folder.parent), "this is not a run folder"
    )


def test_another_actor_in_the_same_world_model(trained):
    folder, _ = trained
    result = run(
        "benchmarks.studies.policy",
        folder,
        "--updates",
        4,
        "--every",
        2,
        "--episodes",
        1,
        "--actor_critic.horizon",
        3,
    )
    assert result.returncode == 0, result.stderr
    first, second, row = map(json.loads, result.stdout.splitlines())
    assert row["looks"] == [first, second]
    assert (first["updates"], second["updates"], row["options"]) == (
        2,
        4,
        "--actor_critic.horizon 3",
    )
    assert 0 <= second["played"] <= 1000
    refused = run("benchmarks.studies.policy", folder, "--world_model.depth", 4)
    assert_one_line(refused, "the world model is the run's")
    words = ["--model_updates", 2, "--updates", 1, "--every", 1, "--episodes", 1]
    words += ["--world_model.rssm.deterministic", 16]
    result = run("benchmarks.studies.policy", folder, *words)
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout.splitlines()[-1])
    assert (row["model_updates"], len(row["looks"])) == (2, 1)
    assert row["model"]["predictability/kl"] >= 0
    assert_one_line(
        run("benchmarks.studies.policy", folder, "--every", 0), "no look in 600 updates"
    )
    assert_one_line(
        run("benchmarks.studies.policy", folder, "--agent", "metra"),
        "metra has no policy of its own",
    )


def test_two_looks_at_a_world_model(trained):
    folder, _ = trained
    row = json.loads(run("benchmarks.studies.memory", folder, "--episodes", 2).stdout)
    assert row["replay"].keys() == row["new"].keys() >= {"reward", "control", "kl"}
    words = folder, "--episodes", 1, "--ahead", 1, 3
    *rows, row = map(json.loads, run("benchmarks.studies.optimism", *words).stdout.splitlines())
    assert [look["ahead"] for look in rows] == [1, 3]
    assert row["rewards"] == rows


@pytest.mark.parametrize("begin", [[], ["--from_model"]], ids=["anew", "from_model"])
def test_goals_are_learned_from_the_replay_of_another_agent(trained, tmp_path, begin):
    folder, learned = trained[0], tmp_path / "learned"
    words = begin or [word for word in PLAIN if word not in ("--task", "cartpole-balance")]
    command = ["benchmarks.studies.goals", folder, "--output", learned, *words, "--updates"]
    row = json.loads(run(*command, 2).stdout.splitlines()[-1])
    frames = max(row["step"] for row in metrics(folder))  # another test may have resumed the run
    steps = frames * 51 // 100  # each 100 frames are an episode of 50 steps and a reset
    assert (row["task"], row["experience"]) == ("cartpole-balance", "infopower")
    assert row["steps"] == steps
    result = run("eval.py", learned, "--episodes", 1, "--reach", "--goals", 2)
    goals = json.loads((written(result) / "goals.json").read_text())
    assert (goals["env_frame"], set(goals["goals"])) == (frames, {"heldout"})
    assert_one_line(run(*command, 2), "it exists already")
    command[3] = tmp_path / "other"
    assert_one_line(run(*command, 0), "nothing is learned in 0 updates")
    assert_one_line(run(*command, 1, "--agent", "slim"), "the agent is one of goals")


def test_a_truncated_checkpoint_falls_back_to_the_one_before(trained):
    folder, _ = trained
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
    (newest / "tensors.safetensors").write_bytes(b"short")
    result = run("eval.py", folder, "--episodes", 1, "--background", "clean")
    assert result.returncode == 0, result.stderr
    assert f"warning: checkpoint {newest.name} is damaged" in result.stderr


def test_a_background_that_is_none_leaves_the_scores(trained):
    folder, _ = trained
    before = (folder / "scores.json").read_bytes()
    assert_one_line(
        run("eval.py", folder, "--background", ""), "no background is named", "--background"
    )
    assert_one_line(
        run("eval.py", folder, "--background", "clean,heldoutt"),
        "heldoutt",
        "did you mean heldout?",
    )
    assert (folder / "scores.json").read_bytes() == before


def test_another_config_in_the_folder_names_the_keys(trained):
    folder, _ = trained
    result = run(
        "train.py", *SMALL, "--total_frames", 600, "--folder", folder, "--actor_critic.units", 64
    )
    assert_one_line(result, "actor_critic.units is 32 there, 64 here:", str(folder))


def test_a_folder_in_use(trained):
    import fcntl

    folder, _ = trained
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_one_line(
            run("train.py", *SMALL, "--total_frames", 800, "--folder", folder),
            "in use",
            str(folder),
            code=6,
        )


NO_VENDOR = {
    "MUJOCO_GL": "egl",
    "__EGL_VENDOR_LIBRARY_FILENAMES": "/nowhere",
}  # what GLVND finds without a driver


@pytest.mark.parametrize(
    ("variables", "parts"),
    [
        (NO_VENDOR, ["libEGL", "MUJOCO_GL=egl", "apt-get install"]),
        (
            {"MUJOCO_GL": "glfw", "DISPLAY": "", "WAYLAND_DISPLAY": ""},
            ["no display", "MUJOCO_GL=glfw"],
        ),
        ({"MUJOCO_GL": "foo"}, ["MUJOCO_GL=foo", "egl, osmesa or glfw"]),
        (
            {"MUJOCO_EGL_DEVICE_ID": "99"},
            ["error: it is 99 and there ", "MUJOCO_EGL_DEVICE_ID: choose 0", "or unset it"],
        ),
    ],
)
def test_a_machine_that_cannot_draw(trained, tmp_path, variables, parts):
    assert_one_line(run("train.py", *SMALL, "--folder", tmp_path / "run", **variables), *parts)
    assert not (tmp_path / "run").exists()
    if variables is NO_VENDOR:
        assert_one_line(run("eval.py", trained[0], "--background", "clean", **variables), *parts)


def test_a_run_goes_on_where_its_clips_lie_elsewhere(tmp_path):
    """Whether or not they are also where they were: they are known by their sums."""
    clips, moved, folder = tmp_path / "clips", tmp_path / "moved", tmp_path / "run"
    for name in ("train", "heldout"):
        (clips / name).mkdir(parents=True)
        write_video(clips / name / f"{name}.mp4")
    (clips / "train" / "other.h264").write_bytes(b"passed over")
    words = [*SMALL, "--folder", folder, "--background.source"]
    first = run("train.py", *words, clips, "--total_frames", 300)
    assert first.returncode == 0
    assert "1 clip of 1 recording to train on, 1 clip of 1 recording held out" in first.stdout
    assert first.stderr.count("is not taken") == 1
    assert f"warning: {clips}: train/other.h264: looks like video" in first.stderr
    assert "UserWarning" not in first.stderr
    shutil.copytree(clips, moved)
    done = run("train.py", *words, moved, "--total_frames", 400)
    assert done.returncode == 0, done.stderr
    assert "trained 400 frames" in done.stdout
    shutil.rmtree(moved)
    assert_one_line(run("eval.py", folder, "--episodes", 1), str(moved), "--background PATH")
    played = run("eval.py", folder, "--episodes", 1, "--background", clips)
    assert played.returncode == 0, played.stderr
    done = run("train.py", *words, clips, "--total_frames", 440)
    assert done.returncode == 0, done.stderr
    assert run("eval.py", folder, "--episodes", 1).returncode == 0


@pytest.mark.slow
def test_environments_in_processes_of_their_own(tmp_path):
    result = run(
        "train.py",
        *SMALL,
        "--total_frames",
        600,
        "--folder",
        tmp_path / "run",
        "--environment.num_envs",
        2,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["env_frame"] >= 600


@pytest.mark.parametrize("agent", ["dreamer", "c_dreamer"])
def test_the_other_agents_train_by_script(tmp_path, agent):
    result = run(
        "train.py", "--agent", agent, *PLAIN, "--total_frames", 400, "--folder", tmp_path / "run"
    )
    assert result.returncode == 0, result.stderr
