"""Check the command lines of a suite before a run starts.

What only train.py can find is left to it: damaged clips, a task that its simulator refuses.
"""

import contextlib
from pathlib import Path

from foreground import build
from foreground.configs import run as runs
from foreground.envs import backgrounds
from foreground.errors import UserError, say

ROOT = Path(__file__).parents[1]


def check(words_of: dict[str, list[str]], folder: Path, suite: str, cuda: bool) -> None:
    """Check the options, the task and the source of clips of every run.

    Print one line for each mistake, however many runs have it. The last line is the error.

    words_of   name of a run -> arguments of train.py
    folder     where the runs are
    suite      its file, as the user wrote it
    Raises: UserError.
    """
    places = {(folder / name).resolve() for name in words_of}
    found: dict[tuple[str, str, str], list[str]] = {}  # a mistake -> the runs that have it
    same: dict[tuple[str, ...], UserError | None] = {}  # runs that differ in the seed alone
    with contextlib.chdir(ROOT):  # where train.py runs
        for name, words in words_of.items():
            if waits(words, places):
                continue
            key = without_seed(words)
            if key not in same:
                same[key] = mistake_in(words, cuda)
            if error := same[key]:
                found.setdefault((error.what, error.where, error.remedy), []).append(name)
    errors = [
        UserError(what, f"{suite}: {named(names)}: {where}", remedy)
        for (what, where, remedy), names in found.items()
    ]
    for error in errors[:-1]:
        say(str(error))
    for error in errors[-1:]:
        raise error


def mistake_in(words: list[str], cuda: bool) -> UserError | None:
    """Return what is wrong with a command line of train.py; no clip is decoded."""
    try:
        config = runs.read(words, cuda)
        build.check_task(config)
        backgrounds.check_there(config.background)
    except UserError as error:
        return error
    return None


def waits(words: list[str], places: set[Path]) -> bool:
    """Return whether a run begins with another one of its suite that does not exist yet."""
    named_by = [Path(word.removeprefix("--init_from=")) for word in words]
    return any(path.resolve() in places and not path.exists() for path in named_by)


def without_seed(words: list[str]) -> tuple[str, ...]:
    """Return a command line without the suite's own --seed."""
    place = words.index("--seed")
    return (*words[:place], *words[place + 2 :])


def named(names: list[str]) -> str:
    """Return the first of some runs, and how many others there are."""
    others = len(names) - 1
    return names[0] + (f" and {others} other run{'s' * (others > 1)}" if others else "")
