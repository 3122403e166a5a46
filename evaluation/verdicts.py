"""Measures in sentences: each number with the level of chance and the upper bound.

The words are those of docs/reference/metrics.md and docs/evaluation.md.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

SIDES = {"heldout": "held-out clips", "train": "training clips", "clean": "clean task"}
DISTRACTED = dict.fromkeys(("heldout", "train"), "the run's distractions")  # without clips: alike
LITTLE, MUCH = 0.1, 0.5  # shares of the way from chance to the most that there is
UNKNOWN = "an unknown part"  # for a measurement that is not finite or has too few episodes
EPISODES, LATENT_EPISODES, ROLLOUTS = 5, 32, 48  # the fewest that a verdict is given on
VIOLATIONS = {
    "fall": "falls",
    "limit": "joint limits",
    "saturation": "saturated actions",
    "contact": "contacts",
}

Row = Mapping[str, float]


def side_in_words(name: str, has_clips: bool = True) -> str:
    """Return what --background names, in words, also after "untrained, "; a path is its name.

    has_clips   whether a video plays behind the run's robot
    """
    sides = SIDES if has_clips else SIDES | DISTRACTED
    return ", ".join(sides.get(part, part) for part in name.split(", "))


def without_clips(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results of a run without clips under the names that are shown."""
    return {
        ", ".join(DISTRACTED.get(part, part) for part in name.split(", ")): value
        for name, value in results.items()
    }


def number(value: float, form: str = ".2f") -> str:
    """Return a number as text, or "no number" for NaN and infinity."""
    return format(value, form) if math.isfinite(value) else "no number"


def too_few(number: float, needed: int, what: str, option: str) -> list[str]:
    """Return a sentence where fewer were measured than a verdict needs; else nothing."""
    return (
        []
        if number >= needed
        else [f"too few to tell: {number:g} {what}; a verdict needs {needed} or more ({option})"]
    )


def of_returns(results: Mapping[str, tuple[float, tuple[float, float] | None]]) -> str:
    """Return the first background's return, its interval and the random policy's, then the other
    backgrounds'.

    results   name, as in scores.json -> mean, 95 % interval or None where there are too few
              episodes for one
    """
    random = {
        name.partition(", ")[2]: mean
        for name, (mean, _) in results.items()
        if name.startswith("random policy")
    }
    played = {name: result for name, result in results.items() if "," not in name}
    parts = []
    for name, (mean, interval) in played.items():
        told = (
            ["95 % interval " + " to ".join(number(end, ".1f") for end in interval)]
            if interval
            else []
        )
        told += [f"random policy {number(random[name], '.1f')}"] if name in random else []
        parts.append(
            f"{number(mean, '.1f')} on {_the(name)}" + f" ({'; '.join(told)})" * bool(told)
        )
    text = "return " + ", ".join(parts)
    few = any(interval is None for _, interval in played.values())
    return text + f"; too few episodes for an interval, which needs {EPISODES}" * few


def _the(name: str) -> str:
    return "the clean task" if name == "clean" else side_in_words(name)


def how_much(value: float, chance: float = 0.0, most: float = 1.0) -> str:
    """Return "hardly any", "some" or "most": where a value lies between chance and the most that
    there is.

    Return `UNKNOWN` where one of them is not finite.
    """
    if not all(map(math.isfinite, (value, chance, most))):
        return UNKNOWN
    share = (value - chance) / max(most - chance, 1e-9)
    return "hardly any" if share < LITTLE else "some" if share < MUCH else "most"


