"""A disk that fills up during a real run: saved state remains, the run continues, and it saves
again later.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from foreground.errors import UserError
from foreground.evaluation import films
from foreground.training import checkpoint, chunks, state
from tests.faults import Tries
from tests.faults.runs import (
    ENDLESS,
    LONGEST,
    ROOT,
    command,
    good,
    good_step,
    variables,
    wait_for,
)

SIZE = 32 << 20  # bytes of a disk
FREE = (20_000, 8_000_000)  # range of its free bytes
# Frequent chunks of the replay and evaluations, so that each kind of file may hit the end of the
# disk.
RUN = (
    "import sys; from foreground import train; from foreground.training import chunks; "
    "chunks.CHUNK_ROWS = 16; train.run_main(train.main, sys.argv[1:])"
)
OFTEN = ["--training.evaluate_every", "120"]
PATIENCE = 8.0  # seconds in which files are written, among them two checkpoints


def full(folder: Path, chance: random.Random) -> Tries:
    """Run on a disk in memory with a random number of free bytes: any write may fail."""
    check()
    number = 0
    while True:
        number += 1
        disk = folder / f"disk{number}"
        disk.mkdir()
        yield one(disk, int(FREE[0] * (FREE[1] / FREE[0]) ** chance.random()))


def check() -> None:
    """Raise UserError where a disk in memory cannot be mounted."""
    if (
        not shutil.which("unshare")
        or subprocess.run([*space(), "true"], capture_output=True).returncode
    ):
        raise UserError(
            "no disk in memory can be mounted here",
            "fault disk_full",
            "allow user namespaces, or run it as root",
        )


def space() -> list[str]:
    """Return the words that run a command in its own mount namespace."""
    return (
        ["unshare", "--mount"]
        if os.geteuid() == 0
        else ["unshare", "--user", "--map-root-user", "--mount"]
    )


def one(disk: Path, free: int) -> str:
    """Run on one disk; return what was lost."""
    script = (
        f'mount -t tmpfs -o size={SIZE} foreground "$0" && head -c {SIZE - free} /dev/zero > '
        '"$0/ballast" && exec "$@"'
    )
    words = [
        *space(),
        "sh",
        "-c",
        script,
        str(disk),
        sys.executable,
        "-c",
        RUN,
        *command(disk / "run", *ENDLESS, *OFTEN)[2:],
    ]
    out = disk.parent / f"{disk.name}.txt"
    with out.open("w") as file:
        process = subprocess.Popen(
            words, cwd=ROOT, stdout=file, stderr=file, env=variables(disk.parent)
        )
    try:
        return judged(process, disk, out, free)
    finally:
        process.kill()
        process.wait()


def broken(run: Path, after: int) -> str:
    """Return which files are not whole: newest checkpoint and its chunks, metrics, videos."""

    def damaged(path: Path) -> list[str]:
        return [
            sentence
            for _, sentence in chunks.damaged_chunks(run / "replay", state.manifest_of(path))
        ]

    newest, sentences = checkpoint.latest(run / "checkpoints", damaged)
    if newest is None or sentences or good_step(run) < after:
        return f"of the checkpoints {sentences or 'none is there'}"
    # The last may be incomplete.
    for line in (run / "metrics.jsonl").read_bytes().splitlines(True)[:-1]:
        try:
            json.loads(line)
        except ValueError:
            return f"metrics.jsonl has the line {line[:80]!r}"
    torn = [film.name for film in run.glob("[!.]*.mp4") if not films.length(str(film))]
    return f"the videos {torn} cannot be decoded" if torn else ""


def judged(process: subprocess.Popen, disk: Path, out: Path, free: int) -> str:
    """Return what was lost. The disk is read in the mount namespace of the run."""
    seen = Path(f"/proc/{process.pid}/root{disk}")
    newest = [-1]

    def complained() -> bool:
        if process.poll() is not None or "warning" in out.read_text():
            return True
        newest.append(good_step(seen / "run"))
        return False

    lost = wait_for(process, complained)
    if process.poll() is not None:  # it did not start: one line, and nothing to lose
        said = out.read_text()
        one_line = [line for line in said.splitlines() if line.startswith("error: ")]
        well = (
            process.returncode == 2
            and len(one_line) == 1
            and "Traceback" not in said
            and "\nfolder " not in said
        )
        return "" if well else f"{free} bytes free: code {process.returncode}: {said[-300:]!r}"
    before = max(newest)  # the newest checkpoint before the disk was full
    if not lost and "No space left" not in out.read_text():
        lost = "the disk was not full"
    time.sleep(PATIENCE / 4)
    if lost or process.poll() is not None:
        return f"{free} bytes free: {lost or 'it did not continue'}: {out.read_text()[-300:]!r}"
    if good(seen / "run") < before:
        return f"{free} bytes free: frame {before} was saved, {good(seen / 'run')} is left"
    (seen / "ballast").unlink()
    after = good_step(seen / "run")
    lost = wait_for(process, lambda: good_step(seen / "run") > after)
    lost = lost or broken(seen / "run", after)
    process.terminate()
    try:
        code = process.wait(LONGEST)
    except subprocess.TimeoutExpired:
        code = None
    said = out.read_text()
    if lost or code != 143 or "Traceback" in said:
        return f"{free} bytes free: {lost or f'code {code}'} after space was freed: {said[-300:]!r}"
    return ""
