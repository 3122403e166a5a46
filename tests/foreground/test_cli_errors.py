"""Test that mistakes at the command line are one line, before a run begins."""

import os
import subprocess
import sys

import pytest
import torch

from foreground.errors import UserError
from tests.support.programs import (
    CACHE,
    ROOT,
    SMALL,
    assert_one_line,
    run,
    write_video,
)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--task", "walker-wlak"], ["walker-walk", "--task"]),
        (["--agent", "infopowr"], ["infopower", "--agent"]),
        (["--actor_critic.unit", "3"], ["--actor_critic.units"]),
        (["--total_frames", "many"], ["--total_frames"]),
        (["--device", "gpu"], ["--device", "did you mean cuda?"]),
        (
            ["--task", "walker"],
            ["--task", "Tasks of walker: walker-stand, walker-walk, walker-run"],
        ),
        (["--actor_critic.discount", "1.5"], ["--actor_critic.discount"]),
        (
            ["--training.capacity", "2000000000", "--total_frames", "4000000000"],
            ["GiB", "--training.capacity"],
        ),
        (["--world_model.rssm.deterministic", "65536"], ["parameters", "GiB", "--size"]),
        (["--background.source", "/nowhere"], ["/nowhere"]),
        (["--background.source", "procedual"], ["procedual", "did you mean procedural?"]),
        (["--background.source", __file__], ["one file", __file__]),
        (["--world_model.objective.terms", "contrastiv=1"], ["contrastive"]),
    ],
)
def test_mistakes_are_one_line(tmp_path, words, parts):
    result = run("train.py", "--folder", tmp_path / "run", *words)
    assert_one_line(result, *parts)
    assert not (tmp_path / "run").exists()


def test_a_file_in_the_path_of_the_folder_is_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "runs" / "one"):
        assert_one_line(
            run("train.py", *SMALL, "--folder", place),
            str(tmp_path / "notes.txt"),
            "choose another",
        )


@pytest.mark.parametrize("place", ["making", "learning"])
def test_memory_that_runs_out(tmp_path, monkeypatch, place):
    from foreground import train

    def greedy(*_):
        torch.empty(10**14)

    if place == "making":
        monkeypatch.setattr("foreground.build.make_agent", greedy)
    else:
        monkeypatch.setattr("foreground.training.trainer.Trainer.run", greedy)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    with pytest.raises(UserError, match="out of memory") as caught:
        train.main([*SMALL, "--folder", str(tmp_path / "run")])
    assert caught.value.exit_code == 4
    assert ("frame 0, update 0" in str(caught.value)) == (place == "learning")


VARIABLES = """
import os, sys
from foreground import envs
from foreground.errors import UserError
for name, value in [pair.split("=") for pair in sys.argv[1:]]:
    os.environ[name] = value
    try:
        from foreground.envs import simulator
        print("drawn")
    except UserError as error:
        print(error.exit_code, error)
    del os.environ[name]
"""


def test_variables_that_libraries_read_are_options_too():
    """Values of CUDA_VISIBLE_DEVICES as clusters set them, and others that MuJoCo misreports."""
    wrong = ["", "GPU-3f2a", "0,1", "-1", "1.0", " 0", "²"]
    words = [
        *(f"MUJOCO_EGL_DEVICE_ID={value}" for value in wrong),
        "PYOPENGL_PLATFORM=osmesa",
        "MUJOCO_EGL_DEVICE_ID=0",
    ]
    command = [sys.executable, "-c", VARIABLES, *words]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"MUJOCO_GL": "egl"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    *refused, platform, good = done.stdout.splitlines()
    for value, line in zip(wrong, refused, strict=True):
        assert line.startswith(
            f"2 error: it is {value!r}, and not the number of a device: MUJOCO_EGL_DEVICE_ID: "
        )
    assert (
        platform == "2 error: it is osmesa, and MUJOCO_GL is egl: PYOPENGL_PLATFORM: "
        "unset it, or set it to egl"
    )
    assert good == "drawn", done.stderr


@pytest.mark.parametrize("side", ["train", "heldout"])
def test_a_damaged_clip_is_found_before_training(tmp_path, side):
    for name in ("train", "heldout"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        write_video(tmp_path / "clips" / name / f"{name}.mp4")
    damaged = tmp_path / "clips" / side / f"{side}.mp4"
    damaged.write_bytes(damaged.read_bytes()[:-200])  # its index, at the end, is lost
    words = [
        "--total_frames",
        400,
        "--folder",
        tmp_path / "run",
        "--background.source",
        tmp_path / "clips",
    ]
    result = run("train.py", *SMALL, *words)
    assert_one_line(result, "damaged", str(damaged))
    assert result.stdout == ""
    assert not (tmp_path / "run").exists()


def test_videos_that_are_none(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    assert_one_line(
        run("train.py", "--folder", tmp_path / "run", "--background.source", folder), str(folder)
    )
    for name in ("text.mp4", "other.mp4"):
        (folder / name).write_text("ffconcat version 1.0\nfile secret.mp4\n")
    assert_one_line(
        run("train.py", "--folder", tmp_path / "run", "--background.source", folder),
        ".mp4",
        str(folder),
    )


def test_eval_of_no_run(tmp_path):
    assert_one_line(run("eval.py", tmp_path), str(tmp_path), "train.py")
    assert_one_line(run("eval.py"), "run is missing", "write python eval.py RUN, or see --help")
    assert_one_line(
        run("eval.py", tmp_path, "--config", "small"),
        "--config",
        "leave it out: the options of RUN are in",
    )
    said = run("eval.py", "--help").stdout
    assert "Usage: python eval.py RUN [--option value ...]" in said
    assert "Presets" not in said
    assert "--config" not in said


def test_help_is_sentences():
    result = run("train.py", "--help", "all")
    assert result.returncode == 0
    assert "No description" not in result.stdout
    for preset in ("infopower", "c_dreamer", "dreamer", "size_cpu", "size_12m"):
        assert preset in result.stdout
