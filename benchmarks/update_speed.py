"""Time one update, imagination included.

    python -m benchmarks.update_speed --size cpu --training.batch_size 16
    python -m benchmarks.update_speed --against CHECKOUT --size cpu

The data are random, so that only the update is timed. The program prints one JSON line: size,
parameters, batch, cpu_seconds (of the process, median over updates), wall_seconds,
replayed_steps_per_s (by wall clock), peak_rss_mb, and on CUDA peak_gpu_mb. The batch is that of the
size, 8x32 at `cpu`. Options are those of train.py (python train.py --help).

With --against a process of each version runs updates by turns, a few at a time, so that noise of
the machine affects both. The JSON line then holds both medians and their ratio. --matmul applies to
this version only: --against . --matmul bfloat16 measures its effect.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()

import gymnasium
import torch

from benchmarks import result_files
from foreground import build
from foreground.agents.agent import WorldModelAgent
from foreground.configs import run as runs
from foreground.errors import UserError, run_main

HERE = Path(__file__).parents[1]
ACTION_SIZE = 6  # walker's and cheetah's
ACTIONS = gymnasium.spaces.Box(-1, 1, (ACTION_SIZE,))
WARM_UP, TIMED = 3, 10
TURNS, UPDATES = 12, 3  # of --against: turns of each version, and updates a turn


def random_batch(config: runs.RunConfig, device: torch.device) -> dict[str, torch.Tensor]:
    """Return a batch (B, T, ...) of noise."""
    shape, side = (
        (config.training.batch_size, config.training.batch_length),
        config.environment.image_size,
    )
    spaces = build.spaces_of(config, ACTIONS)
    batch = {
        "image": torch.randint(0, 256, (*shape, side, side, 3), dtype=torch.uint8),
        "action": torch.rand(*shape, ACTION_SIZE) * 2 - 1,
        "reward": torch.rand(*shape),
        "is_first": torch.rand(*shape) < 0.002,
        "is_terminal": torch.zeros(*shape, dtype=torch.bool),
        "condition": torch.randn(*shape, spaces.condition),
        "signals": torch.rand(*shape, len(spaces.signals)),
    }
    if spaces.games:
        batch["game"] = torch.tensor(spaces.games)[torch.randint(len(spaces.games), shape)]
    batch = {name: tensor for name, tensor in batch.items() if tensor.numel()}
    return {name: tensor.to(device) for name, tensor in batch.items()}


def timed(
    agent: WorldModelAgent, batch: dict[str, torch.Tensor], cuda: bool
) -> tuple[float, float]:
    """Return CPU and wall seconds of one update."""
    cpu, wall = time.process_time(), time.perf_counter()
    agent.update(batch)
    if cuda:
        torch.cuda.synchronize()
    return time.process_time() - cpu, time.perf_counter() - wall


def make(argv: list[str]) -> tuple[runs.RunConfig, WorldModelAgent, dict[str, torch.Tensor], bool]:
    """Return the run's config, its agent, a batch, and whether they are on CUDA."""
    config = runs.read(argv, torch.cuda.is_available())
    device = system.pick_device(config.device)
    torch.set_num_threads(config.threads or 1)
    if hasattr(config, "matmul"):  # an older checkout has no such option
        system.set_matmul(config.matmul)
    agent = WorldModelAgent(config.agent_config, build.spaces_of(config, ACTIONS), device)
    return config, agent, random_batch(config, device), device.type == "cuda"


def serve(argv: list[str]) -> None:
    """Time a turn of updates for each line of stdin; print CPU and wall seconds of each as JSON."""
    _, agent, batch, cuda = make(argv)
    for _ in sys.stdin:
        print(json.dumps([timed(agent, batch, cuda) for _ in range(UPDATES)]), flush=True)


def turn(process: subprocess.Popen) -> list[list[float]]:
    """Return the next turn of a serving process. Raise UserError when it has ended."""
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise UserError(
            "a version stopped before it was timed", "--against", "read its error above"
        )
    return json.loads(line)


def without(argv: list[str], name: str) -> list[str]:
    """Return a command line without an option and its value."""
    places = {index + step for index, word in enumerate(argv) if word == name for step in (0, 1)}
    return [word for index, word in enumerate(argv) if index not in places]


def compare(other: Path, argv: list[str]) -> dict:
    """Return median seconds of this version and the other, and the median over turns of their
    ratio.

    Raise UserError for a folder without the package `foreground`, as older versions are.
    """
    if not (other / "foreground" / "__init__.py").is_file():
        raise UserError(
            "no checkout with the package foreground is there",
            str(other),
            "give the folder of a version that has it",
        )
    sources = {"this": HERE, "other": other.resolve()}
    words = {"this": argv, "other": without(argv, "--matmul")}
    processes = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--serve", *words[name]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(source)},  # its own `foreground`,
        )
        for name, source in sources.items()
    }
    try:
        turns = [
            {name: turn(process) for name, process in processes.items()} for _ in range(1 + TURNS)
        ][1:]
    finally:
        for process in processes.values():
            process.stdin.close()
            process.wait()
    result = {}
    for column, clock in enumerate(("cpu", "wall")):
        rows = {name: [[row[column] for row in each[name]] for each in turns] for name in sources}
        for name, seconds in rows.items():
            result[f"{name}_{clock}_seconds"] = round(
                statistics.median(second for each in seconds for second in each), 4
            )
        ratios = [
            statistics.median(mine) / statistics.median(its)
            for mine, its in zip(rows["this"], rows["other"])
        ]
        result[f"{clock}_ratio"] = round(statistics.median(ratios), 3)
    return result | {"other_commit": system.git_commit(other)}


def measure(argv: list[str]) -> dict:
    """Return the speed of this version alone."""
    config, agent, batch, cuda = make(argv)
    rows = [timed(agent, batch, cuda) for _ in range(WARM_UP + TIMED)][WARM_UP:]
    cpu, wall = (sorted(column)[len(rows) // 2] for column in zip(*rows))
    size = (config.training.batch_size, config.training.batch_length)
    result = {
        "size": config.size,
        "agent": config.agent,
        "parameters": sum(agent.parameters_by_module().values()),
        "batch": f"{size[0]}x{size[1]}",
        "threads": torch.get_num_threads(),
        "matmul": config.matmul,
        "cpu_seconds": round(cpu, 4),
        "wall_seconds": round(wall, 4),
        "fastest_cpu_seconds": round(min(row[0] for row in rows), 4),
        "replayed_steps_per_s": round(size[0] * size[1] / wall, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    if cuda:
        result["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return result


def main(argv: list[str]) -> None:
    if argv[:1] == ["--serve"]:
        return serve(argv[1:])
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="CHECKOUT",
        help="compare this version with the one in this folder",
    )
    if argv[-1:] == ["--against"]:
        raise UserError(
            "no checkout is given",
            "--against",
            "python -m benchmarks.update_speed --against CHECKOUT --size cpu",
        )
    asked, words = parser.parse_known_args(argv)
    result = compare(asked.against, words) if asked.against else measure(words)
    print(json.dumps(result | result_files.origin("update_speed", argv)))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
