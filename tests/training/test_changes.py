"""Compare the inputs of a run: clips by their hashes, runs by their weights."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from foreground import build
from foreground.configs import run as runs
from foreground.envs.sources import Clip, Source
from foreground.errors import UserError
from foreground.training import checkpoint, identity


def side(root: str, **sums: str) -> identity.Sides:
    return {
        "train": Source(
            root, root, tuple(Clip(f"{name}.mp4", 10, name, sum_) for name, sum_ in sums.items())
        )
    }


def test_sides_are_compared_by_what_they_hold():
    old = side("/a", x="1", y="2")
    assert identity.side_changes("train", old, side("/b", z="2", x="1")) == []
    [change] = identity.side_changes("train", old, side("/b", x="1", y="3"))
    assert change.old == "/a, 2 clips"
    assert "/b, 2 clips" in change.new
    assert change.new.endswith("(1 (y.mp4) not there any more; 1 (y.mp4) new)")
    [change] = identity.side_changes("train", old, {})
    assert "without clips" in change.new
    assert identity.side_changes("train", {}, {}) == []


def test_a_clip_that_changed_sides_is_named_as_such():
    def sides(train: str, heldout: str) -> identity.Sides:
        return {
            name: Source("/a", "/a", tuple(Clip(f"{sum_}.mp4", 10, sum_, sum_) for sum_ in sums))
            for name, sums in (("train", train), ("heldout", heldout))
        }

    old, new = sides("abcx", "de"), sides("abd", "cef")
    (train,), (heldout,) = (identity.side_changes(side, old, new) for side in ("train", "heldout"))
    told = "1 (c.mp4) on the heldout side now; 1 (x.mp4) not there any more; "
    told += "1 (d.mp4) from the heldout side"
    assert train.new.endswith(f"({told})")
    assert heldout.new.endswith(
        "(1 (d.mp4) on the train side now; 1 (c.mp4) from the train side; 1 (f.mp4) new)"
    )


def test_what_is_written_is_read_again(tmp_path):
    made = identity.Made(
        (identity.Period(0, side("/a", x="1")), identity.Period(40, side("/b", y="2"))),
        identity.Origin("/r", "step-1", "ab"),
    )
    identity.write(tmp_path, made)
    assert identity.read(tmp_path) == made
    assert made.trained.sums == {"1", "2"}


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version": 1, "periods": [], "skills": null}', "[" * 100_000]
)
def test_a_file_of_sources_by_halves_is_one_line(tmp_path, content):
    (tmp_path / "sources.json").write_text(content)
    with pytest.raises(UserError, match="does not say what the run was made of"):
        identity.read(tmp_path)


def skill_run(folder: Path, weight: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("")
    checkpoint.save(folder / "checkpoints", 10, {"x": np.array([weight])})
    return folder


def test_a_run_that_another_began_with_is_known_by_its_weights(tmp_path):
    one, two = skill_run(tmp_path / "one", 1.0), skill_run(tmp_path / "two", 2.0)
    path = checkpoint.steps(one / "checkpoints")[-1]
    before = identity.Made(
        origin=identity.Origin(str(one), path.name, checkpoint.weights_sum(path))
    )
    for same in (one, path, shutil.copytree(one, tmp_path / "moved")):
        assert identity.compare(before, {}, same).found == ()
    for other in (two, checkpoint.steps(two / "checkpoints")[-1], None):
        changes = identity.compare(before, {}, other)
        [change] = changes.found
        assert change.key == "init_from"
        assert str(one) in change.old
        assert (str(two) if other else "none") in change.new
    checkpoint.save(one / "checkpoints", 20, {"x": np.array([3.0])})
    assert identity.compare(before, {}, one).found == ()  # the same run, trained further
    [change] = identity.compare(before, {}, checkpoint.steps(one / "checkpoints")[-1]).found
    assert change.key == "init_from"


def test_a_change_that_was_taken_is_noted_once(tmp_path):
    before = identity.Made((identity.Period(0, side("/a", x="1")),))
    identity.write(tmp_path, before)
    changes = identity.compare(before, side("/a", x="2"), None)
    for _ in range(2):
        identity.begin(tmp_path, changes, 40)
    assert [period.env_frame for period in identity.read(tmp_path).periods] == [0, 40]
    assert len(identity.history(tmp_path)) == 1


def test_the_default_folder_names_the_run_of_skills(tmp_path):
    config = runs.RunConfig(
        agent="finetune", task="walker-walk", init_from=str(tmp_path / "slim-a")
    )
    assert build.run_folder(config).name == "walker-walk-finetune-from-slim-a-starter-seed0"
    assert (
        build.run_folder(runs.RunConfig(task="walker-walk")).name
        == "walker-walk-infopower-starter-seed0"
    )
