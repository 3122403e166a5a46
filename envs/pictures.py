"""The frames of a folder of jpg or png images."""

import io
import math
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from foreground.envs.damage import REMOVE, Damaged, Deadline, check_name, unreadable

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_PIXELS = 1 << 26  # a picture of 8192 x 8192
MAX_BYTES = 64 << 20
SCAN = b"\xff\xda"  # begins each scan of a jpg
MAX_SCANS = 200  # of a jpg; a real one has about ten, and each costs the time of a whole picture


def frame_files(folder: Path) -> list[Path]:
    """Return the pictures of a folder by the numbers in their names: 10.jpg after 9.jpg."""
    if not folder.is_dir():
        return []
    return sorted(filter(_is_picture, folder.iterdir()), key=_natural_order)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _natural_order(path: Path) -> list:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def pictures(folder: Path, limit: int, deadline: Deadline) -> Iterator[np.ndarray]:
    """Yield the first `limit` images of a folder, BGR (H, W, 3) uint8.

    Values of 16 bits become 8 bits by the largest value of the whole folder, since many hold 12 or
    14 bits.

    Raises: Damaged for a file that is not an image, or takes too long.
    """
    paths = frame_files(folder)[:limit]
    bits = None
    for path in paths:
        frame = _picture(path)
        if frame.dtype == np.uint16:
            bits = bits or _bits_of(paths, deadline)
            frame = _eight_bits(frame, *bits)
        yield over_black(frame)


def _bits_of(paths: list[Path], deadline: Deadline) -> tuple[int, int]:
    """Return the bits that colours and transparency use; the second are 16 where they need more."""
    colour = 0
    alpha = 0
    for path in paths:
        deadline.check()
        frame = _picture(path)
        if frame.dtype == np.uint16:
            colours, transparency = _channels(frame)
            colour = max(colour, int(colours.max()))
            alpha = max(alpha, int(transparency.max(initial=0)))
    bits = max(8, colour.bit_length())
    return bits, bits if alpha < 1 << bits else 16


def _channels(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return colours and transparency; the second is empty where a picture has none."""
    colours = 3 if frame.ndim == 3 else 1
    channels = frame.reshape(*frame.shape[:2], -1)
    return channels[..., :colours], channels[..., colours:]


def _eight_bits(frame: np.ndarray, colour: int, alpha: int) -> np.ndarray:
    colours, transparency = _channels(frame)
    eight = np.concatenate([colours >> (colour - 8), transparency >> (alpha - 8)], -1)
    return eight.astype(np.uint8).reshape(frame.shape)


def _picture(path: Path) -> np.ndarray:
    """Return a picture: BGR or, of 16 bits or with transparency, as it is stored."""
    data = _bytes_of(path)
    is_png = data[:4].tobytes() == b"\x89PNG"
    is_jpg = data[:3].tobytes() == b"\xff\xd8\xff"
    if is_jpg and data.tobytes().count(SCAN) > MAX_SCANS:
        what = f"a jpg of more than {MAX_SCANS} scans"
        raise Damaged(what, path, "save it again as an ordinary picture")
    try:
        transparent, size = _header(data) if is_png or is_jpg else (False, (0, 0))
        special = is_png and (transparent or data[24] == 16)
        limit = MAX_PIXELS // 4 if special else MAX_PIXELS
        if math.prod(size) > limit:  # before there is memory taken for them
            raise Damaged(f"more than {limit >> 20} million pixels", path, "scale the picture down")
        how = cv2.IMREAD_UNCHANGED if special else cv2.IMREAD_COLOR
        frame = cv2.imdecode(data, how) if is_png or is_jpg else None
    except (OSError, SyntaxError, cv2.error):  # the second is Pillow's for a broken PNG
        frame = None
    if frame is None:
        raise Damaged("damaged, or not a jpg or png picture", path, REMOVE)
    return frame


def over_black(frame: np.ndarray) -> np.ndarray:
    """Return grey (H, W), BGR or BGRA (H, W, C) uint8 as BGR, what is transparent over black."""
    if frame.ndim == 2:
        return cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)
    if frame.shape[2] == 4:
        share = frame[..., 3:].astype(np.uint16)
        return ((frame[..., :3] * share + 127) // 255).astype(np.uint8)
    return frame


def _header(data: np.ndarray) -> tuple[bool, tuple[int, int]]:
    """Return whether it has transparency, and width and height.

    Raises: OSError or SyntaxError where it has no header.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours is the stricter
        try:
            with Image.open(io.BytesIO(data.tobytes())) as picture:
                return picture.has_transparency_data, picture.size
        except Image.DecompressionBombError:
            return False, (MAX_PIXELS, 2)


def _bytes_of(path: Path) -> np.ndarray:
    check_name(path)
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) or not 0 < state.st_size <= MAX_BYTES:
            raise Damaged("not a picture file", path, "remove it from the folder")
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise unreadable(error, path) from error
