"""Damaged checkpoints and replay chunks: detected, and the newest good state is used."""

import os
import random
import shutil
from pathlib import Path

import torch

from foreground.errors import UserError
from foreground.training import checkpoint, state, trainer
from foreground.training.files import Damaged
from tests.faults import Tries, checkpoint_ablation, runs
from tests.faults.states import described

NAMES = ("tensors.safetensors", "state.json", "MANIFEST.json")
CHUNK_ROWS = 16  # a chunk or two between two checkpoints


def damage(folder: Path, chance: random.Random) -> Tries:
    """Damage a file of the newest checkpoint or of its replay, in one of the ways of DAMAGES.

    The trainer must use the previous checkpoint. Where that one lists the chunk as well, it must
    drop the rows up to the end of the chunk.
    """
    run = runs.trained(folder / "run", chunk_rows=CHUNK_ROWS)
    before, newest = checkpoint.steps(run / "checkpoints")[-2:]
    stops = {path: stops_of(path) for path in (before, newest)}
    own = sorted(set(stops[newest]) - set(stops[before]))
    if not own or not stops[before]:
        raise RuntimeError("the two checkpoints have no chunk each")
    expected = described(checkpoint.load(before))
    resumed = checkpoint_ablation.make(run, ["--total_frames", "400"])
    resumed.resume()
    rows = resumed.replay.peek(1, len(resumed.replay))
    while True:
        kind = chance.choice(list(DAMAGES))
        what = chance.choice(("file", "file", "chunk", "shared"))
        if what == "file":
            name, other = chance.choice(NAMES), before
            path = newest / name
        else:
            name, other = (
                chance.choice(own if what == "chunk" else sorted(stops[before])),
                run / "replay",
            )
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
                lost = "the previous checkpoint has changed"
        except UserError as error:
            lost = str(error)
        finally:
            restore(run, path, whole)
        yield lost and f"{name}, {kind}: {lost}"


def stops_of(path: Path) -> dict[str, int]:
    """Return, of the chunks that a checkpoint lists, name -> row after the last one."""
    return {
        listing["name"]: chunk["stop"]
        for chunk in state.manifest_of(path)["chunks"]
        for listing in chunk["files"]
    }


def other_name(name: str, stops: dict[str, int]) -> str:
    """Return the name of the same file of a checkpoint, or of another chunk."""
    return name if name in NAMES else next(other for other in stops if other != name)


def fallen_back(
    resumed: trainer.Trainer, sentences: list[str], before: Path, newest: Path, name: str
) -> str:
    """Return what is wrong after a resume that must skip the newest checkpoint."""
    root = newest.parent
    # A damaged manifest may blame another file.
    words = ("is damaged", "" if name == "MANIFEST.json" else name)
    if len(sentences) != 1 or not all(word in sentences[0] for word in words):
        return f"said {sentences}"
    if (
        f"step-{resumed.env_frame:012d}" != before.name
        or not (root / f"rejected-{newest.name}").is_dir()
    ):
        return f"it resumed from frame {resumed.env_frame}"
    if name in NAMES:
        try:
            checkpoint.load(root / f"rejected-{newest.name}")
            return "it loads"
        except Damaged:
            pass
    return ""


def salvaged(
    resumed: trainer.Trainer,
    sentences: list[str],
    name: str,
    stop: int,
    rows: dict[str, torch.Tensor],
) -> str:
    """Return what is wrong after a resume that must drop rows, and nothing else."""
    if (
        len(sentences) != 1
        or name not in sentences[0]
        or f"continues from row {stop}" not in sentences[0]
    ):
        return f"said {sentences}"
    left = resumed.replay.row_count - stop
    if resumed.replay.first_row != stop or len(resumed.replay) != left:
        return f"row {resumed.replay.first_row} is the first that is left"
    found = resumed.replay.peek(1, left)
    if not all(torch.equal(found[field], rows[field][:, -left:]) for field in found):
        return "other rows are left"
    return ""


def restore(run: Path, path: Path, whole: bytes) -> None:
    """Restore the folder."""
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
    place = chance.randrange(len(content.rstrip(b"\0")))  # somewhere after it a byte is not zero
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
