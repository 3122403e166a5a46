"""Ranges in place of the values of options, and the values that a trial draws from them.

1e-5..1e-3     a number between the two; even in its logarithm where the ends are 10 times apart or
               more
8..64          a whole number, both ends included 0.5|0.7|0.9    one of these
use=1..100     the same for a key of an option that is a mapping
"""

import hashlib
import math
import random
import re
from dataclasses import dataclass

NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
BETWEEN = re.compile(rf"({NUMBER})\.\.({NUMBER})")
WIDE = 10  # times that the ends are apart where a number is drawn evenly in its logarithm


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`; a whole one where both ends are written as such."""

    low: float
    high: float
    whole: bool

    def draw(self, source: random.Random) -> str:
        """Return one as text, with four digits where it is not whole."""
        if self.low > 0 and self.high >= WIDE * self.low:
            value = math.exp(source.uniform(math.log(self.low), math.log(self.high)))
        elif self.whole:
            return str(source.randint(int(self.low), int(self.high)))
        else:
            value = source.uniform(self.low, self.high)
        return str(round(value)) if self.whole else f"{min(max(value, self.low), self.high):.4g}"


@dataclass(frozen=True)
class OneOf:
    """One of several words."""

    words: tuple[str, ...]

    def draw(self, source: random.Random) -> str:
        """Return one."""
        return source.choice(self.words)


def read(text: str) -> Between | OneOf | None:
    """Return the range that a value stands for; None where it is a plain value."""
    if match := BETWEEN.fullmatch(text):
        low, high = sorted(map(float, match.groups()))
        return Between(low, high, all(re.fullmatch(r"[-+]?\d+", end) for end in match.groups()))
    parts = text.split("|")
    return OneOf(tuple(parts)) if len(parts) > 1 and all(parts) else None


def drawn(words: list[str], trial: int) -> tuple[list[str], dict[str, str]]:
    """Return the words with a value in place of each range, and option -> value of those.

    A trial draws the same value for an option in all runs of a suite.
    """
    found = []
    values = {}
    option = ""
    for word in words:
        option = word.partition("=")[0] if word.startswith("--") else option
        before, equals, text = word.rpartition("=")
        if (choice := read(text)) is not None:
            key = option.removeprefix("--") + (
                f" {before}" if equals and not word.startswith("--") else ""
            )
            values[key] = choice.draw(random.Random(f"{trial} {key}"))
            word = before + equals + values[key]
        found.append(word)
    return found, values


def named(name: str, trial: int, values: dict[str, str]) -> str:
    """Return the name of a trial of a run.

    Other values, as after a change of a range, are another run.
    """
    text = repr(sorted(values.items()))
    return f"{name}-trial{trial:03d}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
