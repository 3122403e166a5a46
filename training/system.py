"""The machine: process start-up for speed, free memory, a description for result files.

Imports no torch at the top.
"""

import contextlib
import ctypes
import errno
import functools
import importlib.metadata
import os
import platform
import signal
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

from foreground.errors import UserError

# glibc's mallopt parameters (malloc.h) and their values: keep freed memory instead of giving it
# back and faulting it in again at the next large tensor; worth 14 to 29 % of an update on the CPU.
MALLOPT = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 2**28)}
CGROUP = Path("/sys/fs/cgroup")
SOURCE = Path(__file__).resolve().parent.parent


def prepare_environment() -> bool:
    """Tune the allocator and OpenMP of this process; return whether glibc accepted it.

    Call it before torch is imported. Environment variables that the user set are kept.
    """
    # Threads that spin at barriers starve the other process on a core.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(parameter, value) == 1 for parameter, value in MALLOPT.values()])


# What tells a run to stop: a person, a closed terminal, a scheduler that warns before it kills, a
# limit on CPU time.
STOPPING = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
)


def stop_signals() -> list[signal.Signals]:
    """Return the signals that stop this process.

    A signal that was ignored at its start, as under nohup, stays ignored.
    """
    always = (signal.SIGTERM, signal.SIGINT)
    return [
        number
        for number in STOPPING
        if number in always or signal.getsignal(number) is not signal.SIG_IGN
    ]


PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with(starter: int) -> None:
    """Let Linux kill this process when the process `starter`, which started it, ends."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):  # another system
        return
    if prctl(PR_SET_PDEATHSIG, signal.SIGKILL):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != starter:
        os.kill(os.getpid(), signal.SIGKILL)


def free_memory() -> int:
    """Return the bytes that this process may still use, within the limits of its cgroups.

    The ranks of a run share them (torchrun sets LOCAL_WORLD_SIZE).
    """
    return min([_available(), *_cgroup_room()]) // max(
        int(os.environ.get("LOCAL_WORLD_SIZE") or 1), 1
    )


# What torch says in a plain RuntimeError when memory cannot be had on the CPU; the last: more bytes
# than can be counted.
NO_MEMORY = ("can't allocate memory", "not enough memory", "Storage size calculation overflowed")


@contextlib.contextmanager
def one_line_without_memory(where: Callable[[], str]) -> Generator[None]:
    """Turn an out-of-memory error, of the CPU or a device, into a UserError with exit code 4.

    `where` is called then.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_memory(error):
            raise
        raise UserError(
            "out of memory", where(), "choose a smaller --size, batch or --training.capacity", 4
        ) from error


def is_memory(error: Exception) -> bool:
    """Return whether an error says that memory is exhausted."""
    # torch's, by name: torch may not be imported here.
    on_device = type(error).__name__ == "OutOfMemoryError"
    refused = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return (
        isinstance(error, MemoryError)
        or on_device
        or refused
        or any(words in str(error) for words in NO_MEMORY)
    )


def _meminfo() -> dict[str, int]:
    """Return field -> bytes of /proc/meminfo."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.split()[1:2]}


def _available() -> int:
    return _meminfo().get(
        "MemAvailable", os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )


def _cgroup_room() -> list[int]:
    """Return the bytes left under each memory limit of this process (cgroup v2, then v1).

    Page cache counts as free.
    """
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    room = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = CGROUP / "memory" if controllers else CGROUP
        names = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if controllers
            else ("memory.max", "memory.current")
        )
        folder = top / path.strip("/")
        for each in (folder, *folder.parents):
            room.append(_room(each, *names))
            if each == top:
                break
    return [each for each in room if each is not None]


def _room(folder: Path, limit_name: str, usage_name: str) -> int | None:
    try:
        limit, usage = (
            (folder / limit_name).read_text().strip(),
            int((folder / usage_name).read_text()),
        )
        cache = [
            int(line.split()[1])
            for line in (folder / "memory.stat").read_text().splitlines()
            if line.startswith(("inactive_file ", "total_inactive_file "))
        ]
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - usage + max(cache, default=0))


def hardware() -> dict[str, str | int | float]:
    """Return the hardware of a result: cpu, cores, memory_gb, gpu, python, torch, platform."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(_meminfo().get("MemTotal", 0) / 2**30, 1),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
    }


PACKAGES = ("torch", "numpy", "mujoco", "dm_control")  # whose versions decide what a run computes


def provenance(device) -> dict[str, str]:
    """Return what a run's numbers depend on, to the bit, besides its options: kept in each
    checkpoint.
    """
    import torch

    on_gpu = torch.device(device).type == "cuda"
    facts = {
        "CPU": _cpu_model(),
        "CPU instructions": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "threads": str(torch.get_num_threads()),
        "Python": platform.python_version(),
        "commit": git_commit(),
    }
    return facts | {name: importlib.metadata.version(name) for name in PACKAGES}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@functools.cache
def git_commit(folder: Path = SOURCE) -> str:
    """Return the commit of a source folder, with "+changes" if files other than results differ.

    It is "unknown" without git, and read once per process: the source may change during training.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(
            folder, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!results"
        )
        return commit + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def random_kept(device):
    """Return a context after which torch's random state is as before, on the CPU and on this
    device.

    torch's own would look at every GPU, and take memory there that is other ranks'.
    """
    import torch

    return torch.random.fork_rng([device] if torch.device(device).type == "cuda" else [])


def set_matmul(name: str) -> None:
    """Round the inputs of matrix products on the CPU to "bfloat16", or keep them "float32".

    Raises: UserError.
    """
    import torch

    if name == "bfloat16" and not torch.cpu._is_amx_tile_supported():
        raise UserError(
            "this CPU has no AMX, and is slower with bfloat16", "--matmul", "give --matmul float32"
        )
    torch.backends.mkldnn.matmul.fp32_precision = "bf16" if name == "bfloat16" else "ieee"


def pick_device(name: str):
    """Return the torch.device of "auto" (CUDA if available), "cpu" or "cuda"; each rank has its own
    GPU.

    Raises: UserError.
    """
    import torch

    from foreground import ranks

    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {name!r}", "--device", "choose one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "there is no CUDA device that torch can use", "--device", "give --device cpu or auto"
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if ranks.number() == 1:
        return torch.device("cuda")
    if ranks.local_rank() >= torch.cuda.device_count():
        what = (
            f"rank {ranks.rank()} has no GPU: torch can use {torch.cuda.device_count()} on "
            "this machine"
        )
        raise UserError(
            what,
            "torchrun --nproc-per-node",
            "start as many ranks as there are GPUs, or give --device cpu",
        )
    torch.cuda.set_device(ranks.local_rank())
    return torch.device("cuda", ranks.local_rank())
