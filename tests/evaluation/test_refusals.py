"""Test which evaluations of a run are refused, before a clip is decoded, and what stays."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from foreground import saved
from foreground.errors import UserError
from foreground.training import checkpoint
from tests.faults import disk
from tests.support.clip_runs import scores, sum_of
from tests.support.programs import CACHE, ROOT, assert_one_line, run, written


def test_one_evaluation_leaves_one_set_of_files(trained_places, tmp_path):
    out = tmp_path / "out"
    words = (trained_places / "run", "--episodes", 1, "--output", out, "--background")
    assert run("eval.py", *words, "clean,heldout").returncode == 0
    (out / "notes.txt").write_text("mine")
    first = set(os.listdir(out))
    assert set(scores(out)["files"]) == first - {"notes.txt"}
    assert {"evaluation-heldout.mp4", "latent-heldout.png"} <= first
    assert run("eval.py", *words, "clean").returncode == 0
    row = scores(out)
    assert set(os.listdir(out)) == {name for name in first if "heldout" not in name}
    assert set(row["files"]) == set(os.listdir(out)) - {"notes.txt"}
    assert row["complete"] is True
    assert row["sources"] == {}
    assert not (trained_places / "run" / "evaluation").exists()


def test_what_is_refused_is_refused_before_a_clip_is_decoded(trained_copy):
    """And leaves no folder."""
    for clip in (trained_copy / "clips").rglob("*.mp4"):
        clip.write_bytes(b"damaged")
    kinds = {
        "--skills": "the run has no skills",
        "--skill=3": "the run has no skills",
        "--reach": "the run reaches no goals",
        "--plan": "the run has no skills",
        "--games": "has no modes",
        "--adapt=speed=3": "has no modes",
        "--task=walker-walk": "the run's body is cartpole",
    }
    twice = run("eval.py", trained_copy / "run", "--background", "heldout,heldout")
    assert_one_line(twice, "a background is named twice")
    for word, what in kinds.items():
        assert_one_line(
            run("eval.py", trained_copy / "run", "--background", trained_copy / "clips", word), what
        )
    words = ("--latent", "--latent_actors", trained_copy / "nowhere")
    assert_one_line(
        run("eval.py", trained_copy / "run", "--background", trained_copy / "clips", *words),
        "this is not a run folder",
    )
    assert_one_line(
        run("eval.py", trained_copy / "run", "--background", f"{trained_copy / 'clips'},nowhere"),
        "no such file or folder",
    )
    assert not (trained_copy / "run" / "evaluation").exists()


def test_all_clips_of_a_folder_or_one_file_play(trained_places):
    clips = trained_places / "two" / "clips"
    words = ("eval.py", trained_places / "run", "--episodes", 1, "--all_clips", "--background")
    done = run(*words, clips)
    place = written(done)
    assert f"plays 3 clips of 3 recordings, all clips of {clips}\n" in done.stdout
    row = scores(place)["sources"][str(clips)]
    assert (row["side"], set(row["clips"])) == (
        "all",
        {"train/dog.mp4", "train/elk.mp4", "heldout/fox.mp4"},
    )
    assert re.fullmatch(r"step-\d+-clips-all_clips-episodes=1-[0-9a-f]{8}", place.name)
    alone = clips / "train" / "dog.mp4"
    refused = run("eval.py", trained_places / "run", "--episodes", 1, "--background", alone)
    assert_one_line(refused, "one file cannot be split", "play all clips with --all_clips, or ")
    done = run(*words, trained_places / "one" / "clips" / "train" / "bee.mp4")
    assert scores(written(done))["sources"].popitem()[1]["trained_on"] == "clips"
    assert_one_line(run(*words, "heldout"), "no folder of clips is named: --all_clips")
    shutil.rmtree(trained_places / "run" / "evaluation")


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_played(trained_places):
    done = run(
        "eval.py",
        trained_places / "run",
        "--episodes",
        1,
        "--background",
        "clean",
        "--output",
        trained_places / "run" / "config.yaml",
    )
    assert_one_line(done, "nothing can be written here", "--output")
    assert done.stdout == ""


@pytest.mark.skipif(
    subprocess.run([*disk.space(), "true"], capture_output=True).returncode != 0,
    reason="no mounts of its own here",
)
def test_a_run_on_a_file_system_that_is_read_only(trained_copy):
    """Told before anything is played; another folder helps."""
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    program = [
        sys.executable,
        str(ROOT / "eval.py"),
        str(trained_copy / "run"),
        "--episodes",
        "1",
        "--background",
        "clean",
    ]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": CACHE}
    for more, code in (([], 2), (["--output", str(trained_copy / "out")], 0)):
        words = [*disk.space(), "sh", "-c", script, str(trained_copy / "run"), *program, *more]
        done = subprocess.run(
            words, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == code, done.stderr
        if not more:
            assert_one_line(done, "nothing can be written here (Read-only file system)", "--output")
            assert done.stdout == ""
    assert scores(trained_copy / "out")["complete"] is True


def test_a_run_folder_named_by_output_is_one_line(trained_places):
    done = run(
        "eval.py",
        trained_places / "run",
        "--episodes",
        1,
        "--background",
        "clean",
        "--output",
        trained_places / "run",
    )
    assert_one_line(done, "it is a run folder, since it holds config.yaml", "--output")
    assert scores(trained_places / "run")["complete"] is True


def test_a_checkpoint_that_goes_while_it_is_read_gives_way_to_the_newest(trained_copy, monkeypatch):
    folder = trained_copy / "run"
    old, new = checkpoint.steps(folder / "checkpoints")[-2:]
    find, asked = saved.find_run, []

    def late(path):
        asked.append(path)
        if len(asked) == 1:
            shutil.rmtree(old)
            return folder, old
        return find(path)

    monkeypatch.setattr(saved, "find_run", late)
    loaded = saved.load_run(folder)
    assert loaded.path == new
    assert loaded.sha256 == sum_of(new / "tensors.safetensors")
    with pytest.raises(UserError, match="keeps its newest two"):
        saved.load_run(old)
