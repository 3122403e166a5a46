"""Random command lines and presets: they give a config, or one line that says what is wrong."""

import contextlib
import io
import os
import random
from pathlib import Path
from unittest import mock

import gymnasium

from foreground import preflight, train
from foreground.configs import run as runs
from foreground.envs import TASKS
from foreground.errors import run_main
from foreground.option import choices_of
from foreground.training import options, values
from tests.faults import Tries
from tests.faults.clips import CONTAINERS, written

TEXTS = [
    "",
    " ",
    "0",
    "-1",
    "1",
    "2",
    "0.5",
    "-0.5",
    "1e9",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "true",
    "false",
    "none",
    "null",
]
TEXTS += [
    "a",
    "a=1",
    "a=b",
    "a=1,a=2",
    "task=1",
    "=",
    ",",
    ",,",
    "1,2",
    "[1]",
    "{}",
    "{a: 1}",
    "~",
    "!!python/object:os.system x",
]
TEXTS += [
    "\0",
    "\udc80",
    "é",
    "../..",
    "/",
    "x" * 5000,
    "9" * 400,
    "0x10",
    "1_000",
    "--",
    "-",
    "*",
    "&a",
    "walker-wlak",
    "infopwer",
]
PLACES = ["background.source", "folder", "init_from", "task"]  # checked before a run starts


def config(folder: Path, chance: random.Random) -> Tries:
    """Command lines with known, misspelt and unknown keys, and values of every type, in and out of
    range.

    One line in three has only values that may be valid, so that the clips and the sizes of the
    networks are checked as well.
    """
    leaves = options.leaves(runs.RunConfig)
    keys, clips = list(leaves), folders_of_clips(folder)
    while True:
        words, hopeful = [], chance.random() < 0.34
        for _ in range(chance.randrange(1, 5)):
            key = chance.choice(PLACES if chance.random() < 0.2 else keys)
            if hopeful:
                words += [f"--{key}", right(key, leaves[key], clips, chance)]
                continue
            if chance.random() < 0.2:
                key = misspelt(key, chance)
            values = [
                value_for(leaves.get(key), folder, chance)
                for _ in range(chance.choice((1, 1, 1, 1, 1, 0, 2)))
            ]
            words += [f"--{key}", *values]
        yield verdict(words, folder)


def folders_of_clips(folder: Path) -> list[str]:
    """Return folders with two clips, one, none, two broken ones; an absent folder; a file."""
    whole = written(folder / "whole.mp4", CONTAINERS["mp4"])
    for name, contents in {
        "two": [whole, whole[:]],
        "one": [whole],
        "empty": [],
        "broken": [whole[:50], b"text"],
    }.items():
        (folder / name).mkdir()
        for index, content in enumerate(contents):
            (folder / name / f"{index}.mp4").write_bytes(content)
    return [str(folder / name) for name in ("two", "one", "empty", "broken", "absent", "whole.mp4")]


def right(key: str, leaf: options.Leaf, clips: list[str], chance: random.Random) -> str:
    """Return a value of the option's type within its bounds, near its default or at a bound."""
    named = {
        "task": TASKS,
        "background.source": ["none", "procedural", "starter", *clips],
        "init_from": clips,
        "folder": clips,
    }
    if names := named.get(key) or choices_of(leaf.metadata):
        return str(chance.choice(list(names)))
    if leaf.kind is bool:
        return chance.choice(("true", "false"))
    if leaf.kind not in (int, float) or not leaf.default:
        return values.shown(leaf.default)
    low, high = (leaf.metadata["bounds"].get(name) for name in ("ge", "le"))
    value = chance.choice(
        [
            leaf.default * 2,
            leaf.default / 2,
            leaf.default,
            leaf.default + 1,
            low or 1,
            min(high or 99, 512),
        ]
    )
    return str(leaf.kind(value))


def misspelt(key: str, chance: random.Random) -> str:
    """Return a key with a character removed, inserted or replaced, a section alone, or another
    text.
    """
    place = chance.randrange(len(key))
    return chance.choice(
        [
            key[:place] + key[place + 1 :],
            key[:place] + "x" + key[place:],
            key.split(".")[0],
            key + ".x",
            "",
            "x",
            f"-{key}",
        ]
    )


def value_for(leaf, folder: Path, chance: random.Random) -> str:
    """Return a value that may be valid by the option's declaration, any text, or a preset of random
    lines.
    """
    kind = chance.random()
    if leaf is None or kind < 0.5:
        return chance.choice(TEXTS)
    choices = choices_of(leaf.metadata)
    if choices and kind < 0.8:
        return str(chance.choice(list(choices)))
    if kind < 0.85:
        preset = folder / f"{chance.randrange(50)}.yaml"
        preset.write_text(
            "\n".join(
                f"{chance.choice('abcagentfrmes')}: {printable(chance)}"
                for _ in range(chance.randrange(4))
            )
        )
        return str(preset)
    return str(
        chance.choice(
            [chance.randrange(-5, 5000), chance.uniform(-2, 2), 10 ** chance.randrange(30)]
        )
    )


def printable(chance: random.Random) -> str:
    return "".join(letter for letter in chance.choice(TEXTS) if letter.isprintable())


def prepared(words: list[str]) -> runs.RunConfig:
    """Do what train.py does before it locks the run folder, and check the sizes of the networks."""
    found, _ = train.prepare(words)
    preflight.check_model(found, gymnasium.spaces.Box(-1, 1, (2,)), "cpu")
    return found


def verdict(words: list[str], folder: Path) -> str:
    """Return what is wrong: the words must give a config that can be stored, or one line of three
    parts.

    Clips are decoded only where the words name some, since every image size would decode them
    again.
    """
    asked = (
        words
        if any(word.startswith("--background") for word in words)
        else [*words, "--background.source", "none"]
    )
    found, said = [], io.StringIO()
    try:
        with (
            mock.patch.dict(os.environ, XDG_CACHE_HOME=str(folder / "cache")),
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            run_main(lambda words: found.append(prepared(words)), asked)
    except SystemExit as stopped:
        text = "".join(
            line for line in said.getvalue().splitlines(True) if not line.startswith("warning: ")
        )
        one = (
            text.startswith("error: ")
            and text.count("\n") == 1
            and text[:-1].isprintable()
            and text.count(": ") >= 3
        )
        good = stopped.code == 0 or (stopped.code == 2 and one and len(text) < 2000)
        return "" if good else f"{words}: code {stopped.code}: {text[:300]!r}"
    except Exception as error:  # any other exception is a failure
        return f"{words}: {type(error).__name__}: {str(error)[:200]}"
    [found] = found
    again = options.from_dict(runs.RunConfig, options.to_dict(found))
    return "" if again == found else f"{words}: its stored form gives another config"
