"""Mark the tests that `make check` leaves out."""

from collections.abc import Iterable

import pytest


def mostly_slow(values: Iterable, quick: Iterable) -> list:
    """Return the parameters of a test: those that are not quick are marked slow.

    Raises: ValueError where a quick one is not among them.
    """
    values, quick = list(values), set(quick)
    if unknown := quick - set(values):
        raise ValueError(f"not among the parameters: {unknown}")
    return [value if value in quick else slow(value) for value in values]


def slow(value):
    """Return a parameter, or a tuple of several, that is marked slow."""
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=pytest.mark.slow)
