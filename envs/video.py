"""Clips in a folder: finding them, splitting them into two sides, decoding them, and saying what is wrong with one."""

import hashlib
import io
import math
import os
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from envs.cache import read_regular
from envs.sums import Sums
from errors import UserError

VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".mkv")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
TRAIN_FOLDER = "train"
HELDOUT_FOLDERS = ("heldout", "test", "val", "validation")
UPLOAD_ID = re.compile(r"([A-Za-z0-9_-]{11})(_\d+)*")  # a Kinetics file: the upload's id, then start and end seconds
# A folder of frames with such a name goes by the name of the folder that it is in as well: clip/img, clip/rgb/frames.
PLAIN_FOLDERS = {"img", "imgs", "image", "images", "frame", "frames", "rgb", "color", "colour", "jpg", "jpeg", "png"}
MIN_FRAMES = 2
MAX_CLIP_FRAMES = 3_000  # two minutes at 25 frames a second; the rest of a longer file is not read
MAX_PIXELS = 1 << 26  # a frame of 8192 x 8192
MAX_IMAGE_BYTES = 64 << 20
MAX_LIST_BYTES = 1 << 20  # of DAVIS's lists of names
DECODED_SHARE = 0.9  # of the frames a container declares; below it the file is damaged (containers count roughly)
# FFmpeg's decoders for these containers and no others, and no network: a file that says it is a playlist leads nowhere.
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "protocol_whitelist;file|format_whitelist;mov,avi,matroska"
REMOVE = "remove it or put a whole copy in its place"


def split(root: Path, heldout_fraction: float) -> tuple[list[Path], list[Path]]:
    """(train, held-out) clips under `root`: video files and folders of jpg or png frames.

    Sides are the folders train/ and test/, val/ or heldout/ if `root` has them, or DAVIS's own lists, or else decided
    by a hash of the upload id, so that the parts of one upload stay together. Raises UserError if a side is empty, or
    an upload or a copy of a clip is on both.
    """
    if not root.exists():
        raise UserError("no such file or folder", str(root), "give a folder with videos, or use starter or procedural")
    if not root.is_dir():
        what = "one file cannot be split into a training and a held-out side"
        raise UserError(what, str(root), "give a folder with two or more videos")
    train, heldout = _sides_of(root, heldout_fraction)
    if not train and not heldout:
        formats = " ".join(VIDEO_SUFFIXES)
        raise UserError("no clips", str(root), f"put {formats} files or folders of jpg or png frames there")
    if not train or not heldout:
        missing = "held-out" if train else "training"
        remedy = "give two or more clips, or train/ and heldout/ folders with clips"
        raise UserError(f"no {missing} side", str(root), remedy)
    both = {upload_id(clip) for clip in train} & {upload_id(clip) for clip in heldout}
    if both:
        raise UserError(f"clip {min(both)} is on both sides", str(root), "remove one of the two")
    copied = next(_copies(train, heldout), None)
    if copied:
        first, second = (clip.relative_to(root) for clip in copied)
        raise UserError(f"{first} and {second} are the same video, and on two sides", str(root), "remove one of the two")
    return train, heldout


