"""Clips in a folder: which there are, and their sides. The sides share no recording and no copy."""

import hashlib
import mimetypes
import os
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from foreground.envs import folder_messages, own_files
from foreground.envs.cache import open_regular, read_regular
from foreground.envs.pictures import IMAGE_SUFFIXES, frame_files
from foreground.envs.recordings import recordings_of
from foreground.envs.sides import HELDOUT, TRAIN, sides_of
from foreground.envs.sums import Sums, state_of
from foreground.envs.video import VIDEO_SUFFIXES, starts_like_a_video
from foreground.errors import UserError

# Files of systems and programs among the clips; names that begin with a dot are ignored too.
NOT_CLIPS = {
    "@eadir",
    "__macosx",
    "lost+found",
    "$recycle.bin",
    "system volume information",
    "#recycle",
    "thumbs.db",
}
# Folders of pictures that belong to videos and are none.
NOT_FRAMES = {
    "thumbs",
    "thumbnails",
    "previews",
    "posters",
    "annotation",
    "annotations",
    "annotations_unsupervised",
    "mask",
    "masks",
    "segmentation",
    "segmentations",
    "depth",
    "disparity",
    "optical_flow",
}
MORE_SUFFIXES = (
    ".h264",
    ".264",
    ".h265",
    ".hevc",
    ".265",
    ".ivf",
    ".m3u8",
    ".mpd",
    ".swf",
    ".part",
    ".crdownload",
)
MIN_PICTURES = 2
MAX_LIST_BYTES = 1 << 20  # of DAVIS's lists of names
HELDOUT_FRACTION = 0.25  # of the recordings, where nothing else is asked for


class Found(NamedTuple):
    """A clip that was found: a file, or a folder of frames.

    name       its path below the root, with "/"
    recording  see `recordings`
    """

    path: Path
    name: str
    recording: str


def split(root: Path, heldout_fraction: float) -> tuple[list[Found], list[Found]]:
    """Return the (train, held-out) clips in `root` and below: video files and folders of frames.

    Sides are the folders train/ and heldout/, test/, eval/ or val/, or DAVIS's own lists, or else
    decided by a hash of the recording. One warning counts what looks like a video and is not taken,
    another says where a fraction was chosen and the folder has sides of its own.
    Raise UserError where a side is empty, or where both have parts of one recording or copies of
    one clip.
    """
    check_there(root)
    if not root.is_dir():
        what = "one file cannot be split into a training and a held-out side"
        raise folder_messages.OneSide(what, root, "give a folder with two or more videos")
    clips, passed, own = find(root)
    if not clips:
        raise folder_messages.no_clips(passed, own, root)
    if (root / "JPEGImages").is_dir():
        train, heldout, by_names = _davis(root, heldout_fraction)
    elif any((sides := _sides(clips, root)).values()):
        train, heldout, more = _by_folders(sides, root)
        passed, by_names = passed + more, True
    else:
        train, heldout, by_names = *by_hash(clips, heldout_fraction), False
        if not heldout:
            raise folder_messages.no_second_side([clip.name for clip in clips], root)
    _check_sides(train, heldout, root)
    if by_names and heldout_fraction != HELDOUT_FRACTION:
        what = f"{root} has a training and a held-out side of its own"
        warnings.warn(f"{what}: heldout_fraction has no effect: leave it out", stacklevel=2)
    folder_messages.warn(passed, own, root)
    return train, heldout


def every(root: Path) -> list[Found]:
    """Return all clips in `root` and below, of whatever side, or the one file `root`.

    Warn as `split`. Raise UserError where there are none.
    """
    check_there(root)
    if not root.is_dir():
        return [Found(root, root.name, root.stem)]
    clips, passed, own = find(root)
    if not clips:
        raise folder_messages.no_clips(passed, own, root)
    if (root / "JPEGImages").is_dir():
        return _found([(clip.path, True) for clip in find(_pictures_of_davis(root))[0]], root)
    folder_messages.warn(passed, own, root)
    return clips


def check_there(root: Path) -> None:
    """Raise UserError where a path does not exist."""
    if not root.exists():
        remedy = "give a folder with videos, or use starter or procedural"
        raise UserError("no such file or folder", str(root), remedy)


def _check_sides(train: list[Found], heldout: list[Found], root: Path) -> None:
    """Raise UserError where both sides have parts of one recording, or copies of one clip."""
    of_train = {clip.recording: clip for clip in train}
    both = next((clip for clip in heldout if clip.recording in of_train), None)
    if both:
        names = f"{of_train[both.recording].name} and {both.name}"
        what = f"{names} are parts of one recording, and on two sides"
        raise UserError(what, str(root), "put both on one side, or remove one of the two")
    copied = next(_copies(train, heldout), None)
    if copied:
        first, second = copied
        what = f"{first.name} and {second.name} are the same video, and on two sides"
        raise UserError(what, str(root), "remove one of the two")


