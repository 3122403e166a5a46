"""What `--task` may name: a task of dm_control's suite, or any environment that is registered with
Gymnasium.

| text | what it is |
|---|---|
| `walker-walk`, `dmc:walker-walk` | a task of dm_control's suite, <domain>-<task> |
| `gymnasium:Hopper-v5` | the environment of that id, see envs/adapter.py |

Plain values only: no simulator is imported here.
"""

from foreground.envs import tasks
from foreground.errors import UserError, nearest

DMC = "dmc:"
GYMNASIUM = "gymnasium:"


def canonical(task: str) -> str:
    """Return the one name of a task: that of the suite without its prefix."""
    return task.removeprefix(DMC)


def is_gymnasium(task: str) -> bool:
    """Return whether a task is an environment of Gymnasium."""
    return task.startswith(GYMNASIUM)


def gymnasium_id(task: str) -> str:
    """Return the id under which Gymnasium knows a task."""
    return task.removeprefix(GYMNASIUM)


def body_of(task: str) -> str:
    """Return the body of a task: its domain in the suite; an environment of Gymnasium shares its
    body with no other.
    """
    return task if is_gymnasium(task) else canonical(task).split("-")[0]


def file_name(task: str) -> str:
    """Return a task as part of a file name."""
    return canonical(task).replace(":", "-").replace("/", "-")


def terminates(task: str) -> bool:
    """Return whether an episode may end in a terminal state: no task of the suite that is played
    here has one.
    """
    return is_gymnasium(task)


def check_dmc(task: str, video: bool, where: str = "--task") -> None:
    """Raise UserError for an unknown task, or one that cannot be learned from images or video.

    video   whether a video plays behind the robot
    """
    task = canonical(task)
    if task in tasks.REFUSED:
        raise UserError(
            f"{task} cannot be learned from pictures, since {tasks.REFUSED[task]}",
            where,
            "choose another task",
        )
    if task not in tasks.SUITE:
        raise UserError(f"unknown task {task!r}", where, _remedy(task))
    if video and task in tasks.WITHOUT_VIDEO:
        what = f"no video can play behind {task}, since {tasks.WITHOUT_VIDEO[task]}"
        raise UserError(
            what, where, "play it with --background.source none, or choose another task"
        )


def _remedy(task: str) -> str:
    """Return the nearest task and the tasks of its body; without one, how else tasks are named."""
    domain = task.split("-")[0]
    same = [name for name in tasks.SUITE if body_of(name) == domain]
    meant = nearest(task, same or tasks.SUITE)
    if not meant.startswith("did you mean"):
        return f"{meant}; an environment of Gymnasium is --task gymnasium:ENV_ID"
    body = body_of(meant.removeprefix("did you mean ").removesuffix("?"))
    others = ", ".join(name for name in tasks.SUITE if body_of(name) == body)
    return f"{meant} Tasks of {body}: {others}"
