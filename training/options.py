"""Options of a program: from classes of options (`option.py`) to flags, YAML presets and --help.

Order of precedence: defaults < preset files (--config, in the order given) < flags. Every mistake
is a `UserError` of one line that names the place and the nearest name. Imports no torch: it must be
quick.
"""

import dataclasses
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from reprlib import repr as short
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from foreground.errors import UserError, nearest, say
from foreground.option import REQUIRED
from foreground.training import option_help
from foreground.training.option_help import NO_MANUAL, Manual
from foreground.training.presets import find_preset, load_yaml
from foreground.training.values import describe, read, refusal

Config = typing.TypeVar("Config")


# ---- the classes


class Leaf(typing.NamedTuple):
    """One option.

    metadata   what `option` was given (`option.py`)
    default    `REQUIRED` when it must be given
    when       when it is read; empty: always
    heading    the help of its section, and when that is read
    """

    kind: Any
    metadata: typing.Mapping
    default: Any
    when: str = ""
    heading: str = ""


def leaves(
    cls: type, prefix: str = "", heading: str = "", conditions: typing.Mapping | None = None
) -> dict[str, Leaf]:
    """Return dotted key -> option, sections walked through, in the order of their declaration.

    heading      the help of this section
    conditions   name of an option in it -> when it is read, as the section's declaration says
    """
    found, hints = {}, typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key, kind = prefix + field.name, hints[field.name]
        below = {name: words for name, (words, _) in field.metadata["read_if"].items()}
        when = below.get("") or (conditions or {}).get(field.name, "")
        if dataclasses.is_dataclass(kind):
            title = field.metadata["help"] + (f" (read {when})" if when else "")
            found |= leaves(kind, key + ".", title, below)
        else:
            default = (
                field.default if field.default_factory is REQUIRED else field.default_factory()
            )
            found[key] = Leaf(kind, field.metadata, default, when, heading)
    return found


def to_dict(config: Any) -> dict:
    """Return a config as nested dicts, lists and plain values, ready for YAML and JSON."""
    return to_jsonable_python(config)


def to_yaml(config: Any) -> str:
    """Return the text of a YAML file that `load_yaml` and `from_dict` read back equal."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def from_dict(cls: type[Config], mapping: dict, where: str = "config") -> Config:
    """Return a config of nested dicts; what they leave out has its default.

    where   the file's name, for the message
    Raises: UserError for unknown keys, wrong types and values out of range.
    """
    return _built(cls, dict(_flat(cls, mapping, where)), lambda key: f"{where}: {key}")


def differences(a: Any, b: Any) -> list[str]:
    """Return the dotted keys whose values differ between two configs of one class."""
    return [key for key in leaves(type(a)) if value_of(a, key) != value_of(b, key)]


def value_of(config: Any, key: str) -> Any:
    """Return the value at a dotted key."""
    for part in key.split("."):
        config = getattr(config, part)
    return config


def _flat(
    cls: type,
    mapping: Any,
    where: str,
    prefix: str = "",
    answers: typing.Mapping[str, str] = MappingProxyType({}),
) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of a mapping from a file.

    answers   dotted key that does not exist -> what to write instead

    Raises: UserError for a key that does not exist.
    """
    place = f"{where}: {prefix.rstrip('.')}" if prefix else where
    if not isinstance(mapping, dict):
        raise UserError(
            f"{short(mapping)} is not a section", place, "write key: value lines below it"
        )
    hints = typing.get_type_hints(cls)
    for name, value in mapping.items():
        if name not in hints:
            remedy = answers.get(f"{prefix}{name}") or nearest(str(name)[:80], hints)
            raise UserError(f"unknown option {short(name)}", place, remedy)
        if dataclasses.is_dataclass(hints[name]):
            yield from _flat(hints[name], value, where, f"{prefix}{name}.", answers)
        else:
            yield prefix + name, read(value, hints[name])


def _built(
    cls: type[Config], values: dict[str, Any], place: Callable[[str], str], prefix: str = ""
) -> Config:
    """Return the config of values under their dotted keys; sections are built first.

    place   key -> where its value stands
    """
    arguments = {}
    for name, kind in typing.get_type_hints(cls).items():
        key = prefix + name
        if dataclasses.is_dataclass(kind):
            arguments[name] = _built(kind, values, place, key + ".")
        elif key in values:
            arguments[name] = values[key]
    try:
        return cls(**arguments)
    except ValidationError as error:
        raise refusal(error, leaves(cls, prefix), prefix, place) from None


