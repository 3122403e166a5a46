"""Test the progress line: when it is shown, and how the remaining time is estimated."""

import io
import math
import os
import time

import numpy as np
import pytest

from foreground.evaluation import interrupt
from foreground.evaluation import progress as evaluations
from foreground.training import progress as module
from foreground.training.progress import Progress, time_left


class Clock:
    """Time that a test sets."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_lines_come_by_time_where_there_is_no_terminal(clock):
    progress = Progress(100_000, start=0, learning_from=0, stream=io.StringIO())
    for frame in range(0, 10_000, 2):
        clock.now += 0.02
        progress.tick(frame)
    assert len(lines(progress.display.stream)) == 3  # 100 seconds
    assert "\r" not in progress.display.stream.getvalue()
    progress.message("hello")
    progress.close()
    *_, hello, last = lines(progress.display.stream)
    assert hello == "hello"
    assert last.startswith("frame 9998/100000, 100 frames/s, 15 min left")


def test_the_prefill_says_nothing_of_the_time_left(clock):
    """1,000 frames a second of noise, then 10 of learning: 2,000 frames are left, 200 seconds."""
    progress = Progress(5000, learning_from=2000, every_seconds=0, stream=io.StringIO())
    for frame in range(0, 2000, 10):
        clock.now += 0.01
        progress.tick(frame)
    assert all(
        "filling the replay, time left: measuring" in line
        for line in lines(progress.display.stream)
    )
    for frame in range(2000, 3001):
        clock.now += 0.1
        progress.tick(frame)
        told = lines(progress.display.stream)[-1]
        if frame < 2190:
            assert told.endswith("time left: measuring")
        if frame > 2220:
            assert " 10 frames/s, " in told
    assert told == "frame 3000/5000, 10 frames/s, 3 min left"


def test_the_speed_is_that_of_the_last_minutes(clock):
    progress = Progress(10**9, every_seconds=0, stream=io.StringIO())
    for rate in (1000, 10):
        for _ in range(module.WINDOW + 10):
            clock.now += 1
            progress.tick(progress.frames + rate)
    assert progress.speed().startswith("10 frames/s, ")


def test_numbers_are_shown_by_their_keys(clock):
    progress = Progress(1000, every_seconds=3600, stream=io.StringIO())
    progress.update(500, {"episode/return": 12.346, "model/reward/explained": math.nan})
    progress.update(1000, {"evaluation/return_heldout": 20.0})
    progress.close()
    (line,) = lines(progress.display.stream)
    assert line == (
        "frame 1000/1000, time left: measuring, evaluation/return_heldout 20, episode/return 12.35"
    )


def test_a_bar_moves_by_time_on_a_terminal(clock):
    progress = Progress(1000, start=200, stream=Terminal())
    for frame in range(200, 1001):
        clock.now += 0.1
        progress.tick(frame)
    progress.close()
    shown = [part for part in progress.display.stream.getvalue().split("\r") if "frame" in part]
    assert 75 <= len(shown) <= 85  # 80 seconds
    assert "100%" in shown[-1]
    assert "10 frames/s" in shown[-1]


@pytest.mark.parametrize(("columns", "told"), [(70, 0), (100, 1), (125, 2), (200, 3)])
def test_what_does_not_fit_in_the_line_is_left_out_whole(monkeypatch, columns, told):
    display = module.Display("", 100_000, "frame", stream=Terminal())
    display.bar.dynamic_ncols, display.bar.ncols = None, columns
    parts = (
        "51 frames/s, 2 h 05 min left",
        "evaluation/return_heldout 812",
        "episode/return 640.2",
        "model/reward/explained 0.9",
    )
    display.show(99_000, *parts)
    line = display.stream.getvalue().rpartition("\r")[2].rstrip()
    assert len(line) <= columns
    assert line.endswith(", ".join(parts[: told + 1]))


def test_a_terminal_without_columns_gets_lines():
    """As `script` makes one where there is none; a bar would not show."""
    outer, inner = os.openpty()
    with open(inner, "w") as stream:
        progress = Progress(1000, every_seconds=0, stream=stream)
        progress.tick(600)
        progress.close()
        said = os.read(outer, 1000).decode()
    os.close(outer)
    assert said.startswith("frame 600/1000, ")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "5 s left"), (720, "12 min left"), (7500, "2 h 05 min left"), (0, "0 s left")],
)
def test_times_are_told_in_words(seconds, words):
    assert time_left(seconds) == words


def test_a_tick_costs_next_to_nothing():
    """It is called at every step of training, which takes milliseconds."""
    progress = Progress(10**9, stream=io.StringIO())
    began = time.perf_counter()
    for frame in range(20_000):
        progress.tick(frame)
    assert (time.perf_counter() - began) / 20_000 < 50e-6


def test_an_evaluation_says_episodes_return_and_time_left(clock, monkeypatch, capsys):
    monkeypatch.setattr(module, "LINE_SECONDS", 0)
    with evaluations.stage("held-out clips", 4, "episode", steps=40) as stage:
        stage.display.every = stage.display._due = 0
        for step in range(30):
            clock.now += 1
            evaluations.tick()
            if step == 19:
                evaluations.advance(2, 10.0, 30.0)
    assert evaluations._stages == []
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "held-out clips: episode 0/4, time left: measuring"
    assert said[-1] == "held-out clips: episode 2/4, return 20.0 so far, 10 s left"
    evaluations.tick()  # outside of a stage nothing is shown
    evaluations.advance(1, 5.0)
    assert capsys.readouterr().err == ""


def test_a_loop_that_ticks_ends_when_it_is_told_to(monkeypatch):
    monkeypatch.setattr(
        evaluations.interrupt, "check", lambda: (_ for _ in ()).throw(interrupt.Interrupted)
    )
    with pytest.raises(interrupt.Interrupted), evaluations.stage("goals", 3):
        evaluations.tick()
    assert evaluations._stages == []


def test_a_short_evaluation_prints_nothing_without_a_terminal(capsys):
    with evaluations.stage("clean task", 2):
        evaluations.tick()
        evaluations.advance(2, np.float32(1), 2.0)
    assert capsys.readouterr().err == ""
