"""The flag that interrupts an evaluation; every loop that plays checks it, since a stopped run has
little time.

It is a plain flag: signal handlers set it, and one may run inside another, where a lock would
deadlock.
"""

asked = False


class Interrupted(Exception):
    """The evaluation was given up; nothing of it counts."""


def ask(wanted: bool = True) -> None:
    """Ask every evaluation to end, or take that back."""
    global asked
    asked = wanted


def check() -> None:
    """Raise Interrupted when it was asked for."""
    if asked:
        raise Interrupted
