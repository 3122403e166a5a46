"""Tiles of a film: an image under its label, a bar in the tile's colour, and the path of the robot
so far.

Shapes: J tiles, T steps, P places (x, or x and y), H, W height and width of images.
"""

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from matplotlib.colors import hsv_to_rgb

from foreground.training import pictures

SIDE = pictures.GIF  # pixels of an image in a tile
BAR = 4  # pixels of the bar under the image
MARGIN = 8  # pixels around a path
HEIGHTS = {1: 0.5, 2: 1.0}  # of the strip with the path, as a share of its width
LEAST = 0.5  # m; a smaller range is not drawn larger
DIM = 0.35  # brightness of what is still to come
GREY = (90, 90, 90)
WIDE = 16 / 9  # of a page, about
FRACTION = 4  # bits behind the point of a drawn coordinate


def colours_of(turns: np.ndarray) -> np.ndarray:
    """Return colours uint8 (J, 3) around the circle, by shares of a turn (J,)."""
    hsv = np.stack([np.asarray(turns) % 1, *np.broadcast_to([[0.75], [0.9]], (2, len(turns)))], -1)
    return (255 * hsv_to_rgb(hsv)).round().astype(np.uint8)


def pages(
    film: np.ndarray,
    labels: Sequence[str],
    colours: np.ndarray,
    paths: np.ndarray | None = None,
    columns: int = 0,
    title: str = "",
    side: int = SIDE,
) -> Iterator[np.ndarray]:
    """Yield one page of tiles for each step.

    film     uint8 (J, T, H, W, 3)
    colours  uint8 (J, 3)
    paths    (J, T + 1, P) in metres, from the state before the first step; P is 1 or 2
    columns  0: as many as make a wide page
    side     least pixels of the shorter side of an image
    """
    drawn = tiles(film, colours, paths, side)
    columns = columns or columns_of(len(drawn), drawn.shape[2] + pictures.MARGIN, drawn.shape[3])
    return pictures.pages(drawn, labels, columns, title, side=1)


def columns_of(number: int, height: int, width: int) -> int:
    """Return how many columns of tiles make a wide page with few empty places."""

    def cost(columns: int) -> float:
        rows = -(-number // columns)
        ratio = columns * width / (rows * height)
        return abs(math.log(ratio / WIDE)) + (rows * columns - number) / number

    return min(range(1, number + 1), key=cost)


def tiles(
    film: np.ndarray, colours: np.ndarray, paths: np.ndarray | None = None, side: int = SIDE
) -> np.ndarray:
    """Return tiles uint8 (J, T, height, width, 3): images enlarged, bars, paths."""
    large = np.stack([[pictures.enlarged(image, side) for image in images] for images in film])
    number, steps, _, width = large.shape[:4]
    bar = np.broadcast_to(colours[:, None, None, None], (number, steps, BAR, width, 3))
    parts = [large, bar]
    if paths is not None:
        scale = scale_of(paths)
        parts.append(
            np.stack([strip(path, scale, colour, width) for path, colour in zip(paths, colours)])
        )
    return np.concatenate(parts, 2)


def scale_in_words(paths: np.ndarray) -> str:
    """Return what the strips show, as text."""
    low, high = scale_of(paths)
    if paths.shape[-1] > 1:
        return f"below: x and y, within {high[0]:.1f} m of the start"
    return f"below: x over time, from {low[0]:+.1f} to {high[0]:+.1f} m"


def scale_of(paths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest place (P,) of all paths (J, T + 1, P), from their starts.

    Where the robot moves in a plane, both axes have one scale and the start is in the middle.
    """
    away = (paths - paths[:, :1]).reshape(-1, paths.shape[-1])
    if paths.shape[-1] > 1:
        most = max(float(np.abs(away).max()), LEAST / 2)
        return np.full(away.shape[1], -most), np.full(away.shape[1], most)
    low, high = np.minimum(away.min(0), 0), np.maximum(away.max(0), 0)
    missing = np.maximum(LEAST - (high - low), 0) / 2
    return low - missing, high + missing


def strip(
    path: np.ndarray, scale: tuple[np.ndarray, np.ndarray], colour: np.ndarray, width: int
) -> np.ndarray:
    """Return a picture of a path for each step, uint8 (T, height, width, 3).

    One place is drawn over time, two as x and y. The whole path is dim, what has been is bright.
    """
    away = path - path[:1]
    height = round(HEIGHTS[away.shape[-1]] * width)
    low, high = scale
    share = (away - low) / (high - low)  # (T + 1, P)
    if share.shape[-1] == 1:
        share = np.concatenate([np.linspace(0, 1, len(share))[:, None], share], -1)
    size = np.array([width, height]) - 2 * MARGIN
    points = MARGIN + np.stack([share[:, 0], 1 - share[:, 1]], -1) * size  # (T + 1, 2)
    paper = np.full((height, width, 3), pictures.PAPER, np.uint8)
    start = round(float(points[0, 1]))
    paper[start, MARGIN:-MARGIN] = GREY
    if away.shape[-1] > 1:
        paper[MARGIN:-MARGIN, round(float(points[0, 0]))] = GREY
    _line(paper, points, (DIM * colour).tolist(), 1)
    frames = np.repeat(paper[None], len(path) - 1, 0)
    for step, frame in enumerate(frames, 1):
        _line(frame, points[: step + 1], colour.tolist(), 2)
        centre = _fixed(points[step])
        cv2.circle(frame, centre, 3 << FRACTION, pictures.INK, -1, cv2.LINE_AA, FRACTION)
    return frames


def _line(picture: np.ndarray, points: np.ndarray, colour: Sequence[float], width: int) -> None:
    fixed = [np.array([_fixed(point) for point in points], np.int32)]
    cv2.polylines(picture, fixed, False, colour, width, cv2.LINE_AA, FRACTION)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    """Return a point with bits behind its point, as OpenCV takes it."""
    x, y = np.round(point * (1 << FRACTION)).astype(int).tolist()
    return x, y
