"""Regret of a family's policies against experts, after games.py on both suites.

    python -m benchmarks.regret SUITE.yaml EXPERTS.yaml

An expert is a run of the same core and budget on one game only. For every game with an expert it
prints the expert's return. Of each agent of the suite it prints the zero-shot return of its most
likely mode, and the regret, (expert - zero-shot) / abs(expert). All are means over seeds. One JSON
line last. Source: MRA (arXiv 2108.12988) compares with an equilibrium; with one agent that is an
expert.
"""

import json
import sys

from benchmarks import result_files, returns
from foreground.errors import UserError, run_main
from foreground.option import config_class, option
from foreground.training import options
from foreground.training.option_help import Manual

Returns = dict[str, dict[str, list[float]]]  # agent -> game -> one a seed


@config_class
class RegretConfig:
    """Options of the program."""

    suites: tuple[str, ...] = option(help="The suite, and that of the experts.", path=True)


def zero_shots(suite: str) -> Returns:
    """Return the returns of the most likely mode. Raise UserError when nothing has been read."""
    found: Returns = {}
    for row in result_files.read_all(returns.results_of(suite, returns.read_suite(suite))):
        for name, game in row.get("games", {}).items():
            if name != "information":
                found.setdefault(row["method"], {}).setdefault(name, []).append(game["zero_shot"])
    if not found:
        raise UserError(
            "there is no run whose games were read",
            suite,
            f"run python -m benchmarks.games {suite} first",
        )
    return found


def regrets(agents: Returns, experts: Returns) -> dict[str, dict[str, float]]:
    """Return game -> "expert" and agent -> mean return, and "regret, agent" -> the missing share of
    the expert's.
    """
    best = {
        game: mean(values)
        for rows in experts.values()
        if len(rows) == 1
        for game, values in rows.items()
    }
    table: dict[str, dict[str, float]] = {}
    for agent, rows in agents.items():
        for game in sorted(set(rows) & set(best)):
            row = table.setdefault(game, {"expert": best[game]})
            row[agent] = mean(rows[game])
            row[f"regret, {agent}"] = (best[game] - row[agent]) / abs(best[game])
    return table


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


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
    table = regrets(*map(zero_shots, config.suites))
    if not table:
        raise UserError("no game has an expert", config.suites[1], "name suites of one family")
    for game, row in table.items():
        agents = [name for name in row if f"regret, {name}" in row]
        cells = [f"{name} {row[name]:.0f} ({row[f'regret, {name}']:.2f})" for name in agents]
        print(f"| {game} | {row['expert']:.0f} | " + " | ".join(cells) + " |")
    print(json.dumps(table))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
