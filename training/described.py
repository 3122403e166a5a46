"""Descriptions of all logged keys, from metrics.yaml, for TensorBoard and
docs/reference/metrics.md.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

TABLE = Path(__file__).with_name("metrics.yaml")
ANY = re.compile("[A-Z]{4,}")  # a part of a key that matches any word


@dataclass(frozen=True)
class Row:
    """Keys with one description.

    alarm   the value without learning, or a value to look out for
    shown   GIF or picture, where it is not a number
    """

    keys: tuple[str, ...]
    text: str
    unit: str = ""
    alarm: str = ""
    shown: str = ""

    @functools.cached_property
    def pattern(self) -> re.Pattern:
        """The pattern of the keys."""
        return re.compile("|".join(ANY.sub(r"[\\w+]+", re.escape(key)) for key in self.keys))

    @property
    def sentence(self) -> str:
        """The description of the curve in TensorBoard."""
        unit = f" Unit: {self.unit}." if self.unit else ""
        alarm = f" Trivial, or an alarm: {self.alarm}." if self.alarm else ""
        return f"{self.text}{unit}{alarm}"

    @property
    def in_the_docs(self) -> str:
        """The line in docs/reference/metrics.md."""
        keys = ", ".join(f"`{key}`" for key in self.keys)
        if self.shown:
            return f"| {keys} ({self.shown}) | {self.text} |"
        return f"| {keys} | {self.unit} | {self.text} | {self.alarm} |".replace("  ", " ")


@functools.cache
def rows() -> tuple[Row, ...]:
    """Return the table in its order: first numbers, then what only TensorBoard shows."""
    found = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return tuple(Row(**row | {"keys": tuple(row["keys"])}) for row in found)


@functools.cache
def sentence(key: str) -> str:
    """Return the description of a key, "" where it has no row.

    A row that names it takes precedence.
    """
    fitting = [row for row in rows() if key in row.keys] + [
        row for row in rows() if row.pattern.fullmatch(key)
    ]
    return fitting[0].sentence if fitting else ""
