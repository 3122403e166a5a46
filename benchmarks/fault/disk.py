"""A disk that is full in the middle of a real run: what was saved stays, the run goes on, and saves again with room."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.fault import Tries
from benchmarks.fault.runs import ENDLESS, LONGEST, ROOT, command, good, good_step, variables, wait_for
from foreground.errors import UserError
from foreground.evaluation import films
from foreground.training import checkpoint, chunks, trainer

SIZE = 32 << 20  # bytes of a disk
ROOM = (20_000, 8_000_000)  # of it that is free, more or less
# Chunks of the replay and evaluations come often, so that the end of the disk finds each kind of file.
RUN = (
    "import sys; from foreground import train; from foreground.training import chunks; "
    "chunks.CHUNK_ROWS = 16; train.run_main(train.main, sys.argv[1:])"
)
OFTEN = ["--training.evaluate_every", "120"]
PATIENCE = 8.0  # seconds in which something is written, a checkpoint twice


def full(folder: Path, chance: random.Random) -> Tries:
    """A disk of its own, in memory, with as little room as chance wants: any write of a run may come upon its end."""
    check()
    number = 0
    while True:
        number += 1
        disk = folder / f"disk{number}"
        disk.mkdir()
        yield one(disk, int(ROOM[0] * (ROOM[1] / ROOM[0]) ** chance.random()))


def check() -> None:
    """Errors: UserError where a disk in memory cannot be mounted."""
    if not shutil.which("unshare") or subprocess.run([*space(), "true"], capture_output=True).returncode:
        raise UserError("no disk in memory can be mounted here", "fault full", "allow user namespaces, or run it as root")


def space() -> list[str]:
    """A command in mounts of its own."""
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


def one(disk: Path, room: int) -> str:
    """One run on one disk."""
    script = f'mount -t tmpfs -o size={SIZE} foreground "$0" && head -c {SIZE - room} /dev/zero > "$0/ballast" && exec "$@"'
    words = [*space(), "sh", "-c", script, str(disk), sys.executable, "-c", RUN, *command(disk / "run", *ENDLESS, *OFTEN)[2:]]
    out = disk.parent / f"{disk.name}.txt"
    with out.open("w") as file:
        process = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=file, env=variables(disk.parent))
    try:
        return judged(process, disk, out, room)
    finally:
        process.kill()
        process.wait()


def broken(run: Path, after: int) -> str:
    """What of a run's files is not whole: its newest checkpoint with its chunks, its lines, its films."""

    def damaged(path: Path) -> list[str]:
        return [sentence for _, sentence in chunks.damaged_chunks(run / "replay", trainer.manifest_of(path))]

    newest, sentences = checkpoint.latest(run / "checkpoints", damaged)
    if newest is None or sentences or good_step(run) < after:
        return f"of the checkpoints {sentences or 'none is there'}"
    for line in (run / "metrics.jsonl").read_bytes().splitlines(True)[:-1]:  # the last may be on its way
        try:
            json.loads(line)
        except ValueError:
            return f"metrics.jsonl has the line {line[:80]!r}"
    torn = [film.name for film in run.glob("[!.]*.mp4") if not films.length(str(film))]
    return f"the films {torn} cannot be seen" if torn else ""


def judged(process: subprocess.Popen, disk: Path, out: Path, room: int) -> str:
    """What became of it; the disk is seen as the run sees it."""
    seen, newest = Path(f"/proc/{process.pid}/root{disk}"), [-1]

    def complained() -> bool:
        if process.poll() is not None or "warning" in out.read_text():
            return True
        newest.append(good_step(seen / "run"))
        return False

    lost = wait_for(process, complained)
    if process.poll() is not None:  # it never began: one line and nothing there to lose
        said = out.read_text()
        one_line = [line for line in said.splitlines() if line.startswith("error: ")]
        well = process.returncode == 2 and len(one_line) == 1 and "Traceback" not in said and "\nfolder " not in said
        return "" if well else f"room {room}: code {process.returncode}: {said[-300:]!r}"
    before = max(newest)  # what was there before there was no room
    if not lost and "No space left" not in out.read_text():
        lost = "the disk was not full"
    time.sleep(PATIENCE / 4)
    if lost or process.poll() is not None:
        return f"room {room}: {lost or 'it did not go on'}: {out.read_text()[-300:]!r}"
    if good(seen / "run") < before:
        return f"room {room}: frame {before} was saved, {good(seen / 'run')} is left"
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
        return f"room {room}: {lost or f'code {code}'} after there was room: {said[-300:]!r}"
    return ""
