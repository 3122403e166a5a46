"""The frames of a clip: a video file, decoded by PyAV, or a folder of pictures.

Whether a file is whole is judged by the decoder's errors and by time stamps. The number of frames
that a container declares is often a guess, and is not read.
"""

import contextlib
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from av.stream import Disposition

from foreground.envs.damage import REMOVE, Damaged, Deadline, check_name, unreadable
from foreground.envs.pictures import MAX_SCANS, SCAN, over_black, pictures

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".webm", ".mkv", ".mk3d", ".avi",
    ".divx", ".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".m2ts", ".mts", ".wmv", ".asf", ".flv",
    ".ogv", ".ogm", ".gif", ".mxf", ".dv", ".rm", ".rmvb", ".nut", ".y4m",
)  # fmt: skip
# FFmpeg's readers of containers, and no network: a file that says it is a playlist leads nowhere.
FORMATS = "mov,matroska,avi,mpeg,mpegvideo,mpegts,asf,flv,ogg,gif,mxf,dv,rm,nut,yuv4mpegpipe"
# Of these a header tells the duration. Of others FFmpeg guesses it, or reads it off the last
# packet.
WITH_DURATION = ("mov", "matroska", "avi", "asf", "flv", "mxf")
DURATION = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)")
PLAYED = ("video", "audio")
MIN_FRAMES = 2
MAX_CLIP_FRAMES = 3_000  # two minutes at 25 frames a second; the rest of a longer file is not read
MAX_PIXELS = 8192 * 4352  # of a frame: 8K; a decoder may hold sixteen
TOO_LARGE = f"frames of more than {MAX_PIXELS // 1_000_000} million pixels"
MAX_CLIP_PIXELS = 6_400_000_000  # of all frames: 3,000 of 1920 x 1080; the rest is not read
MAX_SECONDS = 60.0  # of this thread's time that a clip may take
LOST = 0.1  # share of the packets, or of the time, that may be lost; more is damage


def _nothing() -> None:
    """Take no note of a clip that is longer than what plays."""


def decode(clip: Path, size: int, note: Callable[[], object] = _nothing) -> Iterator[np.ndarray]:
    """Yield the frames of one clip, RGB (size, size, 3) uint8, each cut and scaled as it comes.

    note  called where the clip has more frames than play

    Raises: Damaged where the clip is not a regular file, not a video, damaged, too large, too slow,
    or shorter than two frames.
    """
    deadline = Deadline(MAX_SECONDS, clip)
    is_folder = clip.is_dir()
    frames = (
        pictures(clip, MAX_CLIP_FRAMES + 1, deadline)
        if is_folder
        else _video_frames(clip, deadline)
    )
    count = 0
    pixels = 0
    for frame in frames:
        if count >= MAX_CLIP_FRAMES or (pixels >= MAX_CLIP_PIXELS and count >= MIN_FRAMES):
            note()
            break
        count += 1
        pixels += frame.shape[0] * frame.shape[1]
        yield _fitted(frame, size)
        deadline.check()
    if count < MIN_FRAMES:
        what = f"{count} frame{'s' * (count != 1)} can be decoded, 2 are needed"
        raise Damaged(what, clip, REMOVE)


def _fitted(frame: np.ndarray, size: int) -> np.ndarray:
    """Return the centre square of a BGR frame as RGB (size, size, 3)."""
    height, width = frame.shape[:2]
    side = min(height, width)
    top = (height - side) // 2
    left = (width - side) // 2
    square = frame[top : top + side, left : left + side]
    method = cv2.INTER_AREA if side >= size else cv2.INTER_LINEAR
    scaled = cv2.resize(square, (size, size), interpolation=method)
    return cv2.cvtColor(scaled, cv2.COLOR_BGR2RGB)


