"""Typed options: frozen dataclasses in; flags, YAML presets, checks and --help out. Imports no torch: it must be quick.

Order of precedence: the classes' defaults < preset files (--config, in the order given) < flags. Every mistake is a
`UserError` of one line that names the key's place and the nearest name that exists.
"""

import dataclasses
import math
import re
import sys
import types
import typing
from pathlib import Path
from reprlib import repr as short
from typing import Any

import yaml

from errors import UserError, nearest, say
from option import REQUIRED
from training.presets import find_preset, first_comment, load_yaml, preset_names

Config = typing.TypeVar("Config")

# What counters and float32 tensors can hold; options with bounds of their own have narrower ones.
LARGEST = {int: 2**53, float: 3.4e38}


# ------------------------------------------------------------------------------------------------------- the classes


class Leaf(typing.NamedTuple):
    """One option: its type, its metadata (help and range) and its default, `REQUIRED` when it must be given."""

    kind: Any
    metadata: typing.Mapping
    default: Any


def leaves(cls: type, prefix: str = "", section: Any = None) -> dict[str, Leaf]:
    """Dotted key -> option, sections walked through, in the order of their declaration.

    section   the object that a section's declaration gives as default; its values go before the class's own
    """
    found = {}
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key, kind = prefix + field.name, hints[field.name]
        default = _default(field) if section is None else getattr(section, field.name)
        if dataclasses.is_dataclass(kind):
            found.update(leaves(kind, key + ".", None if default is REQUIRED else default))
        else:
            found[key] = Leaf(kind, field.metadata, default)
    return found


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not REQUIRED and not dataclasses.is_dataclass(field.default_factory):
        return field.default_factory()
    return field.default  # a section declared by its class has none of its own: its fields' defaults count


def to_dict(config: Any) -> dict:
    """A config as nested dicts, lists and plain values, ready for YAML and JSON."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def to_yaml(config: Any) -> str:
    """A config as the text of a YAML file that `load_yaml` and `from_dict` read back equal."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def from_dict(cls: type[Config], mapping: dict, where: str = "config") -> Config:
    """A config from nested dicts: unknown keys, wrong types and ranges raise UserError; keys left out keep defaults.

    where   the file's name, for the message
    """
    values = {key: leaf.default for key, leaf in leaves(cls).items()}
    _take(cls, mapping, where, values, {})
    return _build(cls, values, where)


def differences(a: Any, b: Any) -> list[str]:
    """Dotted keys whose values differ between two configs of one class."""
    return [key for key in leaves(type(a)) if value_of(a, key) != value_of(b, key)]


def value_of(config: Any, key: str) -> Any:
    """The value at a dotted key."""
    for part in key.split("."):
        config = getattr(config, part)
    return config


def _build(cls: type[Config], values: dict[str, Any], where: str, prefix: str = "") -> Config:
    """The config object of a value for every dotted key; sections are built first."""
    arguments = {}
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key, kind = prefix + field.name, hints[field.name]
        if dataclasses.is_dataclass(kind):
            arguments[field.name] = _build(kind, values, where, key + ".")
        elif values[key] is REQUIRED:
            raise UserError("an option that must be given is missing", f"{where}: {key}", f"add --{key} VALUE")
        else:
            arguments[field.name] = values[key]
    try:
        return cls(**arguments)
    except ValueError as error:  # raised by a class's own __post_init__, for values that do not go together
        raise UserError(str(error), prefix.rstrip(".") or where, "change one of these options") from error


# -------------------------------------------------------------------------------------------------- values and checks


def _take(cls: type, mapping: Any, where: str, values: dict, provenance: dict, prefix: str = "") -> None:
    """Check one level of a mapping and put its values under their dotted keys."""
    if not isinstance(mapping, dict):
        raise UserError(f"{short(mapping)} is not a section", _place(where, prefix), "write key: value lines below it")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name, value in mapping.items():
        if name not in fields:
            raise UserError(f"unknown option {short(name)}", _place(where, prefix), nearest(str(name)[:80], fields))
        key, kind = prefix + name, hints[name]
        if dataclasses.is_dataclass(kind):
            _take(kind, value, where, values, provenance, key + ".")
        else:
            values[key] = convert(value, kind, fields[name].metadata, f"{where}: {key}")
            provenance[key] = where


def _place(where: str, prefix: str) -> str:
    return f"{where}: {prefix.rstrip('.')}" if prefix else where


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
        raise UserError(f"{short(value)} is not {_describe(kind)}", where, f"give {_describe(kind)}") from None
    _check(converted, metadata, where)
    if kind in LARGEST and abs(converted) > LARGEST[kind]:
        remedy = f"give a value at most {LARGEST[kind]}" if converted > 0 else f"give a value at least -{LARGEST[kind]}"
        raise UserError(f"{short(converted)} is out of range", where, remedy)
    return converted


def _elements(value: Any, kind: Any, where: str) -> list:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")] if value.strip() else []
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, int | float):
        return [value]
    raise UserError(f"{short(value)} is not {_describe(kind)}", where, f"give {_describe(kind)}")


def _pairs(value: Any, kind: Any, where: str) -> dict:
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if all(equals and name.strip() for name, equals, _ in pairs):
            return {name.strip(): each.strip() for name, _, each in pairs}
    elif isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return value
    raise UserError(f"{short(value)} is not {_describe(kind)}", where, f"give {_describe(kind)}")


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


