"""Make a small config for tests of options, and read it."""

from pathlib import Path

import pytest

from foreground.errors import UserError
from foreground.option import config_class, option
from foreground.training.options import parse


@config_class
class Model:
    deterministic: int = option(128, help="Size of the deterministic state.", ge=1, le=4096)
    strides: tuple[int, ...] = option((2, 2), help="Strides of the encoder.", ge=1)
    learning_rate: float = option(1e-4, help="Step size.", gt=0, lt=1)


@config_class
class Train:
    """Train an agent."""

    task: str = option("walker-walk", help="The task.")
    agent: str = option("infopower", help="The agent.", choices=("infopower", "dreamer"))
    rewards: dict[str, float] = option({"task": 1.0}, help="Weight of each reward.", ge=0)
    compile: bool = option(False, help="Compile the step functions.")
    frames: int = option(1000, help="Env frames of the run.", ge=1)
    limit: int | None = option(None, help="Stop early.", ge=0)
    offset: int = option(0, help="Any whole number.")
    scale: float = option(1.0, help="Any number.")
    world_model: Model = option(Model, help="The world model.")
    critic: Model = option(Model, help="Another section of that class.")

    def __post_init__(self):
        if self.limit is not None and self.limit > self.frames:
            raise UserError("limit is larger than frames", "limit", "choose less")


def read(presets: Path, *argv: str) -> Train:
    return parse(Train, list(argv), presets)


def error(presets: Path, *argv: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(Train, list(argv), presets)
    message = str(caught.value)
    assert message.startswith("error: ")
    assert message.isprintable()
    assert caught.value.exit_code == 2
    return message


def write_presets(folder: Path) -> Path:
    """Three presets, one of them on another one's base."""
    (folder / "small.yaml").write_text(
        "# A small world model.\nworld_model:\n  deterministic: 32\n  strides: [4]\n"
    )
    (folder / "smaller.yaml").write_text(
        "base: small\nworld_model:\n  deterministic: 16\nframes: 1e3\n"
    )
    (folder / "rewards.yaml").write_text("rewards:\n  task: 1\n  empowerment: 1e-1\nlimit: 7\n")
    return folder
