"""Commanders and learners by the names that a preset gives them.

A file in this folder registers its classes. Every file is imported, so that there is no list to
maintain:

    @registry.commander("mine")
    class Mine: ...
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMANDERS: dict[str, type[Any]] = {}
LEARNERS: dict[str, type[Any]] = {}


def commander(name: str) -> Callable[[type], type]:
    """Register a class: made as (config, spaces, world model), with a static `check(config,
    spaces)`.
    """
    return functools.partial(_register, COMMANDERS, name)


def learner(name: str) -> Callable[[type], type]:
    """Register a class: made as (agent), after the agent's world model, commander and earlier
    learners.
    """
    return functools.partial(_register, LEARNERS, name)


def _register(table: dict[str, type[Any]], name: str, kind: type) -> type[Any]:
    if table.get(name, kind) is not kind:
        raise ValueError(f"{name!r} is registered twice")
    table[name] = kind
    return kind


@functools.cache
def _import_all() -> None:
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")


def commanders() -> dict[str, type[Any]]:
    """Return the classes of all commanders by name."""
    _import_all()
    return COMMANDERS


def learners() -> dict[str, type[Any]]:
    """Return the classes of all learners by name."""
    _import_all()
    return LEARNERS
