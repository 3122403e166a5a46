"""Fault-tolerance tests: ``python -m tests.faults kill --count 100``, or ``all``.

Prints a JSON line per fault and one JSON line last: {"fault", "tried", "survived", "lost",
"worst_seconds"}. What was lost is printed before, one line each. Faults:

- real runs of train.py: kill, term, concurrent_runs, disk_full, resume, soak (a try is a minute)
- checkpoints: checkpoint_ablation, damage, hostile
- inputs: config (command lines), video (clips), non_finite (numbers)
- environment: worker (environment processes), physics, clock
"""

import json
import random
import shutil
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

from foreground.errors import UserError, nearest, run_main
from foreground.option import config_class, option
from foreground.training import options
from foreground.training.option_help import Manual
from tests.faults import (
    Fault,
    checkpoint_ablation,
    checkpoints,
    clips,
    configs,
    disk,
    hostile,
    non_finite,
    resume,
    runs,
    workers,
    world,
)

FAULTS: dict[str, Fault] = {
    "kill": runs.kill,
    "term": runs.term,
    "concurrent_runs": runs.concurrent,
    "disk_full": disk.full,
    "resume": resume.resume,
    "checkpoint_ablation": checkpoint_ablation.ablate,
    "damage": checkpoints.damage,
    "hostile": hostile.hostile,
    "config": configs.config,
    "video": clips.video,
    "non_finite": non_finite.plant,
    "worker": workers.worker,
    "physics": world.physics,
    "clock": world.clock,
    "soak": world.soak,
}


@config_class
class FaultsConfig:
    """Foreground: fault-tolerance tests."""

    fault: str = option(help=f"One of {', '.join(FAULTS)}, or all.")
    count: int = option(10, "Number of tries of each fault.", ge=1)
    seed: int = option(0, "Seed of the moments and values.", ge=0)
    folder: str = option(
        "", "Parent of its working folder; without it the folder for temporary files."
    )


MANUAL = Manual(usage="python -m tests.faults FAULT")


def measure(name: str, config: FaultsConfig) -> dict:
    """Try one fault; return its row. Print what was lost."""
    folder = Path(tempfile.mkdtemp(prefix=f"foreground-{name}-", dir=config.folder or None))
    lost = 0
    worst = 0.0
    try:
        with closing(FAULTS[name](folder, random.Random(f"{name} {config.seed}"))) as tries:
            for number in range(config.count):
                began = time.monotonic()
                what = next(tries)
                worst = max(worst, time.monotonic() - began)
                if what:
                    lost += 1
                    print(f"{name}, try {number}: {what}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    tried = config.count
    return {
        "fault": name,
        "tried": tried,
        "survived": tried - lost,
        "lost": lost,
        "worst_seconds": round(worst, 2),
    }


def main(argv: list[str]) -> None:
    config = options.parse(FaultsConfig, argv, None, "fault", FaultsConfig.__doc__, manual=MANUAL)
    if config.fault not in (*FAULTS, "all"):
        raise UserError(
            f"unknown fault {config.fault!r}", "fault", nearest(config.fault, (*FAULTS, "all"))
        )
    rows = []
    for name in FAULTS if config.fault == "all" else (config.fault,):
        rows.append(measure(name, config))
        if config.fault == "all":
            print(json.dumps(rows[-1]), flush=True)
    total = {key: sum(row[key] for row in rows) for key in ("tried", "survived", "lost")}
    print(
        json.dumps(
            {
                "fault": config.fault,
                **total,
                "worst_seconds": max(row["worst_seconds"] for row in rows),
            }
        )
    )
    if total["lost"]:
        raise SystemExit(1)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