def unread(config: Any, prefix: str = "", when: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, when it is read) of every option that has no effect, by its `read_if`.

    when   why the section above has no effect; empty: it has one
    """
    for field in dataclasses.fields(config):
        key, value = prefix + field.name, getattr(config, field.name)
        rules = field.metadata["read_if"].items()
        failed = {
            f"{key}.{below}".rstrip("."): words
            for below, (words, test) in rules
            if not test(config)
        }
        why = when or failed.pop(key, "")
        if dataclasses.is_dataclass(value):
            yield from unread(value, key + ".", why)
        elif why:
            yield key, why
        yield from failed.items()


# ---- command line


class Line:
    """What a command line has said so far.

    values    dotted key -> value, of the options that were given
    origins   dotted key -> the file or flag that gave it
    own       as `values`, without the user's flags and files: by the project's presets
    answers   dotted key of a file that does not exist -> what to write instead
    """

    def __init__(
        self,
        cls: type,
        presets: Path | str | None = None,
        answers: typing.Mapping[str, str] = MappingProxyType({}),
    ):
        self.cls = cls
        self.presets = presets
        self.answers = answers
        self.known = leaves(cls)
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.own: dict[str, Any] = {}

    def take(self, mapping: dict, where: str, ours: bool) -> None:
        """Put the values of a mapping over those before; `ours`: the user did not choose them."""
        found = dict(_flat(self.cls, mapping, where, answers=self.answers))
        self._put(found, lambda _: where, ours)

    def take_flags(self, flags: dict[str, str], ours: bool = False) -> None:
        """Put the values of flags over those before; `ours`: as in `take`."""
        self._put(
            {key: read(text, self.known[key].kind) for key, text in flags.items()},
            lambda key: f"--{key}",
            ours,
        )

    def take_preset(self, name: str, above: tuple[Path, ...] = ()) -> None:
        """Put the values of a preset (name or path) over those before; its `base` comes first."""
        path = find_preset(name, self.presets)
        if path.resolve() in above:
            raise UserError("presets that are each other's base", str(path), "remove one `base`")
        mapping = load_yaml(path)
        base = mapping.pop("base", None)
        if base is not None:
            self.take_preset(
                base if isinstance(base, str) else short(base), (*above, path.resolve())
            )
        self.take(mapping, str(path), path.parent == Path(self.presets))

    def _put(self, values: dict[str, Any], origin: Callable[[str], str], ours: bool) -> None:
        self.values |= values
        self.origins |= {key: origin(key) for key in values}
        if ours:
            self.own |= values

    def place(self, key: str) -> str:
        """Return where the value of an option stands."""
        origin = self.origins.get(key, "command line")
        return origin if origin.startswith("--") else f"{origin}: {key}"

    def config(self) -> Any:
        """Return the config.

        Raises: UserError for values that are wrong, or do not go together.
        """
        return _built(self.cls, self.values, self.place)

    def check_read(self, config: Any) -> None:
        """Check that every value of the user's has an effect, or would be the same without it.

        Raises: UserError.
        """
        for key, when in unread(config):
            default = self.known[key].default
            if self.values.get(key, default) != self.own.get(key, default):
                what = f"{key} is not read with these options"
                raise UserError(what, self.place(key), f"leave it out; it is read {when}")

    def settle(self, manual: Manual) -> None:
        """Put in the values that follow from others, if no required option is missing."""
        if any(
            leaf.default is REQUIRED and key not in self.values for key, leaf in self.known.items()
        ):
            return
        before = self.config()
        config = manual.settle(before)
        follow = {key: value_of(config, key) for key in differences(before, config)}
        self._put(follow, lambda _: option_help.RULE, ours=True)

    def finish(self, words: "Words", description: str = "") -> Any:
        """Return the config. Where the words ask for help, print it and raise SystemExit(0)."""
        if words.help:
            self.settle(words.manual)
            say(option_help.text(self, words, description).rstrip(), sys.stdout)
            raise SystemExit(0)
        config = self.config()
        self.check_read(config)
        return config


def parse(
    cls: type[Config],
    argv: list[str],
    presets: Path | str | None,
    positional: str | None = None,
    description: str = "",
    manual: Manual = NO_MANUAL,
) -> Config:
    """Return the config of a command line.

    cls          a class of options
    argv         the arguments after the program's name
    presets      folder of NAME.yaml files for --config NAME; none: the program has no --config
    positional   the key that takes an argument without a flag, or any number where it is a tuple
    manual       what --help says besides the options
    Raises UserError for every mistake, SystemExit(0) after --help.
    """
    words, line = Words(cls, argv, presets, positional, manual), Line(cls, presets)
    for name in words.presets:
        line.take_preset(name)
    line.take_flags(words.flags)
    missing = (
        positional in line.known
        and line.values.get(positional, line.known[positional].default) is REQUIRED
    )
    if missing and manual.usage and not words.help:
        raise UserError(
            f"{positional} is missing", "command line", f"write {manual.usage}, or see --help"
        )
    return line.finish(words, description.strip())


class Words:
    """The words of a command line, sorted.

    presets   names after --config, in order
    flags     key -> text
    help      "", "short" or "all"
    Raises: UserError for a word that belongs to no option, or an option without a value.
    """

    def __init__(
        self,
        cls: type,
        argv: typing.Sequence[str],
        presets: Path | str | None = None,
        positional: str | None = None,
        manual: Manual = NO_MANUAL,
    ):
        self.known, self.positional, self.manual = leaves(cls), positional, manual
        self.named = [*self.known, *(["config"] if presets else [])]
        self.presets: list[str] = []
        self.flags: dict[str, str] = {}
        self.help = ""
        self._read(list(argv))

    def _read(self, words: list[str]) -> None:
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
                remedy = option_help.remedy_for(name, self.named, self.manual)
                raise UserError(f"unknown option --{name}", "command line", remedy)
            text = text if equals else self._value(name, words)
            if name == "config":
                self.presets.append(text)
            else:
                self.flags[name] = text

    def _plain(self, word: str) -> None:
        """Take a word without a flag."""
        key = self.positional
        several = key is not None and typing.get_origin(self.known[key].kind) is tuple
        if key is None or (key in self.flags and not several):
            raise UserError(
                f"{short(word)} belongs to no option", "command line", "write --option value"
            )
        if several:
            word = word.replace(",", "\\,")
            word = f"{self.flags[key]},{word}" if key in self.flags else word
        self.flags[key] = word

    def _value(self, name: str, words: list[str]) -> str:
        """Return the word behind a flag; "true" for a switch that stands alone."""
        if words and not words[0].startswith("--"):
            return words.pop(0)
        if name in self.known and self.known[name].kind is bool:
            return "true"  # --latent alone
        kind = "a preset" if name == "config" else describe(self.known[name].kind)
        raise UserError("a value is missing", f"--{name}", f"write --{name} and {kind}")
