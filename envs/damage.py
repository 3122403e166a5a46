"""A clip that cannot be played."""

from pathlib import Path

from errors import UserError

REMOVE = "remove it or put a whole copy in its place"


class Damaged(UserError):
    """A clip, or a picture of one, that cannot be played: `reason` says why, `path` names the file."""

    def __init__(self, reason: str, path: Path, remedy: str):
        super().__init__(reason, str(path), remedy)
        self.reason, self.path = reason, path
