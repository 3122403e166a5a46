"""Films and pictures as files: whole, or not there."""

import os
import tempfile
from pathlib import Path

import cv2
import numpy as np

from errors import say
from training.files import fsync_folder, write_atomic


def write_picture(path: Path, picture: np.ndarray) -> None:
    """picture uint8 (H, W, 3) as PNG."""
    _, content = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    try:
        write_atomic(path, content.tobytes())
    except OSError as error:
        say(f"warning: no picture could be written to {path} ({error.strerror})")


def write_strip(path: Path, frames: np.ndarray, columns: int = 6, scale: int = 3) -> None:
    """A few frames of (T, H, 3W, 3), evenly spaced, as one PNG: observations, what the latent keeps, the difference."""
    chosen = frames[np.linspace(0, len(frames) - 1, columns).astype(int)]
    rows = [np.concatenate(list(part), 1) for part in np.split(chosen, 3, 2)]
    strip = np.concatenate(rows, 0)
    write_picture(path, cv2.resize(strip, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST))


def write_film(path: Path, frames: np.ndarray, fps: float, scale: int = 4) -> None:
    """frames uint8 (T, H, W, 3) as mp4, enlarged `scale` times; a film that was there stays until the new one is whole."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=".mp4")
    except OSError as error:
        say(f"warning: no film could be written to {path} ({error.strerror})")
        return
    try:
        _encode(temporary, frames, fps, scale)
        os.fsync(descriptor)
        if length(temporary) < len(frames):  # FFmpeg does not say that a disk is full
            raise OSError(0, "the disk may be full")
        os.fchmod(descriptor, 0o644)
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        say(f"warning: no film could be written to {path} ({error.strerror})")
    finally:
        os.close(descriptor)


def _encode(path: str, frames: np.ndarray, fps: float, scale: int) -> None:
    height, width = (side * scale for side in frames.shape[1:3])
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    for frame in frames if writer.isOpened() else ():
        large = cv2.resize(frame, (width, height), interpolation=cv2.INTER_NEAREST)
        writer.write(np.ascontiguousarray(large[..., ::-1]))
    writer.release()


def length(path: str) -> int:
    """Frames that can be decoded."""
    capture, count = cv2.VideoCapture(path, cv2.CAP_FFMPEG), 0
    while capture.isOpened() and capture.grab():
        count += 1
    capture.release()
    return count
