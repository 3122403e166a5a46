"""Logger: metrics.jsonl and TensorBoard, by env frame.

Logging never stops training. When a write fails (full disk), the file is truncated to its last
whole record. The record waits in memory, up to a limit, and is written later. The failure is
reported once on stderr. TensorBoard's records are written here, since its own writer never recovers
from a failed write.
"""

import collections
import contextlib
import errno
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

from foreground.errors import clean
from foreground.training import board
from foreground.training.files import MAX_LINE, lines, write_atomic

RETRY_SECONDS = 10.0
WAITING_BYTES = 4 << 20
# Its name sorts before all others.
OPTIONS_FILE = "events.out.tfevents.0000000000.options.foreground"


class Sink:
    """A file to which whole records are appended; a failed write leaves no partial record and
    raises nothing.

    path     returns the file's path; called again after a failure that could not be undone
    report   called with a sentence at the first failure, and when writing works again
    lines    whether records are lines: a partial last line of a killed process is removed first
    """

    def __init__(
        self, path: Callable[[], Path], report: Callable[[str], None], lines: bool = False
    ):
        self._new_path = path
        self._report = report
        self._by_lines = lines
        self._descriptor: int | None = None
        self._path: Path | None = None
        self._size = 0
        self._waiting: collections.deque[bytes] = collections.deque()
        self._retry_at = 0.0
        self.failures = 0
        self.dropped = 0

    def write(self, record: bytes) -> None:
        """Append a record after those that wait; keep it when the disk refuses."""
        self._waiting.append(record)
        if time.monotonic() >= self._retry_at:
            self._drain()

    def _drain(self) -> None:
        failed_before = self._retry_at > 0
        try:
            if self._descriptor is None:
                self._open()
            while self._waiting:
                self._append(self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            self._fail(error)
            return
        if failed_before:
            self._report(f"logging to {self._path} works again; {self.dropped} records were lost")
        self._retry_at = 0.0

    def _open(self) -> None:
        path = self._path or self._new_path()
        self._descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW, 0o644
        )
        if self._path is None:
            # Later failures truncate the file to this size.
            self._size = os.fstat(self._descriptor).st_size
            if self._by_lines:
                self._size = _cut_half_line(self._descriptor)
        self._path = path

    def _append(self, record: bytes) -> None:
        view = memoryview(record)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._size += len(record)

    def _fail(self, error: OSError) -> None:
        self.failures += 1
        if self._retry_at == 0:
            self._report(
                f"a log was not written ({error}); training continues, logging is tried again later"
            )
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self._cut_back()
        while sum(map(len, self._waiting)) > WAITING_BYTES:
            self._waiting.popleft()
            self.dropped += 1

    def _cut_back(self) -> None:
        """Remove a partial record, so that readers find whole records only; if that fails, use a
        new file.
        """
        if self._descriptor is None:
            self._path = None
            return
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            self._path = None
        os.close(self._descriptor)
        self._descriptor = None

    def close(self) -> None:
        """Try once more to write the waiting records, then close."""
        if self._waiting:
            self._drain()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Logger:
    """Writes metrics.jsonl and TensorBoard events into a run folder; the x axis is env frames.

    folder        the run folder
    run_name      a sub-folder for TensorBoard's events, shown there as a separate curve (e.g.
                  "heldout")
    quiet         print nothing on stderr about failed writes (they are still counted in `failures`)
    resume_step   the env frame from which a run resumes: later lines of metrics.jsonl are removed,
                  and TensorBoard drops later points, since the run writes them again
    """

    def __init__(
        self,
        folder: Path | str,
        run_name: str = "",
        quiet: bool = False,
        resume_step: int | None = None,
    ):
        self.folder = Path(folder)
        self._events_folder = self.folder / run_name
        self._quiet = quiet
        self._known: set[str] = set()  # tags whose description TensorBoard has
        # Made only now: a folder that is missing later was moved, and further records belong there.
        self._guarded(lambda: self._events_folder.mkdir(parents=True, exist_ok=True))
        metrics = self.folder / "metrics.jsonl"
        if resume_step is not None:
            self._guarded(lambda: _trim(metrics, resume_step))
        self._lines = Sink(lambda: metrics, self._say, lines=True)
        self._events = Sink(lambda: _new_events_path(self._events_folder), self._say)
        self._event(file_version="brain.Event:2")
        if resume_step is not None:
            self._event(step=resume_step + 1, session_log=SessionLog(status=SessionLog.START))

    @property
    def failures(self) -> int:
        """Number of failed writes so far."""
        return self._lines.failures + self._events.failures

    def scalars(self, step: int, values: dict[str, float], prefix: str = "") -> None:
        """Write one line of metrics.jsonl and one TensorBoard event: env frame, then name ->
        number.

        prefix   put before each name, with a slash

        NaN and infinity become null in metrics.jsonl.
        """
        values = {
            f"{prefix}/{name}" if prefix else name: float(value) for name, value in values.items()
        }
        line = {"step": int(step), "wall": round(time.time(), 3)}
        line |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._lines.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._summary(step, board.scalars(values, self._known))

    def video(self, step: int, name: str, frames: np.ndarray, fps: float) -> None:
        """Write frames (T, H, W, 3), uint8, as an animated GIF for TensorBoard, at most 50 per
        second.
        """
        frames = _pixels(frames, 4)
        self._picture(step, name, gif(frames, fps), frames.shape[1:])

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Write an image (H, W, 3), uint8."""
        image = _pixels(image, 3)
        content = io.BytesIO()
        Image.fromarray(image).save(content, format="PNG")
        self._picture(step, name, content.getvalue(), image.shape)

    def text(self, name: str, markdown: str, step: int = 0) -> None:
        """Write a text for TensorBoard's page Text."""
        self._summary(step, [board.text(name, markdown)])

    def options(self, options: dict[str, str | float | int | bool], skills: bool) -> None:
        """Write the options of the run and the layout of TensorBoard's first page.

        They are in a separate file, which the next start replaces: TensorBoard keeps the first
        value of an option, and a resumed run may have others.
        """
        values = [board.layout(skills)], board.hparams(self.folder.resolve().name, options)
        events = [
            {"file_version": "brain.Event:2"},
            *({"summary": Summary(value=value)} for value in values),
        ]
        content = b"".join(_record(**event) for event in events)
        self._guarded(lambda: write_atomic(self._events_folder / OPTIONS_FILE, content))

    def flush(self) -> None:
        """Try again to write records that a full disk refused; nothing else is buffered."""
        for sink in (self._lines, self._events):
            if sink._waiting:
                sink._drain()

    def close(self) -> None:
        """Write waiting records and close the files."""
        self._lines.close()
        self._events.close()

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _picture(self, step: int, name: str, encoded: bytes, shape: tuple) -> None:
        self._summary(step, board.picture(name, encoded, shape, self._known))

    def _summary(self, step: int, values: list) -> None:
        self._event(step=int(step), summary=Summary(value=values))

    def _event(self, **fields) -> None:
        self._events.write(_record(**fields))

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self._say(f"logging to {self.folder} failed ({error.strerror}); training continues")

    def _say(self, sentence: str) -> None:
        if not self._quiet:
            with contextlib.suppress(OSError):  # as in errors.say, without breaking a bar
                tqdm.write(clean(f"warning: {sentence}"), file=sys.stderr)