def of_latent(reading: Row, episodes: int = LATENT_EPISODES) -> list[str]:
    """Return what a latent holds of the robot, of the clip and of the reward (`probes.read`).

    episodes   that the probes were fitted and scored on; too few give no verdict
    """
    few = too_few(episodes, LATENT_EPISODES, "episodes", "--latent_episodes")

    def held(*values: float) -> str:
        return UNKNOWN if few else how_much(*values)

    state = reading.get("state/network/mean")
    of_state = (
        "the environment tells no state (state_observation), so that what the latent holds of "
        "it is left out"
    )
    if state is not None:
        of_state = f"the latent holds {held(state)} of the robot's state: "
        of_state += f"a probe reads it with R2 {number(state)} (chance 0, at most 1)"
    sentences = [*few, of_state]
    if "background/network/clip_accuracy" in reading:
        told, chance = (
            reading["background/network/clip_accuracy"],
            reading["background/clip_chance"],
        )
        if chance >= 1:
            sentences.append(
                "one clip alone played in the episodes that score: ask for more --latent_episodes"
            )
        else:
            sentences.append(
                f"it holds {held(told, chance)} of the clip: a probe tells "
                f"{number(told, '.0%')} of the clips right "
                f"(chance {number(chance, '.0%')}, at most 100%)"
            )
    if "background/network/pixels" in reading:
        pixels = reading["background/network/pixels"]
        sentences.append(
            f"it holds {held(pixels)} of the clip's picture: a probe reads its pixels with "
            f"R2 {number(pixels)} "
            "(chance 0, at most 1)"
        )
    reward = reading["reward_explained"]
    explained = number(max(reward, 0), ".0%")
    sentences.append(
        f"the model explains {held(reward)} of the reward on fresh episodes: {explained} "
        "of its variance"
        " (chance 0%, at most 100%)"
    )
    return sentences


WITHOUT_SIMULATOR = (
    "the environment offers no simulator to read: how far skills differ, coverage, goals "
    "and shares of an expert are left out"
)


def of_skills(row: Row, rollouts: int = ROLLOUTS) -> list[str]:
    """Return how far the skills differ in what the robot does, and how often they break the rules
    (`skills.measure`).

    rollouts   that were measured; too few give no verdict on the difference
    """
    if "identifiability/accuracy" not in row:
        return [WITHOUT_SIMULATOR]
    few = too_few(
        rollouts, ROLLOUTS, "rollouts, 3 of a skill", f"--skill_number {-(-ROLLOUTS // 3)}"
    )
    accuracy, chance = row["identifiability/accuracy"], row["identifiability/chance"]
    nats, most = row["identifiability/nats"], row["identifiability/cap"]
    differ = {
        "hardly any": "the skills do the same",
        "some": "some skills differ",
        "most": "the skills differ",
    }
    differ[UNKNOWN] = "whether the skills differ is not known"
    judged = differ[UNKNOWN if few else how_much(nats, 0, most)]
    sentences = [
        *few,
        f"{judged}: {number(accuracy, '.0%')} are told right from the robot's states "
        f"(chance {number(chance, '.0%')}, at most 100%), {number(nats)} nats (chance 0, "
        f"at most {number(most)})",
        f"they reach {number(row['coverage/postures'], '.0f')} bins of postures",
    ]
    if "violation/mean" in row:
        sentences[-1] += f"; {of_violations(row)}"
    hit = row.get("goals/hit_1")
    if hit is not None:
        chance = row.get("goals/other_hit_1")
        least = "" if chance is None else f"by chance {number(chance, '.0%')}, "
        share = number(hit, ".0%")
        sentences.append(f"{share} of the goals are hit within one bin ({least}at most 100%)")
    return sentences


def of_violations(row: Row) -> str:
    """Return the mean rate of violations, and the kind with the highest rate where the kinds are
    there.
    """
    text = (
        f"violations {number(row['violation/mean'], '.1%')}, the mean over their kinds (at best 0%)"
    )
    kinds = {
        name: row[f"violation/{key}"]
        for key, name in VIOLATIONS.items()
        if f"violation/{key}" in row
    }
    worst = max(kinds, key=lambda name: (math.isfinite(kinds[name]), kinds[name]), default="")
    return text + (f"; worst: {worst} {number(kinds[worst], '.1%')}" if worst else "")


def of_games(rows: Mapping[str, Row], episodes: int = EPISODES) -> list[str]:
    """Return how well the policy chooses its mode in games of training and held-out ones
    (`game_report.table_of`).

    episodes   of each game under each mode
    """
    told, sentences = (
        rows["information"],
        too_few(episodes, EPISODES, "episodes of a game", "--episodes"),
    )
    for kind, name in (("train", "games of training"), ("heldout", "held-out games")):
        chosen = [row for key, row in rows.items() if key != "information" and row["kind"] == kind]
        if chosen:
            zero, best = (np.mean([row[key] for row in chosen]) for key in ("zero_shot", "best_of"))
            sentences.append(
                f"{name}: the mode chosen without a frame returns {number(zero, '.1f')}, "
                f"the best mode found by trying {number(best, '.1f')} "
                f"(mean over {len(chosen)})"
            )
            inferred = [row["infer"] for row in chosen if "infer" in row]
            if inferred:
                sentences[-1] += (
                    f"; where the game is inferred from its rewards, "
                    f"{number(float(np.mean(inferred)), '.1f')}"
                )
    differ = {
        "hardly any": "the modes do the same",
        "some": "the modes differ a little",
        "most": "the modes differ",
    }
    differ[UNKNOWN] = "whether the modes differ is not known"
    action, action_cap, game, game_cap = (
        told[key] for key in ("action", "action_cap", "game", "game_cap")
    )
    sentences.append(
        f"{differ[how_much(action, 0, action_cap)]}: a mode tells {number(action)} nats of "
        "the action "
        f"(chance 0, at most {number(action_cap)}), the rows {number(game)} nats of the game "
        f"(chance 0, at most {number(game_cap)})"
    )
    return sentences


