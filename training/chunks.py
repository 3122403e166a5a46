"""A replay on disk: append-only chunks of rows, which are never overwritten, and the manifest
that lists them.

Shapes: N streams (environments).
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from foreground.errors import UserError
from foreground.training import files
from foreground.training.files import Damaged, NotSaved

if TYPE_CHECKING:
    from foreground.training.replay import Replay

CHUNK_ROWS = 1024
VERSION = 1
MOST_ROWS = 1 << 53  # that a stream may ever have had
CHUNK_NAME = re.compile(
    r"(\.tmp-([0-9a-f]{8}-)?)?stream-\d{3}-row-\d{12}-[0-9a-f]{12}\.safetensors"
)
MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError)


class Chunks:
    """The chunks of one replay: {"start", "stop", "files": one listing a stream} each, immutable
    once written.
    """

    def __init__(self):
        self.written: list[dict] = []

    def save(self, replay: "Replay", folder: Path) -> tuple[dict, dict[str, torch.Tensor]]:
        """Write every full chunk that is not on disk; return (manifest, tail) for the checkpoint.

        manifest   plain types: sizes, counters, the sampler's state, and name, bytes and SHA-256 of
                   each chunk
        tail       field -> (N, rows, ...): the rows after the last full chunk

        Call it before `checkpoint.save`.

        Raises: NotSaved when the disk refuses; the next call tries again.
        """
        first = replay.first_row
        self.written = [chunk for chunk in self.written if chunk["stop"] > first]
        start = max(first, self.written[-1]["stop"] if self.written else 0)
        try:
            files.make_folder(folder)
            while (stop := (start // CHUNK_ROWS + 1) * CHUNK_ROWS) <= replay.row_count:
                self.written.append(_write(replay, folder, start, stop))
                start = stop
        except OSError as error:
            raise NotSaved(
                f"the replay was not saved to {folder}: {error.strerror or error}"
            ) from error
        manifest = {
            "version": VERSION,
            "layout": _layout_text(replay),
            "num_envs": replay.num_envs,
            "first": first,
            "count": replay.row_count,
            "tail_start": start,
            "generator": replay.generator_state(),
            "chunks": [dict(chunk, files=list(chunk["files"])) for chunk in self.written],
        }
        streams = [
            replay.rows(stream, start, replay.row_count) for stream in range(replay.num_envs)
        ]
        return manifest, {
            name: torch.stack([rows[name] for rows in streams]) for name in replay.layout
        }

    def load(
        self, replay: "Replay", folder: Path, manifest: dict, tail: dict, salvage: bool = False
    ) -> list[str]:
        """Load what `save` returned: rows, counters and the sampler's state. Return sentences about
        lost rows.

        With `salvage` the rows up to the end of a damaged chunk are dropped, and a sentence says
        so. Another capacity is accepted. After an error the replay is empty.

        Raises: Damaged for a damaged chunk without `salvage`, UserError for a replay of other
        sizes.
        """
        self._forget(replay)
        try:
            _check(replay, manifest)
            lost = damaged_chunks(folder, manifest) if salvage else []
            self._restore(
                replay,
                folder,
                manifest,
                tail,
                max([manifest["first"], *(stop for stop, _ in lost)]),
            )
        except MALFORMED as error:
            self._forget(replay)
            raise Damaged(
                f"the replay's manifest is malformed ({str(error)[:100]})", folder
            ) from error
        return [
            f"{sentence}; the replay continues from row {replay.first_row}" for _, sentence in lost
        ]

    def _forget(self, replay: "Replay") -> None:
        replay.restart()
        self.written = []

    def _restore(
        self, replay: "Replay", folder: Path, manifest: dict, tail: dict, oldest: int
    ) -> None:
        first = max(oldest, manifest["count"] - replay.rows_per_stream)
        chunks = [chunk for chunk in manifest["chunks"] if chunk["stop"] > first]
        for chunk in chunks:
            for stream, listing in enumerate(chunk["files"]):
                rows = files.unpack_tensors(
                    files.read_listed(folder, listing), folder / listing["name"]
                )
                replay.place(stream, chunk["start"], chunk["stop"], first, rows)
        for stream in range(replay.num_envs):
            rows = {name: tail[name][stream] for name in replay.layout}
            replay.place(stream, manifest["tail_start"], manifest["count"], first, rows)
        replay.set_generator_state(manifest["generator"])
        replay.restart(manifest["count"], oldest)
        self.written = chunks


def _write(replay: "Replay", folder: Path, start: int, stop: int) -> dict:
    """Write rows start to stop of every stream, a file each.

    The content is part of the name, so that no file is overwritten.
    """
    listings = []
    for stream in range(replay.num_envs):
        content = files.pack_tensors(replay.rows(stream, start, stop))
        listings.append(files.write_named(folder, f"stream-{stream:03d}-row-{start:012d}", content))
    return {"start": start, "stop": stop, "files": listings}


def _layout_text(replay: "Replay") -> dict[str, str]:
    return {name: f"{list(shape)} {dtype}" for name, (shape, dtype) in replay.layout.items()}


def _check(replay: "Replay", manifest: dict) -> None:
    """Raises: UserError for a replay of other sizes, Damaged for impossible rows."""
    wanted = {"layout": _layout_text(replay), "num_envs": replay.num_envs, "version": VERSION}
    saved = {"layout": _without_empty(manifest["layout"])} | {
        key: manifest.get(key) for key in ("num_envs", "version")
    }
    for key, value in wanted.items():
        if saved[key] != value:
            raise UserError(
                f"the saved replay has {key} {saved[key]}, this run has {value}",
                "replay",
                "resume with the settings of the run folder, or start a new one",
            )
    rows = [manifest[key] for key in ("first", "tail_start", "count")]
    rows += [chunk[key] for chunk in manifest["chunks"] for key in ("start", "stop")]
    if not all(type(row) is int and 0 <= row <= MOST_ROWS for row in rows):
        raise Damaged("a row of the replay has no possible number", "replay")
    stop = manifest["first"]
    for chunk in manifest["chunks"]:
        if (
            not 0 <= chunk["start"] <= stop < chunk["stop"]
            or len(chunk["files"]) != replay.num_envs
        ):
            raise Damaged("the list of replay chunks has a hole", "replay")
        stop = chunk["stop"]
    if not 0 <= manifest["tail_start"] <= stop <= manifest["count"]:
        raise Damaged("the newest rows of the replay are missing", "replay")


def _without_empty(layout: dict[str, str]) -> dict[str, str]:
    """Return a saved layout without fields of size 0: earlier versions stored a condition of that
    size with every row.
    """
    return {name: text for name, text in layout.items() if not text.startswith("[0] ")}


def damaged_chunks(folder: Path | str, manifest: dict) -> list[tuple[int, str]]:
    """Return (row where the chunk stops, a sentence) for each chunk file that is missing or
    altered.

    Its sentences are the extra check of `checkpoint.latest`: a checkpoint counts only with its
    replay.

    Raises: Unreadable where a file cannot be read now.
    """
    found = []
    for chunk in manifest["chunks"]:
        for listing in chunk["files"]:
            try:
                files.verify_listed(Path(folder), listing)
            except Damaged as error:
                found.append((chunk["stop"], f"replay chunk {listing.get('name')}: {error.what}"))
    return found


def remove_unlisted(folder: Path | str, manifests: list[dict]) -> int:
    """Delete chunk files that no given manifest lists; return how many.

    Give the manifests of all kept checkpoints.

    Raises: NotSaved when the file system refuses.
    """
    folder = Path(folder)
    listed = {
        listing["name"]
        for manifest in manifests
        for chunk in manifest["chunks"]
        for listing in chunk["files"]
    }
    ours = (
        [path for path in folder.iterdir() if CHUNK_NAME.fullmatch(path.name)]
        if folder.is_dir()
        else []
    )
    stale = [path for path in ours if path.name not in listed]
    refused = None
    for path in stale:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            refused = error
    if refused:
        raise NotSaved(
            f"old replay chunks in {folder} were not deleted: {refused.strerror or refused}"
        ) from refused
    return len(stale)
