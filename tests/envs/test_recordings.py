"""Test which clips are parts of one recording, by their names."""

from pathlib import PurePosixPath

import pytest

from foreground.envs import folders
from foreground.envs.recordings import recording_of
from tests.support.clips import (
    KINETICS,
    pictures,
    refusal,
    split_names,
    split_paths,
    touched,
    write_frames,
)

pytestmark = pytest.mark.usefixtures("own_cache")


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


@pytest.mark.parametrize(
    "names",
    ["output000 output001 output100", "clip01 clip02", "x/part1 x/part2", "GH010123 GH020123"],
)
def test_parts_that_are_numbered_without_a_separator_are_one_recording(tmp_path, names):
    touched(tmp_path, *(f"{name}.mp4" for name in names.split()))
    assert "by their names all" in refusal(folders.split, tmp_path, 0.25)
    touched(tmp_path, "other.mp4")
    assert ["other.mp4"] in split_names(tmp_path, 0.5)


@pytest.mark.parametrize(
    "pattern",
    ["VID_20230101_12{:02}00", "PXL_20230101_1200{:02}123", "IMG_20230101_12{:02}59", "GH01{:04}",
     "C{:04}", "video{}", "VID-20230101-WA{:04}"],
)  # fmt: skip
def test_a_day_of_clips_has_a_held_out_side(tmp_path, pattern):
    touched(tmp_path, *(f"{pattern.format(number)}.mp4" for number in range(40)))
    train, heldout = split_names(tmp_path)
    assert 4 <= len(heldout) <= 20
    assert len(train) + len(heldout) == 40


def test_two_cameras_of_one_drive_are_one_recording(tmp_path):
    for number in range(8):
        touched(
            tmp_path,
            *(f"drive_{number // 2}/image_0{2 + number % 2}/data/{name}.png" for name in "ab"),
        )
    sides = [{name.split("/")[0] for name in side} for side in split_names(tmp_path, 0.5)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 4


def test_folders_of_frames_with_one_name_go_by_the_folders_that_they_are_in(tmp_path):
    clips = [
        write_frames(tmp_path / name / "img", pictures(2, shade))
        for name, shade in (("a", 0), ("b", 50), ("c", 90))
    ]
    train, heldout = split_paths(tmp_path)
    assert sorted(train + heldout) == clips
    assert train
    assert heldout


@pytest.mark.skipif(not KINETICS.is_dir(), reason="the shared Kinetics clips are not here")
def test_uploads_of_one_folder_keep_their_sides(tmp_path):
    """Results rest on it."""
    for path in KINETICS.glob("*/*.mp4"):
        (tmp_path / path.name).write_text(path.name)
    heldout = split_names(tmp_path)[1]
    assert heldout == ["ARDgfHJ_0nM.mp4"]
    train, heldout = folders.split(KINETICS, 0.25)
    assert (len(train), len(heldout)) == (6, 3)


def test_layouts_of_kitti_and_mot(tmp_path):
    for drive in range(4):
        write_frames(
            tmp_path / "kitti" / f"drive_{drive}" / "image_02" / "data", pictures(2, 9 * drive)
        )
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
