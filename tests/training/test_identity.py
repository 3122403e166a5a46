"""Clips are identified by their sums, the run of --init_from by its checkpoint."""

import os
import shutil
from pathlib import Path

import pytest

from benchmarks import result_files
from foreground import train
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training import checkpoint, identity
from tests.support.clip_runs import FEW, called, go_on, scores, sum_of, write_video
from tests.support.programs import CACHE, assert_one_line, run, written


def test_a_run_keeps_the_path_and_the_sum_of_every_clip(trained_places):
    made = identity.read(trained_places / "run")
    assert [period.env_frame for period in made.periods] == [0]
    clips = trained_places / "one" / "clips"
    for side, names in (("train", ["ant", "bee"]), ("heldout", ["cat"])):
        source = made.sides[side]
        assert source.root == str(clips.resolve())
        assert {clip.path.rpartition("/")[2]: clip.sha256 for clip in source.clips} == {
            f"{name}.mp4": sum_of(clips / side / f"{name}.mp4") for name in names
        }
    assert runs.load(trained_places / "run").background.source == str(clips)


def test_scores_say_which_checkpoint_and_which_clips(trained_places):
    row = scores(trained_places / "run")
    newest = checkpoint.steps(trained_places / "run" / "checkpoints")[-1]
    assert row["checkpoint"] == newest.name
    assert row["checkpoint_sha256"] == sum_of(newest / "tensors.safetensors")
    assert row["complete"] is True
    assert set(row["sources"]) == {"heldout", "train"}
    heldout, train = row["sources"]["heldout"], row["sources"]["train"]
    assert (heldout["trained_on"], train["trained_on"]) == (False, "clips")
    assert (heldout["trained_clips"], train["trained_clips"]) == (0, 2)
    assert list(heldout["clips"].values()) == [
        sum_of(trained_places / "one" / "clips" / "heldout" / "cat.mp4")
    ]
    assert heldout["path"] == str((trained_places / "one" / "clips").resolve())


def test_another_working_directory_means_the_same_clips_or_is_refused(trained_places, tmp_path):
    words = ("--episodes", 1, "--background", "heldout,train")
    for name in ("one", "two"):
        done = called(
            "eval.py",
            trained_places / name,
            trained_places / "run",
            *words,
            "--output",
            tmp_path / name,
        )
        assert done.returncode == 0, done.stderr
    assert scores(tmp_path / "one")["scores"] == scores(tmp_path / "two")["scores"]
    words = [
        *FEW,
        "--total_frames",
        340,
        "--folder",
        trained_places / "run",
        "--background.source",
        "clips",
    ]
    refused = called("train.py", trained_places / "two", *words)
    there, here = ((trained_places / name / "clips").resolve() for name in ("one", "two"))
    assert_one_line(
        refused,
        "background.source (train) was",
        str(there),
        str(here),
        "dog.mp4",
        "--accept_changes",
    )


def test_clips_that_were_moved_are_the_same(trained_copy):
    done = go_on(trained_copy)
    assert done.returncode == 0, done.stderr
    assert len(identity.read(trained_copy / "run").periods) == 1
    assert identity.history(trained_copy / "run") != []  # the budget
    assert {row["key"] for row in identity.history(trained_copy / "run")} == {"total_frames"}


def test_other_clips_are_refused_or_taken_and_written_down(trained_copy):
    assert go_on(trained_copy).returncode == 0
    (trained_copy / "clips" / "train" / "ant.mp4").rename(
        trained_copy / "clips" / "heldout" / "ant.mp4"
    )
    write_video(trained_copy / "clips" / "train" / "gnu.mp4", 99)
    before = (trained_copy / "run" / "sources.json").read_bytes()
    refused = go_on(trained_copy, frames=380)
    assert_one_line(
        refused,
        "background.source (train) was",
        "1 (train/ant.mp4) on the heldout side now",
        "1 (train/gnu.mp4) new",
    )
    assert (trained_copy / "run" / "sources.json").read_bytes() == before
    assert_one_line(
        run("eval.py", trained_copy / "run", "--episodes", 1, "--background", "train"),
        "not those it was trained with",
    )
    taken = go_on(trained_copy, "--accept_changes", "true", frames=380)
    assert taken.returncode == 0, taken.stderr
    assert "warning: from frame 340 on background.source (train) was" in taken.stderr
    leak = (
        "heldout: the run was trained on 1 of these 2 clips (heldout/ant.mp4); "
        "they are not held out"
    )
    assert taken.stderr.count(leak) == 1
    assert "heldout (trained on)" in taken.stdout
    made = identity.read(trained_copy / "run")
    assert [period.env_frame for period in made.periods] == [0, 340]
    assert made.trained.sums == {
        sum_of(trained_copy / "clips" / "train" / f"{name}.mp4") for name in ("bee", "gnu")
    } | {clip.sha256 for clip in made.periods[0].sides["train"].clips}
    rows = {row["key"]: row for row in identity.history(trained_copy / "run")}
    row = rows["background.source (train)"]
    assert row["env_frame"] == 340
    assert "gnu.mp4" in row["new"]
    assert go_on(trained_copy, frames=400).returncode == 0  # what was taken is the run's now


