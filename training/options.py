"""Typed options: frozen dataclasses in; flags, YAML presets, checks and --help out. Imports no torch: it must be quick.

Order of precedence: the classes' defaults < preset files (--config, in the order given) < flags. Every mistake is a
`UserError` of one line that names the key's place and the nearest name that exists.
"""

import dataclasses
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as short
from typing import Any

import yaml

from foreground.errors import UserError, nearest, say
from foreground.option import REQUIRED
from foreground.training import option_help
from foreground.training.option_help import NO_MANUAL, Manual
from foreground.training.presets import find_preset, load_yaml
from foreground.training.values import convert, describe

Config = typing.TypeVar("Config")


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


def unread(config: Any, prefix: str = "", when: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, when it is read) of every option that has no effect in a config, by its `read_if`.

    when   why the section above has no effect; empty: it has one
    """
    for field in dataclasses.fields(config):
        key, value = prefix + field.name, getattr(config, field.name)
        rules = field.metadata.get("read_if") or {}
        failed = {key + "." * bool(below) + below: words for below, (words, test) in rules.items() if not test(config)}
        why = when or failed.get(key, "")
        if dataclasses.is_dataclass(value):
            yield from unread(value, key + ".", why)
        elif why:
            yield key, why
        yield from ((below, words) for below, words in failed.items() if below != key)


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


# ------------------------------------------------------------------------------------------------------ command line


class _Line:
    """What a command line has said so far.

    values       dotted key -> value
    provenance   dotted key -> "default", file or flag
    own          dotted key -> the value without the user's flags and files, by defaults and the project's presets
    """

    def __init__(self, cls: type, presets: Path | str | None):
        self.cls, self.presets = cls, presets
        self.known = leaves(cls)
        self.values = {key: leaf.default for key, leaf in self.known.items()}
        self.provenance = dict.fromkeys(self.known, "default")
        self.own = dict(self.values)

    def take(self, mapping: dict, where: str, ours: bool) -> None:
        """Put the values of a mapping over those before; `ours`: it is no choice of the user's."""
        _take(self.cls, mapping, where, self.values, self.provenance)
        if ours:
            _take(self.cls, mapping, where, self.own, {})

    def take_preset(self, path: Path, above: tuple = ()) -> None:
        """Put a preset's values over those before it; its `base` comes first."""
        if path.resolve() in above:
            raise UserError("presets that are each other's base", str(path), "remove one `base`")
        mapping = load_yaml(path)
        base = mapping.pop("base", None)
        if base is not None:
            parent = find_preset(base if isinstance(base, str) else short(base), self.presets)
            self.take_preset(parent, (*above, path.resolve()))
        self.take(mapping, str(path), path.parent == Path(self.presets))

    def take_flag(self, key: str, text: str, ours: bool = False) -> None:
        """Put the value of a flag over the one before; `ours`: as in `take`."""
        leaf = self.known[key]
        self.values[key] = convert(text, leaf.kind, leaf.metadata, f"--{key}")
        self.provenance[key] = f"--{key}"
        if ours:
            self.own[key] = self.values[key]

    def settle(self, manual: Manual) -> None:
        """Put in the values that follow from others; where an option that must be given is missing, none do."""
        if REQUIRED in self.values.values():
            return
        config = manual.settle(_build(self.cls, self.values, "command line"))
        for key, before in self.values.items():
            if (value := value_of(config, key)) != before:
                self.values[key], self.provenance[key] = value, "rule"

    def check_read(self, config: Any) -> None:
        """Errors: UserError for a value of the user's that has no effect, unless it would be the same without it."""
        for key, when in unread(config):
            if self.values[key] != self.own[key]:
                what = f"{key} is not read with these options"
                where = self.provenance[key]
                place = where if where.startswith("--") else f"{where}: {key}"
                raise UserError(what, place, f"leave it out; it is read {when}")