def _copies(train: list[Found], heldout: list[Found]) -> Iterator[tuple[Found, Found]]:
    """Yield pairs of equal contents on two sides.

    Only clips of the same size are read, each once.
    """
    of_size: dict[tuple, list[Found]] = {}
    for clip in train:
        of_size.setdefault(_sizes(clip.path), []).append(clip)
    pairs = [(clip, of_size.get(sizes, [])) for clip in heldout if any(sizes := _sizes(clip.path))]
    sums = Sums()
    known = {_sum(clip, sums): clip for _, same in pairs for clip in same}
    digests = {clip: _sum(clip, sums) for clip, same in pairs if same}
    sums.keep()
    for clip, digest in digests.items():
        if digest and digest in known:
            yield known[digest], clip


def _sum(clip: Found, sums: Sums) -> str:
    """Return the SHA-256 of a clip; "" for one that cannot be read, which decoding reports."""
    try:
        return sums.of(files(clip.path))
    except OSError:
        return ""


def _sizes(clip: Path) -> tuple[int, ...]:
    return tuple(path.stat().st_size if path.exists() else 0 for path in files(clip))


def files(clip: Path) -> list[Path]:
    """Return the files of a clip in the order of its frames."""
    return frame_files(clip) if clip.is_dir() else [clip]


def identity(clip: Found) -> list:
    """Return path, sizes, times and inodes of a clip's files: what its decoded frames depend on."""
    try:
        return [os.path.realpath(clip.path), clip.name, clip.recording, state_of(files(clip.path))]
    except OSError:  # told when it is decoded
        return [os.path.realpath(clip.path), clip.name, clip.recording, None]


def find(root: Path) -> tuple[list[Found], list[Path], list[Path]]:
    """Return the clips in `root` and below, what looks like one and is not taken, and own films.

    Each is sorted. Links are followed, each folder is read once. In a folder that holds videos,
    or its subfolders, images are not frames. Own films are those of runs and evaluations.
    """
    videos, folders, passed, own = [], [], [], []
    for folder, names in _walk(root):
        ours = own_files.among(names, folder)
        own += [folder / name for name in names if name in ours and not name.endswith(".json")]
        names = [name for name in names if name not in ours]
        pictures = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
        within = {part.lower() for part in folder.relative_to(root).parts}
        if len(pictures) >= MIN_PICTURES and not within & NOT_FRAMES:
            folders.append(folder)
        else:
            passed += [folder / name for name in pictures]
        for name in sorted(set(names) - set(pictures)):
            taken = name.lower().endswith(VIDEO_SUFFIXES)
            if taken or _looks_like_a_video(folder / name):
                (videos if taken else passed).append(folder / name)
    above = {parent for video in videos for parent in video.parents}
    passed += [picture for folder in folders if folder in above for picture in frame_files(folder)]
    frames = [(path, True) for path in folders if path not in above]
    clips = [(path, False) for path in videos] + frames
    return _found(sorted(clips), root), sorted(passed), sorted(own)