def test_a_score_with_other_clips_says_what_changed(trained_copy):
    assert go_on(trained_copy).returncode == 0
    write_video(trained_copy / "clips" / "heldout" / "owl.mp4", 7)
    words = (trained_copy / "run", "--episodes", 1, "--background", "heldout")
    assert_one_line(run("eval.py", *words), "owl.mp4", "--accept_changes")
    assert not (trained_copy / "run" / "evaluation").exists()
    done = run("eval.py", *words, "--accept_changes")
    [change] = scores(written(done))["changed"]
    assert "owl.mp4" in change


def test_clips_that_were_trained_on_are_not_scored_as_held_out(trained_places, tmp_path):
    """Also as copies under other names, and in a folder with others."""
    folder = tmp_path / "my,clips"
    shutil.copytree(trained_places / "two" / "clips", folder)
    shutil.copy(
        trained_places / "one" / "clips" / "train" / "bee.mp4", folder / "heldout" / "yak.mp4"
    )
    words = (trained_places / "run", "--episodes", 1, "--output", tmp_path / "out", "--background")
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


def test_a_finished_run_says_so_and_stays_as_it_is(trained_copy):
    left = (
        trained_copy / "run" / "evaluation" / "step-1-clean" / ".tmp-0123abcd-evaluation"
    )  # of a process that was killed
    left.mkdir(parents=True)
    (left / "scores.json").write_text("{")
    os.utime(left, (0, 0))
    assert go_on(trained_copy).returncode == 0
    assert not left.exists()
    config = (trained_copy / "run" / "config.yaml").read_bytes()
    again = go_on(trained_copy, "--evaluation.episodes", "2", frames=300)
    assert again.returncode == 0, again.stderr
    assert "finished at frame 340, beyond --total_frames 300; nothing to train" in again.stdout
    assert "frame 340/340" in again.stderr
    assert "trained 340 frames" not in again.stdout
    rate = ("--optimiser.model_lr", "1e-4")
    assert_one_line(
        go_on(trained_copy, *rate),
        "finished at frame 340",
        "optimiser.model_lr",
        "more --total_frames",
    )
    assert (trained_copy / "run" / "config.yaml").read_bytes() == config
    assert not [
        row for row in identity.history(trained_copy / "run") if row["key"].startswith("optimiser")
    ]
    more = go_on(trained_copy, *rate, frames=380)
    assert more.returncode == 0, more.stderr
    assert "from frame 340 on optimiser.model_lr was 0.002, and is 0.0001" in more.stderr
    assert {
        "env_frame": 340,
        "key": "optimiser.model_lr",
        "old": "0.002",
        "new": "0.0001",
    } in identity.history(trained_copy / "run")
    assert runs.load(trained_copy / "run").optimiser.model_lr == 1e-4


def test_a_clip_that_changed_sides_is_not_called_gone(trained_copy):
    (trained_copy / "clips" / "heldout" / "cat.mp4").rename(
        trained_copy / "clips" / "train" / "cat.mp4"
    )
    (trained_copy / "clips" / "train" / "bee.mp4").rename(
        trained_copy / "clips" / "heldout" / "bee.mp4"
    )
    assert go_on(trained_copy, "--accept_changes", "true").returncode == 0
    (trained_copy / "clips" / "heldout" / "bee.mp4").rename(
        trained_copy / "clips" / "train" / "bee.mp4"
    )
    (trained_copy / "clips" / "train" / "cat.mp4").rename(
        trained_copy / "clips" / "heldout" / "cat.mp4"
    )
    refused = run("eval.py", trained_copy / "run", "--episodes", 1, "--background", "heldout")
    assert_one_line(
        refused,
        "1 (heldout/bee.mp4) on the train side now; 1 (heldout/cat.mp4) from the train side",
    )


