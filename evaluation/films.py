"""Videos and images as files, written atomically.

Videos are H.264 in mp4, which browsers and notebooks play.
"""

import itertools
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from foreground.errors import say
from foreground.training import pictures
from foreground.training.files import fsync_folder, named, temporary_name, write_atomic

# One thread: the file is then the same on every machine. A key frame each second, so that a player
# can seek.
ENCODER = {"crf": "22", "preset": "ultrafast", "threads": "1"}
BT709 = 1  # the number of this standard for primaries, transfer and matrix alike
HOLD = 1.0  # seconds for which a film stands still at its end


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture uint8 (H, W, 3) as PNG; a disk that refuses is a warning."""
    _, content = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    try:
        write_atomic(path, content.tobytes())
    except OSError as error:
        say(f"warning: no picture could be written to {path} ({error.strerror})")


def write_strip(path: Path, panels: tuple[np.ndarray, ...], title: str, columns: int = 6) -> None:
    """Write some moments of panels (T, H, W, 3), evenly spaced, as one PNG: a column a moment, a
    row a panel.
    """
    moments = np.linspace(0, len(panels[0]) - 1, columns).astype(int)
    shown = [panel[moment] for panel in panels for moment in moments]
    labels = [f"{label}, step {moment}" for label in pictures.LABELS for moment in moments]
    write_picture(path, pictures.page(shown, labels, columns, title, side=192))


def write_both(folder: Path, name: str, film: np.ndarray, fps: float) -> None:
    """Write a film uint8 (T, H, W, 3) as NAME.mp4, and its end as NAME.png."""
    still = itertools.repeat(film[-1], round(HOLD * fps))
    write_film(folder / f"{name}.mp4", itertools.chain(film, still), fps)
    write_picture(folder / f"{name}.png", film[-1])


def write_film(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write frames uint8 (H, W, 3) of one size as H.264 in mp4; a disk that refuses is a warning.

    A film that was there stays until the new one is whole.
    """
    temporary = temporary_name(path.parent.resolve() / path.name)
    try:
        # Made here, so that no link or pipe of that name is written to.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except OSError as error:
        say(f"warning: no film could be written to {path} ({error.strerror})")
        return
    try:
        count = _encode(temporary, frames, fps)
        os.fsync(descriptor)
        if length(temporary) < count:  # what the encoder held back may have met a full disk
            raise OSError(0, "the disk may be full")
        os.replace(temporary, path)
        fsync_folder(path.parent)
        named(path)
    except OSError as error:  # av's errors of files are such
        say(f"warning: no film could be written to {path} ({error.strerror})")
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


def _encode(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    """Return how many frames were written.

    The index comes first in the file, so that it plays while it is loaded.
    """
    rate = Fraction(fps).limit_denominator(1001)
    count = 0
    stream = None
    with av.open(
        f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"}
    ) as container:
        for frame in frames:
            frame = _even(frame)
            stream = stream or _stream(container, frame, rate)
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(
                stream.encode(picture.reformat(format="yuv420p", dst_colorspace="ITU709"))
            )
            count += 1
        if stream is None:
            raise OSError(0, "there is no frame")
        container.mux(stream.encode())
    return count


def _stream(container, frame: np.ndarray, rate: Fraction):
    """Return the container's stream for frames like this one."""
    stream = container.add_stream(
        "libx264", rate=rate, options={**ENCODER, "g": str(max(1, round(rate)))}
    )
    stream.height, stream.width = frame.shape[:2]
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = BT709
    return stream


def _even(frame: np.ndarray) -> np.ndarray:
    """Return a frame padded to even sides with black lines: yuv420p halves both."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)))


def length(path: str | Path) -> int:
    """Return how many frames can be decoded; 0 for a file that is not a video."""
    try:
        # /proc/PID/root must not be resolved.
        with av.open(f"file:{Path(path).absolute()}") as container:
            return sum(1 for _ in container.decode(video=0))
    except (OSError, av.FFmpegError, IndexError):
        return 0
