"""An evaluation that is asked to end: every loop that plays looks here, since a run that is told to stop has little time.

A plain flag: signal handlers set it, and one handler may run inside another, where a lock would wait for itself.
"""

asked = False


class Interrupted(Exception):
    """The evaluation was given up; nothing of it counts."""


def ask(wanted: bool = True) -> None:
    """Ask every evaluation to end, or take that back."""
    global asked
    asked = wanted


def check() -> None:
    """Errors: Interrupted when it was asked for."""
    if asked:
        raise Interrupted