def starts_like_a_video(start: bytes) -> bool:
    """Return whether the first 16 bytes of a file are those of a common container."""
    mp4 = start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")
    riff = start[:4] == b"RIFF" and start[8:12] == b"AVI "
    others = (
        b"\x1a\x45\xdf\xa3",
        b"\x00\x00\x01\xba",
        b"\x00\x00\x01\xb3",
        b"OggS",
        b"FLV\x01",
        b"GIF8",
        b"\x30\x26\xb2\x75",
    )
    return mp4 or riff or start.startswith(others)


def _check_file(path: Path) -> None:
    """Raise Damaged unless it is a regular, readable file with something in it.

    Open nothing that could block.
    """
    check_name(path)
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise Damaged("not a regular file", path, "remove it from the folder")
        if state.st_size == 0:
            raise Damaged("an empty file", path, REMOVE)
        with path.open("rb"):
            pass
    except OSError as error:
        raise unreadable(error, path) from error


def _video_frames(path: Path, deadline: Deadline) -> Iterator[np.ndarray]:
    """Yield the frames of a video file, BGR (H, W, 3), turned as its metadata say.

    Raises: Damaged where it is not whole, or takes too long.
    """
    _check_file(path)
    with contextlib.closing(_opened(path)) as container:
        stream = _video_stream(container, path)
        record = _Record()
        for packet in _packets(container, record):
            deadline.check()  # also where no frame comes out
            record.see(packet)
            if packet.stream_index != stream.index:
                continue
            if stream.codec_context.name == "mjpeg" and bytes(packet).count(SCAN) > MAX_SCANS:
                raise Damaged(f"a picture of more than {MAX_SCANS} scans", path, "encode it again")
            for frame in _decoded(stream.codec_context, packet, record):
                record.frames += 1
                yield _upright(frame)
        _check_whole(container, stream, record, path)


def limits() -> dict[str, str]:
    """Return FFmpeg's options for files of others."""
    return {
        "max_pixels": str(MAX_PIXELS),
        "protocol_whitelist": "file",
        "format_whitelist": FORMATS,
    }


