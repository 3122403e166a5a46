"""Damaged and unusual clips: they give whole frames, or one line that names the file; no hang, no
crash.
"""

import multiprocessing
import os
import random
import shutil
import struct
import zlib
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as Late
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import numpy as np

from foreground.envs import video as videos
from foreground.errors import UserError
from tests.faults import Tries

CONTAINERS = {"mp4": "mp4v", "avi": "MJPG", "mkv": "MJPG", "webm": "VP80", "mov": "mp4v"}
SIZE = 16
LONGEST = 30.0  # seconds
MOST_BYTES = 1 << 30
FRAMES = 60  # of a whole clip
SHARE = 0.9  # of these that a truncated clip must give, or it must be refused
# Not UTF-8; a digit for isdigit() that int() refuses.
ODD_NAMES = [os.fsdecode(b"caf\xe9"), "1\u00b23"]


def video(folder: Path, chance: random.Random) -> Tries:
    """Decode file after file in a separate process, so that a crash is detected."""
    whole = {
        suffix: written(folder / f"whole.{suffix}", code) for suffix, code in CONTAINERS.items()
    }
    bombs = (bomb(folder / "bomb.mp4"), boundless(1), boundless(9000))
    pool = None
    try:
        while True:
            pool = pool or ProcessPoolExecutor(1, multiprocessing.get_context("forkserver"))
            path, least = (
                exploding(folder, bombs, chance)
                if chance.random() < 0.03
                else broken(folder, whole, chance)
            )
            try:
                lost = pool.submit(verdict, path, least).result(LONGEST)
            except Late:
                lost = f"it took more than {LONGEST:.0f} seconds"
            except BrokenProcessPool:
                lost = "the decoder crashed"
            if lost:
                pool.shutdown(wait=False, cancel_futures=True)
                pool = None
            yield lost and f"{printable(path.name)}: {lost}"
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    finally:
        if pool:
            pool.shutdown()


def written(path: Path, code: str) -> bytes:
    """Write a whole clip of FRAMES frames; return its bytes."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), 25, (64, 48))
    for index in range(FRAMES):
        frame = np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8)
        writer.write(cv2.GaussianBlur(frame, (9, 9), 0))
    writer.release()
    return path.read_bytes()


def bomb(path: Path) -> bytes:
    """Return a small file of 3,200 large frames, 1.5 GB when decoded."""
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), 25, (480, 320)
    )
    for _ in range(3200):
        writer.write(np.zeros((320, 480, 3), np.uint8))
    writer.release()
    return path.read_bytes()


def boundless(side: int) -> bytes:
    """Return a PNG of `side` times 40,000 black pixels, a megabyte per kilobyte; with side 1 the
    header says square.
    """
    head = struct.pack(">IIBBBBB", 40_000, 40_000 if side == 1 else side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(40_001 * side), 9)), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def exploding(folder: Path, bombs: tuple[bytes, ...], chance: random.Random) -> tuple[Path, int]:
    """Write a clip that is small on disk and large in memory; return as `broken`."""
    content = chance.choice(bombs)
    path = folder / f"clip{chance.randrange(10**6)}"
    if content is bombs[0]:
        path = path.with_suffix(".mp4")
        path.write_bytes(content)
        return path, videos.MIN_FRAMES
    path.mkdir()
    for index in range(2):
        (path / f"{index}.png").write_bytes(content)
    return path, videos.MIN_FRAMES


def broken(folder: Path, whole: dict[str, bytes], chance: random.Random) -> tuple[Path, int]:
    """Write a damaged or unusual clip; return it and the smallest number of frames that it may
    give.
    """
    suffix = chance.choice(list(whole))
    path = folder / f"clip{chance.randrange(10**6)}.{suffix}"
    content = bytearray(whole[suffix])
    kind = chance.randrange(16)
    if kind < 5:
        for _ in range(chance.choice((1, 3, 30, 300))):  # half of them near the header
            reach = len(content) if chance.random() < 0.5 else 200
            content[chance.randrange(reach)] = chance.randrange(256)
    elif kind == 5:
        content = content[: chance.randrange(len(content))]
    elif kind == 6:
        place = chance.randrange(len(content))
        content[place:] = bytes(len(content) - place)
    elif kind == 7:
        place = chance.randrange(len(content))
        content[place:place] = chance.randbytes(chance.randrange(1, 5000))
    elif kind == 8:
        content = bytearray(chance.randbytes(chance.randrange(5000)))
    elif kind == 9:
        content = bytearray(f"ffconcat version 1.0\nfile whole.{suffix}\n".encode())
    elif kind == 10:
        content = content[: chance.randrange(12, 60)] + bytes(chance.randrange(10**6))
    elif kind == 14:
        content = chance.choice([b"", b"hello, this is no video\n"])
    if kind < 11 or kind == 14:
        path.write_bytes(content)
        return path, round(SHARE * FRAMES) if kind in (5, 6) else videos.MIN_FRAMES
    return named(path, content, chance) if kind == 15 else other(
        path, kind, chance
    ), videos.MIN_FRAMES


def named(path: Path, content: bytes, chance: random.Random) -> Path:
    """Write a whole clip whose file, or the first image of whose folder, has an unusual name."""
    name = chance.choice(ODD_NAMES)
    if chance.random() < 0.5:
        path = path.with_stem(f"{path.stem}{name}")
        path.write_bytes(content)
        return path
    path.mkdir()
    for stem in (name, "2", "10"):
        (path / f"{stem}.png").write_bytes(
            cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes()
        )
    return path


def other(path: Path, kind: int, chance: random.Random) -> Path:
    """Make a pipe, a link to nowhere or to itself, a sparse file, or a folder of broken images."""
    if kind == 11:
        os.mkfifo(path)
    elif kind == 12:
        path.symlink_to(
            chance.choice([path.with_name("absent"), path, Path("/dev/zero"), Path("/")])
        )
    elif chance.random() < 0.5:
        with path.open("wb") as file:
            file.write(b"\0\0\0\x18ftypmp42")
            file.truncate(1 << 33)
    else:
        path.mkdir()
        for index in range(chance.randrange(4)):
            picture = cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes()
            if chance.random() < 0.5:
                picture = picture[: chance.randrange(len(picture))]
            (path / f"{index}.png").write_bytes(picture)
    return path


def verdict(path: Path, least: int) -> str:
    """Decode a clip; return what is wrong.

    It must give `least` whole frames or one line that names it, within MOST_BYTES of memory.
    """
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    try:
        count = 0
        for frame in videos.decode(path, SIZE):
            count += 1
            if frame.shape != (SIZE, SIZE, 3) or frame.dtype != np.uint8:
                return f"a frame of {frame.shape}, {frame.dtype}"
        lost = "" if count >= least else f"only {count} frames and no error"
    except UserError as error:
        text = str(error)
        lost = (
            ""
            if text.isprintable() and printable(path.name) in text and error.exit_code == 2
            else f"said {text!r}"
        )
    except Exception as error:  # any other exception is a failure
        lost = f"{type(error).__name__}: {error}"
    peak = peak_bytes()
    return lost or (f"{peak >> 20} MB in memory" if peak > MOST_BYTES else "")


def printable(name: str) -> str:
    """Return a name as error lines show it."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def peak_bytes() -> int:
    """Return the peak resident memory of this process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) << 10
