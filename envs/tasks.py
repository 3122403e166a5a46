"""The tasks of dm_control's suite: names, cameras, and those that are refused, with the reason.

Plain values only: no simulator is imported here. The masks of all tasks were looked at, and tests
compare them with MuJoCo's segmentation (docs/environments.md).
"""

# The 28 tasks of the DeepMind Control benchmark.
TASKS = (
    "acrobot-swingup", "acrobot-swingup_sparse", "ball_in_cup-catch", "cartpole-balance",
    "cartpole-balance_sparse", "cartpole-swingup", "cartpole-swingup_sparse", "cheetah-run",
    "finger-spin", "finger-turn_easy", "finger-turn_hard", "fish-upright", "fish-swim",
    "hopper-stand", "hopper-hop", "humanoid-stand", "humanoid-walk", "humanoid-run",
    "manipulator-bring_ball", "pendulum-swingup", "point_mass-easy", "reacher-easy",
    "reacher-hard", "swimmer-swimmer6", "swimmer-swimmer15", "walker-stand", "walker-walk",
    "walker-run",
)  # fmt: skip

# The other tasks of the suite.
MORE = (
    "cartpole-two_poles", "cartpole-three_poles", "dog-stand", "dog-walk", "dog-trot", "dog-run",
    "dog-fetch", "humanoid-run_pure_state", "humanoid_CMU-stand", "humanoid_CMU-walk",
    "humanoid_CMU-run", "manipulator-bring_peg", "manipulator-insert_ball",
    "manipulator-insert_peg", "point_mass-hard", "quadruped-walk", "quadruped-run",
    "quadruped-escape", "quadruped-fetch", "stacker-stack_2", "stacker-stack_4",
)  # fmt: skip

SUITE = TASKS + MORE

# Tasks that pictures cannot show -> why.
REFUSED = dict.fromkeys(
    ("lqr-lqr_2_1", "lqr-lqr_6_2"),
    "its masses are thin lines and leave the picture, so pictures do not tell its state",
)
# Tasks that no video can play behind -> why.
WITHOUT_VIDEO = {
    "quadruped-escape": "its ground is a height field, which the mask takes for the robot"
}

# Tasks whose robot starts in any orientation, mostly to fall on its back (starts.py).
ANY_WAY_UP = ("quadruped-walk", "quadruped-run")

# Seconds of an environment frame, by domain: dm_control's control_timestep, here so that no
# simulator must be loaded.
CONTROL_INTERVALS = {
    "acrobot": 0.01, "ball_in_cup": 0.02, "cartpole": 0.01, "cheetah": 0.01, "dog": 0.015,
    "finger": 0.02, "fish": 0.04, "hopper": 0.02, "humanoid": 0.025, "humanoid_CMU": 0.02,
    "manipulator": 0.01, "pendulum": 0.02, "point_mass": 0.02, "quadruped": 0.02, "reacher": 0.02,
    "stacker": 0.01, "swimmer": 0.03, "walker": 0.025,
}  # fmt: skip

# Task or domain -> the camera that shows the robot, and the objects of the task; 0 for all others.
CAMERAS = {"quadruped": 2, "dog-fetch": 3}


def camera_of(task: str) -> int:
    """Return the index of the camera that a task is seen through."""
    return CAMERAS.get(task, CAMERAS.get(task.split("-")[0], 0))
