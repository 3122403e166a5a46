"""Test the name of an evaluation's folder: every option that may change a result is in it."""

import dataclasses
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

from foreground.configs import run as runs
from foreground.envs.backgrounds import BackgroundConfig
from foreground.evaluation import clips, output
from foreground.evaluation.config import EvalConfig
from foreground.evaluation.place import place_of
from foreground.training import files
from tests.support.clips import pictures, write_video


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
    names = [
        *kept,
        "../kept.mp4",
        "evaluation-/../../kept.mp4",
        ".hidden",
        3,
        "evaluation-gone.mp4",
        "latent-a\0b.mp4",
    ]
    (tmp_path / "out" / "scores.json").write_text(json.dumps({"files": names}))
    with output.opened(tmp_path / "out") as out:
        assert out.earlier == ["evaluation-gone.mp4"]
        out.begin(writer(out))
    assert (tmp_path / "kept.mp4").exists()
    assert set(os.listdir(tmp_path / "out")) == {*kept, "scores.json"}


def test_a_folder_is_named_by_what_is_evaluated(tmp_path, monkeypatch):
    sums = {}
    monkeypatch.setattr(
        clips,
        "sums_of",
        lambda names, *_: {name: sums.get(name, "ab") for name in names if "/" in name},
    )

    def name(task="", changed=False, **given) -> str:
        config = EvalConfig("run", **{"task": task, "background": ("heldout",)} | given)
        place = place_of(
            config, runs.RunConfig(task="walker-walk"), tmp_path, "step-000000000600", changed
        )
        assert place.parent == tmp_path / "evaluation"
        assert len(place.name.encode()) < 255
        return place.name.removeprefix("step-000000000600-")

    assert (
        name()
        == name(task="walker-walk")
        == name(device="cpu", threads=2, accept_changes=True)
        == "heldout"
    )
    assert name(latent=True, skills=True, random=True) == "heldout-random-latent-skills"
    assert name(skill=3, episodes=2, seed=7) == "heldout-skill=3-episodes=2-seed=7"
    assert (
        name(adapt="mass=0.6,gain=1.2", games=True, steps=(0, 5))
        == "heldout-games-adapt=mass=0.6,gain=1.2-steps=0,5"
    )
    mine = name("walker-run", background=("clean", "../my clips"))
    assert re.fullmatch(r"walker-run-clean\+my_clips-[0-9a-f]{8}", mine)
    many = {name(background=("/" + "ü" * 150, "/" + last * 150)) for last in "vw"}
    others = [
        name(background=("../my_clips",)),
        name(background=("../my clips",)),
        name(background=("/x/my clips",)),
    ]
    sums["/x/my clips"] = "cd"  # the same name, and other clips
    others += [
        name(background=("/x/my clips",)),
        name(background=("/x/my clips",), all_clips=True),
        name(changed=True),
    ]
    others += [
        name(latent=True, latent_actors=actors) for actors in ((), ("a/b",), ("a_b",), ("b",))
    ]
    assert others[1] == others[2]
    assert len({*many, *others}) == 2 + len(others) - 1


OTHER_VALUES = {str: "walker-run", int: 4, float: 0.5}


OF_OPTIONS = {
    "background": ("clean",),
    "latent_actors": ("a",),
    "steps": (0,),
    "adapt_scope": "actor",
    "protocol": "dcs",
    "meta": "fomaml",
}


def test_every_option_that_may_change_a_result_is_in_the_name(tmp_path, monkeypatch):
    """Each of eval.py's options, also one that comes later."""
    monkeypatch.setattr(clips, "sums_of", lambda *_: {})
    own = runs.RunConfig(task="walker-walk")

    def name(**given) -> str:
        return place_of(EvalConfig("run", **given), own, tmp_path, "step-000000000600", False).name

    for field in dataclasses.fields(EvalConfig):
        if field.name not in ("run", "output", "accept_changes", "device", "threads"):
            default = getattr(EvalConfig("run"), field.name)
            others = {bool: not default} | OTHER_VALUES
            value = OF_OPTIONS.get(field.name) or others[type(default)]
            assert name(**{field.name: value}) != name(), field.name


def test_clips_of_a_folder_are_in_the_name_by_what_they_hold(tmp_path, own_cache):
    for folder in ("one", "two"):
        for side, shade in (("train", 0), ("heldout", 40)):
            write_video(tmp_path / folder / "clips" / side / "a.mp4", pictures(3, shade))
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    write_video(tmp_path / "two" / "clips" / "heldout" / "b.mp4", pictures(3, 80))
    config = replace(runs.RunConfig(), background=BackgroundConfig(str(tmp_path / "one" / "clips")))
    sums = [
        clips.sums_of([str(tmp_path / name / "clips")], config, False, False).popitem()[1]
        for name in ("one", "moved", "two")
    ]
    assert sums[0] == sums[1] != sums[2]
    assert clips.sums_of(["clean", "heldout"], config, False, False) == {}
    assert clips.sums_of(["clean", "heldout"], config, False, True) == {"heldout": sums[0]}