def _opened(path: Path):
    try:
        return av.open(str(path.absolute()), options=limits(), metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        with path.open("rb") as file:
            start = file.read(64)
        if starts_like_a_video(start[:16]):
            raise Damaged("damaged: its beginning cannot be read", path, REMOVE) from error
        # A web page that says why there was no video, a pointer of git-lfs.
        if text := _as_text(start):
            what = f"a text, and not a video (it begins {text!r})"
            raise Damaged(
                what, path, "download the video again, or remove it from the folder"
            ) from error
        raise Damaged("not a video", path, "remove it from the folder") from error


def _as_text(start: bytes) -> str:
    """Return the first words of a text, or "" for other bytes."""
    text = start.decode(errors="ignore")
    is_text = len(text.encode()) > len(start) - 4 and all(
        letter.isprintable() or letter.isspace() for letter in text
    )
    return " ".join(text.split())[:40] if is_text else ""


def _video_stream(container, path: Path):
    """Return the video stream of a container, not the cover image of its sound."""
    covers = Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        raise Damaged("it holds no video", path, "remove it from the folder")
    stream = container.streams.best("video")
    stream = stream if stream in streams else streams[0]
    if stream.codec_context is None:
        raise Damaged("FFmpeg has no decoder for its codec", path, "convert it to H.264")
    if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
        raise Damaged(TOO_LARGE, path, "scale the video down")
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    stream.codec_context.thread_count = 1  # the deadline counts the time of this thread alone
    return stream


class _Record:
    """What came out of a file: frames, errors, and the time at which the packets of streams end."""

    def __init__(self):
        self.frames = 0
        self.packets = 0
        self.lost = 0
        self.has_begun = False
        self.longest = 0.0
        self.cut = False
        self.error = None
        self.ends: dict[int, float] = {}
        self._last: dict[int, float] = {}

    def see(self, packet) -> None:
        """Take note of a packet's time.

        The longest time between two packets of a video or audio stream counts as a gap.
        """
        moment = packet.pts if packet.pts is not None else packet.dts
        if moment is None:
            return
        begins = float(moment * packet.time_base)
        index = packet.stream_index
        if packet.stream.type in PLAYED:
            self.longest = max(self.longest, begins - self._last.get(index, begins))
            self._last[index] = begins
        ends = begins + float((packet.duration or 0) * packet.time_base)
        self.ends[index] = max(self.ends.get(index, 0.0), ends)


def _packets(container, record: _Record) -> Iterator:
    """Yield the packets of all streams. An error of the container ends them."""
    try:
        yield from container.demux()
    except av.error.FFmpegError as error:
        record.cut = True
        record.error = error


def _decoded(codec, packet, record: _Record) -> list:
    """Return the frames of a packet; count it as lost where the decoder has an error.

    Packets before the first key frame need what was before the file: a stream that was cut out of
    another may have some.
    """
    record.has_begun |= packet.is_keyframe or record.frames > 0
    record.packets += packet.size > 0
    try:
        frames = codec.decode(packet)
    except av.error.EOFError:  # after the last packet
        return []
    except (av.error.FFmpegError, ValueError) as error:
        record.error = error
        record.lost += record.has_begun
        return []
    record.lost += record.has_begun and any(frame.is_corrupt for frame in frames)
    return frames


def _check_whole(container, stream, record: _Record, path: Path) -> None:
    """Raise Damaged where no frame came, too much was lost, or the file ends before its time."""
    codec = stream.codec_context.name
    if not record.frames:
        if isinstance(
            record.error,
            (
                av.error.PatchWelcomeError,
                av.error.DecoderNotFoundError,
                av.error.NotImplementedError,
            ),
        ):
            raise Damaged(f"FFmpeg cannot decode its codec ({codec})", path, "convert it to H.264")
        what = f"damaged, or {TOO_LARGE}: no frame of its {codec} video can be decoded"
        raise Damaged(what, path, REMOVE)
    if record.lost > LOST * record.packets:
        what = f"damaged: {record.lost} of {record.packets} packets cannot be decoded"
        raise Damaged(what, path, REMOVE)
    whole, end = _seconds(container, stream, record)
    if whole - end > max(LOST * whole, 2 * record.longest):
        raise Damaged(f"damaged: it ends after {end:.1f} of {whole:.1f} seconds", path, REMOVE)
    if record.cut and not whole:
        raise Damaged(
            f"damaged: it breaks off after {end:.1f} seconds ({record.error.strerror})",
            path,
            REMOVE,
        )


def _seconds(container, stream, record: _Record) -> tuple[float, float]:
    """Return the duration that is declared, 0 for none, and the time at which the packets end.

    Subtitles and data may be longer than picture and sound, or one packet may be as long as the
    file. Where there are such streams, the video stream is compared with its own duration.
    """
    whole = _declared_seconds(container, stream)
    end = max(record.ends.values(), default=0.0)
    if any(other.type not in PLAYED for other in container.streams):
        own = _own_seconds(container, stream)
        if own and whole:
            whole = min(own, whole)
            end = record.ends.get(stream.index, 0.0)
    return whole, end - min(container.start_time or 0, 0) / av.time_base


def _declared_seconds(container, stream) -> float:
    """Return the duration in the header; 0 where there is none, and FFmpeg would guess one."""
    if container.format.name == "avi":  # counts time in frames; FFmpeg shortens a short file's
        return float(stream.frames * stream.time_base)
    declared = container.format.name.startswith(WITH_DURATION)
    return (container.duration or 0) / av.time_base if declared else 0.0


def _own_seconds(container, stream) -> float:
    """Return the duration that a header tells of the picture alone, or 0."""
    if container.format.name.startswith("mov"):
        return float((stream.duration or 0) * stream.time_base)
    match = DURATION.fullmatch(stream.metadata.get("DURATION", ""))  # a tag of mkv and webm
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0


def _upright(frame) -> np.ndarray:
    """Return a frame as BGR (H, W, 3), turned upright, with what is transparent over black."""
    transparent = any(component.is_alpha for component in frame.format.components)
    picture = frame.to_ndarray(format="bgra" if transparent else "bgr24")
    if transparent:
        picture = over_black(picture)
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))
