"""An evaluation that is asked to end: every loop that plays looks here, since a run that is told to stop has little time."""

import threading

asked = threading.Event()


class Interrupted(Exception):
    """The evaluation was given up; nothing of it counts."""


def check() -> None:
    """Errors: Interrupted when it was asked for."""
    if asked.is_set():
        raise Interrupted
