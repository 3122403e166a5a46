"""Several Ray machines on one computer.

Each has an address of the loopback network and can be killed by itself.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

START = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
SMALL = ["--object-store-memory=80000000", "--include-log-monitor=false"]
# A machine that does not answer counts as lost after 5 seconds; Ray's default is 15.
QUICK = {"RAY_health_check_period_ms": "1000", "RAY_health_check_initial_delay_ms": "0"}
SECONDS = 90.0  # for a machine to start


class Machine:
    """The processes of one `ray start`.

    address   such as 127.0.0.2; Ray replaces 127.0.0.1 by the address that the machine has outside
    folder    for its log and for Ray's sockets; short, since a socket's name has at most 107
              characters
    head      HOST:PORT of the machine to join; "": it is the head itself, at `self.head`
    """

    def __init__(self, address: str, folder: Path, head: str = "", cpus: int = 1):
        close_to_others()
        self.address = address
        self.head = head or f"{address}:{_free_port(address)}"
        where = [f"--address={head}"]
        if not head:
            where = [
                "--head",
                f"--port={self.head.rpartition(':')[2]}",
                f"--temp-dir={folder}",
                "--include-dashboard=false",
            ]
            where.append(f"--ray-client-server-port={_free_port(address)}")
        command = [
            *START,
            *SMALL,
            *where,
            f"--node-ip-address={address}",
            f"--num-cpus={cpus}",
            "--num-gpus=0",
        ]
        self.log = folder / f"{address}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | QUICK)
        self._await()

    def _await(self) -> None:
        """Wait until it is ready. Raises: RuntimeError where it ends before, or takes too long."""
        limit = time.monotonic() + SECONDS
        while "Ray runtime started" not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > limit:
                self.kill()
                raise RuntimeError(f"ray start did not start: {self.log.read_text()[-500:]}")
            time.sleep(0.1)

    def programs(self) -> list[psutil.Process]:
        """Return all its processes, Ray's own and those of runs, the oldest first."""
        try:
            return [
                psutil.Process(self.process.pid),
                *psutil.Process(self.process.pid).children(recursive=True),
            ]
        except psutil.NoSuchProcess:
            return []

    def command_lines(self) -> list[list[str]]:
        """Return the command lines of its processes; one that has just ended has none."""
        found = []
        for process in self.programs():
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(process.cmdline())
        return found

    def kill(self) -> None:
        """End everything at once, as where the power fails."""
        for process in self.programs():
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        self.process.wait()


def close_to_others() -> None:
    """Give this process, and all that it starts, a token for Ray; without it Ray lets everybody in.

    Call it before ray is imported, which reads it once.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _free_port(address: str) -> int:
    with socket.socket() as free:
        free.bind((address, 0))
        return free.getsockname()[1]