def _copies(train: list[Path], heldout: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield pairs of the same bytes on two sides. Only clips of one size are read, each once."""
    of_size: dict[tuple, list[Path]] = {}
    for clip in train:
        of_size.setdefault(_sizes(clip), []).append(clip)
    pairs = [(clip, of_size.get(sizes, [])) for clip in heldout if any(sizes := _sizes(clip))]
    sums = Sums()
    known = {sum_: clip for clip in dict.fromkeys(clip for _, same in pairs for clip in same) if (sum_ := _sum(clip, sums))}
    for clip, same in pairs:
        if same and (other := known.get(_sum(clip, sums))):
            yield other, clip
    sums.keep()


def _sum(clip: Path, sums: Sums) -> str:
    """The SHA-256 of a clip; "" for one that cannot be read, which is told when it is decoded."""
    try:
        return sums.of(files(clip))
    except OSError:
        return ""


def _sizes(clip: Path) -> tuple[int, ...]:
    return tuple(path.stat().st_size if path.exists() else 0 for path in files(clip))


def _sides_of(root: Path, heldout_fraction: float) -> tuple[list[Path], list[Path]]:
    heldout_folder = next((root / name for name in HELDOUT_FOLDERS if (root / name).is_dir()), None)
    if (root / TRAIN_FOLDER).is_dir() and heldout_folder:
        return find(root / TRAIN_FOLDER), find(heldout_folder)
    if (root / "JPEGImages").is_dir():
        return _davis(root, heldout_fraction)
    return by_hash(find(root), heldout_fraction)


def _davis(root: Path, heldout_fraction: float) -> tuple[list[Path], list[Path]]:
    resolutions = sorted(path for path in (root / "JPEGImages").iterdir() if path.is_dir())
    pictures = next((path for path in resolutions if path.name == "480p"), resolutions[0] if resolutions else root)
    lists = next((path for path in sorted(root.glob("ImageSets/*/train.txt"), reverse=True)), None)
    if lists is None or not lists.with_name("val.txt").is_file():
        return by_hash(find(pictures), heldout_fraction)
    return _listed(lists, pictures), _listed(lists.with_name("val.txt"), pictures)


def _listed(path: Path, pictures: Path) -> list[Path]:
    """The clips in the folder `pictures` that a list names; it names nothing elsewhere."""
    try:
        names = read_regular(os.path.realpath(path), MAX_LIST_BYTES).decode(errors="replace").split()
    except OSError as error:
        what = f"the list of clips cannot be read ({error.strerror})"
        raise UserError(what, str(path), "mend or remove it") from error
    there = {folder.name for folder in pictures.iterdir()}
    strange = next((name for name in names if name not in there), None)
    if strange is not None:
        raise UserError(f"{strange[:60]!r} is not in {pictures}", str(path), "take it from the list, or put its pictures there")
    return [pictures / name for name in names]


def find(root: Path) -> list[Path]:
    """Every clip in the folder `root` or below, sorted: files with a video's suffix, and folders that hold frames."""
    clips = []
    for folder, folders, names in os.walk(root):
        folders.sort()
        clips += [Path(folder) / name for name in names if name.lower().endswith(VIDEO_SUFFIXES)]
        if any(name.lower().endswith(IMAGE_SUFFIXES) for name in names):
            clips.append(Path(folder))
    return sorted(clips)


def by_hash(clips: list[Path], heldout_fraction: float) -> tuple[list[Path], list[Path]]:
    """Splits by a hash of the upload id: a clip's side does not depend on its neighbours.

    Except that each side gets at least one upload where there are two; with one, the held-out side is empty.
    """
    ranks = {upload: _hash_rank(upload) for upload in {upload_id(clip) for clip in clips}}
    if len(ranks) < 2:
        return clips, []
    heldout = {upload for upload, rank in ranks.items() if rank < heldout_fraction} or {min(ranks, key=ranks.get)}
    if len(heldout) == len(ranks):
        heldout.remove(max(ranks, key=ranks.get))
    return (
        [clip for clip in clips if upload_id(clip) not in heldout],
        [clip for clip in clips if upload_id(clip) in heldout],
    )


def upload_id(clip: Path) -> str:
    """The first 11 characters of a Kinetics name, else the whole name."""
    folder, plain = clip, ""
    while folder.name.lower() in PLAIN_FOLDERS:
        folder, plain = folder.parent, f"/{folder.name}{plain}"
    stem = clip.stem if clip.suffix.lower() in VIDEO_SUFFIXES else folder.name
    match = UPLOAD_ID.fullmatch(stem)
    return match[1] if match else stem + plain


def _hash_rank(upload: str) -> float:
    return int(hashlib.sha256(os.fsencode(upload)).hexdigest()[:8], 16) / 2**32


def files(clip: Path) -> list[Path]:
    return _frame_files(clip) if clip.is_dir() else [clip]


def identity(clip: Path) -> list:
    """Path, size and time of a clip's files: what its decoded frames depend on."""
    states = [path.stat() if path.exists() else None for path in files(clip)]
    return [os.path.realpath(clip), [[state.st_size, state.st_mtime_ns] for state in states if state]]


def decode(clip: Path, size: int) -> Iterator[np.ndarray]:
    """Yields the frames of one clip, RGB (size, size, 3) uint8; each is cut and scaled as it arrives.

    Raises UserError if the clip is not a regular file, not a video, damaged, too large or shorter than two frames.
    """
    if clip.is_dir():
        frames = _image_frames(clip)
    else:
        _check_file(clip)
        frames = _video_frames(clip)
    count = 0
    for frame in frames:
        count += 1
        yield _fitted(frame, size)
    if count < MIN_FRAMES:
        raise UserError(f"{count} frame{'s' * (count != 1)} can be decoded, 2 are needed", str(clip), REMOVE)


def _fitted(frame: np.ndarray, size: int) -> np.ndarray:
    """The centre square of a BGR frame as RGB (size, size, 3)."""
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frame[top : top + side, left : left + side]
    shrinks = side >= size
    scaled = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return cv2.cvtColor(scaled, cv2.COLOR_BGR2RGB)


def _check_file(path: Path) -> None:
    """A regular, readable file that starts as a video container does; opens nothing that could block."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError("its name is not UTF-8, which OpenCV needs", str(path), "rename it") from None
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise UserError("not a regular file", str(path), "remove it from the folder")
        if state.st_size == 0:
            raise UserError("an empty file", str(path), REMOVE)
        with path.open("rb") as file:
            start = file.read(12)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(path), "mend its permissions or remove it") from error
    mp4 = start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
    avi = start[:4] == b"RIFF" and start[8:12] == b"AVI "
    matroska = start[:4] == b"\x1a\x45\xdf\xa3"
    if not (mp4 or avi or matroska):
        raise UserError("not a video (no mp4, avi, webm or mkv container)", str(path), "remove it from the folder")


def _video_frames(path: Path) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise UserError("damaged, or in a codec that OpenCV has not", str(path), REMOVE)
        if capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT) > MAX_PIXELS:
            raise UserError("frames of more than 67 million pixels", str(path), "scale the video down")
        declared = min(capture.get(cv2.CAP_PROP_FRAME_COUNT), MAX_CLIP_FRAMES)
        count = 0
        while count < MAX_CLIP_FRAMES:
            decoded, frame = capture.read()
            if not decoded:
                break
            count += 1
            yield frame
    finally:
        capture.release()
    if count < DECODED_SHARE * declared:
        raise UserError(f"damaged: {count} of {int(declared)} frames can be decoded", str(path), REMOVE)


def _frame_files(folder: Path) -> list[Path]:
    """The pictures of a frame folder by the number in their names, so that 10.jpg comes after 9.jpg."""
    names = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES] if folder.is_dir() else []
    return sorted(names, key=_natural_order)


def _natural_order(path: Path) -> list:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def _image_frames(folder: Path) -> Iterator[np.ndarray]:
    for path in _frame_files(folder)[:MAX_CLIP_FRAMES]:
        data = _picture_bytes(path)
        is_picture = data[:3].tobytes() == b"\xff\xd8\xff" or data[:4].tobytes() == b"\x89PNG"
        try:
            if is_picture and math.prod(_picture_size(data)) > MAX_PIXELS:  # before there is memory taken for them
                raise UserError("more than 67 million pixels", str(path), "scale the picture down")
            frame = cv2.imdecode(data, cv2.IMREAD_COLOR) if is_picture else None
        except (OSError, SyntaxError, cv2.error):  # the second is Pillow's for a broken PNG
            frame = None
        if frame is None:
            raise UserError("damaged, or not a jpg or png picture", str(path), REMOVE)
        yield frame


def _picture_size(data: np.ndarray) -> tuple[int, int]:
    """Width and height by the header alone. Errors: OSError or SyntaxError where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours is the stricter
        try:
            with Image.open(io.BytesIO(data.tobytes())) as picture:
                return picture.size
        except Image.DecompressionBombError:
            return MAX_PIXELS, 2


def _picture_bytes(path: Path) -> np.ndarray:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError("its name is not UTF-8, which OpenCV needs", str(path), "rename it") from None
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) or not 0 < state.st_size <= MAX_IMAGE_BYTES:
            raise UserError("not a picture file", str(path), "remove it from the folder")
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(path), "mend its permissions or remove it") from error
