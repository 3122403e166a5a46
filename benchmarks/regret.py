"""Regret of a family's policies against experts, after games.py on both suites.

    python -m benchmarks.regret SUITE.yaml EXPERTS.yaml

An expert is a run of the same core and budget on one game only (``--family.only GAME``). For every
game with an expert it prints the best expert's return. Of each agent of the suite it prints the
return of its most likely mode (zero-shot), of the policy that infers the game, of the best mode by
trying and of the most steps of adaptation, where they were measured. The regret is
(expert - return) / abs(expert); an expert that returns 0 gives none. All are means over seeds. The
bootstrap intervals are over seeds of the agent; the expert's spread is not in them. One JSON line
last. Source: MRA (arXiv 2108.12988) compares with an equilibrium; with one agent that is an expert.
"""

import json
import sys
from collections import Counter

import numpy as np

from benchmarks import result_files, returns
from foreground.errors import UserError, run_main
from foreground.evaluation.aggregate import stratified_interval
from foreground.option import config_class, option
from foreground.training import options
from foreground.training.option_help import Manual

MEASURES = ("zero_shot", "infer", "best_of")
Measures = dict[str, list[float]]  # measure -> one a seed
Returns = dict[str, dict[str, Measures]]  # agent -> task, game


@config_class
class RegretConfig:
    """Options of the program."""

    suites: tuple[str, ...] = option(help="The suite, and that of the experts.", path=True)


def returns_of(suite: str) -> Returns:
    """Return what agents return in each game.

    Raises: UserError when nothing has been read, or backgrounds would be counted as seeds.
    """
    found: Returns = {}
    content = returns.read_suite(suite)
    if len(content["backgrounds"]) > 1:
        what = f"runs of {len(content['backgrounds'])} backgrounds would be taken for seeds"
        raise UserError(what, f"{suite}: backgrounds", "write a suite for each background")
    for row in result_files.read_all(returns.results_of(suite, content)):
        for game, values in measures_of(row).items():
            kept = found.setdefault(row["method"], {}).setdefault(f"{row['task']}, {game}", {})
            for key, value in values.items():
                kept.setdefault(key, []).append(value)
    if not found:
        raise UserError(
            "there is no run whose games were read",
            suite,
            f"run python -m benchmarks.games {suite} first",
        )
    return found


def measures_of(row: dict) -> dict[str, dict[str, float]]:
    """Return game -> measure -> return of one run."""
    found = {
        name: {key: game[key] for key in MEASURES if key in game}
        for name, game in row.get("games", {}).items()
        if name != "information"
    }
    adapted = row.get("adaptation")
    if adapted and adapted["game"] in found:
        steps = max(adapted["returns"], key=int)
        found[adapted["game"]][f"adapted, {steps} steps"] = adapted["returns"][steps]
    return found


def experts_of(agents: Returns) -> dict[str, float]:
    """Return task and game -> return of its expert: an agent with this game only on its task, the
    best one of several.
    """
    best: dict[str, float] = {}
    for rows in agents.values():
        tasks = Counter(name.partition(", ")[0] for name in rows)
        for name, values in rows.items():
            if tasks[name.partition(", ")[0]] == 1:
                mean = float(np.mean(values["zero_shot"]))
                best[name] = max(mean, best.get(name, mean))
    return best


def regrets(agents: Returns, experts: Returns) -> dict[str, dict]:
    """Return task and game -> "expert" and its return, agent -> measure -> return, interval, regret
    and its interval.
    """
    table: dict[str, dict] = {}
    for name, best in experts_of(experts).items():
        rows = {agent: found[name] for agent, found in agents.items() if name in found}
        if rows:
            table[name] = {"expert": best} | {
                agent: {key: against(best, values) for key, values in row.items()}
                for agent, row in rows.items()
            }
    return table


def against(best: float, values: list[float]) -> dict:
    """Return the mean of the returns of several seeds, its interval, and their regret; without
    regret for an expert that returns 0.
    """
    mean = float(np.mean(values))
    row: dict = {"return": mean, "seeds": len(values)}
    if best:
        row["regret"] = (best - mean) / abs(best)
    if len(values) > 1:
        low, high = stratified_interval([np.array(values)], np.mean)
        row["interval"] = [low, high]
        if best:
            row["regret_interval"] = [(best - high) / abs(best), (best - low) / abs(best)]
    return row


def cell(row: dict) -> str:
    """Return a return and its regret as text, with their intervals."""
    digits = 0 if abs(row["return"]) >= 10 else 2
    text = f"{row['return']:.{digits}f}"
    regret = f"{row['regret']:.2f}" if "regret" in row else "-"
    if "interval" in row:
        text += " [" + ", ".join(f"{end:.{digits}f}" for end in row["interval"]) + "]"
    if "regret_interval" in row:
        regret += " [{:.2f}, {:.2f}]".format(*row["regret_interval"])
    return f"{text}, regret {regret}"


def text_of(table: dict[str, dict]) -> str:
    """Return `regrets` as a Markdown table, a line per game, agent and measure."""
    lines = [
        "| task, game | expert | agent | measure | return and regret |",
        "|---|---|---|---|---|",
    ]
    for name, row in table.items():
        for agent, measures in row.items():
            for key, found in measures.items() if agent != "expert" else ():
                lines.append(f"| {name} | {row['expert']:.1f} | {agent} | {key} | {cell(found)} |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    manual = Manual(usage="python -m benchmarks.regret SUITE.yaml EXPERTS.yaml")
    config = options.parse(
        RegretConfig, argv, None, "suites", (__doc__ or "").strip(), manual=manual
    )
    if len(config.suites) != 2:
        raise UserError(
            "two suites are expected",
            "command line",
            "python -m benchmarks.regret SUITE.yaml EXPERTS.yaml",
        )
    table = regrets(*map(returns_of, config.suites))
    if not table:
        raise UserError("no game has an expert", config.suites[1], "name suites of one family")
    print(text_of(table))
    print(json.dumps(table))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
