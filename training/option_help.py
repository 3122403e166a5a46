"""The text of --help, and the answer to an option that does not exist."""

import dataclasses
import difflib
import os
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from foreground.errors import NEAR
from foreground.option import REQUIRED, choices_of
from foreground.training.presets import first_comment, preset_names
from foreground.training.values import allowed, describe, shown


@dataclasses.dataclass(frozen=True)
class Manual:
    """What --help says besides the options themselves.

    usage       how the program is called, as in "python eval.py RUN"
    first       keys that --help shows; --help all shows the others too. Empty: --help shows all.
    lists       title -> names, shown below the options
    elsewhere   name of an option in other programs -> the option here
    settle      a config -> the config with values that follow from others, which --help shows
    """

    first: tuple[str, ...] = ()
    lists: Callable[[], dict[str, Iterable[str]]] = dict
    elsewhere: dict[str, str] = dataclasses.field(default_factory=dict)
    settle: Callable[[Any], Any] = lambda config: config
    usage: str = ""


NO_MANUAL = Manual()
RULE = "rule"  # the origin of a value that follows from others
INDENT = " " * 6
MOST = 12  # options of a section that an error lists


def text(line: Any, words: Any, description: str) -> str:
    """Return the options by section, with help, range and value, then the lists and the presets.

    line    what the command line said (`options.Line`): the values are those that it would use
    words   its words (`options.Words`), with the kind of help that they ask for
    """
    manual, everything = words.manual, words.help == "all" or not words.manual.first
    chosen = {key: leaf for key, leaf in line.known.items() if everything or key in manual.first}
    usage = ["", f"Usage: {manual.usage} [--option value ...]"] if manual.usage else []
    lines, section = [description or (line.cls.__doc__ or "").strip(), *usage, ""], None
    for key, leaf in chosen.items():
        here = key.rpartition(".")[0]
        if section is None or (here != section and everything):
            lines += [
                "",
                f"Options of {here}: {leaf.heading}".rstrip(": ")
                if here and everything
                else "Options",
            ]
        section = here
        plain = ", or without the flag" if key == words.positional else ""
        lines += [f"  --{key}  {describe(leaf.kind)}{plain}"]
        lines += textwrap.wrap(
            f"{sentences(leaf)} {_value(line, key)}",
            110,
            initial_indent=INDENT,
            subsequent_indent=INDENT,
        )
    if len(chosen) < len(line.known):
        lines += ["", f"{len(line.known) - len(chosen)} more with --help all."]
    for title, names in manual.lists().items():
        lines += ["", title, *(f"  {name}" for name in names)]
    if line.presets is not None and everything:
        lines += ["", "Presets: --config NAME or --config PATH.yaml; a later one overrides:"]
        lines += [f"  {row}" for row in described(line.presets, preset_names(line.presets))]
    return "\n".join(lines).strip() + "\n"


def described(folder: Path | str, presets: Iterable[str]) -> list[str]:
    """Return presets, each with its first comment."""
    return [f"{name:<24} {first_comment(Path(folder) / f'{name}.yaml')}" for name in presets]


def sentences(leaf: Any, name: Callable[[Any], str] = str) -> str:
    """Return help, choices, range and condition of an option.

    name   how a choice is written
    """
    parts = [leaf.metadata["help"] or "No description."]
    if choices := choices_of(leaf.metadata):
        parts.append(f"One of {', '.join(map(name, choices))}.")
    if leaf.metadata["bounds"]:
        parts.append(f"Must be {allowed(leaf.metadata['bounds'])}.")
    if leaf.when:
        parts.append(f"Read {leaf.when}.")
    return " ".join(parts)


def _value(line: Any, key: str) -> str:
    """Return the value that an option has, and what gave it where that is not the default."""
    value = line.values.get(key, line.known[key].default)
    if value is REQUIRED:
        return "Must be given."
    if key not in line.origins:
        return "Not set by default." if value in ("", (), {}) else f"Default: {shown(value)}."
    origin = line.origins[key]
    name = origin if origin.startswith("--") else os.path.basename(origin)
    return f"Value: {shown(value)}, by {'the other options' if origin == RULE else name}."


def remedy_for(name: str, named: list[str], manual: Manual) -> str:
    """Return what to do about an option that does not exist: name the one that is meant.

    Search the names of other programs, the section, the last word, and then all names by likeness.
    """
    plain = name[:80].replace("-", "_").strip("_.").lower()
    section, _, last = plain.rpartition(".")
    sections = {key.rpartition(".")[0] for key in named if "." in key}
    if section and section not in sections:  # --skills.count is meant for the section skill
        section = _closest(section, {each: each for each in sections}) or section
    full = {key: f"did you mean --{key}?" for key in named}
    short = {
        key.rpartition(".")[2]: answer for key, answer in reversed(full.items())
    }  # the first key counts
    beside = {
        key.rpartition(".")[2]: answer
        for key, answer in full.items()
        if section and key.rpartition(".")[0] == section
    }
    below = [key for key in named if key.startswith(f"{plain}.")]
    answer = manual.elsewhere.get(plain) or (
        f"name an option of it, like --{below[0]}" if below else _closest(last, beside)
    )
    same = {key: full[key] for key in named if key.rpartition(".")[2] == last}
    answer = answer or (_closest(plain, same, cutoff=0) if section else short.get(last, ""))
    if answer or not beside:
        return answer or _closest(plain, manual.elsewhere | short | full) or "see --help all"
    if answer := manual.elsewhere.get(last):
        return answer
    return (
        "choose one of " + ", ".join(f"--{section}.{each}" for each in beside)
        if len(beside) <= MOST
        else "see --help all"
    )


def _closest(name: str, answers: dict[str, str], cutoff: float = NEAR) -> str:
    """Return the answer of the name that is most like this one; empty where none is like it."""
    return "".join(
        answers[each] for each in difflib.get_close_matches(name, answers, n=1, cutoff=cutoff)
    )
