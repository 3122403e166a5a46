"""`option`, the one way to declare a field of a config dataclass. Knows only dataclasses, so every room may use it.

    @dataclass(frozen=True)
    class ReplayConfig:
        capacity: int = option(100_000, help="Agent steps that the replay holds.", ge=1_000)

`training/options.py` turns such classes into flags, YAML keys, checks and the text of --help.
"""

import dataclasses
from typing import Any

REQUIRED = dataclasses.MISSING


def option(default: Any = REQUIRED, help: str = "", *, ge=None, le=None, gt=None, lt=None, choices=None) -> Any:
    """A dataclass field with a sentence of help and the values it may take.

    default   a plain value; a dict or list (copied for each object); or a class, for a section of options.
              Left out, the user must give the option.
    help      one sentence, as the user reads it in --help
    ge, gt    the value is at least, more than (each element of a tuple, each value of a dict)
    le, lt    the value is at most, less than
    choices   the values it may take; a sequence of strings or numbers
    """
    metadata = {"help": help, "ge": ge, "le": le, "gt": gt, "lt": lt, "choices": tuple(choices) if choices else None}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    if isinstance(default, dict | list):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
