"""Speed of one update, imagination included: ``python benchmarks/update_speed.py --size cpu``.

Random data, so that nothing but the update is timed. One JSON line last: size, parameters, batch, cpu_seconds (median
of the process over updates), wall_seconds, replayed_steps_per_s (by wall clock), peak_rss_mb, and on CUDA peak_gpu_mb.
Options are train.py's. The batch is the size's own, 8x32 at `cpu`: `--training.batch_size 16` makes it 16x32.
"""

import json
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from training import system

system.prepare_environment()

import torch  # noqa: E402

from agents.agent import Agent  # noqa: E402
from benchmarks import result_files  # noqa: E402
from configs import run as runs  # noqa: E402
from errors import run_main  # noqa: E402
from world_models.world_model import Spaces  # noqa: E402

ACTION_SIZE = 6  # walker's and cheetah's
WARM_UP, TIMED = 3, 10


def random_batch(config: runs.RunConfig, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch (B, T, ...) of noise."""
    shape, side = (config.training.batch_size, config.training.batch_length), config.environment.image_size
    batch = {
        "image": torch.randint(0, 256, (*shape, side, side, 3), dtype=torch.uint8),
        "action": torch.rand(*shape, ACTION_SIZE) * 2 - 1,
        "reward": torch.rand(*shape),
        "is_first": torch.rand(*shape) < 0.002,
        "is_terminal": torch.zeros(*shape, dtype=torch.bool),
        "condition": torch.randn(*shape, config.skill.size),
        "signals": torch.rand(*shape, len(config.signals)),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}


def timed(agent: Agent, batch: dict[str, torch.Tensor], cuda: bool) -> tuple[float, float]:
    """CPU and wall seconds of one update."""
    cpu, wall = time.process_time(), time.perf_counter()
    agent.update(batch)
    if cuda:
        torch.cuda.synchronize()
    return time.process_time() - cpu, time.perf_counter() - wall


def main(argv: list[str]) -> None:
    config, _ = runs.read(argv, torch.cuda.is_available())
    device = system.pick_device(config.device)
    torch.set_num_threads(config.threads or 1)
    spaces = Spaces(config.environment.image_size, ACTION_SIZE, config.skill.size, config.signals)
    agent = Agent(config.agent_config, spaces, device)
    batch, cuda = random_batch(config, device), device.type == "cuda"
    rows = [timed(agent, batch, cuda) for _ in range(WARM_UP + TIMED)][WARM_UP:]
    cpu, wall = (sorted(column)[len(rows) // 2] for column in zip(*rows))
    size = (config.training.batch_size, config.training.batch_length)
    result = {
        "size": config.size,
        "agent": config.agent,
        "parameters": sum(agent.parameters_by_module().values()),
        "batch": f"{size[0]}x{size[1]}",
        "threads": torch.get_num_threads(),
        "cpu_seconds": round(cpu, 4),
        "wall_seconds": round(wall, 4),
        "fastest_cpu_seconds": round(min(row[0] for row in rows), 4),
        "replayed_steps_per_s": round(size[0] * size[1] / wall, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    } | result_files.origin("update_speed.py", argv)
    if cuda:
        result["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    print(json.dumps(result))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
