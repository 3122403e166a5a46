"""What every logged key means: the rows of metrics.yaml, for TensorBoard and for docs/reference/metrics.md."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

TABLE = Path(__file__).with_name("metrics.yaml")
ANY = re.compile("[A-Z]{4,}")  # a part of a key that stands for any word


@dataclass(frozen=True)
class Row:
    """Keys that one sentence is about.

    alarm   what a part that learned nothing reaches, or what to look out for
    shown   what it is where it is no number: GIF or picture
    """

    keys: tuple[str, ...]
    text: str
    unit: str = ""
    alarm: str = ""
    shown: str = ""

    @functools.cached_property
    def pattern(self) -> re.Pattern:
        """Match the keys themselves."""
        return re.compile("|".join(ANY.sub(r"[\\w+]+", re.escape(key)) for key in self.keys))

    @property
    def sentence(self) -> str:
        """Return what TensorBoard shows beside the curve."""
        unit = f" Unit: {self.unit}." if self.unit else ""
        alarm = f" Trivial, or an alarm: {self.alarm}." if self.alarm else ""
        return f"{self.text}{unit}{alarm}"

    @property
    def in_the_docs(self) -> str:
        """Return the line of docs/reference/metrics.md."""
        keys = ", ".join(f"`{key}`" for key in self.keys)
        if self.shown:
            return f"| {keys} ({self.shown}) | {self.text} |"
        return f"| {keys} | {self.unit} | {self.text} | {self.alarm} |".replace("  ", " ")


@functools.cache
def rows() -> tuple[Row, ...]:
    """Return the table, in its order: first the numbers, then what is TensorBoard's alone."""
    found = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return tuple(Row(**row | {"keys": tuple(row["keys"])}) for row in found)


@functools.cache
def sentence(key: str) -> str:
    """Return what TensorBoard says of a key, or nothing for a key that has no row. A row that names it goes first."""
    fitting = [row for row in rows() if key in row.keys] + [row for row in rows() if row.pattern.fullmatch(key)]
    return fitting[0].sentence if fitting else ""
