"""Folders of clips: layouts, splits, decoding, and one line for each thing that can be wrong with a file."""

import os
import shutil
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest

from envs import video
from errors import UserError

KINETICS = Path(os.environ.get("FOREGROUND_VIDEOS", Path(__file__).resolve().parents[2] / "shared" / "videos"))
FOURCC = {".mp4": "mp4v", ".avi": "MJPG", ".webm": "VP80", ".mkv": "mp4v"}


def pictures(count: int, shade: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames (count, height, width, 3) that brighten by 4 a frame; blue is always 200."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 2] = 200
    frames[..., 0] = (shade + 4 * np.arange(count))[:, None, None]
    return frames


def write_video(path: Path, frames: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames.shape[1:3]
    fourcc = cv2.VideoWriter_fourcc(*FOURCC[path.suffix])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 25, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


def write_frames(folder: Path, frames: np.ndarray, suffix: str = ".png", name: str = "{}") -> Path:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{name.format(number)}{suffix}"), frame[..., ::-1])
    return folder


@pytest.mark.parametrize("suffix", FOURCC)
def test_decodes_every_container_in_colour_and_order(tmp_path, suffix):
    frames = np.stack(list(video.decode(write_video(tmp_path / f"a{suffix}", pictures(20)), 16)))
    assert frames.shape == (20, 16, 16, 3)
    means = frames.mean((1, 2))
    assert np.abs(means[:, 2] - 200).max() < 15, "blue is the last channel"
    assert (np.diff(means[:, 0]) > 0).mean() > 0.9


def test_frame_folder_is_read_in_the_order_of_numbers(tmp_path):
    folder = write_frames(tmp_path / "clip", pictures(12))
    frames = list(video.decode(folder, 8))
    assert [int(frame[0, 0, 0]) for frame in frames] == [4 * number for number in range(12)]


def test_centre_square_is_cut_out():
    frame = np.zeros((40, 100, 3), np.uint8)
    frame[:, 30:70] = (1, 2, 3)
    np.testing.assert_array_equal(np.unique(video._fitted(frame, 20).reshape(-1, 3), axis=0), [[3, 2, 1]])


def test_split_by_upload_keeps_parts_together_and_both_sides_filled(tmp_path):
    names = [f"{letter * 11}_{start:06d}_{start + 10:06d}" for letter in "abcdefgh" for start in (0, 10)]
    clips = [tmp_path / f"{name}.mp4" for name in names]
    train, heldout = video.by_hash(clips, 0.25)
    assert sorted(train + heldout) == sorted(clips)
    assert not {video.upload_id(clip) for clip in train} & {video.upload_id(clip) for clip in heldout}
    assert {clip.name[:11] for clip in clips} == {video.upload_id(clip) for clip in clips}
    for count in range(4, 17, 2):
        for fraction in (0.001, 0.5, 0.999):
            assert all(video.by_hash(clips[:count], fraction))


def test_a_clip_stays_on_its_side_when_others_come(tmp_path):
    clips = [tmp_path / f"{number:011d}.mp4" for number in range(40)]
    few, many = (set(video.by_hash(some, 0.25)[1]) for some in (clips[:30], clips))
    assert few == many & set(clips[:30])
    assert 3 <= len(many) <= 20


@pytest.mark.parametrize(
    ("name", "upload"),
    [
        ("AgE11af6BGs.mp4", "AgE11af6BGs"),
        ("AgE11af6BGs_000010_000020.mp4", "AgE11af6BGs"),
        ("-_E11af6BGs_1.webm", "-_E11af6BGs"),
        ("video_000001.mp4", "video_000001"),
        ("short.avi", "short"),
        ("walk/img", "walk/img"),
        ("walk/rgb/frames", "walk/rgb/frames"),
        ("AgE11af6BGs_000010_000020/img", "AgE11af6BGs"),
    ],
)
def test_upload_id(name, upload):
    assert video.upload_id(Path(name)) == upload


@pytest.mark.parametrize("heldout", ["heldout", "test", "val"])
def test_folders_of_sides_are_used(tmp_path, heldout):
    first = write_video(tmp_path / "train" / "deep" / "a.mp4", pictures(3))
    second = write_frames(tmp_path / heldout / "b", pictures(3), ".jpg")
    assert video.split(tmp_path, 0.5) == ([first], [second])


def test_davis_lists_are_used(tmp_path):
    for shade, name in enumerate(("bear", "boat", "camel")):
        write_frames(tmp_path / "JPEGImages" / "480p" / name, pictures(3, 9 * shade), ".jpg", "{:05d}")
    lists = tmp_path / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("bear\ncamel\n")
    (lists / "val.txt").write_text("boat\n")
    train, heldout = video.split(tmp_path, 0.5)
    assert [clip.name for clip in train] == ["bear", "camel"]
    assert [clip.name for clip in heldout] == ["boat"]


def davis(root: Path, train: str | bytes, val: str | bytes = "boat") -> Path:
    for name, shade in (("bear", 0), ("boat", 99)):
        write_frames(root / "JPEGImages" / "480p" / name, pictures(2, shade), ".jpg")
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    for name, content in (("train", train), ("val", val)):
        (lists / f"{name}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return lists


@pytest.mark.parametrize("train", ["../../secret", "/etc", "..", "bear/../bear", "absent", b"\xff\x00\x1f\x8b", "a" * 5000])
def test_davis_lists_name_clips_of_their_own_pictures_alone(tmp_path, train):
    write_frames(tmp_path / "secret", pictures(2))
    davis(tmp_path / "davis", train)
    message = refusal(video.split, tmp_path / "davis", 0.5)
    assert "train.txt" in message
    assert "is not in" in message


@pytest.mark.timeout(20)
def test_davis_lists_that_are_no_lists(tmp_path):
    lists = davis(tmp_path, b"bear\n" * (1 << 18))
    assert "cannot be read" in refusal(video.split, tmp_path, 0.5)
    (lists / "train.txt").unlink()
    os.mkfifo(lists / "train.txt")
    assert "cannot be read (not a regular file)" in refusal(video.split, tmp_path, 0.5)
    (lists / "train.txt").unlink()
    (lists / "elsewhere").write_text("bear")
    (lists / "train.txt").symlink_to("elsewhere")  # as git-annex keeps them
    assert [clip.name for clip in video.split(tmp_path, 0.5)[0]] == ["bear"]


@pytest.mark.skipif(not (KINETICS / "kinetics_driving_car").is_dir(), reason="the shared Kinetics clips are not here")
def test_kinetics_clips_decode():
    train, heldout = video.split(KINETICS / "kinetics_driving_car", 0.25)
    assert (len(train), len(heldout)) == (6, 3)
    assert sum(1 for clip in heldout for _ in video.decode(clip, 16)) == 536


def refusal(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        list(call(*arguments))
    message = str(caught.value)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ([], "no clips"),
        (["notes.txt"], "no clips"),
        (["a.mp4"], "no held-out side"),
        (["aaaaaaaaaaa_000000_000010.mp4", "aaaaaaaaaaa_000010_000020.mp4"], "no held-out side"),
        (["train/a.mp4", "test/a.mp4"], "a is on both sides"),
        (["train/a.mp4", "test/notes.txt"], "no held-out side"),
    ],
)
def test_folders_without_two_sides_are_refused(tmp_path, layout, words):
    for name in layout:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    message = refusal(video.split, tmp_path, 0.25)
    assert words in message
    assert str(tmp_path) in message


@pytest.mark.parametrize("write", [write_video, write_frames])
def test_a_copy_under_another_name_on_the_other_side_is_refused(tmp_path, write):
    """As a file copied once more comes to two sides of a folder that is split by names."""
    end = ".mp4" if write is write_video else ""
    for name, shade in ((f"train/a{end}", 0), (f"train/b{end}", 50), (f"test/c{end}", 50), (f"test/d{end}", 90)):
        write(tmp_path / name, pictures(3, shade))
    message = refusal(video.split, tmp_path, 0.25)
    assert f"train/b{end} and test/c{end} are the same video" in message
    copy = tmp_path / f"train/b{end}"
    shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
    assert len(video.split(tmp_path, 0.25)[0]) == 1


def test_folders_of_frames_with_one_name_go_by_the_folders_that_they_are_in(tmp_path):
    clips = [write_frames(tmp_path / name / "img", pictures(2, shade)) for name, shade in (("a", 0), ("b", 50), ("c", 90))]
    train, heldout = video.split(tmp_path, 0.25)
    assert sorted(train + heldout) == clips
    assert train
    assert heldout


def test_missing_folder_and_single_file_are_refused(tmp_path):
    assert "no such file" in refusal(video.split, tmp_path / "absent", 0.25)
    assert "one file cannot be split" in refusal(video.split, write_video(tmp_path / "a.mp4", pictures(3)), 0.25)


def broken(path: Path, kind: str) -> Path:
    whole = write_video(path.with_name("whole.mp4"), pictures(40, height=240, width=320)).read_bytes()
    contents = {
        "empty": b"",
        "text": b"hello, this is no video",
        "ffconcat": b"ffconcat version 1.0\nfile whole.mp4\n",
        "header only": whole[:200],
        "cut short": whole[: len(whole) // 2],
        "noise in a container": whole[:40] + bytes(2000),
    }
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "one frame":
        write_video(path, pictures(1))
    elif kind == "dangling link":
        path.symlink_to(path.with_name("absent"))
    else:
        path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", "an empty file"),
        ("text", "not a video"),
        ("ffconcat", "not a video"),
        ("fifo", "not a regular file"),
        ("header only", "damaged"),
        ("cut short", "damaged"),
        ("noise in a container", "damaged"),
        ("one frame", "1 frame can be decoded, 2 are needed"),
        ("folder", "0 frames can be decoded"),
        ("dangling link", "cannot be read"),
    ],
)
@pytest.mark.timeout(20)
def test_files_that_are_no_whole_video_are_refused_by_name(tmp_path, kind, words):
    message = refusal(video.decode, broken(tmp_path / "bad.mp4", kind), 16)
    assert words in message
    assert "bad.mp4" in message


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile whole.mp4\n", "#EXTM3U\n#EXTINF:1,\nwhole.mp4\n#EXT-X-ENDLIST\n"])
def test_ffmpeg_itself_follows_no_playlist(tmp_path, monkeypatch, text):
    """Behind the look at a file's first bytes: the decoder may read these containers alone."""
    write_video(tmp_path / "whole.mp4", pictures(9))
    path = tmp_path / "list.mp4"
    path.write_text(text)
    with pytest.raises(UserError, match="damaged"):
        next(video._video_frames(path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        with pytest.raises(UserError, match="damaged"):
            next(video._video_frames(f"http://127.0.0.1:{server.getsockname()[1]}/whole.mp4"))
        with pytest.raises(TimeoutError):
            server.accept()
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "format_whitelist;avi")  # that it is heard at all
    with pytest.raises(UserError, match="damaged"):
        next(video._video_frames(tmp_path / "whole.mp4"))


def test_frames_lost_in_the_middle_are_noticed(tmp_path):
    random = np.random.default_rng(0)
    path = write_video(tmp_path / "a.avi", random.integers(0, 255, (30, 48, 64, 3), np.uint8))
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2 :] = bytes(len(contents) - len(contents) // 2)
    path.write_bytes(contents)
    assert "damaged" in refusal(video.decode, path, 16)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n broken"])
def test_broken_pictures_are_refused_by_name(tmp_path, content):
    folder = write_frames(tmp_path / "clip", pictures(3))
    (folder / "1.png").write_bytes(content)
    assert "1.png" in refusal(video.decode, folder, 8)


def test_names_that_are_not_utf8_are_refused_and_odd_digits_are_letters(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    path = write_video(tmp_path / "a.mp4", pictures(3)).rename(tmp_path / f"{name}.mp4")
    assert "not UTF-8" in refusal(video.decode, path, 8)
    assert sum(map(len, video.by_hash([path, tmp_path / "b.mp4"], 0.5))) == 2
    folder = write_frames(tmp_path / "clip", pictures(2))
    (folder / "0.png").rename(folder / "1\u00b23.png")
    assert len(list(video.decode(folder, 8))) == 2
    (folder / "1.png").rename(folder / f"{name}.png")
    assert "not UTF-8" in refusal(video.decode, folder, 8)


def test_long_and_large_videos_are_capped(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", pictures(30))
    monkeypatch.setattr(video, "MAX_CLIP_FRAMES", 10)
    assert len(list(video.decode(path, 8))) == 10
    monkeypatch.setattr(video, "MAX_PIXELS", 48 * 64 - 1)
    assert "pixels" in refusal(video.decode, path, 8)
