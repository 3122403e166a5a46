"""Foreground: model-based visual RL agents that learn what they can control and ignore the rest of the picture."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent

# A wheel holds `agents`, `envs` and the others in this folder. In a checkout they lie beside it.
if not (_HERE / "agents").is_dir():
    __path__.append(str(_HERE.parent))
