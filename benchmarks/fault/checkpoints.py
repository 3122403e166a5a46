"""Checkpoints and replay chunks of a real run, damaged: noticed, the newest good state is used, and it is what it was."""

import os
import random
import shutil
from pathlib import Path

import torch

from benchmarks.fault import Tries, lacking, runs
from benchmarks.fault.states import described
from foreground.errors import UserError
from foreground.training import checkpoint, trainer
from foreground.training.files import Damaged

NAMES = ("tensors.safetensors", "state.json", "MANIFEST.json")
CHUNK_ROWS = 16  # a chunk or two between two checkpoints


def damage(folder: Path, chance: random.Random) -> Tries:
    """A file of the newest checkpoint, or of its replay, truncated, flipped, zeroed, longer, missing, a link, a pipe, swapped.

    The trainer takes the checkpoint before, or, where that one lists the chunk too, gives up the rows up to its end.
    """
    run = runs.trained(folder / "run", chunk_rows=CHUNK_ROWS)
    before, newest = checkpoint.steps(run / "checkpoints")[-2:]
    stops = {path: stops_of(path) for path in (before, newest)}
    own = sorted(set(stops[newest]) - set(stops[before]))
    if not own or not stops[before]:
        raise RuntimeError("the two checkpoints have no chunk each")
    expected, resumed = described(checkpoint.load(before)), lacking.make(run, ["--total_frames", "400"])
    resumed.resume()
    rows = resumed.replay.peek(1, len(resumed.replay))
    while True:
        kind, what = chance.choice(list(DAMAGES)), chance.choice(("file", "file", "chunk", "shared"))
        if what == "file":
            name, other = chance.choice(NAMES), before
            path = newest / name
        else:
            name, other = chance.choice(own if what == "chunk" else sorted(stops[before])), run / "replay"
            path = run / "replay" / name
        whole = path.read_bytes()
        DAMAGES[kind](path, other / other_name(name, stops[newest]), folder, chance)
        try:
            sentences = resumed.resume()
            if what == "shared":
                lost = salvaged(resumed, sentences, name, stops[before][name], rows)
            else:
                lost = fallen_back(resumed, sentences, before, newest, name)
            if not lost and described(checkpoint.load(before)) != expected:
                lost = "the one before is not what it was"
        except UserError as error:
            lost = str(error)
        finally:
            restore(run, path, whole)
        yield lost and f"{name}, {kind}: {lost}"


def stops_of(path: Path) -> dict[str, int]:
    """Name -> row after its last, of the chunks that a checkpoint lists."""
    return {listing["name"]: chunk["stop"] for chunk in trainer.manifest_of(path)["chunks"] for listing in chunk["files"]}


def other_name(name: str, stops: dict[str, int]) -> str:
    """Of the same file of the checkpoint before, or of another chunk."""
    return name if name in NAMES else next(other for other in stops if other != name)


def fallen_back(resumed: trainer.Trainer, sentences: list[str], before: Path, newest: Path, name: str) -> str:
    """What is not right where the newest must be passed over."""
    root = newest.parent
    words = ("is damaged", "" if name == "MANIFEST.json" else name)  # a manifest may tell wrong of another file
    if len(sentences) != 1 or not all(word in sentences[0] for word in words):
        return f"said {sentences}"
    if f"step-{resumed.env_frame:012d}" != before.name or not (root / f"rejected-{newest.name}").is_dir():
        return f"frame {resumed.env_frame} is gone on from"
    if name in NAMES:
        try:
            checkpoint.load(root / f"rejected-{newest.name}")
            return "it loads"
        except Damaged:
            pass
    return ""


def salvaged(resumed: trainer.Trainer, sentences: list[str], name: str, stop: int, rows: dict[str, torch.Tensor]) -> str:
    """What is not right where rows must be given up, and nothing else."""
    if len(sentences) != 1 or name not in sentences[0] or f"goes on from row {stop}" not in sentences[0]:
        return f"said {sentences}"
    left = resumed.replay.row_count - stop
    if resumed.replay.first_row != stop or len(resumed.replay) != left:
        return f"row {resumed.replay.first_row} is the first that is left"
    found = resumed.replay.peek(1, left)
    if not all(torch.equal(found[field], rows[field][:, -left:]) for field in found):
        return "other rows are left"
    return ""


def restore(run: Path, path: Path, whole: bytes) -> None:
    """The folder as it was."""
    for rejected in (run / "checkpoints").glob("rejected-*"):
        rejected.rename(rejected.with_name(rejected.name.removeprefix("rejected-")))
    path.unlink(missing_ok=True)
    path.write_bytes(whole)


def flipped(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def truncated(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])


def zeroed(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    place = chance.randrange(len(content.rstrip(b"\0")))  # from there on it was not zero before
    path.write_bytes(content[:place] + bytes(len(content) - place))


def longer(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * chance.randrange(1, 5000))


def swapped(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    path.write_bytes(other.read_bytes())


def linked(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    shutil.copy(path, folder / "outside")
    path.unlink()
    path.symlink_to(folder / "outside")


def piped(path: Path, other: Path, folder: Path, chance: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = {
    "flipped": flipped,
    "truncated": truncated,
    "zeroed": zeroed,
    "longer": longer,
    "missing": lambda path, *_: path.unlink(),
    "swapped": swapped,
    "linked": linked,
    "piped": piped,
}
