"""The checkpoints of one run folder: write one, find the newest that is good, load it."""

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from foreground import ranks
from foreground.errors import UserError
from foreground.training import checkpoint, common, system
from foreground.training import chunks as replay_chunks
from foreground.training.files import Damaged, Displaced, NotSaved, Unreadable
from foreground.training.progress import Progress
from foreground.training.state import completed, manifest_of, manifests_of_rejected

MOST_DISPLACED = 2  # saves in a row that fail by a displaced folder, before the run ends


class Checkpointer:
    """Saves and loads the checkpoints of a run.

    folder        of the run
    check_folder  called before each save; raises NotSaved where the folder is not this run's any
                  more
    """

    def __init__(self, folder: Path, check_folder: Callable[[], None]):
        self.folder = folder
        self.root = folder / "checkpoints"
        self.chunks = folder / "replay"
        self.check_folder = check_folder
        self.saved: Path | None = None  # the last checkpoint
        self.saved_at = -1  # its env frame
        self.not_saved = ""  # why the last save failed
        # Saves in a row that failed since the folder is not the one that was locked.
        self.displaced = 0

    def save(self, frame: int, state: Callable[[], dict[str, Any]], progress: Progress) -> None:
        """Write the checkpoint of an env frame. A full disk is a warning.

        Older checkpoints are deleted when every rank has saved, so that all ranks have one step in
        common.

        state   writes the replay's chunks and returns what the checkpoint holds

        Raises: UserError where the folder was displaced at this save and the one before.
        """
        path = self._write(frame, state, progress)
        if ranks.total(int(path is None))[0]:
            self.not_saved = self.not_saved or "another rank could not save"
            return
        self.saved = path
        self.saved_at = frame
        self.not_saved = ""
        try:
            kept = checkpoint.prune(self.root, keep=2)
            # One that cannot be read this moment may list any chunk.
            if kept == checkpoint.steps(self.root):
                manifests = [manifest_of(path) for path in kept] + manifests_of_rejected(self.root)
                replay_chunks.remove_unlisted(self.chunks, manifests)
        except (NotSaved, Damaged, Unreadable, OSError) as error:
            progress.message(
                f"warning: old checkpoints were not deleted ({error}); training continues"
            )

    def _write(
        self, frame: int, state: Callable[[], dict[str, Any]], progress: Progress
    ) -> Path | None:
        """Return the checkpoint, or None where the disk refuses, which is a warning."""
        try:
            self.check_folder()
            path = checkpoint.save(self.root, frame, state())
            self.displaced = 0
            return path
        except NotSaved as error:
            self.not_saved = str(error)
            self._count_displaced(error)
            progress.message(
                f"warning: {error}; training continues, the next checkpoint tries again"
            )
            return None

    def _count_displaced(self, error: NotSaved) -> None:
        """Raise UserError where the folder was displaced at two saves in a row.

        All later work would be lost.
        """
        if not isinstance(error, Displaced):
            self.displaced = 0
            return
        self.displaced += 1
        if self.displaced == MOST_DISPLACED:
            what = f"{self.displaced} saves in a row failed, since {error.what}"
            remedy = f"{error.remedy}; the same command continues from the last checkpoint"
            raise UserError(what, str(self.folder), remedy) from error

    def newest(self) -> common.Found:
        """Return the newest good checkpoint that every rank has, and sentences about skipped ones.

        Raises: UserError where there are checkpoints and none can be read.
        """
        with self._one_line():
            return common.newest(self._newest_of_this_rank)

    def _newest_of_this_rank(self, most: int | None) -> common.Found:
        path, sentences = checkpoint.latest(self.root, self._damaged, most)
        if path is None and sentences:
            # A chunk that every checkpoint lists is damaged: the weights are worth more than those
            # rows.
            path, sentences = checkpoint.latest(self.root, None, most)
        if path is None and sentences:
            remedy = "restore one of them, or move the whole folder away and begin anew"
            raise UserError(f"no checkpoint can be read ({sentences[0]})", str(self.folder), remedy)
        return path, sentences

    def _damaged(self, path: Path) -> list[str]:
        """Return a sentence for each damaged chunk that a checkpoint lists."""
        found = replay_chunks.damaged_chunks(self.chunks, manifest_of(path))
        return [sentence for _, sentence in found]

    def load(
        self, path: Path | None, take: Callable[[int, dict[str, Any]], list[str]]
    ) -> list[str]:
        """Load a checkpoint, and set aside what is newer. Return the sentences of `take`.

        path   None: there is none
        take   given the env frame and the state; takes up the state

        Raises: UserError where the checkpoint belongs to another agent or version.
        """
        with self._one_line():
            checkpoint.set_aside_newer(self.root, path)
            if path is None:
                return []
            frame = checkpoint.step_of(path)
            sentences = take(frame, completed(checkpoint.load(path)))
            self.saved = path
            self.saved_at = frame
            return sentences

    @contextlib.contextmanager
    def _one_line(self) -> Generator[None]:
        """Turn known failures of loading into a UserError."""
        with (
            system.one_line_without_memory(lambda: str(self.folder)),
            checkpoint.fits(self.root),
        ):
            yield
