"""DeepMind Control tasks as Gymnasium environments of pixels, with natural video behind the robot.

``import foreground.envs`` registers ``dmc/<domain>-<task>-v0`` (the task's own picture) and
``dmc_video/<domain>-<task>-v0`` (a video in place of sky and floor) for the tasks of the suite. It
is cheap: MuJoCo and dm_control are imported when the first environment is made. `MUJOCO_GL` must be
set by then, so it gets its default here.

Software OpenGL renders in the calling thread by default: a separate thread costs 15 % of the steps
on a quiet machine and half of them on a busy one.
"""

import importlib
import os

import gymnasium

from foreground.envs import registry
from foreground.envs.tasks import CONTROL_INTERVALS, SUITE, TASKS

# headless; MuJoCo reads it once, when it is imported.
os.environ["MUJOCO_GL"] = os.environ.get("MUJOCO_GL") or "egl"
os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's llvmpipe; other drivers do not read it
# Damaged clips have our own error line. OpenCV and its FFmpeg read these when cv2 is first
# imported.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

ACTION_SECONDS = 0.04  # for which an action is held by `action_repeat_of`


def action_repeat_of(task: str) -> int:
    """Return the environment frames for which an action is held by default: 40 ms of them, and at
    least 2.

    So agents act at 20 to 25 Hz on all tasks but swimmer (17 Hz) and fish (12.5 Hz), and one
    discount means about one horizon in seconds: 4 frames on cartpole and cheetah, 2 on finger,
    reacher and walker. 2 for a domain whose interval is not known. 1 for an environment of
    Gymnasium: its author chose for how long one step lasts.
    """
    if registry.is_gymnasium(task):
        return 1
    interval = CONTROL_INTERVALS.get(registry.body_of(task), ACTION_SECONDS)
    return max(2, round(ACTION_SECONDS / interval))


# Signals of an environment besides the reward (envs/signals.py): used as rewards, never in the
# observation.
SIGNALS = ("use", "safety")
VIOLATIONS = ("fall", "limit", "saturation", "contact")  # safety is minus their mean

_HOME_OF = {
    "DMCEnv": "foreground.envs.dmc",
    "make": "foreground.envs.dmc",
    "make_video": "foreground.envs.dmc_video",
    "make_pixels": "foreground.envs.adapter",
    "Background": "foreground.envs.backgrounds",
    "BackgroundConfig": "foreground.envs.backgrounds",
    "DistractionConfig": "foreground.envs.distraction",
    "Signals": "foreground.envs.signals",
    "USES": "foreground.envs.signals",
    "Clips": "foreground.envs.backgrounds",
    "load_background": "foreground.envs.backgrounds",
    "load_clips": "foreground.envs.backgrounds",
    "record_motion": "foreground.envs.motion",
    "renderer_name": "foreground.envs.rendering",
}

__all__ = [
    "CONTROL_INTERVALS",
    "SIGNALS",
    "SUITE",
    "TASKS",
    "VIOLATIONS",
    "action_repeat_of",
    *_HOME_OF,
]


def __getattr__(name: str):
    """Import the module of a public name when the name is first used."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'foreground.envs' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


for _task in SUITE:
    gymnasium.register(
        f"dmc/{_task}-v0", entry_point="foreground.envs.dmc:make", kwargs={"task": _task}
    )
    gymnasium.register(
        f"dmc_video/{_task}-v0",
        entry_point="foreground.envs.dmc_video:make_video",
        kwargs={"task": _task},
    )
