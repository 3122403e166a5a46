"""Values of options: from text or YAML to the declared type, checked; and back to text.

A mistake is a `UserError` of one line with the place and what may stand there.
"""

import math
import os
import re
import types
import typing
from reprlib import repr as short
from typing import Any

from foreground.errors import UserError, nearest

# What counters and float32 tensors can hold; options with bounds of their own have narrower ones.
LARGEST = {int: 2**53, float: 3.4e38}


def convert(value: Any, kind: Any, metadata: typing.Mapping, where: str) -> Any:
    """A value of YAML, JSON or a flag (a string) as the declared type, checked against range and choices.

    Types: bool, int, float, str, tuple[X, ...], dict[str, X], and X | None. Raises UserError.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None or value in ("none", "null", ""):
            return None
        return convert(value, next(each for each in inner if each is not type(None)), metadata, where)
    if origin is tuple:
        return tuple(convert(each, inner[0], metadata, where) for each in _elements(value, kind, where))
    if origin is dict:
        return {name: convert(each, inner[1], metadata, where) for name, each in _pairs(value, kind, where).items()}
    try:
        converted = _SCALARS[kind](value)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{short(value)} is not {describe(kind)}", where, f"give {describe(kind)}") from None
    if metadata.get("path"):
        converted = os.path.expanduser(converted)
    _check(converted, metadata, where)
    if kind in LARGEST and abs(converted) > LARGEST[kind]:
        remedy = f"give a value at most {LARGEST[kind]}" if converted > 0 else f"give a value at least -{LARGEST[kind]}"
        raise UserError(f"{short(converted)} is out of range", where, remedy)
    return converted


def _elements(value: Any, kind: Any, where: str) -> list:
    if isinstance(value, str):
        parts = re.split(r"(?<!\\),", value)  # a comma behind a backslash belongs to its element, as in a path
        return [part.strip().replace("\\,", ",") for part in parts] if value.strip() else []
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, int | float):
        return [value]
    raise UserError(f"{short(value)} is not {describe(kind)}", where, f"give {describe(kind)}")


def _pairs(value: Any, kind: Any, where: str) -> dict:
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if all(equals and name.strip() for name, equals, _ in pairs):
            return {name.strip(): each.strip() for name, _, each in pairs}
    elif isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return value
    raise UserError(f"{short(value)} is not {describe(kind)}", where, f"give {describe(kind)}")


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}[value.lower()] if value in ("true", "false", "True", "False") else _refuse()


def _int(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9_]{1,30}", value):
        return int(value)
    number = _float(value)  # 1e6 and 500_000.0 are whole numbers too
    return int(number) if number.is_integer() else _refuse()


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        _refuse()
    number = float(value)
    return number if math.isfinite(number) else _refuse()


def _str(value: Any) -> str:
    if isinstance(value, str) and value.isprintable():
        return value
    return str(value) if type(value) in (int, float) else _refuse()


def _refuse() -> typing.NoReturn:
    raise ValueError


_SCALARS = {bool: _bool, int: _int, float: _float, str: _str}


def describe(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return f"{describe(next(each for each in inner if each is not type(None)))}, or none"
    if origin is tuple:
        return {int: "whole numbers like 1,2,3", float: "numbers like 0.1,0.2"}.get(inner[0], "names like one,two")
    if origin is dict:
        return "names with values like task=1,other=0.5" if inner[1] in (int, float) else "names with values like a=b"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]


def _check(value: Any, metadata: typing.Mapping, where: str) -> None:
    if metadata.get("choices") and value not in metadata["choices"]:
        raise UserError(f"unknown value {short(value)}", where, nearest(str(value), map(str, metadata["choices"])))
    tests = {
        "ge": lambda bound: value >= bound,
        "gt": lambda bound: value > bound,
        "le": lambda bound: value <= bound,
        "lt": lambda bound: value < bound,
    }
    for name, test in tests.items():
        if metadata.get(name) is not None and not test(metadata[name]):
            raise UserError(f"{short(value)} is out of range", where, f"give a value {allowed(metadata)}")


def allowed(metadata: typing.Mapping) -> str:
    """The range of an option in words: "at least 1 and less than 2"; empty when there is none."""
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    return " and ".join(f"{word} {metadata[name]}" for name, word in words.items() if metadata.get(name) is not None)


def shown(value: Any) -> str:
    """A value as one would write it behind its flag."""
    if isinstance(value, dict):
        return ",".join(f"{name}={shown(each)}" for name, each in value.items()) or "empty"
    if isinstance(value, tuple):
        return ",".join(shown(each).replace(",", "\\,") for each in value) or "empty"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value) or "empty"
