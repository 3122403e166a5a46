"""Clips are identified by their sums, the run of --init_from by its checkpoint."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import result_files
from foreground import saved, train
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training import checkpoint, identity
from tests.faults import disk
from tests.support.programs import CACHE, ROOT, SMALL, assert_one_line, run, written

FEW = [
    word
    for index, word in enumerate(SMALL)
    if "--background.source" not in (word, SMALL[index - 1])
]
FEW += ["--evaluation.episodes", "1"]


def write_video(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 64))
    for row in np.random.default_rng(seed).integers(0, 256, (12, 8, 8, 3), np.uint8):
        writer.write(cv2.resize(row, (64, 64), interpolation=cv2.INTER_NEAREST))
    writer.release()


def write_clips(folder: Path, *names: str) -> Path:
    """Clips of other content for other names: those of the last name are held out."""
    for name in names:
        side = "heldout" if name == names[-1] else "train"
        write_video(folder / side / f"{name}.mp4", int.from_bytes(name.encode()[:3]))
    return folder


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def called(program: str, folder: Path, *words) -> subprocess.CompletedProcess:
    """Run a program in its own working directory."""
    variables = os.environ | {
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": CACHE,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(ROOT / program), *map(str, words)]
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    """Return two working directories with different clips under one name.

    A run was trained in the first.
    """
    place = tmp_path_factory.mktemp("identity")
    write_clips(place / "one" / "clips", "ant", "bee", "cat")
    write_clips(place / "two" / "clips", "dog", "elk", "fox")
    words = [*FEW, "--total_frames", 300, "--folder", place / "run", "--background.source", "clips"]
    done = called("train.py", place / "one", *words)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def copy(places, tmp_path) -> Path:
    """The run and its clips at another place, to be changed."""
    shutil.copytree(places / "run", tmp_path / "run")
    shutil.copytree(places / "one" / "clips", tmp_path / "clips")
    return tmp_path


def go_on(place: Path, *words, frames: int = 340) -> subprocess.CompletedProcess:
    more = [] if "--background.source" in words else ["--background.source", place / "clips"]
    return run("train.py", *FEW, "--total_frames", frames, "--folder", place / "run", *more, *words)


def scores(place: Path) -> dict:
    return json.loads((place / "scores.json").read_text())


def test_a_run_keeps_the_path_and_the_sum_of_every_clip(places):
    made = identity.read(places / "run")
    assert [period.env_frame for period in made.periods] == [0]
    clips = places / "one" / "clips"
    for side, names in (("train", ["ant", "bee"]), ("heldout", ["cat"])):
        source = made.sides[side]
        assert source.root == str(clips.resolve())
        assert {clip.path.rpartition("/")[2]: clip.sha256 for clip in source.clips} == {
            f"{name}.mp4": sum_of(clips / side / f"{name}.mp4") for name in names
        }
    assert runs.load(places / "run").background.source == str(clips)


def test_scores_say_which_checkpoint_and_which_clips(places):
    row = scores(places / "run")
    newest = checkpoint.steps(places / "run" / "checkpoints")[-1]
    assert row["checkpoint"] == newest.name
    assert row["checkpoint_sha256"] == sum_of(newest / "tensors.safetensors")
    assert row["complete"] is True
    assert set(row["sources"]) == {"heldout", "train"}
    heldout, train = row["sources"]["heldout"], row["sources"]["train"]
    assert (heldout["trained_on"], train["trained_on"]) == (False, "clips")
    assert (heldout["trained_clips"], train["trained_clips"]) == (0, 2)
    assert list(heldout["clips"].values()) == [
        sum_of(places / "one" / "clips" / "heldout" / "cat.mp4")
    ]
    assert heldout["path"] == str((places / "one" / "clips").resolve())


def test_another_working_directory_means_the_same_clips_or_is_refused(places, tmp_path):
    words = ("--episodes", 1, "--background", "heldout,train")
    for name in ("one", "two"):
        done = called("eval.py", places / name, places / "run", *words, "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert scores(tmp_path / "one")["scores"] == scores(tmp_path / "two")["scores"]
    words = [
        *FEW,
        "--total_frames",
        340,
        "--folder",
        places / "run",
        "--background.source",
        "clips",
    ]
    refused = called("train.py", places / "two", *words)
    there, here = ((places / name / "clips").resolve() for name in ("one", "two"))
    assert_one_line(
        refused,
        "background.source (train) was",
        str(there),
        str(here),
        "dog.mp4",
        "--accept_changes",
    )


def test_clips_that_were_moved_are_the_same(copy):
    done = go_on(copy)
    assert done.returncode == 0, done.stderr
    assert len(identity.read(copy / "run").periods) == 1
    assert identity.history(copy / "run") != []  # the budget
    assert {row["key"] for row in identity.history(copy / "run")} == {"total_frames"}


def test_other_clips_are_refused_or_taken_and_written_down(copy):
    assert go_on(copy).returncode == 0
    (copy / "clips" / "train" / "ant.mp4").rename(copy / "clips" / "heldout" / "ant.mp4")
    write_video(copy / "clips" / "train" / "gnu.mp4", 99)
    before = (copy / "run" / "sources.json").read_bytes()
    refused = go_on(copy, frames=380)
    assert_one_line(
        refused,
        "background.source (train) was",
        "1 (train/ant.mp4) on the heldout side now",
        "1 (train/gnu.mp4) new",
    )
    assert (copy / "run" / "sources.json").read_bytes() == before
    assert_one_line(
        run("eval.py", copy / "run", "--episodes", 1, "--background", "train"),
        "not those it was trained with",
    )
    taken = go_on(copy, "--accept_changes", "true", frames=380)
    assert taken.returncode == 0, taken.stderr
    assert "warning: from frame 340 on background.source (train) was" in taken.stderr
    leak = (
        "heldout: the run was trained on 1 of these 2 clips (heldout/ant.mp4); "
        "they are not held out"
    )
    assert taken.stderr.count(leak) == 1
    assert "heldout (trained on)" in taken.stdout
    made = identity.read(copy / "run")
    assert [period.env_frame for period in made.periods] == [0, 340]
    assert made.trained.sums == {
        sum_of(copy / "clips" / "train" / f"{name}.mp4") for name in ("bee", "gnu")
    } | {clip.sha256 for clip in made.periods[0].sides["train"].clips}
    rows = {row["key"]: row for row in identity.history(copy / "run")}
    row = rows["background.source (train)"]
    assert row["env_frame"] == 340
    assert "gnu.mp4" in row["new"]
    assert go_on(copy, frames=400).returncode == 0  # what was taken is the run's now


def test_a_score_with_other_clips_says_what_changed(copy):
    assert go_on(copy).returncode == 0
    write_video(copy / "clips" / "heldout" / "owl.mp4", 7)
    words = (copy / "run", "--episodes", 1, "--background", "heldout")
    assert_one_line(run("eval.py", *words), "owl.mp4", "--accept_changes")
    assert not (copy / "run" / "evaluation").exists()
    done = run("eval.py", *words, "--accept_changes")
    [change] = scores(written(done))["changed"]
    assert "owl.mp4" in change


def test_clips_that_were_trained_on_are_not_scored_as_held_out(places, tmp_path):
    """Also as copies under other names, and in a folder with others."""
    folder = tmp_path / "my,clips"
    shutil.copytree(places / "two" / "clips", folder)
    shutil.copy(places / "one" / "clips" / "train" / "bee.mp4", folder / "heldout" / "yak.mp4")
    words = (places / "run", "--episodes", 1, "--output", tmp_path / "out", "--background")
    done = run("eval.py", *words, f"heldout,{str(folder).replace(',', chr(92) + ',')}")
    assert done.returncode == 0, done.stderr
    assert (
        "the run was trained on 1 of these 2 clips (heldout/yak.mp4); they are not held out"
        in done.stderr
    )
    assert f"{folder} (trained on)" in done.stdout
    assert "heldout (trained on)" not in done.stdout
    sources = scores(tmp_path / "out")["sources"]
    assert sources["heldout"]["trained_on"] is False
    assert (sources[str(folder)]["trained_on"], sources[str(folder)]["trained_clips"]) == (
        "clips",
        1,
    )
    assert_one_line(
        run("eval.py", *words, folder), f"{str(folder).partition(',')[0]}", r"write \, for a comma"
    )


def test_a_finished_run_says_so_and_stays_as_it_is(copy):
    left = (
        copy / "run" / "evaluation" / "step-1-clean" / ".tmp-0123abcd-evaluation"
    )  # of a process that was killed
    left.mkdir(parents=True)
    (left / "scores.json").write_text("{")
    os.utime(left, (0, 0))
    assert go_on(copy).returncode == 0
    assert not left.exists()
    config = (copy / "run" / "config.yaml").read_bytes()
    again = go_on(copy, "--evaluation.episodes", "2", frames=300)
    assert again.returncode == 0, again.stderr
    assert "finished at frame 340, beyond --total_frames 300; nothing to train" in again.stdout
    assert "frame 340/340" in again.stderr
    assert "trained 340 frames" not in again.stdout
    rate = ("--optimiser.model_lr", "1e-4")
    assert_one_line(
        go_on(copy, *rate), "finished at frame 340", "optimiser.model_lr", "more --total_frames"
    )
    assert (copy / "run" / "config.yaml").read_bytes() == config
    assert not [row for row in identity.history(copy / "run") if row["key"].startswith("optimiser")]
    more = go_on(copy, *rate, frames=380)
    assert more.returncode == 0, more.stderr
    assert "from frame 340 on optimiser.model_lr was 0.002, and is 0.0001" in more.stderr
    assert {
        "env_frame": 340,
        "key": "optimiser.model_lr",
        "old": "0.002",
        "new": "0.0001",
    } in identity.history(copy / "run")
    assert runs.load(copy / "run").optimiser.model_lr == 1e-4


def test_a_clip_that_changed_sides_is_not_called_gone(copy):
    (copy / "clips" / "heldout" / "cat.mp4").rename(copy / "clips" / "train" / "cat.mp4")
    (copy / "clips" / "train" / "bee.mp4").rename(copy / "clips" / "heldout" / "bee.mp4")
    assert go_on(copy, "--accept_changes", "true").returncode == 0
    (copy / "clips" / "heldout" / "bee.mp4").rename(copy / "clips" / "train" / "bee.mp4")
    (copy / "clips" / "train" / "cat.mp4").rename(copy / "clips" / "heldout" / "cat.mp4")
    refused = run("eval.py", copy / "run", "--episodes", 1, "--background", "heldout")
    assert_one_line(
        refused,
        "1 (heldout/bee.mp4) on the train side now; 1 (heldout/cat.mp4) from the train side",
    )


def prepared(place: Path, *words) -> Path:
    """The folder that the command takes for a run in the working directory."""
    return train.prepare([*FEW, "--total_frames", "300", *map(str, words)])[1]


def test_a_run_without_a_folder_is_found_by_its_clips(copy, monkeypatch):
    """Where the clips were renamed or moved, and nothing else is another."""
    monkeypatch.chdir(copy)
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    own = Path("runs/cartpole-balance-infopower-clips-seed0")
    shutil.copytree(copy / "run", own)
    (copy / "runs" / "cartpole-balance-infopower-broken-seed0").mkdir()
    (copy / "clips").rename(copy / "films")
    (copy / "films" / "train" / "ant.mp4").rename(copy / "films" / "train" / "gnu.mp4")
    assert prepared(copy, "--background.source", "films") == own
    assert prepared(copy, "--background.source", "films", "--folder", "new") == Path("new")
    other = Path("runs/cartpole-balance-infopower-films-seed0")
    assert prepared(copy, "--background.source", "films", "--actor_critic.units", 64) == other
    assert prepared(copy, "--background.source", "films", "--seed", 1).name.endswith("films-seed1")
    shutil.copytree(own, "runs/cartpole-balance-infopower-twin-seed0")
    with pytest.raises(
        UserError, match=r"clips-seed0 and runs.*twin-seed0 have these options and clips: --folder"
    ):
        prepared(copy, "--background.source", "films")
    shutil.rmtree("runs/cartpole-balance-infopower-twin-seed0")
    write_video(copy / "films" / "train" / "owl.mp4", 7)
    from foreground.envs import backgrounds

    backgrounds.forget()
    assert prepared(copy, "--background.source", "films") == other


def test_a_finished_run_is_told_where_its_clips_are_now(copy, monkeypatch):
    shutil.copytree(copy / "clips", copy / "new")
    assert go_on(copy).returncode == 0
    shutil.rmtree(copy / "clips")
    words = ("eval.py", copy / "run", "--episodes", 1, "--background", "heldout")
    remedy = "--folder RUN and --background.source PATH tells the run where they are now"
    assert_one_line(run(*words), "the run's clips are not there any more", remedy)
    scored = scores(copy / "run")["scores"]
    again = go_on(copy, "--background.source", copy / "new")
    assert again.returncode == 0, again.stderr
    assert "finished at frame 340; nothing to train" in again.stdout
    assert scores(copy / "run")["scores"] == scored
    assert runs.load(copy / "run").background.source == str(copy / "new")
    assert written(run(*words)).name.endswith("-heldout-episodes=1")


def test_a_run_from_before_sources_is_written_down_with_a_note(copy):
    (copy / "run" / "sources.json").unlink()
    source = runs.load(copy / "run").background.source
    done = go_on(copy, "--background.source", source)
    assert done.returncode == 0, done.stderr
    assert "did not say what it was made of" in done.stderr
    assert identity.read(copy / "run").sides["train"].root == str(Path(source).resolve())


def test_one_evaluation_leaves_one_set_of_files(places, tmp_path):
    out = tmp_path / "out"
    words = (places / "run", "--episodes", 1, "--output", out, "--background")
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
    assert not (places / "run" / "evaluation").exists()


def test_what_is_refused_is_refused_before_a_clip_is_decoded(copy):
    """And leaves no folder."""
    for clip in (copy / "clips").rglob("*.mp4"):
        clip.write_bytes(b"damaged")
    kinds = {
        "--skills": "the run has no skills",
        "--skill=3": "the run has no skills",
        "--plan": "the run has no skills",
        "--games": "has no modes",
        "--adapt=speed=3": "has no modes",
        "--task=walker-walk": "the run's body is cartpole",
    }
    twice = run("eval.py", copy / "run", "--background", "heldout,heldout")
    assert_one_line(twice, "a background is named twice")
    for word, what in kinds.items():
        assert_one_line(run("eval.py", copy / "run", "--background", copy / "clips", word), what)
    words = ("--latent", "--latent_actors", copy / "nowhere")
    assert_one_line(
        run("eval.py", copy / "run", "--background", copy / "clips", *words),
        "this is not a run folder",
    )
    assert_one_line(
        run("eval.py", copy / "run", "--background", f"{copy / 'clips'},nowhere"),
        "no such file or folder",
    )
    assert not (copy / "run" / "evaluation").exists()


def test_all_clips_of_a_folder_or_one_file_play(places):
    clips = places / "two" / "clips"
    words = ("eval.py", places / "run", "--episodes", 1, "--all_clips", "--background")
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
    refused = run("eval.py", places / "run", "--episodes", 1, "--background", alone)
    assert_one_line(refused, "one file cannot be split", "play all clips with --all_clips, or ")
    done = run(*words, places / "one" / "clips" / "train" / "bee.mp4")
    assert scores(written(done))["sources"].popitem()[1]["trained_on"] == "clips"
    assert_one_line(run(*words, "heldout"), "no folder of clips is named: --all_clips")
    shutil.rmtree(places / "run" / "evaluation")


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_played(places):
    done = run(
        "eval.py",
        places / "run",
        "--episodes",
        1,
        "--background",
        "clean",
        "--output",
        places / "run" / "config.yaml",
    )
    assert_one_line(done, "nothing can be written here", "--output")
    assert done.stdout == ""


@pytest.mark.skipif(
    subprocess.run([*disk.space(), "true"], capture_output=True).returncode != 0,
    reason="no mounts of its own here",
)
def test_a_run_on_a_file_system_that_is_read_only(copy):
    """Told before anything is played; another folder helps."""
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    program = [
        sys.executable,
        str(ROOT / "eval.py"),
        str(copy / "run"),
        "--episodes",
        "1",
        "--background",
        "clean",
    ]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": CACHE}
    for more, code in (([], 2), (["--output", str(copy / "out")], 0)):
        words = [*disk.space(), "sh", "-c", script, str(copy / "run"), *program, *more]
        done = subprocess.run(
            words, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == code, done.stderr
        if not more:
            assert_one_line(done, "nothing can be written here (Read-only file system)", "--output")
            assert done.stdout == ""
    assert scores(copy / "out")["complete"] is True


def test_a_run_folder_named_by_output_is_one_line(places):
    done = run(
        "eval.py",
        places / "run",
        "--episodes",
        1,
        "--background",
        "clean",
        "--output",
        places / "run",
    )
    assert_one_line(done, "it is a run folder, since it holds config.yaml", "--output")
    assert scores(places / "run")["complete"] is True


def test_scores_are_not_complete_while_a_run_continues(copy, monkeypatch):
    """Evaluations of the longer run overwrite the films that belong to the scores."""
    before = scores(copy / "run")
    assert before["complete"] is True
    assert {"scores.json", "evaluation-heldout.mp4", "latent-heldout.png"} <= set(before["files"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(
        train,
        "learn",
        lambda *_: (_ for _ in ()).throw(UserError("stopped", "here", "by this test")),
    )
    words = [
        *FEW,
        "--total_frames",
        "340",
        "--folder",
        copy / "run",
        "--background.source",
        copy / "clips",
    ]
    with pytest.raises(UserError, match="stopped"):
        train.main(list(map(str, words)))
    assert scores(copy / "run") == before | {"complete": False}
    assert result_files.of_run(copy / "run")["scores"] == {}


def test_a_checkpoint_that_goes_while_it_is_read_gives_way_to_the_newest(copy, monkeypatch):
    folder = copy / "run"
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
