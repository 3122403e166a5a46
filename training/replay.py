"""Replay: one uint8 ring per environment stream, in RAM or on the device, saved as append-only chunks.

Letters: N streams (environments), B batch, T time. What a row holds is a layout, given by environment and agent.
Alignment: action[t] led to image[t]; reward[t] came with image[t]; at is_first[t] action and reward are zero.
Rows of a stream are numbered from 0 for ever; row r lies in slot r mod `rows_per_stream`.
"""

import re
from pathlib import Path

import numpy as np
import torch

from foreground.agents.base import Layout
from foreground.errors import UserError
from foreground.training import files
from foreground.training.files import Damaged, NotSaved

CHUNK_ROWS = 1024
VERSION = 1
MOST_ROWS = 1 << 53  # that a stream may ever have had
CHUNK_NAME = re.compile(r"(\.tmp-([0-9a-f]{8}-)?)?stream-\d{3}-row-\d{12}-[0-9a-f]{12}\.safetensors")
_NUMPY_TYPES = {torch.uint8: np.uint8, torch.bool: np.bool_, torch.float32: np.float32}
_TORCH_TYPES = {kind: dtype for dtype, kind in _NUMPY_TYPES.items()}


class Replay:
    """Holds the newest `capacity` agent steps of N streams and samples sequences from them, uniformly.

    layout     field -> (shape of one row, NumPy type): what the environment and the agent store
    capacity   agent steps over all streams; each stream gets an equal share
    seed       of the sampler, which has its own generator
    device     where the rings lie and where samples come out
    """

    def __init__(
        self,
        layout: Layout,
        capacity: int,
        num_envs: int = 1,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ):
        if num_envs < 1 or capacity < num_envs:
            raise ValueError(f"a replay of {capacity} steps cannot serve {num_envs} streams")
        self.num_envs = num_envs
        self.rows_per_stream = capacity // num_envs
        self.device = torch.device(device)
        self.layout = {name: (tuple(shape), _TORCH_TYPES[kind]) for name, (shape, kind) in layout.items()}
        # (N, rows, ...); the second view has streams and rows in one axis, for gathering
        self._rings = {
            name: torch.empty((num_envs, self.rows_per_stream, *shape), dtype=dtype, device=self.device)
            for name, (shape, dtype) in self.layout.items()
        }
        self._flat = {name: ring.view(num_envs * self.rows_per_stream, *ring.shape[2:]) for name, ring in self._rings.items()}
        self._rng = np.random.default_rng(seed)
        self._count = 0  # rows ever added to each stream
        self._oldest = 0  # no row before this one exists (more than 0 only after a load that lost rows)
        self._chunks: list[dict] = []  # written and immutable: {"start", "stop", "files": one listing a stream}

    @staticmethod
    def bytes_needed(layout: Layout, capacity: int, num_envs: int = 1) -> int:
        """Return the bytes of a replay, to be compared with the free memory before it is built."""
        row = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in layout.values())
        return row * (capacity // num_envs) * num_envs

    @property
    def nbytes(self) -> int:
        """Bytes of all rings."""
        return sum(ring.nbytes for ring in self._rings.values())

    @property
    def first_row(self) -> int:
        """Number of the oldest row that a stream still holds."""
        return max(self._oldest, self._count - self.rows_per_stream)

    @property
    def row_count(self) -> int:
        """Rows ever added to a stream; the next row gets this number."""
        return self._count

    def __len__(self) -> int:
        """Agent steps held, over all streams."""
        return (self._count - self.first_row) * self.num_envs

    # ------------------------------------------------------------------------------------------------ add and sample

    def add(self, rows: dict) -> None:
        """Append one row to every stream.

        rows   field -> (N, ...), arrays or tensors, as in the layout. Raises ValueError when a row breaks the alignment
               or the layout.
        """
        values = {name: self._checked(name, rows) for name in self.layout}
        first = values["is_first"]
        if first.any() and (values["reward"][first].any() or values["action"][first].any()):
            raise ValueError("action and reward must be zero where is_first is set")
        unknown = set(rows) - set(self.layout)
        if unknown:
            raise ValueError(f"rows hold fields that the replay does not store: {sorted(unknown)}")
        slot = self._count % self.rows_per_stream
        for name, value in values.items():
            if self.device.type == "cpu":
                self._rings[name].numpy()[:, slot] = value  # the tensor's own memory; ten times quicker than copy_
            else:
                self._rings[name][:, slot].copy_(torch.from_numpy(value))
        self._count += 1

    def _checked(self, name: str, rows: dict) -> np.ndarray:
        shape, dtype = self.layout[name]
        value = np.asarray(rows[name])
        if value.shape != (self.num_envs, *shape):
            raise ValueError(f"{name} has shape {value.shape}, expected {(self.num_envs, *shape)}")
        wanted = _NUMPY_TYPES[dtype]
        if wanted != np.float32 and value.dtype != wanted:
            raise ValueError(f"{name} has type {value.dtype}, expected {np.dtype(wanted)}")
        return np.ascontiguousarray(value, wanted)

    def can_sample(self, length: int) -> bool:
        """True when every stream holds at least one sequence of this length."""
        return self._count - self.first_row >= length

    def sample(self, batch_size: int, length: int) -> dict[str, torch.Tensor]:
        """Draw B sequences of T rows, uniformly over every start in every stream.

        Returns field -> (B, T, ...). Rows of a sequence follow each other in one stream, never over the write head; they
        may cross episodes (is_first marks where). Raises ValueError when no stream holds T rows.
        """
        starts = self._count - self.first_row - length + 1
        if starts < 1:
            raise ValueError(f"the replay holds {self._count - self.first_row} rows a stream, {length} are asked for")
        stream, start = np.divmod(self._rng.integers(0, self.num_envs * starts, size=batch_size), starts)
        return self._sequences(stream, self.first_row + start, length)

    def peek(self, count: int, length: int) -> dict[str, torch.Tensor]:
        """The newest sequences of T rows, `count` of them over all streams, as `sample` gives them; for pictures.

        The sampler's generator is left alone, so that looking changes no run. Raises ValueError like `sample`.
        """
        if not self.can_sample(length):
            raise ValueError(f"the replay holds {self._count - self.first_row} rows a stream, {length} are asked for")
        back, stream = np.divmod(np.arange(count), self.num_envs)
        return self._sequences(stream, np.maximum(self.first_row, self._count - (back + 1) * length), length)

    def _sequences(self, stream: np.ndarray, start: np.ndarray, length: int) -> dict[str, torch.Tensor]:
        """Gather T rows from each (stream, first row), both (B,)."""
        rows = start[:, None] + np.arange(length)
        slots = stream[:, None] * self.rows_per_stream + rows % self.rows_per_stream
        index = torch.from_numpy(slots.reshape(-1)).to(self.device)
        return {
            name: ring.index_select(0, index).view(len(stream), length, *ring.shape[1:]) for name, ring in self._flat.items()
        }

    def generator_state(self) -> dict:
        """State of the sampler's generator: plain ints and strings."""
        return self._rng.bit_generator.state

    def set_generator_state(self, state: dict) -> None:
        """Take back what `generator_state` gave."""
        self._rng.bit_generator.state = state

    # ------------------------------------------------------------------------------------------------- save and load

    def save(self, folder: Path | str) -> tuple[dict, dict[str, torch.Tensor]]:
        """Write every full chunk that is not on disk yet; return (manifest, tail) for the checkpoint to carry.

        manifest  plain types: sizes, counters, the sampler's state, and name, bytes and SHA-256 of each chunk
        tail      field -> (N, rows, ...): the rows after the last full chunk
        Call it before `checkpoint.save`. Raises NotSaved when the disk refuses; the next call tries again.
        """
        folder = Path(folder)
        first = self.first_row
        self._chunks = [chunk for chunk in self._chunks if chunk["stop"] > first]
        start = max(first, self._chunks[-1]["stop"] if self._chunks else 0)
        try:
            files.make_folder(folder)
            while (stop := (start // CHUNK_ROWS + 1) * CHUNK_ROWS) <= self._count:
                self._chunks.append(self._write_chunk(folder, start, stop))
                start = stop
        except OSError as error:
            raise NotSaved(f"the replay was not saved to {folder}: {error.strerror or error}") from error
        manifest = {
            "version": VERSION,
            "layout": self._layout_text(),
            "num_envs": self.num_envs,
            "first": first,
            "count": self._count,
            "tail_start": start,
            "generator": self.generator_state(),
            "chunks": [dict(chunk, files=list(chunk["files"])) for chunk in self._chunks],
        }
        streams = [self._rows(stream, start, self._count) for stream in range(self.num_envs)]
        return manifest, {name: torch.stack([rows[name] for rows in streams]) for name in self.layout}

    def _write_chunk(self, folder: Path, start: int, stop: int) -> dict:
        """Rows start to stop of every stream, one file each, named by its content too: never written over."""
        listings = []
        for stream in range(self.num_envs):
            content = files.pack_tensors(self._rows(stream, start, stop))
            listings.append(files.write_named(folder, f"stream-{stream:03d}-row-{start:012d}", content))
        return {"start": start, "stop": stop, "files": listings}

    def _rows(self, stream: int, start: int, stop: int) -> dict[str, torch.Tensor]:
        slots = (torch.arange(start, stop) % self.rows_per_stream).to(self.device)
        return {name: ring[stream].index_select(0, slots).cpu() for name, ring in self._rings.items()}

    def load(self, folder: Path | str, manifest: dict, tail: dict, salvage: bool = False) -> list[str]:
        """Take back what `save` gave: same rows, same counters, same sampler. Returns sentences about lost rows.

        A damaged chunk raises Damaged; with `salvage` the rows up to its end are given up instead and a sentence says
        so. A replay of other sizes raises UserError; another capacity is welcome. After an error the replay is empty.
        """
        folder = Path(folder)
        self._count, self._oldest, self._chunks = 0, 0, []
        try:
            self._check_manifest(manifest)
            lost = damaged_chunks(folder, manifest) if salvage else []
            self._restore(folder, manifest, tail, max([manifest["first"], *(stop for stop, _ in lost)]))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            self._count, self._oldest, self._chunks = 0, 0, []
            raise Damaged(f"the replay's manifest is malformed ({str(error)[:100]})", folder) from error
        return [f"{sentence}; the replay goes on from row {self.first_row}" for _, sentence in lost]

    def _restore(self, folder: Path, manifest: dict, tail: dict, oldest: int) -> None:
        first = max(oldest, manifest["count"] - self.rows_per_stream)
        chunks = [chunk for chunk in manifest["chunks"] if chunk["stop"] > first]
        for chunk in chunks:
            for stream, listing in enumerate(chunk["files"]):
                rows = files.unpack_tensors(files.read_listed(folder, listing), folder / listing["name"])
                self._place(stream, chunk["start"], chunk["stop"], first, rows)
        for stream in range(self.num_envs):
            rows = {name: tail[name][stream] for name in self.layout}
            self._place(stream, manifest["tail_start"], manifest["count"], first, rows)
        self.set_generator_state(manifest["generator"])
        self._count, self._oldest, self._chunks = manifest["count"], oldest, chunks

    def _place(self, stream: int, start: int, stop: int, first: int, rows: dict[str, torch.Tensor]) -> None:
        """Put rows start to stop of a stream into their slots, leaving out those before row `first`."""
        for name, (shape, dtype) in self.layout.items():
            if name not in rows or rows[name].shape != (stop - start, *shape) or rows[name].dtype != dtype:
                raise Damaged(f"the rows saved as {name} are not of this replay's shape", f"row {start}")
        skip = max(0, first - start)
        slots = (torch.arange(start + skip, stop) % self.rows_per_stream).to(self.device)
        for name, ring in self._rings.items():
            ring[stream][slots] = rows[name][skip:].to(self.device)

    def _layout_text(self) -> dict[str, str]:
        return {name: f"{list(shape)} {dtype}" for name, (shape, dtype) in self.layout.items()}

    def _check_manifest(self, manifest: dict) -> None:
        wanted = {"layout": self._layout_text(), "num_envs": self.num_envs, "version": VERSION}
        saved = {"layout": _without_empty(manifest["layout"])} | {key: manifest.get(key) for key in ("num_envs", "version")}
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
            if not 0 <= chunk["start"] <= stop < chunk["stop"] or len(chunk["files"]) != self.num_envs:
                raise Damaged("the list of replay chunks has a hole", "replay")
            stop = chunk["stop"]
        if not 0 <= manifest["tail_start"] <= stop <= manifest["count"]:
            raise Damaged("the newest rows of the replay are missing", "replay")


def _without_empty(layout: dict[str, str]) -> dict[str, str]:
    """Return a saved layout without fields of size 0: earlier versions stored a condition of that size with every row."""
    return {name: text for name, text in layout.items() if not text.startswith("[0] ")}


def damaged_chunks(folder: Path | str, manifest: dict) -> list[tuple[int, str]]:
    """(row where the chunk stops, a sentence) for each chunk file that is missing or altered; empty when all is well.

    Give its sentences to `checkpoint.latest` as the extra check: then a checkpoint counts only with its replay.
    Raises Unreadable where one cannot be read this time.
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
    """Delete chunk files that none of the given manifests (those of all kept checkpoints) lists; return how many.

    Raises NotSaved when the file system refuses.
    """
    folder = Path(folder)
    listed = {listing["name"] for manifest in manifests for chunk in manifest["chunks"] for listing in chunk["files"]}
    ours = [path for path in folder.iterdir() if CHUNK_NAME.fullmatch(path.name)] if folder.is_dir() else []
    stale, refused = [path for path in ours if path.name not in listed], None
    for path in stale:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            refused = error
    if refused:
        raise NotSaved(f"old replay chunks in {folder} were not deleted: {refused.strerror or refused}") from refused
    return len(stale)
