"""The subject of an evaluation: the checkpoint that was scored, its clips, and whether it had
trained on them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foreground.configs.run import RunConfig
from foreground.envs import backgrounds
from foreground.envs.sources import Source
from foreground.evaluation import verdicts
from foreground.training import checkpoint, identity

SHOWN = 3  # clips that a warning names
SIDES = {"train": "the training side", "heldout": "the held-out side", backgrounds.ALL: "all clips"}


class Subject:
    """The checkpoint and the clips of scores.json.

    checkpoint, sha256   its name, and the sum of the file with its weights
    trained              all clips that the run was trained on; none: not known
    """

    def __init__(self, name: str, sha256: str, trained: identity.Trained | None):
        self.checkpoint, self.sha256, self.trained = name, sha256, trained
        self._sources: dict[str, tuple[Source, str]] = {}

    @classmethod
    def newest(cls, run: Path) -> "Subject":
        """Return the newest checkpoint of a run, as it is evaluated at the end of training."""
        paths, made = checkpoint.steps(run / "checkpoints"), identity.read(run)
        name, sha256 = (paths[-1].name, checkpoint.weights_sum(paths[-1])) if paths else ("", "")
        return cls(name, sha256, made and made.trained)

    def plays(self, name: str, config: RunConfig, side: str, background=None) -> str:
        """Take a background in: its name in the table, its side, and its config where it is not the
        run's own.

        Return a warning where it is scored as held out and has clips or uploads that were trained
        on; "" otherwise.
        """
        chosen = background or config.background
        if side == "clean" or chosen.source == "none":
            return ""
        source = backgrounds.source_of(chosen, side, config.environment.image_size)
        self._sources[name] = source, side
        if not self.is_leaked(name):
            return ""
        same, parts, number = (
            self.trained.same(source),
            self.trained.parts(source),
            len(source.clips),
        )
        found = []
        if same:
            found.append(
                f"the run was trained on {len(same)} of these {number} clips ({_shown(same)})"
            )
        if parts:
            what = "are other parts or copies of uploads that the run was trained on"
            found.append(f"{len(parts)} of these {number} clips ({_shown(parts)}) {what}")
        return f"{name}: {'; '.join(found)}; they are not held out"

    def text(self, name: str) -> str:
        """Return how many clips play behind a background, of which side and from where; "" where
        none play.
        """
        source, side = self._sources.get(name, (None, ""))
        return f"{source.text()}, {SIDES[side]} of {source.root or source.source}" if source else ""

    def _trained_on(self, source: Source) -> str | bool | None:
        """Return "clips", "recordings" or False: what of a source was trained on; None where that
        is not known.
        """
        if self.trained is None:
            return None
        return (
            "clips"
            if self.trained.same(source)
            else "recordings"
            if self.trained.parts(source)
            else False
        )

    def is_leaked(self, name: str) -> bool:
        """Return whether a background that is not the training side has clips or uploads that were
        trained on.
        """
        source, side = self._sources.get(name, (None, ""))
        return source is not None and side != "train" and bool(self._trained_on(source))

    def row(self, names) -> dict:
        """Return the part of scores.json that is about it: the checkpoint, and the clips of the
        backgrounds among `names`.
        """
        sources = {name: self._row(*self._sources[name]) for name in names if name in self._sources}
        return {"checkpoint": self.checkpoint, "checkpoint_sha256": self.sha256, "sources": sources}

    def _row(self, source: Source, side: str) -> dict:
        known = self.trained is not None
        return {
            "path": source.root or source.source,
            "side": side,
            "sha256": identity.sum_of(source),
            "trained_on": self._trained_on(source)
            if known
            else "clips"
            if side == "train"
            else None,
            "trained_clips": len(self.trained.same(source)) if known else None,
            "trained_recordings": len(self.trained.parts(source)) if known else None,
            "clips": {clip.path: clip.sha256 for clip in source.clips},
        }


def _shown(clips: list[str]) -> str:
    return ", ".join(clips[:SHOWN]) + (", ..." if len(clips) > SHOWN else "")


def shown(config: RunConfig, results: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return results by background with the names that sentences, tables and charts show."""
    return results if config.has_clips else verdicts.without_clips(results)


def title_of(config: RunConfig, frame: int) -> str:
    """Return what a picture is of: task, agent, how long it was trained."""
    return f"{config.agent} on {config.task} after {frame:,} env frames"