def of_adaptation(row: Mapping) -> list[str]:
    """Return what the steps of adaptation changed (`game_report.adapt`)."""
    steps = sorted(row["returns"], key=int)
    first, last = (row["returns"][step] for step in (steps[0], steps[-1]))
    known = math.isfinite(first) and math.isfinite(last)
    few = too_few(row.get("episodes", EPISODES), EPISODES, "episodes", "--episodes")
    turn = (
        ("raise" if last > first else "do not raise")
        if known and not few
        else "have an unknown effect on"
    )
    return [
        *few,
        f"{steps[-1]} steps on {row['frames']} frames of {row['game']} {turn} the return: "
        f"{number(first, '.1f')} after {steps[0]} steps, {number(last, '.1f')} after {steps[-1]} "
        f"(the best mode found by trying, on {row['best_of_frames']} frames: "
        f"{number(row['best_of'], '.1f')})",
    ]


def paragraph(name: str, sentences: list[str]) -> str:
    """Return what was found on a background: its name, then a line a sentence."""
    return "\n  ".join([f"{side_in_words(name)}:", *sentences])


def table(rows: Mapping[str, Mapping[str, str]], columns: list[str]) -> str:
    """Return lines of text: a measure a line, a column a background. rows: measure -> background ->
    cell.
    """
    width = max(16, *(len(name) + 2 for name in columns))
    first = max(len(name) for name in rows) + 2
    lines = [" " * first + "".join(f"{name:>{width}}" for name in columns)]
    for name, row in rows.items():
        lines.append(
            f"{name:<{first}}" + "".join(f"{row.get(column, ''):>{width}}" for column in columns)
        )
    return "\n".join(line.rstrip() for line in lines)


# What a short table shows -> keys of a reading: a probe's, and where chance is not 0 that.
LATENT = {
    "state, R2 (linear probe)": "state/linear/mean",
    "state, R2 (network probe)": "state/network/mean",
    "state, nats a number": "state/nats/knn",
    "  by diffusion": "state/nats/diffusion",
    "  compressed": "state/nats/compressed",
    "clip's pixels, R2 (network)": "background/network/pixels",
    "clip's pixels, nats": "background/nats/knn",
    "  by diffusion ": "background/nats/diffusion",
    "  compressed ": "background/nats/compressed",
    "clips told right (network)": "background/network/clip_accuracy",
    "  by chance": "background/clip_chance",
    "reward explained": "reward_explained",
    "  10 steps ahead": "ahead/10/reward_explained",
}
SKILLS = {
    "skills told right": "identifiability/accuracy",
    "  by chance": "identifiability/chance",
    "nats of the skill": "identifiability/nats",
    "  at most": "identifiability/cap",
    "bins of postures": "coverage/postures",
    "bins of places": "coverage/places",
    "violations": "violation/mean",
    "goals hit within 1 bin": "goals/hit_1",
    "use": "return/use",
    "safety": "return/safety",
}


def _cell(value: float, key: str) -> str:
    """Return a number as text; one that counts bins is a whole number."""
    return number(
        value, ".0f" if key.startswith("coverage/") and value == round(value, 0) else ".2f"
    )


def short_table(results: Mapping[str, Row], shown: Mapping[str, str]) -> str:
    """Return the measures that `shown` names, of the backgrounds that have them; all others are in
    the JSON file.
    """
    cells = {
        name: {
            side_in_words(side): _cell(row[key], key) for side, row in results.items() if key in row
        }
        for name, key in shown.items()
    }
    return table(
        {name: row for name, row in cells.items() if row}, [side_in_words(side) for side in results]
    )