def _found(clips: list[tuple[Path, bool]], root: Path) -> list[Found]:
    """Name the clips (path, whether it is a folder of frames) and their recordings."""
    names = [(PurePosixPath(path.relative_to(root)), frames) for path, frames in clips]
    recordings = recordings_of(names)
    return [
        Found(path, name.as_posix(), one)
        for (path, _), (name, _), one in zip(clips, names, recordings)
    ]


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folders from `root` on with the names of their files, without hidden ones."""
    seen = set()
    for folder, folders, names in os.walk(root, onerror=_cannot_be_read, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_left(name))
        yield Path(folder), [name for name in names if not _is_left(name)]


def _is_left(name: str) -> bool:
    return name.startswith(".") or name.lower() in NOT_CLIPS


def _cannot_be_read(error: OSError) -> None:
    raise UserError(
        f"cannot be read ({error.strerror})",
        str(error.filename),
        "mend its permissions or remove it",
    )


def _looks_like_a_video(path: Path) -> bool:
    """Return whether a file with another suffix is a video or an image, by name or first bytes."""
    kind = mimetypes.guess_type(path.name)[0] or ""
    if kind or path.name.lower().endswith(MORE_SUFFIXES):
        return not kind or kind.startswith(("video/", "image/"))
    try:
        with open_regular(os.path.realpath(path)) as file:
            return starts_like_a_video(file.read(16))
    except OSError:
        return False


def _sides(clips: list[Found], root: Path) -> dict[Found, str]:
    """Return the side in the folder names of each clip, or "". A warning lists unused names."""
    ways = [PurePosixPath(clip.name) for clip in clips]
    ways = [way.parts if clip.path.is_dir() else way.parts[:-1] for clip, way in zip(clips, ways)]
    sides, unused = sides_of(ways, root)
    if unused and not any(sides):
        what = (
            f"{folder_messages.listed(unused)}: named like one side, without a partner, and "
            "split like any folder"
        )
        remedy = "rename it train/ and add a folder heldout/ if it is a side"
        warnings.warn(f"{root}: {what}: {remedy}", stacklevel=4)
    return dict(zip(clips, sides))


def _by_folders(sides: dict[Found, str], root: Path) -> tuple[list[Found], list[Found], list[Path]]:
    """Return (train, held-out, clips without a side) by the names of the folders.

    Raises: UserError where a side has no clips.
    """
    there = set(sides.values())
    chosen = next((names[0] for names in HELDOUT if names[0] in there), None)
    if chosen is None or TRAIN[0] not in there:
        one = next(clip for clip in sides if sides[clip])
        missing = "held-out" if chosen is None else "training"
        partner = "heldout/ or test/" if chosen is None else "train/"
        what = f"{one.name} is in a folder for one side, and no folder {partner} has clips"
        remedy = f"add a folder {partner} with clips, or rename the folder to have the clips split"
        raise UserError(f"no {missing} side: {what}", str(root), remedy)
    train = [clip for clip in sides if sides[clip] == TRAIN[0]]
    heldout = [clip for clip in sides if sides[clip] == chosen]
    return train, heldout, [clip.path for clip in sides if sides[clip] not in (TRAIN[0], chosen)]


def by_hash(clips: list[Found], heldout_fraction: float) -> tuple[list[Found], list[Found]]:
    """Split by a hash of the recording.

    Each side gets at least one recording where there are two; with one, the held-out side is empty.
    So in a small folder a clip's side may depend on the other clips.
    """
    ranks = {recording: _hash_rank(recording) for recording in {clip.recording for clip in clips}}
    if len(ranks) < 2:
        return clips, []
    heldout = {recording for recording, rank in ranks.items() if rank < heldout_fraction}
    heldout = heldout or {min(ranks, key=ranks.get)}
    if len(heldout) == len(ranks):
        heldout.remove(max(ranks, key=ranks.get))
    return (
        [clip for clip in clips if clip.recording not in heldout],
        [clip for clip in clips if clip.recording in heldout],
    )


def _hash_rank(recording: str) -> float:
    return int(hashlib.sha256(os.fsencode(recording)).hexdigest()[:8], 16) / 2**32


def _davis(root: Path, heldout_fraction: float) -> tuple[list[Found], list[Found], bool]:
    """Return the clips of both sides, and whether DAVIS's lists name them."""
    pictures = _pictures_of_davis(root)
    lists = next((path for path in sorted(root.glob("ImageSets/*/train.txt"), reverse=True)), None)
    listed = lists is not None and lists.with_name("val.txt").is_file()
    if not listed:
        clips = _found([(clip.path, True) for clip in find(pictures)[0]], root)
        sides = by_hash(clips, heldout_fraction)
    else:
        sides = _listed(lists, pictures, root), _listed(lists.with_name("val.txt"), pictures, root)
    if not all(sides):
        raise UserError(
            "no held-out side" if sides[0] else "no training side",
            str(root),
            "mend its lists in ImageSets/",
        )
    return *sides, listed


def _pictures_of_davis(root: Path) -> Path:
    """Return the folder of one resolution: 480p where it is there."""
    resolutions = sorted(path for path in (root / "JPEGImages").iterdir() if path.is_dir())
    other = resolutions[0] if resolutions else root
    return next((path for path in resolutions if path.name == "480p"), other)


def _listed(path: Path, pictures: Path, root: Path) -> list[Found]:
    """Return the clips in the folder `pictures` that a list names, and no other paths."""
    try:
        content = read_regular(os.path.realpath(path), MAX_LIST_BYTES)
        names = content.decode(errors="replace").split()
    except OSError as error:
        what = f"the list of clips cannot be read ({error.strerror})"
        raise UserError(what, str(path), "mend or remove it") from error
    there = {folder.name for folder in pictures.iterdir()}
    strange = next((name for name in names if name not in there), None)
    if strange is not None:
        raise UserError(
            f"{strange[:60]!r} is not in {pictures}",
            str(path),
            "take it from the list, or put its pictures there",
        )
    return _found([(pictures / name, True) for name in names], root)
