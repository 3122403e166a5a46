"""One run on several processes, one for each GPU: the ranks that torchrun starts.

Each rank has its own environments, replay and batch. Gradients, statistics and clocks are averaged
here, in few messages, so the weights of all ranks stay bit-identical. In a single process every
function is the identity and costs nothing. `agents/optimiser.py:step` averages gradients;
`training/trainer.py` keeps the ranks in step.

Every rank must call these functions in the same order, with tensors of the same sizes.
"""

import contextlib
import datetime
import hashlib
import os
import re
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from foreground.errors import UserError

LOST = 7  # exit code
TIMEOUT = 600.0  # seconds in which every rank must answer: a compilation takes a minute or two
SIGN = 10.0  # seconds between two signs of life of a rank that works alone
VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)  # torchrun sets them
SHARED_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
APART = 104_729  # between the seeds of two ranks: more than a rank has environments
PLACE = re.compile(
    r"^\[[^]]*\.(?:cc|cpp):\d+\] *"
)  # in the code of gloo or torch, where a message begins with it
GOING, NO, YES, REFUSED = range(4)  # what a rank that works alone says

T = TypeVar("T")
_alone = False  # whether this rank works alone at the moment
_waits = TIMEOUT


# -------------------------------------------------------------------------------- to join and leave


def join(seconds: float = TIMEOUT) -> None:
    """Join the ranks that torchrun started, by its variables; do nothing in a single process.

    seconds   in which every rank must answer; one that hangs for longer ends all

    Raise UserError where variables are missing, restarts would hang, or the others do not come.
    """
    global _waits
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if missing:
        what = f"WORLD_SIZE is set and {missing[0]} is not"
        raise UserError(
            what, "environment variables", "start several ranks with torchrun, or unset WORLD_SIZE"
        )
    if (
        int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
        and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    ):
        what = "torchrun's restarts would hang, since they reuse its store"  # pytorch issue 135712
        remedy = f"set {SHARED_STORE}=1 and give torchrun --standalone or --rdzv-backend c10d"
        raise UserError(what, "torchrun --max-restarts", remedy)
    _waits = seconds
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _answers():
        dist.init_process_group(backend, timeout=datetime.timedelta(seconds=seconds))


def leave() -> None:
    """Leave the group; each rank then continues alone."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def number() -> int:
    """Return the number of ranks; 1 for a single process, or while a rank works alone."""
    return (
        dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _alone else 1
    )


def rank() -> int:
    """Return the rank of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def local_rank() -> int:
    """Return the rank of this process among those of its machine, from 0."""
    return int(os.environ["LOCAL_RANK"]) if number() > 1 else 0


def seed(common: int) -> int:
    """Return the seed of this rank's environments, noise and sampler; rank 0 has the run's."""
    return (common + APART * rank()) % 2**31


def folder(run: Path) -> Path:
    """Return the folder of this rank's checkpoints and replay: that of rank 0 is the run folder."""
    return run / "ranks" / f"{rank():03d}" if rank() else run


# ----------------------------------------------------------------------------------------- messages


def summed(tensor: Tensor) -> Tensor:
    """Return the sum over all ranks, a new tensor; the tensor itself where there is one rank."""
    if number() == 1:
        return tensor
    total = tensor.detach().clone()
    with _answers():
        dist.all_reduce(total)
    return total


def mean(tensors: list[Tensor]) -> list[Tensor]:
    """Return the mean of each tensor over all ranks, by one message.

    The means have no gradient, and the memory layout of their tensors. Where there is one rank, the
    tensors themselves are returned.
    """
    if number() == 1:
        return tensors
    flat = summed(torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])) / number()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [
        torch.empty_like(one, requires_grad=False).copy_(part.view(one.shape))
        for one, part in zip(tensors, parts)
    ]


def mean_of(table: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `mean` of the values of a table."""
    return dict(zip(table, mean(list(table.values()))))


def gathered(tensor: Tensor) -> Tensor:
    """Return the tensors of all ranks, (R, ...)."""
    if number() == 1:
        return tensor.unsqueeze(0)
    rows = [torch.empty_like(tensor) for _ in range(number())]
    with _answers():
        dist.all_gather(rows, tensor.contiguous())
    return torch.stack(rows)


def total(*counts: int) -> list[int]:
    """Return the sums of whole numbers over all ranks."""
    return list(counts) if number() == 1 else summed(torch.tensor(counts)).tolist()


def least(count: int) -> int:
    """Return the smallest of the ranks' whole numbers."""
    return count if number() == 1 else int(gathered(torch.tensor(count)).min())


def same(text: str) -> bool:
    """Return whether a text is the same on all ranks; all get the same answer."""
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    rows = gathered(torch.tensor(digest))
    return bool((rows == rows[0]).all())


def agreed(call: Callable[[], T]) -> T:
    """Return what `call` gives on each rank.

    Where it raises UserError on some, the first of these raises it, and the others end silently.
    """
    if number() == 1:
        return call()
    refused: UserError | None = None
    given: list[T] = []
    try:
        given.append(call())
    except UserError as error:
        refused = error
    first = least(rank() if refused else number())
    if refused and first == rank():
        raise refused
    if first < number():
        raise SystemExit(2)
    return given[0]


def alone(call: Callable[[], bool]) -> bool:
    """Let rank 0 work while the others wait, however long; return its answer on every rank.

    Rank 0 gives signs of life meanwhile, so that the others notice when it is gone. Within `call`
    there is one rank. Where it raises, the others end silently.
    """
    global _alone
    if number() == 1:
        return call()
    if rank():
        while (answer := total(GOING)[0]) == GOING:
            pass
        if answer == REFUSED:
            raise SystemExit(2)
        return answer == YES
    done, answer = threading.Event(), REFUSED
    signs = threading.Thread(target=_give_signs, args=(done,), daemon=True)
    signs.start()
    _alone = True
    try:
        answer = YES if call() else NO
    finally:
        done.set()
        signs.join()
        _alone = False
        with contextlib.suppress(UserError):
            total(answer)
    return answer == YES


def _give_signs(done: threading.Event) -> None:
    """Report regularly that this rank is alive. A lost rank is noticed at the next message."""
    with contextlib.suppress(UserError):
        while not done.wait(min(SIGN, _waits / 4)):
            sign = torch.tensor([GOING])
            with _answers():
                dist.all_reduce(sign)


@contextlib.contextmanager
def _answers() -> Generator[None]:
    """A rank that ended or does not answer becomes a UserError with exit code 7."""
    try:
        yield
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        said = (
            PLACE.sub("", str(error).partition("\n")[0]).partition(". ")[0] or type(error).__name__
        )
        what = f"another rank ended, or did not answer for {_waits:.0f} s ({said})"
        remedy = (
            "its own line says why; the same torchrun command continues from the last checkpoint"
        )
        where = f"rank {os.environ.get('RANK', '?')} of {os.environ.get('WORLD_SIZE', '?')}"
        raise UserError(what, where, remedy, LOST) from error
