"""A clip that cannot be played."""

from pathlib import Path

from errors import UserError

REMOVE = "remove it or put a whole copy in its place"


class Damaged(UserError):
    """A clip that cannot be played: `reason` says why, `path` names it or a picture of it."""

    def __init__(self, reason: str, path: Path, remedy: str):
        super().__init__(reason, str(path), remedy)
        self.reason, self.path = reason, path


def unreadable(error: OSError, path: Path) -> Damaged:
    """Return what to raise for a file that the system does not let be read."""
    reason = f"cannot be read ({error.strerror or error})"
    return Damaged(reason, path, "mend its permissions or remove it")
