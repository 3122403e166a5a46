"""Foreground: model-based visual RL agents that learn what they can control.

The names of `__all__` are the Python API, see foreground/api.py. Each is imported when first used.
"""

import importlib
from pathlib import Path

__all__ = [
    "Player",
    "Run",
    "Scores",
    "UserError",
    "load_run",
    "make_env",
    "read_metrics",
    "read_scores",
]

_HERE = Path(__file__).resolve().parent

# A wheel holds `agents`, `envs` and the others in this folder; a checkout holds them next to it.
if not (_HERE / "agents").is_dir():
    __path__.append(str(_HERE.parent))


def __getattr__(name: str):
    """Import a name of the API when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'foreground' has no attribute {name!r}")
    return getattr(importlib.import_module("foreground.api"), name)


def __dir__() -> list[str]:
    """Return the names of the API, and the submodules that are loaded."""
    return sorted({*__all__, *globals()} - {"Path", "importlib"})
