"""Tasks of dm_control's suite with a video behind the robot."""

from foreground.envs.backgrounds import BackgroundConfig, load_background
from foreground.envs.dmc import DMCEnv, make


def make_video(
    task: str,
    config: BackgroundConfig | None = None,
    side: str = "train",
    size: int = 64,
    **arguments,
) -> DMCEnv:
    """Return a DMCEnv with clips of `side` ("train" or "heldout"), by default the bundled ones."""
    background = load_background(config or BackgroundConfig(), side, size)
    return make(task, size=size, background=background, **arguments)
