"""Messages about a folder of clips: files that are left out, missing clips, a missing side."""

import mimetypes
import warnings
from pathlib import Path

from foreground.errors import UserError

SHOWN = 3  # examples in a line


class OneSide(UserError):
    """A folder of one recording has no second side."""

    def __init__(self, what: str, where: Path, remedy: str):
        super().__init__(what, str(where), remedy)


def warn(passed: list[Path], own: list[Path], root: Path) -> None:
    """Warn once of files that look like clips and are not taken, once of own films.

    own   results of runs and evaluations
    """
    if passed:
        warnings.warn(f"{root}: {_not_taken(passed, root)}", stacklevel=4)
    if own:
        warnings.warn(f"{root}: {_own_text(own, root)}, and left out", stacklevel=4)


def no_clips(passed: list[Path], own: list[Path], root: Path) -> UserError:
    """Return the error of a folder without clips; see `warn`."""
    told = [f"{examples(passed, root)} are not taken"] if passed else []
    told += [_own_text(own, root)] if own else []
    what = "no clips" + f" ({'; '.join(told)})" * bool(told)
    remedy = "put mp4, webm, mkv or avi files there, or folders of jpg or png frames"
    return UserError(what, str(root), remedy)


def _own_text(own: list[Path], root: Path) -> str:
    """Return that films and pictures are results of a run or an evaluation, with examples."""
    one = len(own) == 1
    return (
        f"{examples(own, root)} {'is a result' if one else 'are results'} of a run or an evaluation"
    )


def _not_taken(passed: list[Path], root: Path) -> str:
    """What is not taken, with examples: pictures, and apart from them what looks like video."""
    pictures = [path for path in passed if _is_picture(path)]
    videos = [path for path in passed if not _is_picture(path)]
    told = []
    if videos:
        remedy = "convert it to mp4, move it to a side's folder, or away"
        told.append(f"{examples(videos, root)}: looks like video, and is not taken: {remedy}")
    if pictures:
        count = f"{len(pictures)} picture{'s' * (len(pictures) > 1)}"
        rule = "frames are two or more jpg or png files in a folder without videos, masks or "
        rule += "thumbnails"
        told.append(f"{count} not taken ({examples(pictures, root)}): {rule}")
    return "; ".join(told)


def _is_picture(path: Path) -> bool:
    return (mimetypes.guess_type(path.name)[0] or "").startswith("image/") and not path.is_dir()


def listed(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown


def examples(paths: list[Path], root: Path) -> str:
    """Return the first paths below a root, and how many more there are."""
    return listed([path.relative_to(root).as_posix() for path in paths])


def no_second_side(names: list[str], root: Path) -> OneSide:
    """Return the error of a folder whose clips, of these names, are of one recording."""
    remedy = "put clips of other recordings there, or sort these into train/ and heldout/ folders"
    if len(names) == 1:
        what = f"no held-out side: {names[0]} is the only clip"
        return OneSide(
            what, root, "put a clip of another recording beside it: each side has its own"
        )
    shown = ", ".join(names[:SHOWN])
    what = f"by their names all {len(names)} clips are parts of one recording ({shown})"
    return OneSide(f"no held-out side: {what}", root, remedy)
