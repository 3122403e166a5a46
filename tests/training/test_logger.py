"""Test logs: the content of TensorBoard and metrics.jsonl, and a full disk."""

import contextlib
import io
import json
import os
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from foreground.training import files
from foreground.training import logger as logger_module
from foreground.training.logger import Logger, gif


def events(folder: Path) -> EventAccumulator:
    """What TensorBoard itself reads from a folder."""
    accumulator = EventAccumulator(
        str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}
    )
    return accumulator.Reload()


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def moving_square(count: int) -> np.ndarray:
    frames = np.zeros((count, 16, 32, 3), np.uint8)
    for t in range(count):
        frames[t, 4:8, t : t + 4] = (250, 40, 10)
        frames[t, 12:] = (0, 200, 90)
    return frames


def test_scalars(tmp_path):
    with Logger(tmp_path) as logger:
        logger.scalars(100, {"loss": 1.5, "bad": float("nan")})
        logger.scalars(200, {"return": np.float32(3), "huge": float("inf")}, prefix="evaluation")
        # On disk before the logger is closed.
        assert [line["step"] for line in lines(tmp_path)] == [100, 200]
    first, second = lines(tmp_path)
    assert abs(first.pop("wall") - time.time()) < 60
    assert first == {"step": 100, "loss": 1.5, "bad": None}
    assert second["evaluation/return"] == 3.0
    assert second["evaluation/huge"] is None
    read = events(tmp_path)
    assert [(event.step, event.value) for event in read.Scalars("evaluation/return")] == [
        (200, 3.0)
    ]
    assert np.isnan(read.Scalars("bad")[0].value)


def test_a_video_is_a_gif_that_plays(tmp_path):
    frames = moving_square(23)
    with Logger(tmp_path) as logger:
        logger.video(7, "evaluation/rollout", frames, fps=20)
    (event,) = events(tmp_path).Images("evaluation/rollout")
    assert (event.step, event.width, event.height) == (7, 32, 16)
    picture = Image.open(io.BytesIO(event.encoded_image_string))
    assert picture.format == "GIF"
    assert picture.n_frames == 23
    assert picture.info["loop"] == 0
    for t in range(23):
        picture.seek(t)
        assert picture.info["duration"] == 50
        shown = np.asarray(picture.convert("RGB")).astype(int)
        assert np.abs(shown - frames[t]).max() <= 8, t  # three colours: the palette holds them


def test_still_frames_keep_their_time():
    picture = Image.open(io.BytesIO(gif(np.zeros((30, 8, 8, 3), np.uint8), fps=10)))
    assert picture.info["duration"] * picture.n_frames == 3000


def test_image_and_text(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    with Logger(tmp_path, run_name="heldout") as logger:
        logger.image(3, "frame", image)
        logger.text("config", "**agent** infopower")
    read = events(tmp_path / "heldout")
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(read.Images("frame")[0].encoded_image_string))), image
    )
    (tag,) = read.Tags()["tensors"]
    assert read.Tensors(tag)[0].tensor_proto.string_val[0] == b"**agent** infopower"
    assert read.SummaryMetadata(tag).plugin_data.plugin_name == "text"


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 4, 4, 3)),
        np.zeros((2, 4, 4, 1), np.uint8),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((0, 4, 4, 3), np.uint8),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, frames):
    with Logger(tmp_path) as logger, pytest.raises(ValueError, match="an image is uint8"):
        logger.video(0, "x", frames, 10)


def test_a_resumed_run_replaces_what_the_killed_one_wrote_beyond_its_checkpoint(tmp_path):
    first = Logger(tmp_path)
    for step in (10, 20, 30, 40):
        first.scalars(step, {"loss": step})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5')  # the kill came in the middle of a line
    with Logger(tmp_path, resume_step=20) as second:
        for step in (30, 50):
            second.scalars(step, {"loss": step + 1})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
        (10, 10),
        (20, 20),
        (30, 31),
        (50, 51),
    ]
    assert [(event.step, event.value) for event in events(tmp_path).Scalars("loss")] == [
        (10, 10),
        (20, 20),
        (30, 31),
        (50, 51),
    ]


