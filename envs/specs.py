"""What Gymnasium knows of an environment before it is made. No simulator is imported, unless the
user's module does so.
"""

import ast
import difflib
import importlib
import os
import sys
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from foreground.envs.registry import gymnasium_id
from foreground.errors import NEAR, UserError

# Steps after which an episode is truncated where Gymnasium knows no limit: it might never end.
LONGEST = 10_000


def load_module(name: str) -> None:
    """Import the module that registers environments, from the installed ones or the current folder.

    Raises: UserError where that fails.
    """
    if not name:
        return
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        importlib.import_module(name)
    except Exception as error:  # a module of others may raise anything
        what = (
            f"the module {name!r} cannot be imported ({type(error).__name__}: {str(error)[:200]})"
        )
        raise UserError(
            what, "--env_module", "install it, or start from the folder that it lies in"
        ) from error


def spec_of(task: str, module: str) -> EnvSpec:
    """Return what Gymnasium knows of a task. Raises: UserError where it is not registered."""
    load_module(module)
    name = gymnasium_id(task)
    try:
        return gymnasium.spec(name)
    except (gymnasium.error.Error, ImportError, ValueError) as error:
        close = difflib.get_close_matches(name, list(gymnasium.registry), n=1, cutoff=NEAR)
        meant = (
            f"did you mean gymnasium:{close[0]}?"
            if close
            else "name the module that registers it with --env_module"
        )
        raise UserError(
            f"Gymnasium cannot find the environment {name!r}", "--task", meant
        ) from error


def time_limit_of(task: str, module: str, arguments: dict[str, str]) -> int:
    """Return the steps after which an episode is truncated: the stated limit, or `LONGEST`.

    Raises: UserError as `stated_limit`.
    """
    return stated_limit(task, module, arguments) or LONGEST


def limit_warning(task: str, module: str, arguments: dict[str, str]) -> str:
    """Return a sentence where an environment states no limit, otherwise ""."""
    if stated_limit(task, module, arguments):
        return ""
    return (
        f"{task} states no time limit, so an episode is truncated after {LONGEST} steps; "
        "for another limit register it with max_episode_steps, or give "
        "--env_arguments max_episode_steps=N"
    )


def stated_limit(task: str, module: str, arguments: dict[str, str]) -> int | None:
    """Return max_episode_steps of the arguments or of the registration; None: neither states it.

    Raises: UserError as `spec_of`, and for a limit that is not a whole number.
    """
    spec = spec_of(task, module)
    limit = (
        literal(arguments["max_episode_steps"])
        if "max_episode_steps" in arguments
        else spec.max_episode_steps
    )
    if limit is not None and not (isinstance(limit, int) and limit > 0):
        raise UserError(
            f"max_episode_steps is {limit}", "--env_arguments", "give a whole number of steps"
        )
    return limit


def literal(text: str) -> Any:
    """Return what a text says as a literal of Python (3, 0.5, True, None), or the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
