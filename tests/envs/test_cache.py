"""Test the cache of decoded clips: decoded once, decoded again if changed, bounded."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from foreground.envs import backgrounds, cache, video
from foreground.errors import UserError
from tests.support.clips import loaded, pictures, three_clips, write_frames

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(tmp_path):
    return three_clips(tmp_path / "clips")


def test_decoded_once_and_again_when_a_file_changes(folder, monkeypatch):
    first = loaded(folder)
    monkeypatch.setattr("foreground.envs.video.decode", lambda *_: pytest.fail("decoded again"))
    assert loaded(folder).path == first.path
    monkeypatch.undo()
    write_frames(folder / "train" / "more", pictures(4))
    assert loaded(folder).path != first.path


def test_half_written_cache_is_written_again(folder):
    path = cache.Path(loaded(folder).path)
    path.write_bytes(path.read_bytes()[:100])
    assert loaded(folder).frames.shape == (44, 16, 16, 3)
    path.with_suffix(".json").write_text("{")
    assert loaded(folder).frames.shape == (44, 16, 16, 3)


def changed(path: Path, column: str, values: list) -> bytes:
    """The index with other values in one column of its clips; a value less is a clip less."""
    index = json.loads(path.with_suffix(".json").read_bytes())
    index["clips"] = [{**clip, column: value} for clip, value in zip(index["clips"], values)]
    return json.dumps(index).encode()


def forge(path: Path, kind: str) -> None:
    """Put something else in the place of the index, or of the frames."""
    index = path.with_suffix(".json")
    forged = {
        "no clip": ("frames", []),
        "a clip less": ("frames", [5, 9]),
        "other cuts": ("frames", [6, 8, 30]),
        "other names": ("path", ["train/clip0", "train/clip1", "train/clip3"]),
        "other sums": ("sha256", ["0" * 64] * 3),
        "other recordings": ("recording", ["a", "b", "c"]),
        "short clip": ("frames", [1, 13, 30]),
        "negative": ("frames", [-5, 19, 30]),
        "fractions": ("frames", [5.0, 9.0, 30.0]),
        "text": ("frames", ["5", "9", "30"]),
        "nested": ("frames", [[5], [9], [30]]),
        "numbers for names": ("path", [1, 2, 3]),
        "another column": ("more", [1, 2, 3]),
    }
    contents = {
        "deep": b"[" * 100_000,
        "list": b"[]",
        "no sum": b'{"clips": [], "left_out": []}',
        "no list": b'{"clips": 44, "left_out": [], "sha256": ""}',
        "bytes": b"\xff\x00",
        "empty": b"{}",
        "digits": b"9" * 10_000,
    }
    if kind in forged:
        contents[kind] = changed(path, *forged[kind])
    if kind == "frames":
        path.write_bytes(bytes(path.stat().st_size))
    elif kind == "frames elsewhere":
        path.symlink_to(path.rename(path.with_name("elsewhere")))
    elif kind in contents:
        index.write_bytes(contents[kind])
    else:
        index.unlink()
        os.mkfifo(index) if kind == "pipe" else index.symlink_to("/dev/zero")


KINDS = (
    "no clip", "a clip less", "other cuts", "other names", "other sums", "other recordings",
    "short clip", "negative",
    "fractions", "text", "nested", "numbers for names", "another column", "no sum", "no list",
    "deep", "list", "bytes", "empty", "digits", "frames", "frames elsewhere", "pipe", "zeros",
)  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_that_is_not_as_it_was_written_is_decoded_anew(folder, kind):
    first = loaded(folder)
    path, frames = Path(first.path), first.frames.copy()
    written = path.with_suffix(".json").read_bytes()
    forge(path, kind)
    again = loaded(folder)
    assert again == first
    np.testing.assert_array_equal(again.frames, frames)
    assert path.with_suffix(".json").read_bytes() == written
    assert not path.is_symlink()


def test_clips_play_where_no_index_can_be_written(folder):
    path = Path(loaded(folder).path)
    path.with_suffix(".json").unlink()
    path.with_suffix(".json").mkdir()
    assert loaded(folder).starts == (0, 5, 14, 44)
    assert not list(path.parent.glob(".writing-*"))


def test_strange_files_in_the_cache_are_passed_over_and_half_written_ones_deleted(
    folder, monkeypatch
):
    place = cache.folder()
    (place / "aa.frames").symlink_to("absent")
    (place / "bb.frames").symlink_to("bb.frames")
    (place / "zz.frames").mkdir()
    old, new = place / ".writing-old", place / ".writing-new"
    for path in (old, new):
        path.write_bytes(bytes(100))
    os.utime(old, (time.time() - 90_000,) * 2)
    first = loaded(folder)
    assert not old.exists()
    assert new.exists()
    monkeypatch.setattr(cache, "MAX_TOTAL_BYTES", (44 + 6) * 16 * 16 * 3 + 99)  # the new one counts
    loaded(folder, "heldout")
    assert not Path(first.path).exists()


def test_a_user_without_a_home_has_a_cache(folder, monkeypatch, tmp_path):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert loaded(folder).frames.shape == (44, 16, 16, 3)
    assert cache.folder().parent == tmp_path
    monkeypatch.setattr(cache.os, "access", lambda *_: False)
    with pytest.raises(UserError, match="set XDG_CACHE_HOME"):
        cache.folder()


def test_clips_deleted_under_a_run_are_decoded_anew_by_the_next_process(folder):
    clips = loaded(folder)
    frames, sent = clips.frames.copy(), pickle.dumps(clips)
    shutil.rmtree(cache.folder())
    np.testing.assert_array_equal(pickle.loads(sent).frames, frames)
    Path(clips.path).write_bytes(b"short")
    np.testing.assert_array_equal(pickle.loads(sent).frames, frames)
    shutil.rmtree(cache.folder())
    write_frames(folder / "train" / "more", pictures(4))
    backgrounds.forget()
    with pytest.raises(UserError, match="changed under the run"):
        _ = pickle.loads(sent).frames


def test_what_was_decoded_before_a_damaged_clip_stays(folder, monkeypatch):
    good = (folder / "train" / "clip1" / "3.png").read_bytes()
    (folder / "train" / "clip1" / "3.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"3\.png"):
        loaded(folder)
    assert not [
        path for path in cache.folder().glob("*.frames") if not path.name.startswith("piece-")
    ]
    assert not list(cache.folder().glob(".writing-*"))
    (folder / "train" / "clip1" / "3.png").write_bytes(good)
    decoded = []
    whole = video.decode
    monkeypatch.setattr(
        video, "decode", lambda clip, *rest: decoded.append(clip.name) or whole(clip, *rest)
    )
    assert loaded(folder).frames.shape == (44, 16, 16, 3)
    assert loaded(folder, "heldout").frames.shape == (6, 16, 16, 3)
    assert decoded == ["clip1"]


def test_a_clip_that_comes_is_decoded_alone_and_a_folder_that_moved_not_at_all(folder, monkeypatch):
    loaded(folder)
    write_frames(folder / "train" / "more", pictures(4))
    moved = folder.rename(folder.with_name("moved"))
    decoded = []
    whole = video.decode
    monkeypatch.setattr(
        video, "decode", lambda clip, *rest: decoded.append(clip.name) or whole(clip, *rest)
    )
    assert loaded(moved).starts == (0, 5, 14, 44, 48)
    assert decoded == ["more"]


def test_single_clips_are_the_first_that_go(folder, monkeypatch):
    side = Path(loaded(folder).path)
    monkeypatch.setattr(cache, "MAX_TOTAL_BYTES", (44 + 6) * 16 * 16 * 3 + 10)
    loaded(folder, "heldout")
    assert side.exists()
    assert not list(cache.folder().glob("piece-*"))


def test_a_cache_that_others_can_write_to_is_closed_and_their_files_are_not_read(
    folder, monkeypatch
):
    first = loaded(folder)
    cache.folder().chmod(0o777)
    assert loaded(folder) == first
    assert cache.folder().stat().st_mode & 0o777 == 0o700
    with monkeypatch.context() as patch:
        patch.setattr(video, "decode", lambda *_: pytest.fail("decoded again"))
        loaded(folder)
        uid = os.getuid()
        patch.setattr(cache.os, "getuid", lambda: uid + 1)
        assert cache._read_index(Path(first.path), 16 * 16 * 3) is None


def test_a_link_among_everybodys_files_is_no_cache(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / f"foreground-{os.getuid()}").symlink_to(tmp_path / "mine")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    with pytest.raises(UserError, match="set XDG_CACHE_HOME"):
        cache.folder()


def test_two_processes_that_start_at_once_have_the_same_clips(folder):
    code = (
        "import sys, envs; clips = envs.load_clips(envs.BackgroundConfig(sys.argv[1]), "
        "'train', 16);"
        "print(clips.path, clips.starts, int(clips.frames.sum()))"
    )
    command = [sys.executable, "-c", code, str(folder)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=60)[0] for process in both]
    assert told[0] == told[1]
    assert "(0, 5, 14, 44)" in told[0]


def test_cache_is_bounded(folder, monkeypatch):
    first = loaded(folder)
    monkeypatch.setattr(cache, "MAX_TOTAL_BYTES", 44 * 16 * 16 * 3 + 10)
    second = loaded(folder, "heldout")
    assert not cache.Path(first.path).exists()
    assert cache.Path(second.path).exists()


def test_clips_that_play_in_part_are_one_warning(folder, monkeypatch):
    monkeypatch.setattr(video, "MAX_CLIP_FRAMES", 8)

    def starts() -> tuple[int, ...]:
        with pytest.warns(UserWarning, match="longer than what plays") as caught:
            clips = loaded(folder)
        told.extend(str(one.message).partition(": ")[2] for one in caught)
        return clips.starts

    told: list[str] = []
    assert starts() == starts() == (0, 5, 13, 21)  # the second time from the cache
    write_frames(folder / "train" / "more", pictures(4))
    assert starts() == (0, 5, 13, 21, 25)  # all others clip by clip from the cache
    assert told == 3 * [
        "2 clips are longer than what plays of one (8 frames, 6.4 billion pixels), the "
        "beginning plays: "
        "train/clip1 (8 frames), train/clip2 (8 frames): cut it into shorter clips or "
        "scale it down to have it all"
    ]


def test_a_clip_of_too_many_pixels_plays_in_part(folder, monkeypatch):
    monkeypatch.setattr(video, "MAX_CLIP_PIXELS", 29 * 48 * 64)
    with pytest.warns(UserWarning, match=r"1 clip is longer than .* train/clip2 \(29 frames\)"):
        assert loaded(folder).starts == (0, 5, 14, 43)


@pytest.mark.filterwarnings("error")
def test_a_clip_that_is_just_as_long_as_what_plays_is_whole(folder, monkeypatch):
    monkeypatch.setattr(video, "MAX_CLIP_FRAMES", 30)
    assert loaded(folder).starts == (0, 5, 14, 44)
