"""Films and pictures as files."""

from pathlib import Path

import cv2
import numpy as np

from errors import say


def write_strip(path: Path, frames: np.ndarray, columns: int = 6, scale: int = 3) -> None:
    """A few frames of (T, H, 3W, 3), evenly spaced, as one PNG: observations, what the latent keeps, the difference."""
    chosen = frames[np.linspace(0, len(frames) - 1, columns).astype(int)]
    rows = [np.concatenate(list(part), 1) for part in np.split(chosen, 3, 2)]
    strip = np.concatenate(rows, 0)
    large = cv2.resize(strip, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(path), np.ascontiguousarray(large[..., ::-1]))


def write_film(path: Path, frames: np.ndarray, fps: float, scale: int = 4) -> None:
    """frames uint8 (T, H, W, 3) as mp4, enlarged `scale` times."""
    height, width = (side * scale for side in frames.shape[1:3])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    if not writer.isOpened():
        say(f"warning: no film could be written to {path}")
        return
    for frame in frames:
        large = cv2.resize(frame, (width, height), interpolation=cv2.INTER_NEAREST)
        writer.write(np.ascontiguousarray(large[..., ::-1]))
    writer.release()
