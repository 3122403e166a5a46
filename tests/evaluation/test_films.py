"""Test films: decoded frames, positions of labels, files of killed writers."""

import os
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from foreground.evaluation import films
from foreground.training import files, pictures

COLOURS = [(250, 40, 10), (0, 200, 90), (30, 90, 210)]


def decoded(path: Path) -> tuple[av.video.stream.VideoStream, np.ndarray]:
    """The stream's description, and its frames (T, H, W, 3)."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream, np.stack(
            [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        )


def plain(colour, height=8, width=12, count=5) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (count, height, width, 3))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (63, 47), (33, 256), (2, 2)])
def test_a_film_is_h264_that_browsers_play(tmp_path, height, width):
    """yuv420p, the index before the pictures; odd sizes get a black line."""
    frames = np.stack(
        [np.full((height, width, 3), COLOURS[index % 3], np.uint8) for index in range(60)]
    )
    films.write_film(tmp_path / "film.mp4", frames, 25.0)
    stream, shown = decoded(tmp_path / "film.mp4")
    context = stream.codec_context
    assert (context.name, context.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 25)
    assert shown.shape == (60, height + height % 2, width + width % 2, 3)
    assert np.abs(shown[:, :height, :width].mean((1, 2)) - frames[:, 0, 0]).max() < 12
    content = (tmp_path / "film.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(tmp_path / "film.mp4")) as container:
        keys = [packet.pts for packet in container.demux(video=0) if packet.is_keyframe]
    assert len(keys) >= 3  # one a second: a player can seek


def test_names_that_ffmpeg_would_parse_are_names(tmp_path):
    folder = tmp_path / "http:x"
    folder.mkdir()
    films.write_film(folder / "a %03d é.mp4", plain(COLOURS[0]), 20.0)
    assert os.listdir(folder) == ["a %03d é.mp4"]
    assert films.length(folder / "a %03d é.mp4") == 5


def test_labels_stand_above_the_panels_and_not_on_them(tmp_path):
    panels = [plain(colour) for colour in COLOURS]
    films.write_film(
        tmp_path / "film.mp4", pictures.pages(panels, pictures.LABELS, title="held-out clips"), 20.0
    )
    _, shown = decoded(tmp_path / "film.mp4")
    height, width, margin = 32 * 8, 32 * 12, pictures.MARGIN
    assert shown.shape == (5, 2 * margin + height, 3 * width + 2 * pictures.GAP, 3)
    for index, colour in enumerate(COLOURS):
        left = index * (width + pictures.GAP)
        panel = shown[2, 2 * margin + 2 : -2, left + 2 : left + width - 2].astype(int)
        assert np.abs(panel - colour).max() < 16
        label = shown[2, margin + 2 : 2 * margin - 2, left : left + width]
        assert label.max() > 200  # the text
        middle = np.flatnonzero(label.max((0, 2)) > 128)
        assert abs((middle[0] + middle[-1]) / 2 - width / 2) < 4
    assert shown[2, 2 : margin - 2].max() > 200  # the title


def test_small_panels_are_enlarged_and_large_ones_stay():
    (small, large) = (
        pictures.enlarged(np.zeros((side, side + 1, 3), np.uint8), 256) for side in (33, 300)
    )
    assert small.shape == (8 * 33, 8 * 34, 3)
    assert large.shape == (300, 301, 3)


def test_a_label_fits_its_panel():
    wide, narrow = (pictures.label_strip("what the latent keeps", width) for width in (256, 64))
    assert wide.shape == (pictures.MARGIN, 256, 3)
    assert narrow.max() > 150
    assert (narrow[:, [0, -1]] == pictures.PAPER).all()
    assert (pictures.label_strip("x" * 500, 256) == pictures.label_strip("x" * 500, 256)).all()
    assert not (pictures.label_strip("skill 1", 64) == pictures.label_strip("skill 2", 64)).all()


def test_a_strip_has_a_row_a_panel_and_a_column_a_moment(tmp_path):
    shades = np.arange(0, 200, 20, dtype=np.uint8)[:, None, None, None] + np.zeros(
        (10, 8, 8, 3), np.uint8
    )
    films.write_strip(
        tmp_path / "strip.png", (shades, shades + 10, shades + 20), "cartpole-balance", columns=4
    )
    picture = cv2.imread(str(tmp_path / "strip.png"))
    side, margin, gap = 192, pictures.MARGIN, pictures.GAP
    assert picture.shape == (margin + 3 * (side + margin) + 2 * gap, 4 * side + 3 * gap, 3)
    for row in range(3):
        for column, moment in enumerate((0, 3, 6, 9)):
            top, left = margin + row * (side + margin + gap) + margin, column * (side + gap)
            assert (picture[top : top + side, left : left + side] == 20 * moment + 10 * row).all()


def test_a_disk_that_refuses_is_a_warning(tmp_path, capsys, monkeypatch):
    films.write_film(tmp_path / "gone" / "film.mp4", plain(COLOURS[0]), 20.0)
    assert "no film could be written" in capsys.readouterr().err
    monkeypatch.setattr(
        films, "_encode", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    films.write_film(tmp_path / "film.mp4", plain(COLOURS[0]), 20.0)
    assert "No space left on device" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_a_film_of_a_killed_writer_is_removed_and_one_under_way_stays(tmp_path, monkeypatch):
    """The writer dies before it can tidy up."""
    with monkeypatch.context() as patched:
        patched.setattr(films.os, "replace", lambda *_: (_ for _ in ()).throw(SystemExit))
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            films.write_film(tmp_path / "evaluation-heldout.mp4", plain(COLOURS[0]), 20.0)
    (left,) = tmp_path.iterdir()
    files.remove_abandoned(tmp_path)
    assert left.exists()
    os.utime(left, (time.time() - 2 * files.ABANDONED,) * 2)
    files.remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_film_has_no_length(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no film")
    assert films.length(tmp_path / "a.mp4") == films.length(tmp_path / "absent.mp4") == 0
    films.write_film(tmp_path / "b.mp4", plain(COLOURS[1], count=30), 20.0)
    content = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(content[: len(content) * 2 // 3])
    assert films.length(tmp_path / "b.mp4") < 30
