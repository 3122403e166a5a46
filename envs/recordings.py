"""Which recording a clip is a part of, by its name. Parts of one recording stay on one side.

A name that tells an upload or a recording does so wherever the clip lies. Any other file goes by
its name without running numbers at the end, and by its folder. A folder of frames goes by its path
without the names of cameras.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

ID = r"[A-Za-z0-9_-]{11}"
KINETICS = re.compile(rf"({ID})_\d{{6}}_\d{{6}}")  # the upload's id, then start and end in seconds
IN_BRACKETS = re.compile(rf".*\[({ID})\].*")  # yt-dlp: Title [id]_001
UCF = re.compile(r"(v_.+_g\d+)_c\d+", re.IGNORECASE)  # v_Biking_g01_c01: class, group, clip
PLAIN_ID = re.compile(rf"(?:v_)?({ID})(?:_\d+)*")  # ID, ID_1, and v_ID_1 of ActivityNet
# What looks like such an id and is made of words: Driving_Car, BlowDryHair, video_00012,
# Movie_00_01.
WORDS = re.compile(r"[A-Za-z]?[a-z]+(?:[_-]?[A-Z]?[a-z]+)*[_-]?\d*|[A-Z]?[a-z]+(?:[_-]\d\d)+")
# A running number at the end, with the word before it: drive_000, ride-Scene-001, walk part 2, talk
# (3).
PART = r"(?:scene|part|pt|chunk|segment|seg|shot|clip|split|piece|c)"
RUNNING = re.compile(rf"(?P<base>.+?)[ _.-]+(?:{PART}[ _.-]*)?\(?\d+\)?", re.IGNORECASE)
# Of eleven characters, what may lose more numbers than one; others may be ids that look like words.
NUMBERED = re.compile(r"[A-Z]?[a-z]+\d?(?:[_-]\d\d+)+")
PART_ALONE = re.compile(r"(part|pt|chunk|segment|seg|split|piece)[ _.-]*\d+", re.IGNORECASE)
UNSEPARATED = re.compile(r"(?P<base>.*[^\W\d])(?P<number>\d{2,})")  # output000
# IMG_0001, DSCF1234 (the DCF standard), C0001, VID-20230101-WA0001: a counter, a recording each.
CAMERA = re.compile(r"[A-Z_][A-Z0-9_]{3}\d{4}|[A-Z]{1,3}_?\d{4,5}|.+-WA\d{4}")
# GH010123 is chapter 1 of the recording 0123; GOPR0123 continues as GP010123.
GOPRO = re.compile(r"(?:G[HXPLS]\d\d|GOPR)(\d{4})")
# The moment at which a phone or a program began to record: VID_20230101_120000.
MOMENT = re.compile(
    r".*?(?<!\d)(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"(?:T|[ _.-]|at)*[0-2]\d[-_.:]?[0-5]\d[-_.:]?[0-5]\d(?:\d{3})?(?!\d)"
)
# Folders of frames that are one view of a recording: KITTI's image_02/data, cam0, left.
VIEW = re.compile(r"image_\d\d|cam(?:era)?[ _.-]?\d+|left|right|data", re.IGNORECASE)


def recordings_of(clips: Iterable[tuple[PurePosixPath, bool]]) -> list[str]:
    """Return the recording of each (path, whether it is a folder of frames), as `recording_of`.

    Numbers without a separator (output000) count where files of one folder share the name before
    them and one number begins with 0: video10 and video11 are names of unrelated clips.
    """
    clips = list(clips)
    recordings = [recording_of(path, frames) for path, frames in clips]
    numbered: dict[str, list[tuple[int, str]]] = {}
    for index, (path, frames) in enumerate(clips):
        match = UNSEPARATED.fullmatch(path.stem)
        by_name = not frames and recordings[index] == path.with_suffix("").as_posix()
        if match and by_name and not _is_one(path.stem):
            base = (path.parent / match["base"]).as_posix()
            numbered.setdefault(base, []).append((index, match["number"]))
    for base, members in numbered.items():
        if len(members) > 1 and any(number.startswith("0") for _, number in members):
            for index, _ in members:
                recordings[index] = base
    return recordings


def recording_of(clip: PurePosixPath, frames: bool) -> str:
    """Return the recording of a clip, by its name alone.

    clip    its path below the root of its source
    frames  whether it is a folder of frames
    """
    stem = clip.name if frames else clip.stem
    for name in (stem, *reversed(clip.parts[:-1])):
        known = _known(name)
        if known:
            return known
    if frames:
        return PurePosixPath(*(part for part in clip.parts if not VIEW.fullmatch(part))).as_posix()
    return (clip.parent / _without_numbers(stem)).as_posix()


def is_global(recording: str) -> bool:
    """Return whether a recording is an upload's id or a UCF group: the same in every folder.

    Other names are paths below the root of their source, and have a meaning only there.
    """
    is_id = re.fullmatch(ID, recording) and _is_mixed(recording)
    return bool(is_id or re.fullmatch(r"v_[^/]+_g\d+", recording, re.IGNORECASE))


def _known(name: str) -> str:
    """Return the upload or recording that the form of a name gives, or ""."""
    for pattern in (KINETICS, IN_BRACKETS, UCF):
        match = pattern.fullmatch(name)
        if match:
            return match[1]
    match = PLAIN_ID.fullmatch(name)
    return match[1] if match and _is_mixed(match[1]) else ""


def _is_mixed(text: str) -> bool:
    """Return whether eleven characters look random and not like words."""
    mixed = (text != text.lower() and text != text.upper()) or re.search("[0-9][A-Za-z]", text)
    return bool(mixed) and not WORDS.fullmatch(text)


def _is_one(stem: str) -> bool:
    """Return whether the number in a name is that of a recording, not of a part of one."""
    return bool(CAMERA.fullmatch(stem) or GOPRO.fullmatch(stem) or MOMENT.match(stem))


def _without_numbers(stem: str) -> str:
    """Return a name without what tells a part of a recording."""
    chapter = GOPRO.fullmatch(stem)
    moment = MOMENT.match(stem)
    part = PART_ALONE.fullmatch(stem)
    if chapter:
        return f"GOPR{chapter[1]}"
    if moment:
        return moment[0]
    if part:
        return part[1]
    last = False
    while not last and not CAMERA.fullmatch(stem) and (match := RUNNING.fullmatch(stem)):
        if not any(letter.isalpha() for letter in match["base"]):
            break
        last = any(_may_be_an_id(text) for text in (stem, match["base"]))
        stem = match["base"]
    return stem


def _may_be_an_id(text: str) -> bool:
    match = PLAIN_ID.fullmatch(text)
    return bool(match) and not NUMBERED.fullmatch(match[1])
