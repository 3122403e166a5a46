"""Check the command lines of a suite before a run starts.

What only train.py can find is left to it: damaged clips, a task that its simulator refuses.
"""

import contextlib
import shutil
from collections.abc import Iterable
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


def warn_of_space(
    words_of: dict[str, list[str]], waiting: Iterable[str], folder: Path, suite: str, cuda: bool
) -> None:
    """Print a warning where the replays of the waiting runs will not fit on the disk.

    A full disk stops no run, but its last checkpoint may then be missing. Runs that begin with
    another one that does not exist yet are not counted.

    words_of   name of a run -> arguments of train.py, of the whole suite
    waiting    names of the runs that will be trained
    """
    places = {(folder / name).resolve() for name in words_of}
    needed = 0
    same: dict[tuple[str, ...], int] = {}
    with contextlib.chdir(ROOT):
        for words in (words_of[name] for name in waiting):
            if not waits(words, places):
                key = without_seed(words)
                if key not in same:
                    same[key] = replay_bytes(runs.read(words, cuda))
                needed += same[key]
    free = shutil.disk_usage(folder).free
    if needed > free:
        say(
            f"warning: {suite}: the replays of these runs need {needed / 1e9:.0f} GB, and {folder} "
            f"has {free / 1e9:.0f} GB free: free some space, or delete the folder replay of "
            "finished runs (only --meta, studies and training on need it)"
        )


def replay_bytes(config: runs.RunConfig) -> int:
    """Return the bytes of the images of a run's replay at its end; all else is small."""
    steps = config.total_frames // config.environment.action_repeat
    images = 1 + config.environment.clip_frames
    return min(steps, config.training.capacity) * images * 3 * config.environment.image_size**2


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
