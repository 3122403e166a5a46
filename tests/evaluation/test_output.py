"""Test the files of an evaluation, and what scores.json says of the clips."""

import contextlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foreground.configs import run as runs
from foreground.envs.backgrounds import BackgroundConfig
from foreground.envs.sources import Clip, Source
from foreground.errors import UserError
from foreground.evaluation import films, output, report
from foreground.evaluation.episodes import Scores
from foreground.evaluation.subject import Subject
from foreground.training import files, identity


def scores(place: Path) -> dict:
    return json.loads((place / "scores.json").read_text())


def writer(out: output.Output):
    def write(names, complete):
        files.write_json(out.folder / output.SCORES, {"files": names, "complete": complete})

    return write


def test_files_that_are_replaced_are_named(tmp_path, capsys):
    for told in (0, 1):
        with output.opened(tmp_path / "out") as out:
            out.tell_of_earlier()
            out.begin(writer(out))
            films.write_picture(out.folder / "latent.png", np.zeros((16, 16, 3), np.uint8))
            out.save(complete=True)
        said = capsys.readouterr().err
        assert (
            said.count(
                f"replaces an earlier one in {tmp_path / 'out'}: latent.png, scores.json; "
                "that one stays"
            )
            == told
        )


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def evaluate(folder: Path, shade: int, *names: str, end=None) -> None:
    """Run an evaluation that writes pictures; raise the exception, if given, before its end."""
    with output.opened(folder) as out:
        out.begin(writer(out))
        for name in names:
            films.write_picture(out.folder / name, np.full((16, 16, 3), shade, np.uint8))
        if end is not None:
            raise end
        out.save(complete=True)


@pytest.mark.parametrize(
    "end", [KeyboardInterrupt(), UserError("a", "b", "c"), OSError(28, "No space left on device")]
)
def test_a_complete_evaluation_stays_until_another_is_complete(tmp_path, end):
    (tmp_path / "notes.txt").write_text("mine")
    evaluate(tmp_path, 10, "latent.png", "latent-train.png")
    before = content(tmp_path)
    with pytest.raises(type(end)):
        evaluate(tmp_path, 20, "latent.png", "games.png", end=end)
    assert content(tmp_path) == before
    evaluate(tmp_path, 30, "latent.png", "games.png")
    after = content(tmp_path)
    assert set(after) == {"notes.txt", "scores.json", "latent.png", "games.png"}
    assert after["latent.png"] != before["latent.png"]
    assert scores(tmp_path) == {
        "files": ["games.png", "latent.png", "scores.json"],
        "complete": True,
    }


def test_the_evaluation_of_a_finished_run_is_written_beside_the_earlier_one(tmp_path):
    evaluate(tmp_path, 10, "latent.png")
    before = content(tmp_path)
    evaluator = report.Evaluator(runs.RunConfig(), None, tmp_path)
    with contextlib.suppress(KeyboardInterrupt), evaluator.writing() as out:
        assert evaluator.place == out.folder != tmp_path
        out.begin(writer(out))
        raise KeyboardInterrupt
    assert evaluator.place == tmp_path
    assert content(tmp_path) == before


def test_what_there_is_of_a_first_evaluation_stays(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, 10, "latent.png", end=KeyboardInterrupt())
    assert scores(tmp_path) == {"files": ["latent.png", "scores.json"], "complete": False}
    assert (tmp_path / "latent.png").exists()


def test_killed_at_any_moment_scores_are_complete_only_beside_their_own_films(
    tmp_path, monkeypatch
):
    """Every call that changes a name may be the last one."""

    def die(number: int):
        calls = []

        def counted(function):
            def call(*arguments, **named):
                calls.append(function)
                if len(calls) > number:
                    raise SystemExit
                return function(*arguments, **named)

            return call

        with monkeypatch.context() as patched:
            for owner, name in (
                (os, "replace"),
                (Path, "unlink"),
                (Path, "rename"),
                (shutil, "rmtree"),
            ):
                patched.setattr(owner, name, counted(getattr(owner, name)))
            with contextlib.suppress(SystemExit):
                evaluate(folder, 20, "latent.png", "games.png")
                return False
        return True

    number, kinds = 0, set()
    while True:
        folder = tmp_path / str(number)
        evaluate(folder, 10, "latent.png", "skills.png")
        old = content(folder)
        died = die(number)
        row, now = scores(folder), content_of_files(folder)
        if row["complete"]:
            assert set(now) == set(row["files"])
            kinds.add((now["latent.png"] == old["latent.png"], died))
        evaluate(folder, 20, "latent.png", "games.png")  # cleans up behind the one that died
        assert set(os.listdir(folder)) == {"latent.png", "games.png", "scores.json"}
        number += 1
        if not died:
            break
    assert (True, True) in kinds
    assert (False, False) in kinds


def content_of_files(folder: Path) -> dict[str, bytes]:
    names = [path for path in folder.iterdir() if not path.name.startswith(".tmp-")]
    return {path.name: path.read_bytes() for path in names}


def test_left_overs_of_a_killed_evaluation_go_and_an_empty_folder_too(tmp_path):
    place = tmp_path / "run" / "evaluation" / "step-1-clean"
    with pytest.raises(UserError, match="refused"), output.opened(place):
        raise UserError("refused", "here", "so")
    assert os.listdir(tmp_path) == []
    evaluate(place, 10, "latent.png")
    before = content(place)
    (place / ".tmp-0123abcd-evaluation").mkdir()
    (place / ".tmp-0123abcd-evaluation" / "latent.png").write_text("half")
    (place / ".tmp-0123abce-latent.png").write_text("half")
    with pytest.raises(UserError, match="refused"), output.opened(place):
        raise UserError("refused", "here", "so")
    assert content(place) == before


