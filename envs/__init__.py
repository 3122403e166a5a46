"""DeepMind Control tasks as Gymnasium environments of pixels, with natural video behind the robot.

``import envs`` registers ``dmc/<domain>-<task>-v0`` (the task's own picture) and ``dmc_video/<domain>-<task>-v0`` (a
video in place of sky and floor) for the 28 benchmark tasks. It is cheap: MuJoCo and dm_control are imported when the
first environment is made, and by then `MUJOCO_GL` must be set, so this is the place where it gets its default.
Software OpenGL draws in the calling thread unless told otherwise: a hand-over to a thread of its own costs 15 % of the
steps on a quiet machine and half of them on a busy one.
"""

import importlib
import os

import gymnasium

os.environ["MUJOCO_GL"] = os.environ.get("MUJOCO_GL") or "egl"  # headless; MuJoCo reads it once, when it is imported
os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's llvmpipe; other drivers do not read it
# A damaged clip is told in one line of ours; OpenCV and its FFmpeg read these when cv2 is first imported.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

TASKS = (
    "acrobot-swingup", "acrobot-swingup_sparse", "ball_in_cup-catch", "cartpole-balance", "cartpole-balance_sparse",
    "cartpole-swingup", "cartpole-swingup_sparse", "cheetah-run", "finger-spin", "finger-turn_easy",
    "finger-turn_hard", "fish-upright", "fish-swim", "hopper-stand", "hopper-hop", "humanoid-stand", "humanoid-walk",
    "humanoid-run", "manipulator-bring_ball", "pendulum-swingup", "point_mass-easy", "reacher-easy", "reacher-hard",
    "swimmer-swimmer6", "swimmer-swimmer15", "walker-stand", "walker-walk", "walker-run",
)  # fmt: skip

# Seconds of an environment frame, by domain: dm_control's control_timestep, here so that no simulator must be loaded.
CONTROL_INTERVALS = {
    "acrobot": 0.01, "ball_in_cup": 0.02, "cartpole": 0.01, "cheetah": 0.01, "finger": 0.02, "fish": 0.04,
    "hopper": 0.02, "humanoid": 0.025, "manipulator": 0.01, "pendulum": 0.02, "point_mass": 0.02, "reacher": 0.02,
    "swimmer": 0.03, "walker": 0.025,
}  # fmt: skip
ACTION_SECONDS = 0.04  # for which an action is held by `action_repeat_of`


def action_repeat_of(task: str) -> int:
    """Return the environment frames for which an action is held by default: 40 ms of them, and at least 2.

    So agents of all tasks act at 20 to 25 Hz, and one discount means one horizon in seconds: 4 frames on cartpole and
    cheetah, 2 on finger, reacher and walker. 2 for a domain whose interval is not known.
    """
    interval = CONTROL_INTERVALS.get(task.split("-")[0], ACTION_SECONDS)
    return max(2, round(ACTION_SECONDS / interval))


# What an environment can tell besides the reward (envs/signals.py): for rewards, never in the observation.
SIGNALS = ("use", "safety")
VIOLATIONS = ("fall", "limit", "saturation", "contact")  # what safety is minus the mean of

_HOME_OF = {
    "DMCEnv": "envs.dmc",
    "make": "envs.dmc",
    "make_video": "envs.dmc",
    "Background": "envs.backgrounds",
    "BackgroundConfig": "envs.backgrounds",
    "Signals": "envs.signals",
    "Clips": "envs.backgrounds",
    "load_background": "envs.backgrounds",
    "load_clips": "envs.backgrounds",
    "record_motion": "envs.motion",
    "renderer_name": "envs.rendering",
}

__all__ = ["SIGNALS", "TASKS", "VIOLATIONS", "action_repeat_of", *_HOME_OF]


def __getattr__(name: str):
    """Imports the module of a public name when the name is first used."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'envs' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


for _task in TASKS:
    gymnasium.register(f"dmc/{_task}-v0", entry_point="envs.dmc:make", kwargs={"task": _task})
    gymnasium.register(f"dmc_video/{_task}-v0", entry_point="envs.dmc:make_video", kwargs={"task": _task})
