"""Values of options: from text or YAML to the declared type, and back to text.

The classes of options check them (`option.py`).
"""

import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from reprlib import repr as short
from typing import Any

from pydantic import ValidationError

from foreground.errors import UserError, nearest
from foreground.option import UNKNOWN, choices_of

DIGITS = 30  # of a number in a text; the largest values have 16
SWITCH = {"true": True, "True": True, "false": False, "False": False}
OUTSIDE = ("greater_than_equal", "greater_than", "less_than_equal", "less_than")


def read(value: Any, kind: Any) -> Any:
    """Return a value of YAML, JSON or a flag as the declared type, or unchanged if it cannot be.

    Types: bool, int, float, str, tuple[X, ...], dict[str, X], and X | None.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value in (None, "none", "null", "") else read(value, inner[0])
    if origin is tuple:
        elements = _elements(value)
        return (
            tuple(read(each, inner[0]) for each in elements)
            if isinstance(elements, list | tuple)
            else value
        )
    if origin is dict:
        pairs = _pairs(value) if isinstance(value, str) else value
        return (
            {name: read(each, inner[1]) for name, each in pairs.items()}
            if isinstance(pairs, dict)
            else value
        )
    return _SCALARS[kind](value)


def _elements(value: Any) -> Any:
    if isinstance(value, str):
        parts = re.split(
            r"(?<!\\),", value
        )  # a comma behind a backslash belongs to its element, as in a path
        return [part.strip().replace("\\,", ",") for part in parts] if value.strip() else []
    return [value] if isinstance(value, int | float) else value


def _pairs(text: str) -> dict[str, str] | str:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if all(equals and name.strip() for name, equals, _ in pairs):
        return {name.strip(): each.strip() for name, _, each in pairs}
    return text


def _bool(value: Any) -> Any:
    return SWITCH.get(value, value) if isinstance(value, str) else value


def _int(value: Any) -> Any:
    if type(value) is int:
        return value
    if (
        isinstance(value, str)
        and len(value) <= DIGITS
        and re.fullmatch(r"[+-]?[0-9]+(_[0-9]+)*", value)
    ):
        return int(value)
    number = _float(value)  # 1e6 and 500_000.0 are whole numbers too
    return int(number) if isinstance(number, float) and number.is_integer() else value


def _float(value: Any) -> Any:
    if type(value) not in (int, str):
        return value
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return value
    return number if math.isfinite(number) else value


def _str(value: Any) -> Any:
    return str(value) if type(value) in (int, float) else value


_SCALARS = {bool: _bool, int: _int, float: _float, str: _str}


def refusal(
    error: ValidationError, leaves: Mapping[str, Any], prefix: str, place: Callable[[str], str]
) -> UserError:
    """Return one line for the first value that a class of options refused.

    leaves   all options by their keys (`options.leaves`)
    prefix   what stands before the names of this class in a key
    place    key -> where its value stands
    """
    first = error.errors(include_url=False)[0]
    problem, value, key = first["type"], first["input"], f"{prefix}{first['loc'][0]}"
    kind, metadata = leaves[key].kind, leaves[key].metadata
    if problem == "missing":
        return UserError(
            "an option that must be given is missing", place(key), f"add --{key} VALUE"
        )
    if problem == UNKNOWN:
        return UserError(
            f"unknown value {short(value)}",
            place(key),
            nearest(str(value), map(str, choices_of(metadata))),
        )
    if problem in OUTSIDE:
        remedy = f"give a value {allowed(first['ctx'] | metadata['bounds'])}"
        return UserError(f"{short(value)} is out of range", place(key), remedy)
    is_element = len(first["loc"]) == 2
    words = describe(typing.get_args(kind)[typing.get_origin(kind) is dict] if is_element else kind)
    return UserError(f"{short(value)} is not {words}", place(key), f"give {words}")


def describe(kind: Any) -> str:
    """Return what a type takes, in words."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return f"{describe(inner[0])}, or none"
    if origin is tuple:
        return {int: "whole numbers like 1,2,3", float: "numbers like 0.1,0.2"}.get(
            inner[0], "names like one,two"
        )
    if origin is dict:
        return (
            "names with values like task=1,other=0.5"
            if inner[1] in (int, float)
            else "names with values like a=b"
        )
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]


def allowed(bounds: Mapping[str, float]) -> str:
    """Return a range in words: "at least 1 and less than 2"; empty where there is none."""
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    return " and ".join(f"{word} {bounds[name]}" for name, word in words.items() if name in bounds)


def shown(value: Any) -> str:
    """Return a value as one would write it behind its flag."""
    if isinstance(value, dict):
        return ",".join(f"{name}={shown(each)}" for name, each in value.items()) or "empty"
    if isinstance(value, tuple):
        return ",".join(shown(each).replace(",", "\\,") for each in value) or "empty"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value) or "empty"
