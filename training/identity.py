"""The inputs of a run: the clips of each side by their SHA-256, and the run that it started from.

RUN/sources.json holds them, RUN/history.json the changes during the run. An input is identified by
its content, not its name: moved or renamed clips are the same, other files with the old name are
not.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from foreground.envs import recordings
from foreground.envs.sources import Clip, Source
from foreground.errors import UserError
from foreground.training import checkpoint, files

SOURCES, HISTORY = "sources.json", "history.json"
VERSION = 1
LARGEST = 256 << 20  # bytes of a file here
SHOWN = 3  # clips that a sentence names

OTHER = {"train": "heldout", "heldout": "train"}
Sides = dict[str, Source]  # "train", "heldout" -> its clips; empty without clips


@dataclass(frozen=True)
class Origin:
    """The run that another one starts from.

    run          its folder, absolute
    checkpoint   the name of the checkpoint whose weights were loaded; "" if unknown
    sha256       of the file with these weights; "" if unknown
    """

    run: str
    checkpoint: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Period:
    """A part of a run with the same clips, from an env frame on."""

    env_frame: int
    sides: Sides


@dataclass(frozen=True)
class Trained:
    """What was trained on.

    sums      of the clips
    uploads   their recordings, of those that are known by the same name everywhere
    """

    sums: frozenset[str] = frozenset()
    uploads: frozenset[str] = frozenset()

    @classmethod
    def on(cls, clips: Iterable[Clip]) -> "Trained":
        """Return it for clips."""
        clips = tuple(clips)
        uploads = frozenset(
            clip.recording for clip in clips if recordings.is_global(clip.recording)
        )
        return cls(frozenset(clip.sha256 for clip in clips), uploads)

    def same(self, source: Source) -> list[str]:
        """Return the clips of a source that were trained on."""
        return [clip.path for clip in source.clips if clip.sha256 in self.sums]

    def parts(self, source: Source) -> list[str]:
        """Return the other clips of uploads that were trained on: another segment, or a copy in
        other bytes.
        """
        return [
            clip.path
            for clip in source.clips
            if clip.sha256 not in self.sums and clip.recording in self.uploads
        ]


@dataclass(frozen=True)
class Made:
    """The inputs of a run so far."""

    periods: tuple[Period, ...] = (Period(0, {}),)
    origin: Origin | None = None

    @property
    def sides(self) -> Sides:
        """The clips of the run as it is now."""
        return self.periods[-1].sides

    @property
    def trained(self) -> Trained:
        """All clips that were ever trained on."""
        return Trained.on(
            clip
            for period in self.periods
            for clip in period.sides.get("train", Source("", "", ())).clips
        )


@dataclass(frozen=True)
class Change:
    """An input that differs from the start of the run: its option, the old and the new value in
    words.
    """

    key: str
    old: str
    new: str

    def text(self) -> str:
        return f"{self.key} was {self.old}, and is {self.new}"


@dataclass(frozen=True)
class Changes:
    """The changed inputs, and the inputs of the run from now on.

    known   False for a run that is older than sources.json
    """

    found: tuple[Change, ...] = ()
    now: Made = field(default_factory=Made)
    known: bool = True


def read(run: Path) -> Made | None:
    """Return the inputs of a run; None for one that is older than sources.json.

    Raises: UserError for a file that is not whole.
    """
    path = Path(run) / SOURCES
    if not path.exists():
        return None
    try:
        row = json.loads(files.read(path, LARGEST))
        if row["version"] != VERSION or not row["periods"]:
            raise ValueError("version")
        periods = [
            Period(_frame(each["env_frame"]), _sides(each["sides"])) for each in row["periods"]
        ]
        origin = row["skills"] and Origin(
            **{key: str(value) for key, value in row["skills"].items()}
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        remedy = (
            "restore it, or delete it: the next start writes it anew, and does not compare then"
        )
        raise UserError("this does not say what the run was made of", str(path), remedy) from error
    return Made(tuple(periods), origin)


def _frame(value) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("an env frame")
    return value


def _sides(plain: dict) -> Sides:
    return {str(side): Source.of(source) for side, source in plain.items()}


def write(run: Path, made: Made) -> None:
    """Write sources.json, whole or not at all.

    Raises: OSError.
    """
    periods = [
        {
            "env_frame": period.env_frame,
            "sides": {side: source.plain() for side, source in period.sides.items()},
        }
        for period in made.periods
    ]
    row = {"version": VERSION, "periods": periods, "skills": made.origin and asdict(made.origin)}
    files.write_atomic(Path(run) / SOURCES, json.dumps(row, indent=1).encode())


# ---------------------------------------------------------------------------------------- comparing


def compare(before: Made | None, sides: Sides, skills: Path | None) -> Changes:
    """Return what differs between what a run was made of and what it is given now.

    before   None: nothing is known, so that nothing differs
    sides    its clips now
    skills   the run folder or checkpoint that is given now; none: it begins with no run
    """
    if before is None:
        return Changes(
            now=Made((Period(0, sides),), skills and Origin(str(_run_of(skills)))), known=False
        )
    found = [
        change
        for side in sorted(set(before.sides) | set(sides), reverse=True)
        for change in side_changes(side, before.sides, sides)
    ]
    now = before if not found else replace(before, periods=(*before.periods, Period(0, sides)))
    if (then := before.origin) != (
        given := skills and Origin(str(_run_of(skills)))
    ) and not _same_run(then, skills):
        found.append(Change("init_from", _run_text(then), _run_text(given)))
        now = replace(now, origin=given)
    return Changes(tuple(found), now)


def side_changes(side: str, old: Sides, new: Sides) -> list[Change]:
    """Return how the clips of a side differ, by their sums: nothing, or one change.

    A clip that is on the other side in `old` or `new` is named as such.
    """
    old_sums, new_sums = (
        Counter(clip.sha256 for clip in _clips(each, side)) for each in (old, new)
    )
    if old_sums == new_sums:
        return []
    other = OTHER.get(side, side)
    there, here = ({clip.sha256 for clip in _clips(each, other)} for each in (old, new))
    gone, come = old_sums - new_sums, new_sums - old_sums
    parts = [
        (_named(_clips(old, side), gone.keys() & here), f"on the {other} side now"),
        (_named(_clips(old, side), gone.keys() - here), "not there any more"),
        (_named(_clips(new, side), come.keys() & there), f"from the {other} side"),
        (_named(_clips(new, side), come.keys() - there), "new"),
    ]
    told = "; ".join(f"{text} {what}" for text, what in parts if text)
    return [
        Change(
            f"background.source ({side})",
            _side_text(old, side),
            f"{_side_text(new, side)} ({told})",
        )
    ]


def _clips(sides: Sides, side: str) -> tuple[Clip, ...]:
    return sides[side].clips if side in sides else ()


def _named(clips: Iterable[Clip], sums: Set[str]) -> str:
    """Return how many of the clips have these sums, and the first names."""
    names = [clip.path for clip in clips if clip.sha256 in sums]
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"{len(names)} ({shown})" if names else ""


def _side_text(sides: Sides, side: str) -> str:
    """Return the clips of a side in words: where and how many. Their sums are in sources.json."""
    if side not in sides:
        return "without clips"
    source = sides[side]
    number = len(source.clips)
    return f"{source.root or source.source}, {number} clip{'s' * (number != 1)}"


def sum_of(source: Source) -> str:
    """Return one SHA-256 for all clips of a source, in whatever order and under whatever names."""
    return hashlib.sha256(
        "\n".join(sorted(clip.sha256 for clip in source.clips)).encode()
    ).hexdigest()


def _run_of(path: Path) -> Path:
    """Return the run folder of a run folder or a checkpoint in it."""
    path = Path(path).resolve()
    return path.parent.parent if (path / "MANIFEST.json").exists() else path


def _run_text(origin: Origin | None) -> str:
    if origin is None:
        return "none"
    return f"{origin.run}" + (
        f", {origin.checkpoint}, sum {origin.sha256[:12]}" if origin.sha256 else ""
    )


def _same_run(then: Origin | None, skills: Path | None) -> bool:
    """Return whether a path leads to the run that was begun with; moved runs are known by the
    checkpoint's sum.
    """
    if then is None or skills is None:
        return then is None and skills is None
    path = Path(skills).resolve()
    folder = _run_of(path)
    if folder == path and str(folder) == then.run:
        return True
    candidates = [path] if folder != path else checkpoint.steps(folder / "checkpoints")
    return any(checkpoint.weights_sum(each) == then.sha256 for each in candidates if then.sha256)


# ------------------------------------------------------------------------------------- writing down


def begin(run: Path, changes: Changes, env_frame: int, origin: Origin | None = None) -> None:
    """Record the inputs of a run from a frame on, and the changes.

    origin   the run whose weights were just loaded, if any

    Raises: OSError.
    """
    made = changes.now
    if env_frame == 0:  # nothing was learned yet
        made = replace(made, periods=(Period(0, made.sides),))
    elif (
        any(change.key != "init_from" for change in changes.found)
        or made.periods[-1].env_frame > env_frame
    ):
        made = replace(made, periods=(*made.periods[:-1], Period(env_frame, made.sides)))
    if origin:
        made = replace(made, origin=origin)
    if env_frame:
        note(run, env_frame, changes.found)
    if made != read(run):
        write(run, made)


def note(run: Path, env_frame: int, changes: Iterable[Change]) -> None:
    """Add changes to history.json, once each.

    Raises: OSError; UserError where the file is not whole.
    """
    rows = history(run)
    new = [
        row for change in changes if (row := {"env_frame": env_frame} | asdict(change)) not in rows
    ]
    if new:
        files.write_atomic(Path(run) / HISTORY, json.dumps([*rows, *new], indent=1).encode())


def history(run: Path) -> list[dict]:
    """Return the changes during a run, in order: rows of env_frame, key, old and new."""
    path = Path(run) / HISTORY
    if not path.exists():
        return []
    try:
        rows = json.loads(files.read(path, LARGEST))
    except (ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list):
        raise UserError("this is no list of changes", str(path), "restore it, or delete it")
    return rows
