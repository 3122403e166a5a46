"""The files of an evaluation, and what its scores say of the clips that played."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foreground import eval as program
from foreground.configs import run as runs
from foreground.envs.backgrounds import BackgroundConfig
from foreground.envs.sources import Clip, Source
from foreground.errors import UserError
from foreground.eval import EvalConfig
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


def test_names_of_an_earlier_list_lead_nowhere_else(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "kept.mp4").write_text("x")
    kept = ["metrics.jsonl", "notes.txt", "evaluation.py", "best.json"]
    for name in kept:
        (tmp_path / "out" / name).write_text("x")
    names = [*kept, "../kept.mp4", "evaluation-/../../kept.mp4", ".hidden", 3, "evaluation-gone.mp4", "latent-a\0b.mp4"]
    (tmp_path / "out" / "scores.json").write_text(json.dumps({"files": names}))
    with output.opened(tmp_path / "out") as out:
        assert out.earlier == ["evaluation-gone.mp4"]
        out.begin(writer(out))
    assert (tmp_path / "kept.mp4").exists()
    assert set(os.listdir(tmp_path / "out")) == {*kept, "scores.json"}


def test_a_folder_is_named_by_what_is_evaluated(tmp_path):
    def name(task="", **given) -> str:
        config = EvalConfig("run", **{"task": task} | given)
        place = program.place_of(config, runs.RunConfig(task="walker-walk"), tmp_path, "step-000000000600")
        assert place.parent == tmp_path / "evaluation"
        return place.name.removeprefix("step-000000000600-")

    assert name() == name(task="walker-walk") == "heldout"
    assert name("walker-run", background=("clean", "../my clips")) == "walker-run-clean+my_clips"
    assert name(latent=True, skills=True, random=True) == "heldout-random-latent-skills"
    assert name(skill=3) == "heldout-skill=3"
    assert name(adapt="mass=0.6,gain=1.2", games=True) == "heldout-games-adapt=mass=0.6,gain=1.2"
    assert name(background=("agent:walker-walk", ".")) == f"agent_walker-walk+{Path.cwd().name}"
    assert len(name(background=("ü" * 150, "v" * 150)).encode()) < 255
    assert len({name(), name("walker-run"), name(background=("clean",)), name(latent=True), name(skills=True)}) == 5


def test_files_that_are_replaced_are_named(tmp_path, capsys):
    for told in (0, 1):
        with output.opened(tmp_path / "out") as out:
            out.tell_of_earlier()
            out.begin(writer(out))
            films.write_picture(out.folder / "latent.png", np.zeros((16, 16, 3), np.uint8))
            out.save(complete=True)
        said = capsys.readouterr().err
        assert said.count(f"replaces an earlier one in {tmp_path / 'out'}: latent.png, scores.json; --output") == told


def test_only_what_an_evaluation_wrote_is_its_own(tmp_path):
    """Beside it a training run, a redirected output and an editor write to the same folder."""
    folder = tmp_path / "out"
    others = ["metrics.jsonl", "log.txt", "notes.txt", "events.out.tfevents.1", "evaluation-mine.mp4"]
    film = [np.zeros((16, 16, 3), np.uint8)] * 2
    for side in ("clean", "heldout"):
        with output.opened(folder) as out:
            out.begin(writer(out))
            for name in others:
                (folder / name).write_text(side)
            films.write_film(folder / f"evaluation-{side}.mp4", film, 25)
            films.write_picture(folder / f"latent-{side}.png", film[0])
            films.write_picture(tmp_path / "latent-elsewhere.png", film[0])
            ours = {f"evaluation-{side}.mp4", f"latent-{side}.png", "scores.json"}
            assert set(scores(folder)["files"]) == ours  # listed before the end: a process may be killed here
            assert scores(folder)["complete"] is False
            out.save(complete=True)
        assert scores(folder)["complete"] is True
        assert set(os.listdir(folder)) == {*others, *ours}


def test_an_evaluation_that_is_stopped_leaves_no_scores_of_another_beside_its_films(tmp_path):
    """The earlier one's scores say that they are not complete before the first file goes."""
    (tmp_path / "evaluation-heldout.mp4").write_text("old")
    names = ["evaluation-heldout.mp4", "scores.json"]
    (tmp_path / "scores.json").write_text(json.dumps({"files": names, "complete": True}))
    seen = []
    with output.opened(tmp_path) as out:
        write = writer(out)
        out.begin(lambda *told: (seen.append(((tmp_path / names[0]).exists(), *told)), write(*told)))
    assert seen == [(True, names, False), (False, ["scores.json"], False)]
    assert scores(tmp_path)["complete"] is False
    assert os.listdir(tmp_path) == ["scores.json"]
    with output.opened(tmp_path) as out:  # the list of one that was killed before it deleted anything
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
            pytest.raises(UserError, match=r"a (part of a )?run folder.*choose another folder with --output"),
            output.opened(place),
        ):
            pass
    assert sorted(path.name for path in run.rglob("*")) == ["checkpoints", "config.yaml"]
    with output.opened(run / "evaluation"):
        pass


def test_another_part_of_an_upload_that_was_trained_on_is_told(monkeypatch):
    """And the same part in other bytes; of names that mean something in their own folder alone, nothing is said."""

    def source(*rows) -> Source:
        return Source("/x", "/x", tuple(Clip(name, 9, recording, sha256) for name, recording, sha256 in rows))

    upload = "dQw4w9WgXcQ"
    rows = (f"{upload}_000010_000020.mp4", upload, "1"), ("walk_1.mp4", "walk", "2"), ("v_Ride_g01_c01.avi", "v_Ride_g01", "3")
    made = identity.Made((identity.Period(0, {"train": source(*rows)}),))
    assert made.trained == identity.Trained(frozenset("123"), frozenset([upload, "v_Ride_g01"]))
    subject = Subject("step-1", "", made.trained)
    cases = {
        "parts": ([(f"{upload}_000030_000040.webm", upload, "4"), ("walk_2.mp4", "walk", "5")], "recordings", 0, 1),
        "group": ([("v_Ride_g01_c02.avi", "v_Ride_g01", "6")], "recordings", 0, 1),
        "both": ([("copy.mp4", "copy", "2"), ("a.mp4", upload, "7")], "clips", 1, 1),
        "other": ([("walk_2.mp4", "walk", "5")], False, 0, 0),
    }
    config = replace(runs.RunConfig(), background=BackgroundConfig("/x"))
    for name, (clips, kind, same, parts) in cases.items():
        monkeypatch.setattr("foreground.evaluation.subject.backgrounds.source_of", lambda *_, clips=clips: source(*clips))
        warning = subject.plays(name, config, "heldout", BackgroundConfig("/y"))
        row = subject.row([name])["sources"][name]
        assert (row["trained_on"], row["trained_clips"], row["trained_recordings"]) == (kind, same, parts)
        assert ("uploads that the run was trained on" in warning) == bool(parts)
        assert (f"{name} (trained on)" in report.table({name: Scores([1.0], None)}, subject)) == bool(kind)
    assert Subject("step-1", "", None).plays("parts", config, "heldout", BackgroundConfig("/y")) == ""
