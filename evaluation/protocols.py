"""Protocols of distraction: one table of returns, kinds by severities, beside the clean return.

`dcs` is the Distracting Control Suite, `dmc_gb` DMControl-GB; their numbers are those of the
presets `protocol_dcs_SEVERITY` and `protocol_dmc_gb_KIND_SEVERITY`. `corruption` has the other
kinds of the section `distraction`.
"""

import io
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from foreground import build
from foreground.agents.agent import WorldModelAgent
from foreground.configs.run import PRESETS, RunConfig
from foreground.envs import backgrounds, registry
from foreground.envs.backgrounds import BackgroundConfig
from foreground.envs.distraction import DistractionConfig
from foreground.errors import UserError, say
from foreground.evaluation import clips, films, progress, report, skill_report, verdicts
from foreground.evaluation.config import EvalConfig
from foreground.evaluation.episodes import Scores, play
from foreground.evaluation.subject import SIDES
from foreground.training import logger, pictures, system
from foreground.training.files import write_atomic, write_json
from foreground.training.presets import load_yaml

CLEAN = ("clean", "")
FLOOR_SHOWS = (
    "walker",
    "cheetah",
)  # bodies whose floor hides the video in the suite of Stone et al.
CORRUPTIONS = {
    **dict.fromkeys(("light", "shadow"), (0.3, 0.6, 1.0)),
    **dict.fromkeys(("occlusion", "blur", "noise", "compression"), (1, 3, 5)),
}
LEVELS = ("easy", "medium", "hard")
MOMENT = 25  # step of the first episode that the picture shows
EVENTS = "events.out.tfevents.0000000000.protocol.foreground"
DRAWS = 10_000  # of the bootstrap


@dataclass(frozen=True)
class Row:
    """One cell of the table: what distracts, how much, and the config that is played."""

    kind: str
    severity: str
    config: RunConfig
    side: str = "heldout"

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.severity


def check(config: EvalConfig, own: RunConfig) -> None:
    """Raise UserError where a protocol does not fit the task, or its clips are not told."""
    if config.protocol == "none":
        return
    if registry.is_gymnasium(own.task):
        what = "protocols are for tasks of dm_control's suite"
        raise UserError(what, "--protocol", "leave it out")
    if own.environment.floor == "place" and config.protocol in ("dmc_gb", "all"):
        what = "DMControl-GB draws the colours of the floor, which tell this run the place"
        raise UserError(what, "--protocol", "choose dcs or corruption")
    if len(config.background) > 1:
        what = "a protocol plays the clips of one background"
        raise UserError(what, "--background", "name one")
    clips_of(config, own)


def rows_of(protocol: str, own: RunConfig, played: clips.Played, moves: bool = True) -> list[Row]:
    """Return the rows of a protocol, the clean task first.

    played   side and config of the clips that videos show
    moves    whether distractions of DCS and of corruption also change within an episode
    """
    plain = replace(
        own,
        background=replace(own.background, source="none"),
        distraction=DistractionConfig(),
    )
    makers = {"dcs": _dcs, "dmc_gb": _dmc_gb, "corruption": _corruption}
    chosen = makers if protocol == "all" else {protocol: makers[protocol]}
    rows = [Row(*CLEAN, plain, "clean")]
    for maker in chosen.values():
        rows += maker(plain, played, moves)
    return rows


def _dcs(plain: RunConfig, played: clips.Played, moves: bool) -> Iterable[Row]:
    """Yield camera, colours and video alone, then all together."""
    shows = registry.body_of(plain.task) in FLOOR_SHOWS
    mask = {"mask": "sky" if shows else "sky_and_floor"}
    for kind in ("camera", "colour", "video", "all"):
        for level in LEVELS:
            preset = load_yaml(PRESETS / f"protocol_dcs_{level}.yaml")
            video = preset["background"] | {"still": not moves} if kind in ("video", "all") else {}
            scales = preset["distraction"]
            taken = scales if kind == "all" else {kind: scales[kind]} if kind in scales else {}
            distraction = taken | {"dynamic": moves} if taken else {}
            parts = {"background": video, "distraction": distraction, "environment": mask}
            yield _row(f"dcs {kind}", level, plain, played, parts)


