"""The clips of an evaluation: what --background names, and whether they are those of the run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from foreground import build, saved
from foreground.configs.run import RunConfig
from foreground.envs import backgrounds
from foreground.envs.backgrounds import BackgroundConfig
from foreground.envs.folder_messages import OneSide
from foreground.errors import UserError, say
from foreground.evaluation.subject import Subject
from foreground.training import identity

SIDES = ("clean", *backgrounds.SIDES)  # what --background names; all else is a source of clips
AUTO = "auto"  # of --background: the side that is fresh to the run
Played = tuple[
    str, BackgroundConfig | None
]  # a side, and the clips' config or None for the run's own


def named(names: Sequence[str], config: RunConfig) -> tuple[str, ...]:
    """Return the names of --background; auto is heldout, or clean where nothing distracts."""
    return tuple(config.fresh_side if name == AUTO else name for name in names)


def side_of(name: str, config: RunConfig, every: bool = False) -> Played:
    """Return what a name of --background means.

    every   of a path all clips play, not its held-out side alone
    Errors: UserError for a name that means nothing, and where the run's clips are gone.
    """
    if name in SIDES:
        if name != "clean" and not config.distracted:
            raise UserError(
                f"the run has no clips, so no {name} side",
                "--background",
                "choose clean",
            )
        if name != "clean" and backgrounds.are_gone(config.background):
            remedy = (
                "--background PATH plays others; train.py with the run's options, --folder RUN and "
            )
            remedy += "--background.source PATH tells the run where they are now"
            raise UserError(
                "the run's clips are not there any more", config.background.source, remedy
            )
        return name, None
    meant = backgrounds.name_like(name, SIDES)
    if meant and not Path(name).exists():
        raise UserError("no such side, file or folder", name, f"did you mean {meant}?")
    background = replace(config.background, source=name)
    if backgrounds.are_gone(background):
        raise UserError(
            "no such file or folder", name, r"check the path, and write \, for a comma in it"
        )
    return backgrounds.ALL if every and background.is_path else "heldout", background


def look_at(names: Sequence[str], config: RunConfig, every: bool) -> None:
    """Decode the clips of all backgrounds, so that a damaged one is found before the first episode.

    Errors: UserError for what is wrong with a name or a clip.
    """
    if not names:
        raise UserError(
            "no background is named",
            "--background",
            "choose clean, train, heldout, or a path to videos",
        )
    played = [
        side_of(name, config, every) for name in names
    ]  # every name is looked at before a clip is decoded
    if every and not any(side == backgrounds.ALL for side, _ in played):
        raise UserError(
            "no folder of clips is named",
            "--all_clips",
            "name one by --background PATH, or leave it out",
        )
    for side, background in played:
        try:
            build.environment_maker(config, side, background)
        except OneSide as error:
            if background is None:
                raise
            raise UserError(
                error.what, error.where, f"play all clips with --all_clips, or {error.remedy}"
            ) from error


def check_own(names: Sequence[str], config: RunConfig, folder: Path, accept: bool) -> list[str]:
    """Compare the clips of the run's own sides that will play with those of the run.

    Return what differs, where that is accepted. Errors: UserError where it is not.
    """
    made, size = identity.read(folder), config.environment.image_size
    played = [side for side in backgrounds.SIDES if side in names]
    if made is None or config.background.source == "none":
        return []
    now = {side: backgrounds.source_of(config.background, side, size) for side in played}
    if any(identity.side_changes(side, made.sides, now) for side in played):
        now = backgrounds.sources(config.background, size)  # a clip may be on the other side now
    changes = [
        change.text() for side in played for change in identity.side_changes(side, made.sides, now)
    ]
    if changes and not accept:
        remedy = "restore the clips, name others by --background PATH, or score with these by "
        remedy += "--accept_changes"
        raise UserError(
            f"the run's clips are not those it was trained with: {'; '.join(changes)}",
            str(folder),
            remedy,
        )
    for change in changes:
        say(f"warning: {change}")
    return changes


def subject_of(config: RunConfig, loaded: saved.Loaded, folder: Path) -> Subject:
    """Return what is scored.

    The clips of an old run, which did not write them down, are those of its source now.
    """
    made, background = identity.read(folder), config.background
    if made is not None:
        trained = made.trained
    elif background.source == "none":
        trained = identity.Trained()
    elif backgrounds.are_gone(background):
        trained = None
    else:
        source = backgrounds.source_of(background, "train", config.environment.image_size)
        trained = identity.Trained.on(source.clips)
    return Subject(loaded.path.name, loaded.sha256, trained)


def sums_of(names: Sequence[str], config: RunConfig, every: bool, changed: bool) -> dict[str, str]:
    """Return the sum of the clips by background, where its name alone does not tell them.

    changed   whether clips that are not the run's are accepted
    """
    chosen = [name for name in names if name not in SIDES or (changed and name != "clean")]
    sums = {}
    for name in chosen:
        side, background = side_of(name, config, every)
        source = backgrounds.source_of(
            background or config.background, side, config.environment.image_size
        )
        sums[name] = identity.sum_of(source)
    return sums
