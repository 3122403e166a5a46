"""Which recording a clip is a part of, by its name. Parts of one recording stay on one side.

A name that tells an upload or a recording does so wherever the clip lies. Any other file goes by
its name without a running number at the end, and by its folder. A folder of frames goes by its
path.
"""

import re
from pathlib import PurePosixPath

ID = r"[A-Za-z0-9_-]{11}"
KINETICS = re.compile(rf"({ID})_\d{{6}}_\d{{6}}")  # the upload's id, then start and end in seconds
IN_BRACKETS = re.compile(rf".*\[({ID})\].*")  # yt-dlp: Title [id]_001
UCF = re.compile(r"(v_.+_g\d+)_c\d+", re.IGNORECASE)  # v_Biking_g01_c01: class, group, clip
PLAIN_ID = re.compile(rf"(?:v_)?({ID})(?:_\d+)*")  # ID, ID_1, and v_ID_1 of ActivityNet
# What looks like such an id and is made of words: Driving_Car, BlowDryHair, video_00012.
WORDS = re.compile(r"[A-Za-z]?[a-z]+(?:[_-]?[A-Z]?[a-z]+)*[_-]?\d*")
# A running number at the end, with the word before it: drive_000, ride-Scene-001, walk part 2, talk
# (3).
PART = r"(?:scene|part|pt|chunk|segment|seg|shot|clip|split|piece|c)"
RUNNING = re.compile(rf"(?P<base>.+?)[ _.-]+(?:{PART}[ _.-]*)?\(?\d+\)?", re.IGNORECASE)
# IMG_0001, DSCF1234: a camera's counter, a recording each (the DCF standard).
CAMERA = re.compile(r"[A-Z_][A-Z0-9_]{3}\d{4}")


def recording_of(clip: PurePosixPath, frames: bool) -> str:
    """Return the recording of a clip.

    clip    its path below the root of its source
    frames  whether it is a folder of frames
    """
    stem = clip.name if frames else clip.stem
    for name in (stem, *reversed(clip.parts[:-1])):
        known = _known(name)
        if known:
            return known
    return clip.as_posix() if frames else (clip.parent / _without_number(stem)).as_posix()


def _known(name: str) -> str:
    """The upload or the recording that a name tells by its form, or ""."""
    for pattern in (KINETICS, IN_BRACKETS, UCF):
        match = pattern.fullmatch(name)
        if match:
            return match[1]
    match = PLAIN_ID.fullmatch(name)
    return match[1] if match and _is_mixed(match[1]) else ""


def _is_mixed(text: str) -> bool:
    """Whether eleven characters look drawn by chance and not like words."""
    mixed = (text != text.lower() and text != text.upper()) or re.search("[0-9][A-Za-z]", text)
    return bool(mixed) and not WORDS.fullmatch(text)


def _without_number(stem: str) -> str:
    match = RUNNING.fullmatch(stem)
    if CAMERA.fullmatch(stem) or not match or not any(letter.isalpha() for letter in match["base"]):
        return stem
    return match["base"]
