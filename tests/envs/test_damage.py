"""Test clips that are damaged, too large or too slow: refused by name, without a hang."""

import os
import socket
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from foreground.envs import folders, video
from foreground.envs import pictures as frame_folders
from foreground.errors import UserError
from tests.support.clips import encode, pictures, refusal, write_frames, write_video
from tests.support.marks import mostly_slow


def broken(path: Path, kind: str) -> Path:
    whole = write_video(
        path.with_name("whole.mp4"), pictures(40, height=240, width=320)
    ).read_bytes()
    contents = {
        "empty": b"",
        "text": b"hello, this is no video",
        "ffconcat": b"ffconcat version 1.0\nfile whole.mp4\n",
        "web page": b"\n<!DOCTYPE html>\n<title>404 not found</title>\n" + "ü".encode() * 99,
        "no text": b"\x00\x01hello, this is no video",
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
        ("text", "a text, and not a video (it begins 'hello, this is no video'):"),
        ("ffconcat", "a text, and not a video"),
        (
            "web page",
            "a text, and not a video (it begins '<!DOCTYPE html> <title>404 not found</ti')",
        ),
        ("no text", ": not a video:"),
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


@pytest.mark.parametrize(
    "text",
    ["ffconcat version 1.0\nfile whole.mp4\n", "#EXTM3U\n#EXTINF:1,\nwhole.mp4\n#EXT-X-ENDLIST\n"],
)
def test_ffmpeg_follows_no_playlist_and_no_network(tmp_path, monkeypatch, text):
    write_video(tmp_path / "whole.mp4", pictures(9))
    path = tmp_path / "list.mp4"
    path.write_text(text)
    with pytest.raises(UserError, match="a text, and not a video"):
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


def test_a_codec_that_is_not_known_is_told_as_the_cause(tmp_path):
    path = encode(tmp_path / "a.mp4", "libx264")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"xyz1"))
    assert "FFmpeg has no decoder for its codec" in refusal(video.decode, path, 16)


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=48_000, layout="mono")
        for start in range(0, 48_000, 1024):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 48_000, start
            file.mux(stream.encode(frame))
    assert "it holds no video" in refusal(video.decode, tmp_path / "a.mp4", 16)


@pytest.mark.parametrize("suffix", mostly_slow([".mp4", ".mkv", ".avi", ".webm", ".flv"], [".mp4"]))
@pytest.mark.parametrize("filler", [b"", b"\0"])
def test_files_that_end_early_are_refused(tmp_path, suffix, filler):
    codec = {".webm": "libvpx", ".avi": "mjpeg", ".flv": "flv1"}.get(suffix, "libx264")
    with av.open(
        str(tmp_path / f"a{suffix}"),
        "w",
        options={"movflags": "faststart"} if suffix == ".mp4" else {},
    ) as file:
        stream = file.add_stream(
            codec,
            rate=25,
            width=64,
            height=64,
            pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p",
        )
        for index in range(100):
            noise = np.random.default_rng(index).integers(0, 255, (64, 64, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        file.mux(stream.encode(None))
    path = tmp_path / f"a{suffix}"
    whole = path.read_bytes()
    assert len(list(video.decode(path, 8))) == 100
    path.write_bytes(whole[: len(whole) // 2] + filler * (len(whole) - len(whole) // 2))
    assert "damaged: it " in refusal(
        video.decode, path, 8
    ) or "packets cannot be decoded" in refusal(video.decode, path, 8)


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
    """This thread's clock would not count the time of a decoder's own threads."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream(
            "ffv1",
            rate=25,
            width=640,
            height=480,
            pix_fmt="yuv420p",
            options={"slices": "24", "level": "3"},
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