def prepared(place: Path, *words) -> Path:
    """The folder that the command takes for a run in the working directory."""
    return train.prepare([*FEW, "--total_frames", "300", *map(str, words)])[1]


def test_a_run_without_a_folder_is_found_by_its_clips(trained_copy, monkeypatch):
    """Where the clips were renamed or moved, and nothing else is another."""
    monkeypatch.chdir(trained_copy)
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    own = Path("runs/cartpole-balance-infopower-clips-seed0")
    shutil.copytree(trained_copy / "run", own)
    (trained_copy / "runs" / "cartpole-balance-infopower-broken-seed0").mkdir()
    (trained_copy / "clips").rename(trained_copy / "films")
    (trained_copy / "films" / "train" / "ant.mp4").rename(
        trained_copy / "films" / "train" / "gnu.mp4"
    )
    assert prepared(trained_copy, "--background.source", "films") == own
    assert prepared(trained_copy, "--background.source", "films", "--folder", "new") == Path("new")
    other = Path("runs/cartpole-balance-infopower-films-seed0")
    assert (
        prepared(trained_copy, "--background.source", "films", "--actor_critic.units", 64) == other
    )
    assert prepared(trained_copy, "--background.source", "films", "--seed", 1).name.endswith(
        "films-seed1"
    )
    shutil.copytree(own, "runs/cartpole-balance-infopower-twin-seed0")
    with pytest.raises(
        UserError, match=r"clips-seed0 and runs.*twin-seed0 have these options and clips: --folder"
    ):
        prepared(trained_copy, "--background.source", "films")
    shutil.rmtree("runs/cartpole-balance-infopower-twin-seed0")
    write_video(trained_copy / "films" / "train" / "owl.mp4", 7)
    from foreground.envs import backgrounds

    backgrounds.forget()
    assert prepared(trained_copy, "--background.source", "films") == other


def test_a_finished_run_is_told_where_its_clips_are_now(trained_copy, monkeypatch):
    shutil.copytree(trained_copy / "clips", trained_copy / "new")
    assert go_on(trained_copy).returncode == 0
    shutil.rmtree(trained_copy / "clips")
    words = ("eval.py", trained_copy / "run", "--episodes", 1, "--background", "heldout")
    remedy = "--folder RUN and --background.source PATH tells the run where they are now"
    assert_one_line(run(*words), "the run's clips are not there any more", remedy)
    scored = scores(trained_copy / "run")["scores"]
    again = go_on(trained_copy, "--background.source", trained_copy / "new")
    assert again.returncode == 0, again.stderr
    assert "finished at frame 340; nothing to train" in again.stdout
    assert scores(trained_copy / "run")["scores"] == scored
    assert runs.load(trained_copy / "run").background.source == str(trained_copy / "new")
    assert written(run(*words)).name.endswith("-heldout-episodes=1")


def test_a_run_from_before_sources_is_written_down_with_a_note(trained_copy):
    (trained_copy / "run" / "sources.json").unlink()
    source = runs.load(trained_copy / "run").background.source
    done = go_on(trained_copy, "--background.source", source)
    assert done.returncode == 0, done.stderr
    assert "did not say what it was made of" in done.stderr
    assert identity.read(trained_copy / "run").sides["train"].root == str(Path(source).resolve())


def test_scores_are_not_complete_while_a_run_continues(trained_copy, monkeypatch):
    """Evaluations of the longer run overwrite the films that belong to the scores."""
    before = scores(trained_copy / "run")
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
        trained_copy / "run",
        "--background.source",
        trained_copy / "clips",
    ]
    with pytest.raises(UserError, match="stopped"):
        train.main(list(map(str, words)))
    assert scores(trained_copy / "run") == before | {"complete": False}
    assert result_files.of_run(trained_copy / "run")["scores"] == {}
