"""Run ranks as processes forked from a test, and return their results."""

import os
import pickle
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch._dynamo  # torch.optim imports it when it is first used: once, before ranks are forked

from foreground import ranks
from foreground.errors import UserError


class Raised(NamedTuple):
    """An exception, as it came out of a rank."""

    kind: str
    text: str
    code: int | None  # exit code


def variables(rank: int, number: int, port: int) -> dict[str, str]:
    """Return what torchrun sets."""
    told = {
        "RANK": rank,
        "WORLD_SIZE": number,
        "LOCAL_RANK": rank,
        "LOCAL_WORLD_SIZE": number,
        "MASTER_PORT": port,
    }
    return {name: str(value) for name, value in told.items()} | {
        "MASTER_ADDR": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
    }


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def together(
    function: Callable, *arguments, number: int = 2, waits: float = 60.0, within: float = 120.0
) -> list:
    """Call function(*arguments) in `number` ranks; return what each returned, or what it Raised."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / str(rank) for rank in range(number)]
        children = [
            _fork(rank, number, port, said[rank], waits, function, arguments)
            for rank in range(number)
        ]
        _wait(children, within)
        return [pickle.loads(path.read_bytes()) if path.exists() else None for path in said]


def _fork(
    rank: int,
    number: int,
    port: int,
    said: Path,
    waits: float,
    function: Callable,
    arguments: tuple,
) -> int:
    child = os.fork()
    if child:
        return child
    try:
        os.environ.update(variables(rank, number, port))
        torch.set_num_threads(1)
        try:
            ranks.join(waits)
            found = function(*arguments)
            ranks.leave()
        except BaseException as error:
            if not isinstance(error, SystemExit | UserError):
                traceback.print_exc()
            found = Raised(
                type(error).__name__,
                str(error),
                getattr(error, "exit_code", getattr(error, "code", None)),
            )
        said.with_suffix(".part").write_bytes(pickle.dumps(found))
        said.with_suffix(".part").rename(said)
    finally:
        os._exit(0)


def _wait(children: list[int], within: float) -> None:
    """Wait until all have ended. Kill what has not by then, and what is stopped at the end."""
    end, left = time.monotonic() + within, set(children)
    while left and time.monotonic() < end:
        for child in list(left):
            done, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
            if done and os.WIFSTOPPED(status):
                children = [each for each in children if each != child]
            elif done:
                left.discard(child)
        if left and not left & set(children):
            break
        time.sleep(0.02)
    for child in left:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
