"""What the ranks of one run have in common at a checkpoint: its step and the weights."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from foreground import ranks
from foreground.errors import UserError, say
from foreground.training import checkpoint

NONE_IN_COMMON = (
    "the ranks have no checkpoint in common: the run begins anew, and what each had is set aside"
)
Found = tuple[Path | None, list[str]]


def newest(find: Callable[[int | None], Found]) -> Found:
    """Return the newest good checkpoint of a step that every rank has, and sentences about it.

    find   given the largest step (None: any), the newest good checkpoint or None, and sentences
           about those that were skipped

    Raises: what `find` raises, after all ranks have looked.
    """
    most, refused, said, first = None, None, [], None
    while True:
        path, sentences = None, []
        try:
            path, sentences = find(most)
        except UserError as error:
            refused = refused or error
        said += [sentence for sentence in sentences if sentence not in said]
        first = first or path
        step = -1 if path is None else checkpoint.step_of(path)
        common = ranks.least(step)
        if ranks.least(int(step == common)):
            break
        most = common
    if refused:
        raise refused
    if first and path is None:
        said.append(NONE_IN_COMMON)
    elif path != first:
        said.append(f"{first.name} is not there on every rank; {path.name} is used instead")
    return path, said


def check_weights(weights: dict[str, Tensor], frame: int) -> None:
    """Errors: UserError where the ranks hold other weights than each other."""
    if ranks.number() > 1 and not ranks.same(digest(weights)):
        what = "the weights of the ranks are no longer the same"
        remedy = (
            "the same command continues from the last checkpoint, where they were; please report it"
        )
        raise UserError(what, f"frame {frame}", remedy, 1)


def digest(weights: dict[str, Tensor]) -> str:
    """Return a hash of names and values."""
    whole = hashlib.sha256()
    for name, value in weights.items():
        whole.update(name.encode())
        whole.update(np.ascontiguousarray(value.detach().cpu().numpy()))
    return whole.hexdigest()


class Unwritten:
    """In place of logger and progress, where another rank writes: only warnings are said."""

    def __enter__(self) -> "Unwritten":
        return self

    def __exit__(self, *_) -> None:
        return

    def nothing(self, *_, **__) -> None:
        """Leave it out."""

    scalars = video = text = options = tick = update = close = nothing

    def message(self, sentence: str) -> None:
        """Say a warning, and which rank it is about."""
        say(sentence.replace("warning: ", f"warning: rank {ranks.rank()}: ", 1))
