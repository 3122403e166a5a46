"""Test the sides of a folder: their names, pairs of them, and files on no side."""

import warnings

import pytest

from foreground.envs import folders
from tests.support.clips import (
    all_names,
    pictures,
    refusal,
    split_names,
    split_paths,
    touched,
    write_frames,
    write_video,
)

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("heldout", ["heldout", "test", "val"])
def test_folders_of_sides_are_used(tmp_path, heldout):
    first = write_video(tmp_path / "train" / "deep" / "a.mp4", pictures(3))
    second = write_frames(tmp_path / heldout / "b", pictures(3), ".jpg")
    assert split_paths(tmp_path) == ([first], [second])


@pytest.mark.parametrize("names", [("train/a.mp4", "test/b.mp4"), ("a.mp4", "b.mp4")])
def test_a_fraction_that_the_folder_does_not_need_is_told(tmp_path, names):
    for seed, name in enumerate(names):
        write_video(tmp_path / name, pictures(3 + seed))
    for fraction, told in ((0.25, 0), (0.5, len(names[0].split("/")) - 1)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            folders.split(tmp_path, fraction)
        assert len(caught) == told
        assert all(
            "heldout_fraction has no effect: leave it out" in str(warning.message)
            for warning in caught
        )


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ([], "no clips"),
        (["notes.txt"], "no clips"),
        (["a.mp4"], "no held-out side"),
        (["aaaaaaaaaaa_000000_000010.mp4", "aaaaaaaaaaa_000010_000020.mp4"], "no held-out side"),
        (
            ["drive_000.mp4", "drive_001.mp4"],
            "all 2 clips are parts of one recording (drive_000.mp4, drive_001.mp4)",
        ),
        (
            ["train/x/AgE11af6BGs_000000_000010.mp4", "test/AgE11af6BGs.mp4"],
            (
                "train/x/AgE11af6BGs_000000_000010.mp4 and test/AgE11af6BGs.mp4 are parts of "
                "one recording"
            ),
        ),
        (["train/v_Run_g01_c01.avi", "test/v_Run_g01_c02.avi"], "are parts of one recording"),
        (
            ["train/a.mp4", "test/notes.txt"],
            "no held-out side: train/a.mp4 is in a folder for one side",
        ),
        (["Train/a.mp4", "b.mp4"], "no held-out side: Train/a.mp4 is in a folder for one side"),
        (["test/a.mp4", "b.mp4"], "no training side: test/a.mp4"),
    ],
)
def test_folders_without_two_sides_are_refused(tmp_path, layout, words):
    touched(tmp_path, *layout)
    message = refusal(folders.split, tmp_path, 0.25)
    assert words in message
    assert str(tmp_path) in message


@pytest.mark.parametrize(
    "sides",
    ["Train Test", "training validation", "train testing", "train eval", "Train Val",
     "TRN held-out", "train_set test_set",
     "train2017 val2017", "trainset Evaluation", "train holdout"],
)  # fmt: skip
def test_folders_of_sides_are_known_by_many_names(tmp_path, sides):
    train, heldout = sides.split()
    names = [f"{side}/{name}.mp4" for side in (train, heldout) for name in "abc"]
    assert split_names(touched(tmp_path, *names)) == (names[:3], names[3:])
    deep = [f"x/{name}" for name in names]
    assert split_names(touched(tmp_path / "deep", *deep)) == (deep[:3], deep[3:])


@pytest.mark.parametrize(
    "sides",
    ["videos_train videos_val", "rawframes_train rawframes_val", "train_256 val_256",
     "k400_train k400_test",
     "train-clips test-clips", "01_train 02_test", "train1 test1", "train test_256",
     "VideosTrain VideosTest", "train_videos clips_test", "a_train a_held-out"],
)  # fmt: skip
def test_folders_with_a_side_in_their_name_are_a_pair(tmp_path, sides):
    train, heldout = sides.split()
    names = [f"{side}/x/{name}.mp4" for side in (train, heldout) for name in "abc"]
    assert split_names(touched(tmp_path, *names)) == (names[:3], names[3:])
    deep = [f"kinetics/{name}" for name in names]
    assert split_names(touched(tmp_path / "deep", *deep)) == (deep[:3], deep[3:])


def test_of_several_pairs_the_first_held_out_side_is_taken(tmp_path):
    names = ["k_test/a.mp4", "k_train/b.mp4", "k_val/c.mp4", "other/d.mp4"]
    with pytest.warns(UserWarning, match="k_val/c.mp4, other/d.mp4: looks like video"):
        assert split_names(touched(tmp_path, *names)) == (["k_train/b.mp4"], ["k_test/a.mp4"])


@pytest.mark.parametrize(
    "names",
    ["a_train b_train a_test", "a_train a_test a2_test", "train_val_256 test_256",
     "train_videos clips_test other", "a/k_train b/k_test"],
)  # fmt: skip
def test_folders_whose_pair_is_not_clear_are_refused(tmp_path, names):
    touched(tmp_path, *(f"{name}/a.mp4" for name in names.split()))
    message = refusal(folders.split, tmp_path, 0.25)
    assert "is not clear" in message
    assert "sort the clips into train/ and heldout/ folders" in message


def test_a_class_with_a_side_in_its_name_is_a_class(tmp_path):
    names = [
        f"{name}/{clip}.mp4"
        for name in ("riding_train", "training_dog", "driving", "eating")
        for clip in "abcd"
    ]
    told = (
        r"riding_train, training_dog: named like one side, without a partner.*: rename it "
        r"train/ and add a folder heldout/ if"
    )
    with pytest.warns(UserWarning, match=told) as caught:
        assert sorted(all_names(touched(tmp_path, *names))) == sorted(names)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = [
            f"{name}/{clip}.mp4" for name in ("restraining", "testify", "trains") for clip in "abcd"
        ]
        assert sorted(all_names(touched(tmp_path / "words", *names))) == sorted(names)


def test_what_lies_on_no_side_is_told(tmp_path):
    root = touched(tmp_path, "train/a.mp4", "test/b.mp4", "val/c.mp4", "d.mp4")
    with pytest.warns(UserWarning, match="d.mp4, val/c.mp4: looks like video, and is not taken"):
        assert split_names(root) == (["train/a.mp4"], ["test/b.mp4"])


def test_equal_names_on_the_sides_of_a_user_are_two_clips(tmp_path):
    """Numbers begin anew in each folder; copies are found by their contents."""
    names = [
        f"{side}/driving_car_{number:04d}.mp4" for side in ("train", "test") for number in range(3)
    ]
    assert split_names(touched(tmp_path, *names)) == (names[:3], names[3:])