def _dmc_gb(plain: RunConfig, played: clips.Played, moves: bool) -> Iterable[Row]:
    for kind in ("color", "video"):
        for level in ("easy", "hard"):
            preset = load_yaml(PRESETS / f"protocol_dmc_gb_{kind}_{level}.yaml")
            yield _row(f"dmc_gb {kind}", level, plain, played, preset)


def _corruption(plain: RunConfig, played: clips.Played, moves: bool) -> Iterable[Row]:
    for kind, scales in CORRUPTIONS.items():
        for level, scale in zip(LEVELS, scales):
            yield _row(kind, level, plain, played, {"distraction": {kind: scale, "dynamic": moves}})


def _row(
    kind: str, level: str, plain: RunConfig, played: clips.Played, parts: dict[str, dict[str, Any]]
) -> Row:
    """Return a row whose config has the options of `parts`, section -> option -> value."""
    side, source = played
    video = {name: value for name, value in parts.get("background", {}).items() if name != "source"}
    background = plain.background
    if video:
        background = replace(source, redraw_every=0, window=0, grey=False, **video)
    config = replace(
        plain,
        background=background,
        distraction=replace(plain.distraction, **parts.get("distraction", {})),
        environment=replace(plain.environment, **parts.get("environment", {})),
    )
    return Row(kind, level, config, side if video else "heldout")


def clips_of(config: EvalConfig, own: RunConfig) -> clips.Played:
    """Return the side and the config of the clips that videos show.

    They are those of --background. The run's own come without a name, or the starter where it has
    none.

    Raises: UserError for a name that means nothing, and where the run's clips are gone.
    """
    name = config.background[0]
    if name in clips.SIDES and not own.has_clips:
        return "heldout", BackgroundConfig()
    side, source = clips.side_of("heldout" if name == "clean" else name, own, config.all_clips)
    return side, source or own.background


def measure(
    config: EvalConfig, own: RunConfig, agent: WorldModelAgent, frame: int, place: Path
) -> dict[tuple[str, str], Scores]:
    """Play every row, under the skill of --skill where one is asked for; print the table, write
    protocol.json, protocol.png and TensorBoard's file.

    Return the scores by kind and severity.
    """
    played = clips_of(config, own)
    rows = rows_of(config.protocol, own, played, config.dynamic)
    tell_of_clips(rows, played)
    skill = skill_report.skill_of(agent.skills, config.skill) if config.skill >= 0 else None
    results: dict[tuple[str, str], Scores] = {}
    for row in rows:
        results[row.key] = score(row, agent, config.episodes, skill)
        save(place / "protocol.json", frame, config.protocol, played, results)
    say(table(results), sys.stdout)
    title = report.title_of(own, frame)
    shown = picture(results, title)
    films.write_picture(place / "protocol.png", shown)
    write_atomic(place / EVENTS, events(frame, results, shown))
    return results


def tell_of_clips(rows: list[Row], played: clips.Played) -> None:
    """Print which clips the videos of a protocol show, and warn where it asks for more."""
    side, source = played
    most = max(row.config.background.max_clips for row in rows)
    if not most:
        return
    size = rows[0].config.environment.image_size
    number = len(backgrounds.source_of(source, side, size).clips)
    say(f"videos show {number} clips, {SIDES[side]} of {source.source}", sys.stdout)
    if number < most:
        say(f"warning: the protocol has severities of up to {most} clips, and {number} are there")


def score(
    row: Row, agent: WorldModelAgent, episodes: int, skill: torch.Tensor | None = None
) -> Scores:
    """Play the episodes of one row; leave the global random state unchanged.

    skill   (C,), held throughout; none: drawn as in training
    """
    maker, seed = build.environment_maker(row.config, row.side), row.config.evaluation.seed
    name = " ".join(row.key).strip()
    with (
        system.random_kept(agent.device),
        report.averaged(agent),
        progress.stage(name, episodes),
    ):
        torch.manual_seed(seed)
        return play(maker, report.agent_policy(agent, skill=skill), episodes, seed)


