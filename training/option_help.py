"""The text of --help, and the answer to an option that does not exist."""

import dataclasses
import os
import textwrap
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from foreground.errors import nearest
from foreground.option import REQUIRED
from foreground.training.presets import first_comment, preset_names
from foreground.training.values import allowed, describe, shown


@dataclasses.dataclass(frozen=True)
class Manual:
    """What --help says besides the options themselves.

    usage       how the program is called, as in "python eval.py RUN"; it is the remedy where its argument is missing
    first       keys that --help shows; the others are left to --help all. Empty: it shows every option.
    lists       title -> names, shown below the options
    elsewhere   names of options in other programs -> what it is here
    settle      a config -> the config with values that follow from others, which --help shows
    """

    first: tuple[str, ...] = ()
    lists: Callable[[], dict[str, Iterable[str]]] = dict
    elsewhere: dict[str, str] = dataclasses.field(default_factory=dict)
    settle: Callable[[Any], Any] = lambda config: config
    usage: str = ""


NO_MANUAL = Manual()
INDENT = " " * 6


def text(cls: type, line: Any, positional: str | None, description: str, manual: Manual, everything: bool) -> str:
    """Return every option by section with its sentence, range and value; then the lists and the presets.

    line         the command line that --help stood in (`training/options.py`): it shows the values that this one would use
    everything   all options, where the manual names those that come first
    """
    everything = everything or not manual.first
    chosen = [key for key in line.known if everything or key in manual.first]
    conditions = _conditions(cls)
    usage = ["", f"Usage: {manual.usage} [--option value ...]"] if manual.usage else []
    lines, section = [description or (cls.__doc__ or "").strip(), *usage, ""], None
    for key in chosen:
        leaf, here = line.known[key], key.rpartition(".")[0]
        if here != section and everything:
            lines += ["", _heading(cls, here, conditions)]
        elif section is None:
            lines += ["", "Options"]
        section = here
        plain = ", or without the flag" if key == positional else ""
        value = _value(line.values[key], line.provenance[key])
        lines += [f"  --{key}  {describe(leaf.kind)}{plain}"]
        lines += textwrap.wrap(
            f"{_sentences(leaf, conditions.get(key, ''))} {value}", 110, initial_indent=INDENT, subsequent_indent=INDENT
        )
    if len(chosen) < len(line.known):
        lines += ["", f"{len(line.known) - len(chosen)} more with --help all."]
    for title, names in manual.lists().items():
        lines += ["", title, *(f"  {name}" for name in names)]
    if line.presets is not None and everything:
        lines += ["", "Presets, given as --config NAME or --config PATH.yaml; later ones go over earlier ones:"]
        lines += [f"  {row}" for row in described(line.presets, preset_names(line.presets))]
    return "\n".join(lines).strip() + "\n"


def described(folder: Path | str, presets: Iterable[str]) -> list[str]:
    """Return presets, each with its first comment."""
    return [f"{name:<24} {first_comment(Path(folder) / f'{name}.yaml')}" for name in presets]


def _conditions(cls: type, prefix: str = "") -> dict[str, str]:
    """Return when an option or a section is read, of those that are not always: dotted key -> words."""
    found, hints = {}, typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key = prefix + field.name
        for below, (when, _) in (field.metadata.get("read_if") or {}).items():
            found[f"{key}.{below}".rstrip(".")] = when
        if dataclasses.is_dataclass(hints[field.name]):
            found |= _conditions(hints[field.name], key + ".")
    return found


def _heading(cls: type, section: str, conditions: dict[str, str]) -> str:
    """Return the line above a section's options: its name, the help that its declaration gives, and when it is read."""
    words = ""
    for name in section.split(".") if section else ():
        field = next(field for field in dataclasses.fields(cls) if field.name == name)
        cls, words = typing.get_type_hints(cls)[name], field.metadata.get("help", "")
    when = f" (read {conditions[section]})" if section in conditions else ""
    return f"Options of {section}: {words}".rstrip(": ") + when if section else "Options"


def _sentences(leaf: Any, when: str) -> str:
    """Return help, choices, range and condition of an option."""
    parts = [leaf.metadata.get("help") or "No description."]
    if leaf.metadata.get("choices"):
        parts.append(f"One of {', '.join(map(str, leaf.metadata['choices']))}.")
    if allowed(leaf.metadata):
        parts.append(f"Must be {allowed(leaf.metadata)}.")
    if when:
        parts.append(f"Read {when}.")
    return " ".join(parts)


def _value(value: Any, origin: str) -> str:
    """Return the value that an option has, and what gave it where that is not the default."""
    if value is REQUIRED:
        return "Must be given."
    if origin == "default":
        return "Not set by default." if value in ("", (), {}) else f"Default: {shown(value)}."
    name = origin if origin.startswith("--") else os.path.basename(origin)
    name = "the other options" if origin == "rule" else name
    return f"Value: {shown(value)}, by {name}."


def remedy_for(name: str, named: list[str], manual: Manual) -> str:
    """Return what to do about an option that does not exist: the one that is meant where that is clear."""
    plain = name.replace("-", "_")
    if answer := manual.elsewhere.get(plain.lower()):
        return answer
    if ends := [key for key in named if key.rpartition(".")[2] == plain]:
        return f"did you mean --{ends[0]}?"
    remedy = nearest(name[:80], named)
    return remedy.replace("did you mean ", "did you mean --") if "did you mean" in remedy else "see --help all"