def _describe(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return f"{_describe(next(each for each in inner if each is not type(None)))}, or none"
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


# ------------------------------------------------------------------------------------------------------ command line


def _take_preset(cls: type, path: Path, folder: Path | str, values: dict, provenance: dict, above: tuple = ()) -> None:
    """Put a preset's values over those before it; its `base` comes first."""
    if path.resolve() in above:
        raise UserError("presets that are each other's base", str(path), "remove one `base`")
    mapping = load_yaml(path)
    base = mapping.pop("base", None)
    if base is not None:
        parent = find_preset(base if isinstance(base, str) else short(base), folder)
        _take_preset(cls, parent, folder, values, provenance, (*above, path.resolve()))
    _take(cls, mapping, str(path), values, provenance)


def parse(
    cls: type[Config],
    argv: list[str],
    presets: Path | str,
    positional: str | None = None,
    description: str = "",
    after: dict[str, dict] | None = None,
) -> tuple[Config, dict[str, str]]:
    """A config from the command line, and where each value comes from (dotted key -> "default", file or flag).

    cls          a frozen dataclass, its fields declared with `option`
    argv         the arguments after the program's name
    presets      folder of NAME.yaml files for --config NAME
    positional   the key that takes an argument without a flag
    after        preset -> values, nested, that go over it and below those that follow
    Raises UserError for every mistake, SystemExit(0) after --help.
    """
    known = leaves(cls)
    chosen, flags = _split(argv, known, positional, cls, presets, description)
    values = {key: leaf.default for key, leaf in known.items()}
    provenance = dict.fromkeys(known, "default")
    for name in chosen:
        _take_preset(cls, find_preset(name, presets), presets, values, provenance)
        _take(cls, (after or {}).get(name, {}), f"after {name}", values, provenance)
    for key, text in flags.items():
        values[key] = convert(text, known[key].kind, known[key].metadata, f"--{key}")
        provenance[key] = f"--{key}"
    return _build(cls, values, "command line"), provenance


def _split(
    argv: list[str], known: dict, positional: str | None, cls: type, presets: Path | str, description: str
) -> tuple[list[str], dict[str, str]]:
    """(presets in order, key -> text) of a command line."""
    chosen, flags = [], {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if word in ("--help", "-h"):
            say(help_text(cls, presets, positional, description).rstrip(), sys.stdout)
            raise SystemExit(0)
        name, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            if positional is None or positional in flags:
                raise UserError(f"{short(word)} belongs to no option", "command line", "write --option value")
            flags[positional] = word
            continue
        if name != "config" and name not in known:
            raise UserError(f"unknown option --{short(name)[1:-1]}", "command line", _nearest_flag(name, known))
        if not equals:
            ends = not words or words[0].startswith("--")
            if ends and name in known and known[name].kind is bool:
                text = "true"  # --latent alone
            elif ends:
                kind = "a preset" if name == "config" else _describe(known[name].kind)
                raise UserError("a value is missing", f"--{name}", f"write --{name} and {kind}")
            else:
                text = words.pop(0)
        if name == "config":
            chosen.append(text)
        else:
            flags[name] = text
    return chosen, flags


def _nearest_flag(name: str, known: dict) -> str:
    ends = [key for key in known if key.rpartition(".")[2] == name.replace("-", "_")]
    remedy = f"did you mean {ends[0]}?" if ends else nearest(name[:80], [*known, "config"])
    return remedy.replace("did you mean ", "did you mean --") if "did you mean" in remedy else "see --help"


# --------------------------------------------------------------------------------------------------------------- help


def help_text(cls: type, presets: Path | str, positional: str | None = None, description: str = "") -> str:
    """The text of --help: every option by section with its sentence, range and default; then the presets."""
    lines = [description or (cls.__doc__ or "").strip(), ""]
    section = None
    for key, leaf in leaves(cls).items():
        if key.rpartition(".")[0] != section:
            section = key.rpartition(".")[0]
            lines += ["", _heading(cls, section)]
        plain = ", or without the flag" if key == positional else ""
        lines += [f"  --{key}  {_describe(leaf.kind)}{plain}", f"      {_sentences(leaf)}"]
    lines += ["", "Presets, given as --config NAME or --config PATH.yaml; later ones go over earlier ones:"]
    lines += [f"  {name:<24} {first_comment(Path(presets) / f'{name}.yaml')}" for name in preset_names(presets)]
    return "\n".join(lines).strip() + "\n"


def _heading(cls: type, section: str) -> str:
    """The line above a section's options: its name, and the help that its declaration gives."""
    text = ""
    for name in section.split(".") if section else ():
        field = next(field for field in dataclasses.fields(cls) if field.name == name)
        cls, text = typing.get_type_hints(cls)[name], field.metadata.get("help", "")
    return f"Options of {section}: {text}".rstrip(": ") if section else "Options"


def _sentences(leaf: Leaf) -> str:
    """Help, choices, range and default of an option."""
    parts = [leaf.metadata.get("help") or "No description."]
    if leaf.metadata.get("choices"):
        parts.append(f"One of {', '.join(map(str, leaf.metadata['choices']))}.")
    if allowed(leaf.metadata):
        parts.append(f"Must be {allowed(leaf.metadata)}.")
    parts.append("Must be given." if leaf.default is REQUIRED else f"Default: {shown(leaf.default)}.")
    return " ".join(parts)


def shown(value: Any) -> str:
    """A value as one would write it behind its flag."""
    if isinstance(value, dict):
        return ",".join(f"{name}={shown(each)}" for name, each in value.items()) or "empty"
    if isinstance(value, tuple):
        return ",".join(map(shown, value)) or "empty"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value) or "empty"