def parse(
    cls: type[Config],
    argv: list[str],
    presets: Path | str | None,
    positional: str | None = None,
    description: str = "",
    after: dict[str, tuple[str, dict]] | None = None,
    manual: Manual = NO_MANUAL,
    ours: list[str] | tuple[str, ...] = (),
) -> tuple[Config, dict[str, str]]:
    """A config from the command line, and where each value comes from (dotted key -> "default", file or flag).

    cls          a frozen dataclass, its fields declared with `option`
    argv         the arguments after the program's name
    presets      folder of NAME.yaml files for --config NAME; none: the program has no --config
    positional   the key that takes an argument without a flag; any number of them where it is a tuple
    after        preset -> (the option that gives them, values, nested, that go over it and below those that follow)
    manual       what --help says besides the options
    ours         flags of the program's own, below those of argv; they may name options that have no effect
    Raises UserError for every mistake, SystemExit(0) after --help.
    """
    line = _Line(cls, presets)
    words = _Words(line.known, positional, presets, manual)
    words.read(argv)
    for name in words.presets_chosen:
        line.take_preset(find_preset(name, presets))
        origin, values = (after or {}).get(name, ("", {}))
        line.take(values, origin, ours=True)
    common = _Words(line.known, None, None, manual)
    common.read(ours)
    for key, text in common.flags.items():
        line.take_flag(key, text, ours=True)
    for key, text in words.flags.items():
        line.take_flag(key, text)
    if words.help:
        line.settle(manual)
        description = description.strip()
        shown = option_help.text(cls, line, positional, description, manual, everything=words.help == "all")
        say(shown.rstrip(), sys.stdout)
        raise SystemExit(0)
    if positional and line.values[positional] is REQUIRED and manual.usage:
        raise UserError(f"{positional} is missing", "command line", f"write {manual.usage}, or see --help")
    config = _build(cls, line.values, "command line")
    line.check_read(config)
    return config, line.provenance


class _Words:
    """The words of a command line, sorted.

    presets_chosen   names after --config, in order
    flags            key -> text
    help             "", "short" or "all"
    """

    def __init__(self, known: dict[str, Leaf], positional: str | None, presets: Path | str | None, manual: Manual):
        self.known, self.positional, self.manual = known, positional, manual
        self.named = [*known, *(["config"] if presets else [])]
        self.presets_chosen: list[str] = []
        self.flags: dict[str, str] = {}
        self.help = ""

    def read(self, argv: list[str] | tuple[str, ...]) -> None:
        """Sort the words. Errors: UserError for a word that belongs to no option, or an option without a value."""
        words = list(argv)
        while words:
            word = words.pop(0)
            if word in ("--help", "-h"):
                self.help = words.pop(0) if words[:1] == ["all"] else "short"
                continue
            if not word.startswith("--"):
                self._plain(word)
                continue
            name, equals, text = word.removeprefix("--").partition("=")
            if name not in self.named:
                what = f"unknown option --{short(name)[1:-1]}"
                raise UserError(what, "command line", option_help.remedy_for(name, self.named, self.manual))
            text = text if equals else self._value(name, words)
            if name == "config":
                self.presets_chosen.append(text)
            else:
                self.flags[name] = text

    def _plain(self, word: str) -> None:
        """A word without a flag."""
        key = self.positional
        several = key is not None and typing.get_origin(self.known[key].kind) is tuple
        if key is None or (key in self.flags and not several):
            raise UserError(f"{short(word)} belongs to no option", "command line", "write --option value")
        if several:
            word = word.replace(",", "\\,")
            word = f"{self.flags[key]},{word}" if key in self.flags else word
        self.flags[key] = word

    def _value(self, name: str, words: list[str]) -> str:
        """The word behind a flag; "true" for a switch that stands alone."""
        if words and not words[0].startswith("--"):
            return words.pop(0)
        if name in self.known and self.known[name].kind is bool:
            return "true"  # --latent alone
        kind = "a preset" if name == "config" else describe(self.known[name].kind)
        raise UserError("a value is missing", f"--{name}", f"write --{name} and {kind}")


def help_text(cls: type, presets: Path | str | None, positional: str | None = None, description: str = "") -> str:
    """The text of --help all without other arguments."""
    return option_help.text(cls, _Line(cls, presets), positional, description, NO_MANUAL, everything=True)
