"""Pages of labelled panels in rows and columns. No text covers an image."""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LABELS = ("observation", "what the latent keeps", "difference")
MARGIN = 22  # pixels of the strip that holds a label
FILM = 256  # least shorter side of a panel in a video
GIF = 128  # the same in TensorBoard
PAPER = (24, 24, 24)
INK = (240, 240, 240)
LETTERS = (14, 8)  # largest and smallest font size in pixels
GAP = 4  # pixels between panels


def latent_panels(observed: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the panels of `LABELS`: observation, decoded latent, absolute difference; uint8, of
    one shape.
    """
    difference = np.abs(observed.astype(np.int16) - kept.astype(np.int16)).astype(np.uint8)
    return observed, kept, difference


def pages(
    panels: Sequence[np.ndarray],
    labels: Sequence[str],
    columns: int = 0,
    title: str = "",
    side: int = FILM,
) -> Iterator[np.ndarray]:
    """Yield one page a frame for panels of (T, H, W, 3); `columns` 0: all in one row."""
    for frames in zip(*panels):
        yield page(frames, labels, columns or len(frames), title, side)


def page(
    panels: Sequence[np.ndarray],
    labels: Sequence[str],
    columns: int,
    title: str = "",
    side: int = FILM,
) -> np.ndarray:
    """Return panels (H, W, 3) as one image, row by row, each enlarged and under its label.

    title   a line above all panels
    side    least pixels of the shorter side of a panel
    """
    pairs = list(zip(panels, labels, strict=True))
    tiles = [
        np.concatenate([label_strip(text, _width(one, side)), enlarged(one, side)])
        for one, text in pairs
    ]
    tiles += [np.full_like(tiles[0], PAPER)] * (-len(tiles) % columns)
    rows = [_joined(tiles[first : first + columns], 1) for first in range(0, len(tiles), columns)]
    whole = _joined(rows, 0)
    return np.concatenate([label_strip(title, whole.shape[1]), whole]) if title else whole


def enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """Return an image (H, W, 3) enlarged by an integer factor, so that its shorter side has at
    least `side` pixels.
    """
    factor = _factor(picture, side)
    return picture.repeat(factor, 0).repeat(factor, 1)


def _factor(picture: np.ndarray, side: int) -> int:
    return max(1, -(-side // min(picture.shape[:2])))


def _width(picture: np.ndarray, side: int) -> int:
    return picture.shape[1] * _factor(picture, side)


def _joined(parts: list[np.ndarray], axis: int) -> np.ndarray:
    """Return images side by side (axis 1) or below each other (0), with gaps."""
    shape = list(parts[0].shape)
    shape[axis] = GAP
    gap = np.broadcast_to(np.array(PAPER, np.uint8), shape)
    return np.concatenate([piece for part in parts for piece in (gap, part)][1:], axis)


@functools.lru_cache(maxsize=512)
def label_strip(text: str, width: int) -> np.ndarray:
    """Return a strip (MARGIN, width, 3) with a centred text, truncated where it is too long."""
    strip = Image.new("RGB", (width, MARGIN), PAPER)
    draw = ImageDraw.Draw(strip)
    for size in range(LETTERS[0], LETTERS[1] - 1, -1):
        font = ImageFont.load_default(size)
        if draw.textlength(text, font) <= width - 4:
            break
    while text and draw.textlength(text, font) > width - 4:
        text = text.removesuffix("...")[:-1] + "..." if len(text) > 4 else ""
    draw.text((width / 2, MARGIN / 2), text, font=font, fill=INK, anchor="mm")
    array = np.asarray(strip).copy()
    array.flags.writeable = False  # pages share it
    return array
