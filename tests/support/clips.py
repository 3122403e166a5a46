"""Make small videos and folders of frames for tests, and read them."""

import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from foreground import envs
from foreground.envs import backgrounds, folders
from foreground.errors import UserError

VIDEOS = Path(__file__).resolve().parents[3] / "shared" / "videos"
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


def refusal(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        list(call(*arguments))
    message = str(caught.value)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


def encode(
    path: Path,
    codec: str,
    times=range(40),
    pix_fmt: str = "yuv420p",
    sound: int = 0,
    turned: int = 0,
) -> Path:
    """Write brightening frames at `times` in 25ths of a second, with `sound` seconds of silence."""
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
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 960), np.float32), format="flt", layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
            file.mux(silence.encode(frame))
        if silence:
            file.mux(silence.encode(None))
    return path


def touched(root: Path, *names: str) -> Path:
    """Make small files that all differ; no frame of them is decoded."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def split_names(root: Path, fraction: float = 0.25) -> tuple[list[str], list[str]]:
    """Return the names of the clips on each side."""
    return tuple([clip.name for clip in side] for side in folders.split(root, fraction))


def split_paths(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the paths of the clips on each side."""
    return tuple([clip.path for clip in side] for side in folders.split(root, 0.25))


def all_names(root: Path) -> list[str]:
    """Return the names of all clips."""
    return [name for side in split_names(root) for name in side]


def three_clips(root: Path) -> Path:
    """Make training clips of 5, 9 and 30 frames and one held-out clip; the red channel tells clip
    and frame.
    """
    for clip, count in enumerate((5, 9, 30)):
        write_frames(root / "train" / f"clip{clip}", pictures(count, shade=clip))
    write_frames(root / "heldout" / "other", pictures(6, shade=3))
    return root


def loaded(root: Path, side: str = "train", **settings) -> envs.Clips:
    """Return the clips as another process would load them."""
    backgrounds.forget()
    return envs.load_clips(envs.BackgroundConfig(str(root), **settings), side, 16)