def events_file(
    step: int, values: dict[str, float], images: dict[str, tuple[bytes, tuple[int, ...]]]
) -> bytes:
    """Return a whole file of TensorBoard for one step.

    images   name -> PNG, and its shape (H, W, 3)
    """
    known: set[str] = set()
    summaries = board.scalars(values, known)
    for name, (encoded, shape) in images.items():
        summaries += board.picture(name, encoded, shape, known)
    first = _record(file_version="brain.Event:2")
    return first + _record(step=step, summary=Summary(value=summaries))


def _record(**fields) -> bytes:
    """Return an event as a record of TensorBoard's files."""
    record = io.BytesIO()
    RecordWriter(record).write(Event(wall_time=time.time(), **fields).SerializeToString())
    return record.getvalue()


def gif(frames: np.ndarray, fps: float) -> bytes:
    """Encode frames (T, H, W, 3), uint8, as an endless animated GIF; equal neighbours become one
    longer frame.

    GIF counts time in hundredths of a second, to which the rate is rounded. Players show at most 50
    frames per second.
    """
    palette = Image.fromarray(_mosaic(frames)).quantize(256, method=Image.Quantize.MEDIANCUT)
    pictures = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    ]
    content = io.BytesIO()
    duration = max(2, round(100 / fps)) * 10
    pictures[0].save(
        content, format="GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0
    )
    return content.getvalue()


def _mosaic(frames: np.ndarray) -> np.ndarray:
    """Return about sixteen frames below each other: one palette for all prevents flicker."""
    return np.concatenate(frames[:: max(1, len(frames) // 16)], axis=0)


def _pixels(array: np.ndarray, dimensions: int) -> np.ndarray:
    array = np.asarray(array)
    if (
        array.dtype != np.uint8
        or array.ndim != dimensions
        or array.shape[-1] != 3
        or 0 in array.shape
    ):
        raise ValueError(
            f"an image is uint8 with 3 channels last, {dimensions} axes; got {array.dtype} "
            f"{array.shape}"
        )
    return array


def _new_events_path(folder: Path) -> Path:
    """Return a name that sorts last in the folder, even if the clock went back: TensorBoard reads
    in that order.
    """
    stamps = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*.foreground")]
    latest = max((int(stamp) for stamp in stamps if stamp.isdecimal()), default=0)
    return (
        folder
        / f"events.out.tfevents.{max(int(time.time()), latest + 1):010d}.{os.getpid()}.foreground"
    )


def _cut_half_line(descriptor: int) -> int:
    """Truncate a file after its last whole line, and return its size.

    Where no line ends within the last MAX_LINE bytes, start a new line at the end.
    """
    size = os.fstat(descriptor).st_size
    start = max(0, size - MAX_LINE)
    end = os.pread(descriptor, size - start, start).rfind(b"\n") + 1
    if end or start == 0:
        os.ftruncate(descriptor, start + end)
        return start + end
    os.write(descriptor, b"\n")
    return size + 1


def _trim(path: Path, step: int) -> None:
    """Keep the whole lines of a metrics file up to a step; later ones of a killed run are written
    again.

    The lines are in order, so the file is truncated, which needs no free disk space. A file with
    other lines, or a link, is rewritten.
    """
    if not path.exists():
        path.unlink(missing_ok=True)  # a dangling link
        return
    if not path.is_file():
        raise OSError(errno.EINVAL, f"{path} is no regular file")
    kept: list[bytes] = []
    odd = path.is_symlink()
    end = 0
    with path.open("rb") as file:
        for stop, line in lines(file):
            if _step_of(line) <= step:
                odd |= end + len(line) != stop  # other bytes precede it
                kept.append(line)
                end = stop
    if odd:
        write_atomic(path, b"".join(kept))
    else:
        os.truncate(path, end)


def has_logged(path: Path, step: int, prefix: str) -> bool:
    """Return whether a metrics file has a line of a step with a name that begins with a prefix."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        for _, line in lines(file):
            if _step_of(line) == step and any(key.startswith(prefix) for key in json.loads(line)):
                return True
    return False


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return math.inf
