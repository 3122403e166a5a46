"""Folders of clips: what is found in them, on which side it is, and which recording it is a part of."""

import os
import shutil
import warnings
from pathlib import Path, PurePosixPath

import pytest
from test_envs_video import KINETICS, pictures, refusal, write_frames, write_video

from envs import folders, video
from envs.recordings import recording_of


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def found(name: str) -> folders.Found:
    return folders.Found(Path(name), name, recording_of(PurePosixPath(name), frames=False))


def paths(sides) -> tuple[list[Path], list[Path]]:
    return tuple([clip.path for clip in side] for side in sides)


def touched(root: Path, *names: str) -> Path:
    """A folder of small files that all differ; no frame of them is decoded."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def split_names(root: Path, fraction: float = 0.25) -> tuple[list[str], list[str]]:
    return tuple([clip.name for clip in side] for side in folders.split(root, fraction))


def test_split_by_recording_keeps_parts_together_and_both_sides_filled():
    names = [f"{letter * 11}_{start:06d}_{start + 10:06d}.mp4" for letter in "abcdefgh" for start in (0, 10)]
    clips = [found(name) for name in names]
    train, heldout = folders.by_hash(clips, 0.25)
    assert sorted(train + heldout) == sorted(clips)
    assert not {clip.recording for clip in train} & {clip.recording for clip in heldout}
    assert {clip.name[:11] for clip in clips} == {clip.recording for clip in clips}
    for count in range(4, 17, 2):
        for fraction in (0.001, 0.5, 0.999):
            assert all(folders.by_hash(clips[:count], fraction))


def test_a_clip_stays_on_its_side_when_others_come():
    clips = [found(f"{number:011d}.mp4") for number in range(40)]
    few, many = (set(folders.by_hash(some, 0.25)[1]) for some in (clips[:30], clips))
    assert few == many & set(clips[:30])
    assert 3 <= len(many) <= 20


@pytest.mark.parametrize(
    ("name", "recording"),
    [
        ("AgE11af6BGs.mp4", "AgE11af6BGs"),
        ("driving/AgE11af6BGs.mp4", "AgE11af6BGs"),
        ("AgE11af6BGs_000010_000020.mp4", "AgE11af6BGs"),
        ("driving_car_000010_000020.mp4", "driving_car"),
        ("-_E11af6BGs_1.webm", "-_E11af6BGs"),
        ("v_AgE11af6BGs_2.mp4", "AgE11af6BGs"),
        ("A title [AgE11af6BGs]_001.mp4", "AgE11af6BGs"),
        ("AgE11af6BGs/000.mp4", "AgE11af6BGs"),
        ("v_Biking_g01_c02.avi", "v_Biking_g01"),
        ("drive_000.mp4", "drive"),
        ("driving_car_0000.mp4", "driving_car"),
        ("video_00012.mp4", "video"),
        ("a/drive_000.mp4", "a/drive"),
        ("ride-Scene-001.mp4", "ride"),
        ("walk part 2.mp4", "walk"),
        ("talk (3).mp4", "talk"),
        ("short.avi", "short"),
        ("c0.mov", "c0"),
        ("12345.webm", "12345"),
        ("movie_00_01_10.mp4", "movie"),
        ("Movie_00_01_10.mp4", "Movie"),
        ("cam0-000010-000020.mp4", "cam0"),
        ("drive_01_part_02.mp4", "drive"),
        ("x342-8-2033.mp4", "x342-8"),  # eleven characters may be an id, which is not taken apart
        ("lqEmto-sy_0_1.mp4", "lqEmto-sy_0"),
        ("talk/part1.mp4", "talk/part"),
        ("GH010123.MP4", "GOPR0123"),
        ("GH020123.MP4", "GOPR0123"),
        ("GX020123.MP4", "GOPR0123"),
        ("GOPR0123.MP4", "GOPR0123"),
        ("C0001.MP4", "C0001"),
        ("VID_20230101_120000.mp4", "VID_20230101_120000"),
        ("PXL_20230101_120000123.mp4", "PXL_20230101_120000123"),
        ("PXL_20230101_120000123_002.mp4", "PXL_20230101_120000123"),
        ("IMG_20230101_120000.MOV", "IMG_20230101_120000"),
        ("20230101_120000.mp4", "20230101_120000"),
        ("2023-01-01 12-00-00.mkv", "2023-01-01 12-00-00"),
        ("Screen 2023-01-01 at 12.00.00.mov", "Screen 2023-01-01 at 12.00.00"),
        ("VID-20230101-WA0012.mp4", "VID-20230101-WA0012"),
        ("2024-05-01.mp4", "2024-05-01"),
        ("IMG_0001.MOV", "IMG_0001"),
        ("DSCF0012.MOV", "DSCF0012"),
        ("BlowDryHair/a.mp4", "BlowDryHair/a"),
    ],
)
def test_recordings_of_files(name, recording):
    assert recording_of(PurePosixPath(name), frames=False) == recording


@pytest.mark.parametrize(
    ("name", "recording"),
    [
        ("walk", "walk"),
        ("walk/img", "walk/img"),
        ("drive_0001/image_02/data", "drive_0001"),
        ("drive_0001/image_03/data", "drive_0001"),
        ("walk/cam0", "walk"),
        ("walk/camera_1/x", "walk/x"),
        ("Left/walk", "walk"),
        ("image_02/data", "."),
        ("MOT17-02/img1", "MOT17-02/img1"),
        ("AgE11af6BGs_000010_000020/img", "AgE11af6BGs"),
        ("v_Biking_g01_c02", "v_Biking_g01"),
    ],
)
def test_recordings_of_folders_of_frames(name, recording):
    assert recording_of(PurePosixPath(name), frames=True) == recording


@pytest.mark.parametrize("names", ["output000 output001 output100", "clip01 clip02", "x/part1 x/part2", "GH010123 GH020123"])
def test_parts_that_are_numbered_without_a_separator_are_one_recording(tmp_path, names):
    touched(tmp_path, *(f"{name}.mp4" for name in names.split()))
    assert "by their names all" in refusal(folders.split, tmp_path, 0.25)
    touched(tmp_path, "other.mp4")
    assert ["other.mp4"] in split_names(tmp_path, 0.5)


@pytest.mark.parametrize(
    "pattern",
    ["VID_20230101_12{:02}00", "PXL_20230101_1200{:02}123", "IMG_20230101_12{:02}59", "GH01{:04}", "C{:04}", "video{}",
     "VID-20230101-WA{:04}"],
)  # fmt: skip
def test_a_day_of_clips_has_a_held_out_side(tmp_path, pattern):
    touched(tmp_path, *(f"{pattern.format(number)}.mp4" for number in range(40)))
    train, heldout = split_names(tmp_path)
    assert 4 <= len(heldout) <= 20
    assert len(train) + len(heldout) == 40


def test_two_cameras_of_one_drive_are_one_recording(tmp_path):
    for number in range(8):
        touched(tmp_path, *(f"drive_{number // 2}/image_0{2 + number % 2}/data/{name}.png" for name in "ab"))
    sides = [{name.split("/")[0] for name in side} for side in split_names(tmp_path, 0.5)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 4


@pytest.mark.parametrize("heldout", ["heldout", "test", "val"])
def test_folders_of_sides_are_used(tmp_path, heldout):
    first = write_video(tmp_path / "train" / "deep" / "a.mp4", pictures(3))
    second = write_frames(tmp_path / heldout / "b", pictures(3), ".jpg")
    assert paths(folders.split(tmp_path, 0.25)) == ([first], [second])


@pytest.mark.parametrize("names", [("train/a.mp4", "test/b.mp4"), ("a.mp4", "b.mp4")])
def test_a_fraction_that_the_folder_does_not_need_is_told(tmp_path, names):
    for seed, name in enumerate(names):
        write_video(tmp_path / name, pictures(3 + seed))
    for fraction, told in ((0.25, 0), (0.5, len(names[0].split("/")) - 1)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            folders.split(tmp_path, fraction)
        assert len(caught) == told
        assert all("heldout_fraction has no effect: leave it out" in str(warning.message) for warning in caught)


def test_davis_lists_are_used(tmp_path):
    for shade, name in enumerate(("bear", "boat", "camel")):
        write_frames(tmp_path / "JPEGImages" / "480p" / name, pictures(3, 9 * shade), ".jpg", "{:05d}")
    lists = tmp_path / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("bear\ncamel\n")
    (lists / "val.txt").write_text("boat\n")
    train, heldout = folders.split(tmp_path, 0.25)
    assert [clip.path.name for clip in train] == ["bear", "camel"]
    assert [clip.path.name for clip in heldout] == ["boat"]


def davis(root: Path, train: str | bytes, val: str | bytes = "boat") -> Path:
    for name, shade in (("bear", 0), ("boat", 99)):
        write_frames(root / "JPEGImages" / "480p" / name, pictures(2, shade), ".jpg")
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    for name, content in (("train", train), ("val", val)):
        (lists / f"{name}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return lists


@pytest.mark.parametrize(
    "train",
    ["../../secret", "/etc", "..", "bear/../bear", "absent", b"\xff\x00\x1f\x8b", "a" * 5000],
)
def test_davis_lists_name_clips_of_their_own_pictures_alone(tmp_path, train):
    write_frames(tmp_path / "secret", pictures(2))
    davis(tmp_path / "davis", train)
    message = refusal(folders.split, tmp_path / "davis", 0.5)
    assert "train.txt" in message
    assert "is not in" in message


@pytest.mark.timeout(20)
def test_davis_lists_that_are_no_lists(tmp_path):
    lists = davis(tmp_path, b"bear\n" * (1 << 18))
    assert "cannot be read" in refusal(folders.split, tmp_path, 0.5)
    (lists / "train.txt").unlink()
    os.mkfifo(lists / "train.txt")
    assert "cannot be read (not a regular file)" in refusal(folders.split, tmp_path, 0.5)
    (lists / "train.txt").unlink()
    (lists / "elsewhere").write_text("bear")
    (lists / "train.txt").symlink_to("elsewhere")  # as git-annex keeps them
    assert [clip.path.name for clip in folders.split(tmp_path, 0.25)[0]] == ["bear"]


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
            "train/x/AgE11af6BGs_000000_000010.mp4 and test/AgE11af6BGs.mp4 are parts of one recording",
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


@pytest.mark.parametrize("write", [write_video, write_frames])
def test_a_copy_under_another_name_on_the_other_side_is_refused(tmp_path, write):
    """As a file copied once more comes to two sides of a folder that is split by names."""
    end = ".mp4" if write is write_video else ""
    for name, shade in (
        (f"train/a{end}", 0),
        (f"train/b{end}", 50),
        (f"test/c{end}", 50),
        (f"test/d{end}", 90),
    ):
        write(tmp_path / name, pictures(3, shade))
    message = refusal(folders.split, tmp_path, 0.25)
    assert f"train/b{end} and test/c{end} are the same video" in message
    copy = tmp_path / f"train/b{end}"
    shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
    assert len(folders.split(tmp_path, 0.25)[0]) == 1


def test_folders_of_frames_with_one_name_go_by_the_folders_that_they_are_in(tmp_path):
    clips = [write_frames(tmp_path / name / "img", pictures(2, shade)) for name, shade in (("a", 0), ("b", 50), ("c", 90))]
    train, heldout = paths(folders.split(tmp_path, 0.25))
    assert sorted(train + heldout) == clips
    assert train
    assert heldout


def test_missing_folder_and_single_file_are_refused(tmp_path):
    assert "no such file" in refusal(folders.split, tmp_path / "absent", 0.25)
    assert "one file cannot be split" in refusal(folders.split, write_video(tmp_path / "a.mp4", pictures(3)), 0.25)


@pytest.mark.skipif(not KINETICS.is_dir(), reason="the shared Kinetics clips are not here")
def test_uploads_of_one_folder_keep_their_sides(tmp_path):
    """Results rest on it."""
    for path in KINETICS.glob("*/*.mp4"):
        (tmp_path / path.name).write_text(path.name)
    heldout = split_names(tmp_path)[1]
    assert heldout == ["ARDgfHJ_0nM.mp4"]
    train, heldout = folders.split(KINETICS, 0.25)
    assert (len(train), len(heldout)) == (6, 3)


def all_names(root: Path) -> list[str]:
    return [name for side in split_names(root) for name in side]


SUFFIXES = [f"c{index}{suffix}" for index, suffix in enumerate(video.VIDEO_SUFFIXES)] + [
    "d.MOV",
    "e.MP4",
    "f.Mkv",
]


def test_all_containers_are_taken_whatever_the_case(tmp_path):
    train, heldout = split_names(touched(tmp_path, *SUFFIXES))
    assert sorted(train + heldout) == sorted(SUFFIXES)


def test_what_looks_like_a_video_and_is_not_taken_is_one_warning(tmp_path):
    touched(tmp_path, "a.mp4", "b.mp4", "c.h264", "d.mp4.part", "notes.txt", "f.webp", "label.json")
    write_video(tmp_path / "whole.mp4", pictures(3)).rename(tmp_path / "nameless")
    with pytest.warns(UserWarning, match="is not taken") as caught:
        train, heldout = split_names(tmp_path)
    assert sorted(train + heldout) == ["a.mp4", "b.mp4"]
    assert len(caught) == 1
    told = str(caught[0].message)
    assert "c.h264, d.mp4.part, nameless: looks like video, and is not taken: convert it to mp4" in told
    assert "; 1 picture not taken (f.webp): frames are" in told


def test_hidden_names_and_those_of_systems_are_no_clips(tmp_path):
    hidden = "._a.mp4 .b.mp4 .Trash-0/files/c.mp4 .thumbnails/d.png .thumbnails/e.png @eaDir/a.mp4/f.jpg @eaDir/g.jpg"
    touched(tmp_path / "clips", "a.mp4", "b.mp4", *hidden.split(), "__MACOSX/h.mp4", "lost+found/i.mp4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, heldout = split_names(tmp_path / "clips")
    assert sorted(train + heldout) == ["a.mp4", "b.mp4"]


def test_a_root_that_is_hidden_has_clips(tmp_path):
    assert split_names(touched(tmp_path / ".data", "a.mp4", "b.mp4"))


@pytest.mark.timeout(20)
def test_linked_folders_are_followed_once(tmp_path):
    store = touched(tmp_path / "store", "c.mp4", "d.mp4", "deep/e.mp4")
    root = touched(tmp_path / "clips", "a.mp4", "b.mp4")
    (root / "class").symlink_to(store)
    (root / "same").symlink_to(store)
    (store / "loop").symlink_to(root)
    (root / "self").symlink_to(root)
    train, heldout = split_names(root)
    assert sorted(train + heldout) == [
        "a.mp4",
        "b.mp4",
        "class/c.mp4",
        "class/d.mp4",
        "class/deep/e.mp4",
    ]


def test_pictures_beside_or_above_videos_are_no_frames(tmp_path):
    names = ["a0.mp4", "a1.mp4", "a0.jpg", "a1.jpg"]
    with pytest.warns(UserWarning, match=r"beside: 2 pictures not taken \(a0.jpg, a1.jpg\): frames are"):
        assert sorted(all_names(touched(tmp_path / "beside", *names))) == ["a0.mp4", "a1.mp4"]
    names = ["1.jpg", "2.jpg", "x/a0.mp4", "x/a1.mp4"]
    with pytest.warns(UserWarning, match="above: 2 pictures not taken .1.jpg, 2.jpg"):
        assert sorted(all_names(touched(tmp_path / "above", *names))) == ["x/a0.mp4", "x/a1.mp4"]
    names = [
        "cover.jpg",
        "x/1.jpg",
        "x/2.jpg",
        "y/1.jpg",
        "y/2.jpg",
        "thumbs/1.jpg",
        "thumbs/2.jpg",
    ]
    with pytest.warns(UserWarning, match="3 pictures not taken .cover.jpg, thumbs/1.jpg, thumbs/2.jpg"):
        assert sorted(all_names(touched(tmp_path / "one", *names))) == ["x", "y"]


@pytest.mark.parametrize(
    "sides",
    ["Train Test", "training validation", "train testing", "train eval", "Train Val", "TRN held-out", "train_set test_set",
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
    ["videos_train videos_val", "rawframes_train rawframes_val", "train_256 val_256", "k400_train k400_test",
     "train-clips test-clips", "01_train 02_test", "train1 test1", "train test_256", "VideosTrain VideosTest",
     "train_videos clips_test", "a_train a_held-out"],
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
    ["a_train b_train a_test", "a_train a_test a2_test", "train_val_256 test_256", "train_videos clips_test other",
     "a/k_train b/k_test"],
)  # fmt: skip
def test_folders_whose_pair_is_not_clear_are_refused(tmp_path, names):
    touched(tmp_path, *(f"{name}/a.mp4" for name in names.split()))
    message = refusal(folders.split, tmp_path, 0.25)
    assert "is not clear" in message
    assert "sort the clips into train/ and heldout/ folders" in message


def test_a_class_with_a_side_in_its_name_is_a_class(tmp_path):
    names = [f"{name}/{clip}.mp4" for name in ("riding_train", "training_dog", "driving", "eating") for clip in "abcd"]
    with pytest.warns(UserWarning, match="riding_train, training_dog: named like one side, without a partner") as caught:
        assert sorted(all_names(touched(tmp_path, *names))) == sorted(names)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = [f"{name}/{clip}.mp4" for name in ("restraining", "testify", "trains") for clip in "abcd"]
        assert sorted(all_names(touched(tmp_path / "words", *names))) == sorted(names)


@pytest.mark.parametrize("folder", ["train/Annotations", "masks", "x/Depth/y"])
def test_masks_are_no_video(tmp_path, folder):
    frames = [f"{clip}/{name}.jpg" for clip in ("a", "b", "c") for name in "01"]
    masks = [f"{folder}/ab/{name}.png" for name in "01"]
    with pytest.warns(UserWarning, match=f"2 pictures not taken .{folder}/ab/0.png, {folder}/ab/1.png"):
        assert sorted(all_names(touched(tmp_path / "masks", *frames, *masks))) == ["a", "b", "c"]


def test_what_lies_on_no_side_is_told(tmp_path):
    root = touched(tmp_path, "train/a.mp4", "test/b.mp4", "val/c.mp4", "d.mp4")
    with pytest.warns(UserWarning, match="d.mp4, val/c.mp4: looks like video, and is not taken"):
        assert split_names(root) == (["train/a.mp4"], ["test/b.mp4"])


def test_equal_names_on_the_sides_of_a_user_are_two_clips(tmp_path):
    """Numbers begin anew in each folder; copies are found by their contents."""
    names = [f"{side}/driving_car_{number:04d}.mp4" for side in ("train", "test") for number in range(3)]
    assert split_names(touched(tmp_path, *names)) == (names[:3], names[3:])


def test_layouts_of_kitti_and_mot(tmp_path):
    for drive in range(4):
        write_frames(tmp_path / "kitti" / f"drive_{drive}" / "image_02" / "data", pictures(2, 9 * drive))
    train, heldout = split_names(tmp_path / "kitti")
    assert sorted(train + heldout) == [f"drive_{drive}/image_02/data" for drive in range(4)]
    assert train
    assert heldout
    for shade, name in enumerate(("train/MOT-02", "train/MOT-04", "test/MOT-01")):
        write_frames(tmp_path / "mot" / name / "img1", pictures(2, 9 * shade), ".jpg")
    assert split_names(tmp_path / "mot") == (
        ["train/MOT-02/img1", "train/MOT-04/img1"],
        ["test/MOT-01/img1"],
    )


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    touched(tmp_path, "x/a.mp4", "x/b.mp4", "y/c.mp4")
    whole = os.scandir

    def denied(path):
        if str(path).endswith("/y"):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert "cannot be read (Permission denied)" in refusal(folders.split, tmp_path, 0.25)
