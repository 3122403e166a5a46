"""Declare options: `config_class` makes a class of them, `option` is a field.

    @config_class
    class ReplayConfig:
        capacity: int = option(100_000, help="Agent steps that the replay holds.", ge=1_000)

pydantic checks every value, in the constructor and in `dataclasses.replace`. They raise
`pydantic.ValidationError`. `training/options.py` turns such classes into flags, YAML keys and the
text of --help. There a refused value is one line.
"""

import dataclasses
import os
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated, Any

from annotated_types import Interval, Predicate
from pydantic import AfterValidator, ConfigDict
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

REQUIRED = dataclasses.MISSING
Rule = tuple[str, Callable[[Any], Any]]
Choices = Iterable[Any] | Callable[[], Iterable[Any]]

# What counters and float32 tensors can hold; bounds of single options are narrower.
LARGEST = {int: 2**53, float: 3.4e38}
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
UNKNOWN = "unknown_name"  # the type of pydantic's error for a value outside the choices

Class = typing.TypeVar("Class", bound=type)


def option(
    default: Any = REQUIRED,
    help: str = "",
    *,
    choices: Choices = (),
    path: bool = False,
    read_if: Rule | dict[str, Rule] | None = None,
    **bounds: float,
) -> Any:
    """Return a dataclass field with a sentence of help and the values that it may take.

    default   a plain value; a dict or list, copied for each object; or a class, for a section.
              Left out: the user must give the option.
    help      one sentence, as the user reads it in --help
    choices   the values that it may take, or a function that returns them, for a registry that is
              filled later. They hold for each element of a tuple.
    path      whether it is a path, or each element is: a leading ~ is the home folder
    read_if   (when, test): the option or section has an effect only where the test of the object
              that holds the field is true. `when` says so in words, as in "read ...". A dictionary
              {key below the section: (when, test)} is for some options of a section.
              Left out: they always have an effect.
    bounds    ge, gt, le, lt: the value is at least, more than, at most, less than. They hold for
              each element of a tuple and each value of a dict.
    """
    metadata = {
        "help": help,
        "bounds": bounds,
        "choices": choices,
        "path": path,
        "read_if": _rules(read_if),
    }
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    if isinstance(default, dict | list):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def option_of(cls: type, name: str, *, read_if: Rule | dict[str, Rule] | None = None) -> Any:
    """Return an option that another class declares, for a class that holds it too.

    read_if   as in `option`, in place of that of the other class
    """
    (declared,) = (field for field in dataclasses.fields(cls) if field.name == name)
    metadata = {**declared.metadata, "read_if": _rules(read_if)}
    if declared.default_factory is not REQUIRED:
        return dataclasses.field(default_factory=declared.default_factory, metadata=metadata)
    return dataclasses.field(default=declared.default, metadata=metadata)


def _rules(read_if: Rule | dict[str, Rule] | None) -> dict[str, Rule]:
    return {"": read_if} if isinstance(read_if, tuple) else read_if or {}


@typing.dataclass_transform(frozen_default=True)
def config_class(cls: Class) -> Class:
    """Make a frozen dataclass of a class whose fields are declared with `option`.

    Its `__post_init__` may raise a UserError for values that do not go together.
    """
    for name, kind in typing.get_type_hints(cls).items():
        cls.__annotations__[name] = _checked(kind, vars(cls)[name].metadata)
    made: Any = dataclass(cls, frozen=True, config=STRICT)
    return made


def _checked(kind: Any, metadata: Mapping) -> Any:
    """Return a type with the checks of its option, within a tuple or a dict on each element."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return origin[_checked(inner[0], metadata), ...]
    if origin is dict:
        return origin[inner[0], _checked(inner[1], metadata)]
    if inner:  # X | None
        return _checked(inner[0], metadata) | None
    checks: list[Any] = []
    if largest := LARGEST.get(kind):
        low = {} if "gt" in metadata["bounds"] else {"ge": -largest}
        high = {} if "lt" in metadata["bounds"] else {"le": largest}
        checks += [Interval(**low | high | metadata["bounds"])]
    if kind is str:
        checks += [Predicate(str.isprintable)]
    if metadata["path"]:
        checks += [AfterValidator(os.path.expanduser)]
    if metadata["choices"]:
        checks += [AfterValidator(partial(_chosen, metadata))]
    return Annotated[kind, *checks] if checks else kind


def _chosen(metadata: Mapping, value: Any) -> Any:
    if value not in (names := choices_of(metadata)):
        raise PydanticCustomError(
            UNKNOWN, "Input should be one of {names}", {"names": ", ".join(map(str, names))}
        )
    return value


def choices_of(metadata: Mapping) -> tuple:
    """Return the values that an option may take; none where any may be."""
    choices = metadata["choices"]
    return tuple(choices() if callable(choices) else choices)
