"""`option`, the one way to declare a field of a config dataclass. Knows only dataclasses, so every room may use it.

    @dataclass(frozen=True)
    class ReplayConfig:
        capacity: int = option(100_000, help="Agent steps that the replay holds.", ge=1_000)

`training/options.py` turns such classes into flags, YAML keys, checks and the text of --help.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

REQUIRED = dataclasses.MISSING
Rule = tuple[str, Callable[[Any], Any]]


def option(
    default: Any = REQUIRED,
    help: str = "",
    *,
    ge=None,
    le=None,
    gt=None,
    lt=None,
    choices=None,
    path: bool = False,
    read_if: Rule | dict[str, Rule] | None = None,
) -> Any:
    """A dataclass field with a sentence of help and the values it may take.

    default   a plain value; a dict or list (copied for each object); or a class, for a section of options.
              Left out, the user must give the option.
    help      one sentence, as the user reads it in --help
    ge, gt    the value is at least, more than (each element of a tuple, each value of a dict)
    le, lt    the value is at most, less than
    choices   the values it may take; a sequence of strings or numbers
    path      the value is a path, or each element is one: a leading ~ stands for the home folder
    read_if   (when, test): the option, or the whole section, has an effect only where the test holds. `when` says so in
              words, as in "read ..."; the test gets the object that holds the field. {key below the section: (when, test)}
              says so of some options of a section. Left out: all always have an effect.
    """
    rules = {"": read_if} if isinstance(read_if, tuple) else read_if
    metadata = {"help": help, "ge": ge, "le": le, "gt": gt, "lt": lt, "choices": tuple(choices) if choices else None}
    metadata |= {"path": path, "read_if": rules}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    if isinstance(default, dict | list):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