def share(scores: Scores, clean: Scores) -> tuple[float, tuple[float, float] | None]:
    """Return the share of the clean return, and its 95 % interval over pairs of episodes, in
    their order.

    The interval is None for few episodes, the share NaN for a clean return of 0.
    """
    distracted, whole = np.asarray(scores.returns), np.asarray(clean.returns)
    if whole.mean() <= 0:
        return float("nan"), None
    value = float(distracted.mean() / whole.mean())
    if len(distracted) < verdicts.EPISODES:
        return value, None
    index = np.random.default_rng(0).integers(0, len(whole), (DRAWS, len(whole)))
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = distracted[index].mean(1) / whole[index].mean(1)
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return value, (float(low), float(high))


def table(results: dict[tuple[str, str], Scores]) -> str:
    """Return a line for each kind: return and share of the clean return by severity, with 95 %
    intervals.
    """
    clean = results[CLEAN]
    kinds = list(dict.fromkeys(kind for kind, _ in results))
    levels = [level for level in LEVELS if any(level == severity for _, severity in results)]
    width = max(map(len, kinds)) + 2
    lines = ["return [95 %], share of the clean return [95 %]"]
    lines += [f"clean: {_return(clean)}"]
    lines += [f"{'':<{width}}" + "".join(f"{level:<40}" for level in levels).rstrip()]
    for kind in kinds[1:]:
        cells = [_cell(results.get((kind, level)), clean) for level in levels]
        lines.append(f"{kind:<{width}}" + "".join(f"{cell:<40}" for cell in cells).rstrip())
    return "\n".join(lines)


def _cell(scores: Scores | None, clean: Scores) -> str:
    if scores is None:
        return ""
    value, ends = share(scores, clean)
    percent = verdicts.number(100 * value, ".0f")
    between = f" [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]" if ends else ""
    return f"{_return(scores)}, {percent} %{between}"


def _return(scores: Scores) -> str:
    ends = scores.interval()
    return f"{scores.mean:.1f}" + (f" [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else "")


def save(
    path: Path,
    frame: int,
    protocol: str,
    played: clips.Played,
    results: dict[tuple[str, str], Scores],
) -> None:
    """Write protocol.json: every return by kind and severity, with shares and intervals."""
    clean, rows = results[CLEAN], []
    for (kind, severity), scores in results.items():
        value, ends = share(scores, clean)
        row = {"kind": kind, "severity": severity, "mean": scores.mean}
        row |= {"interval": scores.interval(), "share": value, "share_interval": ends}
        rows.append(row | {"returns": scores.returns})
    head = {"env_frame": frame, "protocol": protocol}
    head |= {"clips": played[1].source, "side": played[0]}
    write_json(path, head | {"rows": rows})


def picture(results: dict[tuple[str, str], Scores], title: str) -> np.ndarray:
    """Return one moment of the first episode of each row as one image: a line for each kind."""
    levels = [level for level in LEVELS if any(level == severity for _, severity in results)]
    kinds = [kind for kind in dict.fromkeys(kind for kind, _ in results) if kind != CLEAN[0]]
    cells = [CLEAN, *[("", level) for level in levels[1:]]]
    cells += [(kind, level) for kind in kinds for level in levels]
    panels, labels = [], []
    for cell in cells:
        scores = results.get(cell)
        blank = np.full_like(results[CLEAN].film[0], pictures.PAPER)
        panels.append(blank if scores is None else scores.film[min(MOMENT, len(scores.film) - 1)])
        labels.append("" if scores is None else f"{' '.join(cell).strip()}: {scores.mean:.0f}")
    return pictures.page(panels, labels, len(levels), title, side=192)


def events(frame: int, results: dict[tuple[str, str], Scores], shown: np.ndarray) -> bytes:
    """Return TensorBoard's file: return and share by kind and severity, and the picture."""
    values = {}
    for key, scores in results.items():
        name = "_".join(" ".join(key).split())
        values[f"protocol/{name}/return"] = scores.mean
        values[f"protocol/{name}/share"] = share(scores, results[CLEAN])[0]
    content = io.BytesIO()
    Image.fromarray(shown).save(content, format="PNG")
    return logger.events_file(frame, values, {"protocol/frames": (content.getvalue(), shown.shape)})
