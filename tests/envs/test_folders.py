"""Test folders of clips: which files are clips, and how they are split."""

import os
import shutil
import warnings
from pathlib import Path, PurePosixPath

import pytest

from foreground.envs import folders, video
from foreground.envs.recordings import recording_of
from tests.support.clips import (
    all_names,
    pictures,
    refusal,
    split_names,
    touched,
    write_frames,
    write_video,
)

pytestmark = pytest.mark.usefixtures("own_cache")


def found(name: str) -> folders.Found:
    return folders.Found(Path(name), name, recording_of(PurePosixPath(name), frames=False))


def test_split_by_recording_keeps_parts_together_and_both_sides_filled():
    names = [
        f"{letter * 11}_{start:06d}_{start + 10:06d}.mp4"
        for letter in "abcdefgh"
        for start in (0, 10)
    ]
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


def test_davis_lists_are_used(tmp_path):
    for shade, name in enumerate(("bear", "boat", "camel")):
        write_frames(
            tmp_path / "JPEGImages" / "480p" / name, pictures(3, 9 * shade), ".jpg", "{:05d}"
        )
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
        (lists / f"{name}.txt").write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
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


def test_missing_folder_and_single_file_are_refused(tmp_path):
    assert "no such file" in refusal(folders.split, tmp_path / "absent", 0.25)
    assert "one file cannot be split" in refusal(
        folders.split, write_video(tmp_path / "a.mp4", pictures(3)), 0.25
    )


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
    assert (
        "c.h264, d.mp4.part, nameless: looks like video, and is not taken: convert it to mp4"
        in told
    )
    assert "; 1 picture not taken (f.webp): frames are" in told


def test_hidden_names_and_those_of_systems_are_no_clips(tmp_path):
    hidden = (
        "._a.mp4 .b.mp4 .Trash-0/files/c.mp4 .thumbnails/d.png .thumbnails/e.png"
        " @eaDir/a.mp4/f.jpg @eaDir/g.jpg"
    )
    touched(
        tmp_path / "clips", "a.mp4", "b.mp4", *hidden.split(), "__MACOSX/h.mp4", "lost+found/i.mp4"
    )
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
    with pytest.warns(
        UserWarning, match=r"beside: 2 pictures not taken \(a0.jpg, a1.jpg\): frames are"
    ):
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
    with pytest.warns(
        UserWarning, match="3 pictures not taken .cover.jpg, thumbs/1.jpg, thumbs/2.jpg"
    ):
        assert sorted(all_names(touched(tmp_path / "one", *names))) == ["x", "y"]


@pytest.mark.parametrize("folder", ["train/Annotations", "masks", "x/Depth/y"])
def test_masks_are_no_video(tmp_path, folder):
    frames = [f"{clip}/{name}.jpg" for clip in ("a", "b", "c") for name in "01"]
    masks = [f"{folder}/ab/{name}.png" for name in "01"]
    with pytest.warns(
        UserWarning, match=f"2 pictures not taken .{folder}/ab/0.png, {folder}/ab/1.png"
    ):
        assert sorted(all_names(touched(tmp_path / "masks", *frames, *masks))) == ["a", "b", "c"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    touched(tmp_path, "x/a.mp4", "x/b.mp4", "y/c.mp4")
    whole = os.scandir

    def denied(path):
        if str(path).endswith("/y"):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert "cannot be read (Permission denied)" in refusal(folders.split, tmp_path, 0.25)


def results(folder: Path, *names: str, config: bool = False) -> Path:
    """Write what train.py or eval.py leaves in a folder, and files of other names."""
    touched(folder, *names)
    (folder / "scores.json").write_text('{\n "task": "walker-walk",\n "env_frame": 800}')
    if config:
        touched(
            folder, "config.yaml", "metrics.jsonl", "checkpoints/step-000000000800/MANIFEST.json"
        )
    return folder


FILMS = [
    "evaluation-heldout.mp4",
    "latent-heldout.mp4",
    "latent-heldout.png",
    "latent-train.png",
    "skills-clean.mp4",
]


def test_films_of_runs_and_evaluations_are_no_clips(tmp_path):
    """Films of a run, its evaluation and --output are no clips; other files there are."""
    clips = [f"{letter}.mp4" for letter in "abcdef"]
    touched(tmp_path, *clips)
    results(tmp_path / "old" / "run", *FILMS, config=True)
    results(tmp_path / "old" / "run" / "evaluation" / "step-000000000800-heldout", *FILMS)
    results(tmp_path / "mixed", "latent-heldout.mp4", "g.mp4")
    (results(tmp_path / "killed", *FILMS, config=True) / "scores.json").unlink()
    with pytest.warns(UserWarning, match="left out") as told:
        assert sorted(all_names(tmp_path)) == [*clips, "mixed/g.mp4"]
    (text,) = [str(each.message) for each in told]
    assert text == (
        f"{tmp_path}: killed/evaluation-heldout.mp4, killed/latent-heldout.mp4, "
        "killed/latent-heldout.png "
        "and 13 more are results of a run or an evaluation, and left out"
    )
    message = refusal(folders.split, tmp_path / "old", 0.25)
    assert "no clips (run/evaluation" in message
    assert "are results of a run or an evaluation)" in message


def test_the_same_names_elsewhere_are_clips(tmp_path):
    """Films stay clips next to a scores.json or config.yaml of another program."""
    films = [name for name in FILMS if name.endswith(".mp4")]
    touched(tmp_path, *films, "config.yaml", "scores.json")
    assert sorted(all_names(tmp_path)) == sorted(films)


def test_every_clip_of_a_folder_or_one_file(tmp_path):
    names = ["train/a.mp4", "val/b.mp4", "test/c.mp4", "d.mp4"]
    touched(tmp_path, *names, "JPEG/cover.jpg")
    with pytest.warns(UserWarning, match="1 picture not taken"):
        assert sorted(clip.name for clip in folders.every(tmp_path)) == sorted(names)
    (one,) = folders.every(tmp_path / "d.mp4")
    assert (one.path, one.name) == (tmp_path / "d.mp4", "d.mp4")
    assert "no such file" in refusal(folders.every, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "no clips" in refusal(folders.every, tmp_path / "empty")
    for name in ("bear", "boat", "cat"):
        touched(
            tmp_path / "davis", f"JPEGImages/480p/{name}/0.jpg", f"JPEGImages/480p/{name}/1.jpg"
        )
        touched(
            tmp_path / "davis", f"Annotations/480p/{name}/0.png", f"Annotations/480p/{name}/1.png"
        )
    touched(tmp_path / "davis", "JPEGImages/1080p/bear/0.jpg", "JPEGImages/1080p/bear/1.jpg")
    assert [clip.path.parent.name for clip in folders.every(tmp_path / "davis")] == ["480p"] * 3
