"""What a run folder says of its run: its options, and which clips and weights from which frame."""

from dataclasses import replace
from pathlib import Path

from foreground import same
from foreground.configs import run as runs
from foreground.envs import backgrounds
from foreground.errors import UserError, say
from foreground.training import identity, options
from foreground.training.files import write_atomic
from foreground.training.values import shown


def write(
    config: runs.RunConfig,
    folder: Path,
    frame: int,
    changes: identity.Changes,
    origin: identity.Origin | None,
) -> bool:
    """Record the clips and weights of the run from this frame on, and its config.

    Return whether the run is already finished. A finished run keeps its config.

    changes   of the clips and weights
    origin    the run it began with, where it begins now

    Raises: UserError for other learning rates or clips on a finished run, which learns nothing.
    """
    path = folder / "config.yaml"
    done = 0 < config.total_frames <= frame
    old = runs.written(path) if frame and path.exists() else config
    old = replace(old, background=backgrounds.resolved(old.background))
    given = _changed_options(old, config, changes.known)
    rates = [change for change in given if change.key in same.RATES]
    if done:
        _check_finished(folder, frame, changes, rates)
    if frame and not changes.known:
        say(
            f"warning: {folder} did not say what it was made of; what it is given now is "
            f"written to {identity.SOURCES}"
        )
    for change in (*changes.found, *rates):
        say(f"warning: from frame {frame} on {change.text()}")
    identity.begin(folder, changes, frame, origin)
    if done:
        moved = replace(
            old,
            init_from=config.init_from,
            background=replace(old.background, source=config.background.source),
        )
        if changes.known and moved != old:
            write_atomic(path, options.to_yaml(moved).encode())
        return True
    identity.note(folder, frame, given if frame else ())
    write_atomic(path, options.to_yaml(config).encode())
    return False


def _changed_options(
    old: runs.RunConfig, config: runs.RunConfig, known: bool
) -> list[identity.Change]:
    """Return the options that differ from those of the folder.

    known   whether the hashes of clips and weights are known: their paths say nothing then
    """
    apart = {"accept_changes", "folder"} | (same.KNOWN_BY_SUM if known else set())
    return [
        identity.Change(key, *(shown(options.value_of(each, key)) for each in (old, config)))
        for key in options.differences(old, config)
        if key not in apart
    ]


def _check_finished(
    folder: Path, frame: int, changes: identity.Changes, rates: list[identity.Change]
) -> None:
    """Raise UserError where a finished run is given other clips, weights or learning rates."""
    others = [change.key for change in (*changes.found, *rates)]
    if not others:
        return
    what = f"the run is finished at frame {frame}, so that another {others[0]} changes nothing"
    remedy = "leave it out, or give more --total_frames"
    if changes.found:
        remedy = (
            "give what it was made of, or more --total_frames; eval.py plays other clips with "
            "--background"
        )
    raise UserError(what, str(folder), remedy)