def test_only_what_an_evaluation_wrote_is_its_own(tmp_path):
    """A training run, a redirected output and an editor write to the same folder."""
    folder = tmp_path / "out"
    others = [
        "metrics.jsonl",
        "log.txt",
        "notes.txt",
        "events.out.tfevents.1",
        "evaluation-mine.mp4",
    ]
    film = [np.zeros((16, 16, 3), np.uint8)] * 2
    for side in ("clean", "heldout"):
        with output.opened(folder) as out:
            out.begin(writer(out))
            for name in others:
                (folder / name).write_text(side)
            films.write_film(out.folder / f"evaluation-{side}.mp4", film, 25)
            films.write_picture(out.folder / f"latent-{side}.png", film[0])
            films.write_picture(tmp_path / "latent-elsewhere.png", film[0])
            ours = {f"evaluation-{side}.mp4", f"latent-{side}.png", "scores.json"}
            assert (
                set(scores(out.folder)["files"]) == ours
            )  # listed before the end: a process may be killed here
            assert scores(out.folder)["complete"] is False
            out.save(complete=True)
        assert scores(folder)["complete"] is True
        assert set(os.listdir(folder)) == {*others, *ours}


def test_an_evaluation_after_a_stopped_one_leaves_no_scores_beside_its_films(tmp_path):
    """Its scores list what the stopped one left before the first file goes."""
    (tmp_path / "evaluation-heldout.mp4").write_text("old")
    names = ["evaluation-heldout.mp4", "scores.json"]
    (tmp_path / "scores.json").write_text(json.dumps({"files": names, "complete": False}))
    seen = []
    with output.opened(tmp_path) as out:
        write = writer(out)
        out.begin(
            lambda *told: (seen.append(((tmp_path / names[0]).exists(), *told)), write(*told))
        )
    assert seen == [(True, names, False), (False, ["scores.json"], False)]
    assert scores(tmp_path)["complete"] is False
    assert os.listdir(tmp_path) == ["scores.json"]
    with output.opened(
        tmp_path
    ) as out:  # the list of one that was killed before it deleted anything
        out.earlier = names
        assert out.files() == ["scores.json"]


@pytest.mark.parametrize("inside", ["", "checkpoints", "replay", "best"])
def test_a_run_folder_is_no_folder_for_results(tmp_path, inside):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("")
    (tmp_path / "link").symlink_to(run)
    for place in (run / inside, tmp_path / "link" / inside):
        with (
            pytest.raises(
                UserError, match=r"a (part of a )?run folder.*choose another folder with --output"
            ),
            output.opened(place),
        ):
            pass
    assert sorted(path.name for path in run.rglob("*")) == ["checkpoints", "config.yaml"]
    with output.opened(run / "evaluation"):
        pass


def test_another_part_of_an_upload_that_was_trained_on_is_told(monkeypatch):
    """The same part in other bytes is found too.

    Names that have a meaning in their own folder only cause no message.
    """

    def source(*rows) -> Source:
        return Source(
            "/x", "/x", tuple(Clip(name, 9, recording, sha256) for name, recording, sha256 in rows)
        )

    upload = "dQw4w9WgXcQ"
    rows = (
        (f"{upload}_000010_000020.mp4", upload, "1"),
        ("walk_1.mp4", "walk", "2"),
        ("v_Ride_g01_c01.avi", "v_Ride_g01", "3"),
    )
    made = identity.Made((identity.Period(0, {"train": source(*rows)}),))
    assert made.trained == identity.Trained(frozenset("123"), frozenset([upload, "v_Ride_g01"]))
    subject = Subject("step-1", "", made.trained)
    cases = {
        "parts": (
            [(f"{upload}_000030_000040.webm", upload, "4"), ("walk_2.mp4", "walk", "5")],
            "recordings",
            0,
            1,
        ),
        "group": ([("v_Ride_g01_c02.avi", "v_Ride_g01", "6")], "recordings", 0, 1),
        "both": ([("copy.mp4", "copy", "2"), ("a.mp4", upload, "7")], "clips", 1, 1),
        "other": ([("walk_2.mp4", "walk", "5")], False, 0, 0),
    }
    config = replace(runs.RunConfig(), background=BackgroundConfig("/x"))
    for name, (rows, kind, same, parts) in cases.items():
        monkeypatch.setattr(
            "foreground.evaluation.subject.backgrounds.source_of",
            lambda *_, rows=rows: source(*rows),
        )
        warning = subject.plays(name, config, "heldout", BackgroundConfig("/y"))
        row = subject.row([name])["sources"][name]
        assert (row["trained_on"], row["trained_clips"], row["trained_recordings"]) == (
            kind,
            same,
            parts,
        )
        assert ("uploads that the run was trained on" in warning) == bool(parts)
        assert (
            f"{name} (trained on)" in report.table({name: Scores([1.0], None)}, subject)
        ) == bool(kind)
    assert (
        Subject("step-1", "", None).plays("parts", config, "heldout", BackgroundConfig("/y")) == ""
    )