def test_a_half_line_is_cut_also_without_resume(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"ste')
    with Logger(tmp_path) as logger:
        logger.scalars(2, {"a": 1})
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_no_room_is_needed_to_cut_what_a_killed_run_wrote_beyond(tmp_path, monkeypatch, capsys):
    """A full disk at a resume must not leave two histories in one file."""
    (tmp_path / "metrics.jsonl").write_text(
        "".join(f'{{"step": {step}}}\n' for step in (10, 20, 30, 40)) + '{"st'
    )

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(logger_module.os, "write", full)
        Logger(tmp_path, resume_step=20).close()
    assert [line["step"] for line in lines(tmp_path)] == [10, 20]


def test_a_link_that_leads_nowhere_is_not_written_through(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").symlink_to(tmp_path / "outside")
    with Logger(tmp_path / "run", resume_step=3) as logger:
        logger.scalars(4, {"a": 1.0})
    assert not (tmp_path / "outside").exists()
    assert [line["step"] for line in lines(tmp_path / "run")] == [4]


def test_a_link_that_came_later_is_not_written_through(tmp_path, capsys):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "victim")
    with Logger(tmp_path) as logger:
        logger.scalars(4, {"a": 1.0})
    assert (tmp_path / "victim").read_text() == "mine"
    assert "was not written" in capsys.readouterr().err


@pytest.mark.parametrize("resume_step", [None, 5])
def test_a_file_of_holes_takes_no_memory(tmp_path, resume_step):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    os.truncate(path, 1 << 28)
    tracemalloc.start()
    with Logger(tmp_path, resume_step=resume_step) as logger:
        logger.scalars(6, {"a": 1.0})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    with path.open("rb") as file:
        kept = [line for _, line in files.lines(file)]
    assert kept[0] == b'{"step": 1}\n'
    assert json.loads(kept[-1])["step"] == 6
    assert (path.stat().st_size < 1000) == (resume_step is not None)


def test_a_file_that_cannot_be_read_now_is_not_emptied(tmp_path, monkeypatch, capsys):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')

    def fault(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(logger_module, "RETRY_SECONDS", 0)
    logger = Logger(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(logger_module.os, "pread", fault)
        logger.scalars(2, {"a": 1.0})
    logger.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_a_log_makes_no_folder_that_was_moved_away(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logger_module, "RETRY_SECONDS", 0)
    logger = Logger(tmp_path / "run")
    logger.scalars(1, {"a": 1.0})
    (tmp_path / "run").rename(tmp_path / "moved")
    with full_disk(monkeypatch, 0):
        logger.scalars(2, {"a": 1.0})  # refused: the file is opened again
    logger.scalars(3, {"a": 1.0})
    logger.close()
    assert not (tmp_path / "run").exists()


def test_event_files_are_read_in_order_when_the_clock_goes_back(tmp_path, monkeypatch):
    for now in (2e9, 1e9, 1.5e9):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        Logger(tmp_path).close()
    names = sorted(
        (path for path in tmp_path.glob("events*")), key=lambda path: path.stat().st_mtime_ns
    )
    assert names == sorted(names)
    assert len(names) == 3


@contextlib.contextmanager
def full_disk(monkeypatch, room: int):
    """Let `room` more bytes be written, a part of the last write included, then refuse."""
    real, left = os.write, room

    def write(descriptor, content):
        nonlocal left
        if left == 0:
            raise OSError(28, "No space left on device")
        written = real(descriptor, bytes(content)[:left])
        left -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(logger_module.os, "write", write)
        yield


@pytest.mark.parametrize("room", [0, 1, 30, 60, 100, 150, 300, 1000])
def test_a_full_disk_is_survived_reported_once_and_made_up_for(tmp_path, monkeypatch, capsys, room):
    monkeypatch.setattr(logger_module, "RETRY_SECONDS", 0)
    logger = Logger(tmp_path)
    logger.scalars(0, {"loss": 0})
    with full_disk(monkeypatch, room):
        for step in range(1, 30):
            logger.scalars(step, {"loss": step})
            logger.video(step, "rollout", moving_square(3), 10)
        assert logger.failures > 0
        # Whole lines only.
        assert [line["step"] for line in lines(tmp_path)] == list(range(len(lines(tmp_path))))
    logger.scalars(30, {"loss": 30})
    logger.close()
    assert [line["step"] for line in lines(tmp_path)] == list(range(31))
    read = events(tmp_path)
    assert [event.step for event in read.Scalars("loss")] == list(range(31))
    assert len(read.Images("rollout")) == 29
    said = capsys.readouterr().err.splitlines()
    assert len(said) <= 4  # failed and works again, for each of the two files
    assert "No space left on device" in said[0]
    assert "training continues" in said[0]


def test_what_waits_for_the_disk_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(logger_module, "RETRY_SECONDS", 0)
    monkeypatch.setattr(logger_module, "WAITING_BYTES", 2000)
    logger = Logger(tmp_path, quiet=True)
    with full_disk(monkeypatch, 0):
        for step in range(200):
            logger.scalars(step, {"loss": step})
    logger.close()
    steps = [line["step"] for line in lines(tmp_path)]
    assert 5 < len(steps) < 60
    assert steps[-1] == 199


def test_nothing_is_tried_again_before_its_time(tmp_path, monkeypatch):
    logger = Logger(tmp_path, quiet=True)
    with full_disk(monkeypatch, 0):
        for step in range(50):
            logger.scalars(step, {"loss": step})
    assert logger.failures == 2  # one for each file
    logger.flush()
    assert len(lines(tmp_path)) == 50
    logger.close()


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with Logger(tmp_path / "file", resume_step=3) as logger:
        logger.scalars(0, {"a": 1})
        logger.video(0, "v", moving_square(2), 10)
    assert logger.failures > 0
    assert "File exists" in capsys.readouterr().err
