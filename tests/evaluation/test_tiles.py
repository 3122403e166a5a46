"""Test tiles of films: images, labels, colours and paths are where they belong."""

import numpy as np
import pytest

from foreground.evaluation import tiles
from foreground.training import pictures

SHADES = np.arange(10, 170, 10, dtype=np.uint8)  # one a tile
COLOURS = tiles.colours_of(np.arange(16) / 16)


def film_of(steps: int = 3) -> np.ndarray:
    return SHADES[:, None, None, None, None] + np.ones((16, steps, 4, 4, 3), np.uint8)


@pytest.mark.parametrize("places", [0, 1, 2])
def test_tiles_stand_in_their_places(places):
    paths = np.zeros((16, 4, places)) if places else None
    labels = [f"skill {index}" for index in range(16)]
    *_, page = tiles.pages(film_of(), labels, COLOURS, paths, columns=8)
    side, margin, gap = tiles.SIDE, pictures.MARGIN, pictures.GAP
    height = side + tiles.BAR + round(tiles.HEIGHTS.get(places, 0) * side)
    assert page.shape == (2 * (margin + height) + gap, 8 * side + 7 * gap, 3)
    for index, label in enumerate(labels):
        top, left = (index // 8) * (margin + height + gap), (index % 8) * (side + gap)
        tile = page[top : top + margin + height, left : left + side]
        np.testing.assert_array_equal(tile[:margin], pictures.label_strip(label, side))
        assert (tile[margin : margin + side] == SHADES[index] + 1).all()
        assert (tile[margin + side : margin + side + tiles.BAR] == COLOURS[index]).all()


def dot_of(frame: np.ndarray) -> np.ndarray:
    """The centre of the white dot, in pixels: x and y."""
    rows, columns = np.nonzero((frame > 200).all(-1))
    return np.array([columns.mean(), rows.mean()])


def test_a_path_of_one_place_is_drawn_over_time():
    """A skill that runs 2 m forward, and one that runs 1 m back."""
    paths = np.stack([np.linspace(5, 7, 11), np.linspace(5, 4, 11)])[..., None]
    scale = tiles.scale_of(paths)
    assert (scale[0], scale[1]) == ([-1.0], [2.0])
    forward, back = (
        tiles.strip(path, scale, np.array([200, 0, 0], np.uint8), 128) for path in paths
    )
    assert forward.shape == (10, 64, 128, 3)
    size = 48  # 64 pixels less a margin of 8 on each side
    np.testing.assert_allclose(dot_of(forward[9]), [120, 8], atol=1.5)
    np.testing.assert_allclose(dot_of(back[9]), [120, 56], atol=1.5)
    np.testing.assert_allclose(dot_of(forward[4]), [64, 8 + size / 3], atol=1.5)
    bright = [(frame[..., 0] > 150).sum() for frame in forward]
    assert bright[9] > 1.5 * bright[4] > 1.5 * bright[0]


def test_a_path_in_the_plane_has_its_start_in_the_middle():
    path = np.stack([np.linspace(0, 3, 7), np.linspace(0, -1, 7)], -1)
    scale = tiles.scale_of(path[None])
    frames = tiles.strip(path + 9, scale, np.array([200, 0, 0], np.uint8), 116)
    assert frames.shape == (6, 116, 116, 3)
    np.testing.assert_allclose(dot_of(frames[5]), [108, 58 + 50 / 3], atol=1.5)


def test_a_robot_that_hardly_moves_is_not_drawn_larger():
    low, high = tiles.scale_of(np.linspace(0, 0.01, 5)[None, :, None])
    assert float(high[0] - low[0]) == pytest.approx(tiles.LEAST)


def test_pages_are_wide_and_full():
    assert tiles.columns_of(16, 220, 128) == 8
    assert tiles.columns_of(10, 220, 128) == 5
    assert tiles.columns_of(1, 220, 128) == 1


def test_colours_differ_and_close_the_circle():
    assert len(np.unique(COLOURS, axis=0)) == 16
    np.testing.assert_array_equal(tiles.colours_of(np.array([0.0])), tiles.colours_of(np.ones(1)))
