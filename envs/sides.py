"""Which side folders name: train/ and test/, and pairs such as videos_train/ and videos_val/."""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from foreground.errors import UserError

# In the order in which they are taken; "Test_set", "val2017" and the like are meant as well.
TRAIN = ("train", "training", "trn")
HELDOUT = (
    ("heldout", "holdout"),
    ("test", "testing", "tst"),
    ("eval", "evaluation", "evaluating"),
    ("val", "valid", "validation", "validate", "dev"),
)
SIDE_NAME = re.compile(r"([a-z]+?)(?:set|split|data)?(?:19\d\d|20\d\d)?")
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
REMEDY = "sort the clips into train/ and heldout/ folders, or rename these to have the clips split"
Folders = tuple[str, ...]  # the names of the folders that a clip is in, from the root on


def sides_of(clips: Sequence[Folders], root) -> tuple[list[str], list[str]]:
    """Return the side of each clip ("train", "heldout", "test", ... or ""), and unused folders.

    A folder whose whole name is that of a side counts by itself. A folder with such a word in its
    name (k400_train) counts if a sibling names the other side. Unused folders have such a word, and
    no partner.

    Raises: UserError where it is not clear which folders are partners.
    """
    beside: dict[Folders, dict[str, None]] = {}
    for folders in clips:
        for depth, name in enumerate(folders):
            beside.setdefault(folders[:depth], {})[name] = None
            if _whole(name):  # what is in it is on its side
                break
    sides = {}
    unused = []
    for parent in sorted(beside, key=len):
        if not any(parent[:depth] in sides for depth in range(len(parent) + 1)):
            paired, single = _pair(parent, list(beside[parent]), root)
            sides.update({(*parent, name): side for name, side in paired.items()})
            unused += [PurePosixPath(*parent, name).as_posix() for name in single]
    named = [side for path in unused for side in _words(PurePosixPath(path).name)[0]]
    if not sides and _are_both(named):  # in different folders
        raise _unclear(unused, root)
    return [_first(folders, sides) for folders in clips], unused


def _first(folders: Folders, sides: dict[Folders, str]) -> str:
    ways = (folders[:depth] for depth in range(1, len(folders) + 1))
    return next((sides[way] for way in ways if way in sides), "")


def _pair(parent: Folders, names: list[str], root) -> tuple[dict[str, str], list[str]]:
    """Return the sides of the folders `names` in `parent`, and those whose partner is missing."""
    whole = {name: _whole(name) for name in names if _whole(name)}
    parts = {name: _words(name) for name in names if name not in whole and _words(name)[0]}
    if not parts or _are_both(whole.values()):
        return whole, []
    every = [*whole.values(), *(side for found, _ in parts.values() for side in found)]
    if not _are_both(every):
        return whole, list(parts)
    rests = {rest for _, rest in parts.values()} | {() for _ in whole}
    alike = len(rests) == 1 or len(whole) + len(parts) == len(names)
    if (
        len(set(every)) < len(every)
        or any(len(found) > 1 for found, _ in parts.values())
        or not alike
    ):
        raise _unclear([PurePosixPath(*parent, name).as_posix() for name in [*whole, *parts]], root)
    return {**whole, **{name: found[0] for name, (found, _) in parts.items()}}, []


def _are_both(sides: Iterable[str]) -> bool:
    """Return whether both the training side and a held-out one are among the sides."""
    return len({side == TRAIN[0] for side in sides}) == 2


def _unclear(names: list[str], root) -> UserError:
    shown = ", ".join(names[:4])
    what = f"which folder is the training side, and which is held out, is not clear ({shown})"
    return UserError(what, str(root), REMEDY)


def _whole(name: str) -> str:
    """Return the side that a folder's whole name tells, or ""."""
    match = SIDE_NAME.fullmatch(re.sub(r"[ _.-]", "", name.lower()))
    return _side(match[1]) if match else ""


def _words(name: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the sides that words of a name tell, and its other words."""
    words = [word.lower() for word in WORD.findall(name)]
    for index in range(len(words) - 1):
        if words[index] in ("held", "hold") and words[index + 1] == "out":
            words[index : index + 2] = ["heldout"]
            break
    sides = {word: _whole(word) for word in words}
    found = list(dict.fromkeys(sides[word] for word in words if sides[word]))
    return found, tuple(word for word in words if not sides[word])


def _side(word: str) -> str:
    return next((names[0] for names in (TRAIN, *HELDOUT) if word in names), "")
