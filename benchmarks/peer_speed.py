"""Time an update of r2dreamer and one of ours in one process.

    python -m benchmarks.peer_speed CHECKOUT --size 12m

The peer is r2dreamer's own Dreamer at size12M: batches of 16x64 noise images, walker's action size.
It runs uncompiled and in float32, since neither its float16 nor its compiled step runs on a CPU.
The two take turns, so that noise of the machine affects both. The program prints one JSON line.
Options are those of train.py (python train.py --help).
"""

import argparse
import json
import sys
import time
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()

import torch

from benchmarks import result_files
from benchmarks.update_speed import ACTION_SIZE, random_batch
from foreground.agents.agent import WorldModelAgent
from foreground.configs import run as runs
from foreground.errors import UserError, run_main
from foreground.world_models.world_model import Spaces

TURNS, WARM_UP = 4, 1


class FixedBatch:
    """Stands for the peer's replay: the same batch each time, latents of a context step at zero."""

    def __init__(self, batch: dict[str, torch.Tensor], model):
        from tensordict import TensorDict

        rows = {
            "image": batch["image"],
            "action": batch["action"],
            "reward": batch["reward"].unsqueeze(-1),
        }
        rows |= {name: batch[name].unsqueeze(-1) for name in ("is_first", "is_terminal")}
        rows |= {"is_last": rows["is_terminal"]}
        self.shape = batch["is_first"].shape
        self.rows = TensorDict(rows, batch_size=self.shape)
        self.initial = model.rssm.initial(self.shape[0])

    def sample(self):
        return self.rows.clone(), None, self.initial

    def update(self, index, stoch, deter) -> None:
        """Ignore the latents that the peer writes back to its replay."""


def peer(checkout: Path):
    """Return the peer's agent at its size12M.

    Raises: UserError where the folder or a package is missing.
    """
    if not (checkout / "dreamer.py").is_file():
        raise UserError(
            "no dreamer.py is there", str(checkout), "give a checkout of github.com/NM512/r2dreamer"
        )
    sys.path.append(str(checkout))
    try:
        import dreamer
        import gymnasium
        from hydra import compose, initialize_config_dir
    except ModuleNotFoundError as error:
        raise UserError(
            f"a package of the peer is missing: {error.name}",
            str(checkout),
            f"pip install {error.name}",
        ) from error
    dreamer.autocast = lambda **_: torch.autocast("cpu", enabled=False)  # the peer asks for float16
    with initialize_config_dir(str(checkout.resolve() / "configs"), version_base=None):
        config = compose("configs", ["device=cpu", "model.compile=False", "logdir=none"])
    space = gymnasium.spaces.Dict({"image": gymnasium.spaces.Box(0, 255, (64, 64, 3), "uint8")})
    return dreamer.Dreamer(config.model, space, gymnasium.spaces.Box(-1, 1, (ACTION_SIZE,)))


def seconds(function) -> float:
    begun = time.process_time()
    function()
    return time.process_time() - begun


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "checkout",
        type=Path,
        nargs="?",
        metavar="CHECKOUT",
        help="of github.com/NM512/r2dreamer; install its tensordict, hydra-core and einops",
    )
    asked, words = parser.parse_known_args(argv)
    if not asked.checkout:
        raise UserError(
            "no checkout is given",
            "command line",
            "python -m benchmarks.peer_speed CHECKOUT --size 12m",
        )
    config = runs.read(words, False)
    torch.set_num_threads(config.threads or 1)
    torch.manual_seed(0)
    batch = random_batch(config, torch.device("cpu"))
    other = peer(asked.checkout)
    replay = FixedBatch(batch, other)
    agent = WorldModelAgent(config.agent_config, Spaces(64, ACTION_SIZE), "cpu")
    rows = [
        (seconds(lambda: agent.update(batch)), seconds(lambda: other.update(replay)))
        for _ in range(WARM_UP + TURNS)
    ][WARM_UP:]
    ratios = sorted(ours / theirs for ours, theirs in rows)
    ours, theirs = (sorted(column)[len(rows) // 2] for column in zip(*rows))
    result = {
        "batch": "x".join(map(str, replay.shape)),
        "parameters": sum(agent.parameters_by_module().values()),
        "peer_parameters": sum(p.numel() for p in other._named_params.values()),
        "cpu_seconds": round(ours, 2),
        "peer_cpu_seconds": round(theirs, 2),
        "ratio": round(ratios[len(ratios) // 2], 3),
    } | result_files.origin("peer_speed CHECKOUT", words)
    print(json.dumps(result))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
