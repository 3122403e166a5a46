"""A clip that cannot be played."""

import time
from pathlib import Path

from foreground.errors import UserError

REMOVE = "remove it or put a whole copy in its place"


class Damaged(UserError):
    """A clip that cannot be played: `reason` says why, `path` names it or a picture of it."""

    def __init__(self, reason: str, path: Path, remedy: str):
        super().__init__(reason, str(path), remedy)
        self.reason = reason
        self.path = path


class Deadline:
    """A limit on the processor time of this thread for one clip."""

    def __init__(self, seconds: float, clip: Path):
        self.seconds = seconds
        self.clip = clip
        self.began = time.thread_time()

    def check(self) -> None:
        """Raise Damaged where the time is over."""
        if time.thread_time() - self.began > self.seconds:
            what = f"takes more than {self.seconds:.0f} seconds to decode"
            raise Damaged(what, self.clip, "scale it down, or shorten it")


def check_name(path: Path) -> None:
    """Raise Damaged for a name that is not UTF-8, which decoders do not take."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise Damaged("its name is not UTF-8", path, "rename it") from None


def unreadable(error: OSError, path: Path) -> Damaged:
    """Return what to raise for a file that the system does not let be read."""
    reason = f"cannot be read ({error.strerror or error})"
    return Damaged(reason, path, "mend its permissions or remove it")
