"""Replay: a ring buffer per field and environment stream, in RAM or on the device. `chunks.py`
saves it.

The layout of a row comes from environment and agent. Alignment: action[t] led to image[t];
reward[t] came with image[t]; at is_first[t] action and reward are zero. Rows of a stream are
numbered from 0; row r is in slot r mod `rows_per_stream`.

Shapes: N streams (environments), B batch, T time.
"""

import math
from pathlib import Path

import numpy as np
import torch

from foreground.agents.base import Layout
from foreground.training.chunks import Chunks
from foreground.training.files import Damaged
from foreground.training.rare import RareRewards

RECENT_SHARE = 0.5  # of the sequences, where recent ones are preferred
_NUMPY_TYPES = {torch.uint8: np.uint8, torch.bool: np.bool_, torch.float32: np.float32}
_TORCH_TYPES = {kind: dtype for dtype, kind in _NUMPY_TYPES.items()}


class Replay:
    """Holds the newest `capacity` agent steps of N streams and samples sequences.

    layout     field -> (shape of one row, NumPy type), of environment and agent
    capacity   agent steps over all streams; each stream gets an equal share
    seed       of the sampler, which has its own generator
    device     of the rings and the samples
    rare       share of sequences that are drawn for a rare reward; see `RareRewards.draw`
    recent_steps   half of the sequences start in the newest ones, over all streams; 0: none of them
               is preferred
    """

    def __init__(
        self,
        layout: Layout,
        capacity: int,
        num_envs: int = 1,
        seed: int = 0,
        device: str | torch.device = "cpu",
        rare: float = 0.0,
        recent_steps: int = 0,
    ):
        if num_envs < 1 or capacity < num_envs:
            raise ValueError(f"a replay of {capacity} steps cannot serve {num_envs} streams")
        self.num_envs = num_envs
        self.rows_per_stream = capacity // num_envs
        self.device = torch.device(device)
        self.layout = {
            name: (tuple(shape), _TORCH_TYPES[kind]) for name, (shape, kind) in layout.items()
        }
        # (N, rows, ...); the second view joins streams and rows in one axis, for gathering
        self._rings = {
            name: torch.empty(
                (num_envs, self.rows_per_stream, *shape), dtype=dtype, device=self.device
            )
            for name, (shape, dtype) in self.layout.items()
        }
        self._flat = {
            name: ring.view(num_envs * self.rows_per_stream, *ring.shape[2:])
            for name, ring in self._rings.items()
        }
        self._rng = np.random.default_rng(seed)
        self.rare_share = rare
        self.recent_steps = recent_steps
        self._rare = RareRewards(num_envs, self.rows_per_stream)
        self._count = 0  # rows ever added to each stream
        self._oldest = 0  # first existing row; more than 0 only after a load that lost rows
        self.chunks = Chunks()

    @staticmethod
    def bytes_needed(layout: Layout, capacity: int, num_envs: int = 1) -> int:
        """Return the bytes of a replay, to compare with the free memory before it is built."""
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

    # ---------------------------------------------------------------------------- add and sample

    def add(self, rows: dict) -> None:
        """Append one row to every stream.

        rows   field -> (N, ...), arrays or tensors, as in the layout

        Raises: ValueError when a row breaks the alignment or the layout.
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
                # The tensor's own memory; ten times quicker than copy_.
                self._rings[name].numpy()[:, slot] = value
            else:
                self._rings[name][:, slot].copy_(torch.from_numpy(value))
        self._rare.add(self._count, values["reward"], values["is_first"])
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

    def can_sample(self, length: int, stop: int | None = None) -> bool:
        """Return whether every stream holds a sequence of this length before row `stop`."""
        return self._stop(stop) - self.first_row >= length

    def _stop(self, stop: int | None) -> int:
        return self._count if stop is None else stop

    def sample(
        self, batch_size: int, length: int, stop: int | None = None
    ) -> dict[str, torch.Tensor]:
        """Draw B sequences of T rows before row `stop`.

        Every start of every stream is equally likely, with two exceptions: with `recent_steps` half
        of the sequences start in the newest ones, and with `rare` some are drawn for a rare reward.

        Returns field -> (B, T, ...). Rows of a sequence are consecutive in one stream, and never
        cross the write head. They may cross episodes; is_first marks the borders.

        Raises: ValueError when no stream holds T rows.
        """
        starts = self._stop(stop) - self.first_row - length + 1
        if starts < 1:
            raise ValueError(
                f"the replay holds {starts + length - 1} rows a stream, {length} are asked for"
            )
        stream, start = np.divmod(
            self._rng.integers(0, self.num_envs * starts, size=batch_size), starts
        )
        if self.recent_steps:
            window = min(starts, math.ceil(self.recent_steps / self.num_envs))
            recent = starts - window + self._rng.integers(0, window, size=batch_size)
            start = np.where(self._rng.random(batch_size) < RECENT_SHARE, recent, start)
        start = self.first_row + start
        if self.rare_share:
            bounds = self.first_row, self._stop(stop)
            held = self._count - self.first_row
            stream, start = self._rare.draw(
                self._rng, self.rare_share, (stream, start), bounds, length, held
            )
        return self._sequences(stream, start, length)

    def peek(self, count: int, length: int) -> dict[str, torch.Tensor]:
        """Return the newest sequences of T rows, `count` of them over all streams, in the form of
        `sample`.

        They are for images. The sampler's generator is not used, so that a run stays the same.

        Raises: ValueError like `sample`.
        """
        if not self.can_sample(length):
            raise ValueError(
                f"the replay holds {self._count - self.first_row} rows a stream, {length} are "
                "asked for"
            )
        back, stream = np.divmod(np.arange(count), self.num_envs)
        return self._sequences(
            stream, np.maximum(self.first_row, self._count - (back + 1) * length), length
        )

    def running(self) -> int:
        """Return the first row of the oldest unfinished episode of all streams."""
        slots = torch.arange(self.first_row, self._count) % self.rows_per_stream
        begun = self._rings["is_first"][:, slots.to(self.device)].cpu()  # (N, rows)
        # Of each stream's newest first row.
        last = begun.shape[1] - 1 - begun.flip(1).int().argmax(1)
        return self.first_row + int(last[begun.any(1)].min()) if begun.any() else self.first_row

    def newest(self, stream: int, length: int) -> dict[str, torch.Tensor]:
        """Return the newest rows of one stream, field -> (1, T, ...).

        There are fewer where the ring is shorter.
        """
        start = max(self.first_row, self._count - length)
        return self._sequences(np.array([stream]), np.array([start]), self._count - start)

    def _sequences(
        self, stream: np.ndarray, start: np.ndarray, length: int
    ) -> dict[str, torch.Tensor]:
        """Gather T rows from each (stream, first row), both (B,)."""
        rows = start[:, None] + np.arange(length)
        slots = stream[:, None] * self.rows_per_stream + rows % self.rows_per_stream
        index = torch.from_numpy(slots.reshape(-1)).to(self.device)
        return {
            name: ring.index_select(0, index).view(len(stream), length, *ring.shape[1:])
            for name, ring in self._flat.items()
        }

    def generator_state(self) -> dict:
        """Return the state of the sampler's generator: plain ints and strings."""
        return dict(self._rng.bit_generator.state)

    def set_generator_state(self, state: dict) -> None:
        """Load a state that `generator_state` returned."""
        self._rng.bit_generator.state = state

    # ---------------------------------------------------------------------------- save and load

    def save(self, folder: Path | str) -> tuple[dict, dict[str, torch.Tensor]]:
        """Write full chunks to a folder; return (manifest, tail). See `Chunks.save`."""
        return self.chunks.save(self, Path(folder))

    def load(
        self, folder: Path | str, manifest: dict, tail: dict, salvage: bool = False
    ) -> list[str]:
        """Load what `save` returned; return sentences about lost rows. See `Chunks.load`."""
        return self.chunks.load(self, Path(folder), manifest, tail, salvage)

    def restart(self, count: int = 0, oldest: int = 0) -> None:
        """Set how many rows were ever added, and the number of the oldest existing row.

        The rows are in their places already.
        """
        self._count = count
        self._oldest = oldest
        self._rare = RareRewards(self.num_envs, self.rows_per_stream)
        slots = torch.arange(self.first_row, count) % self.rows_per_stream
        reward, first = (
            self._rings[name][:, slots.to(self.device)].cpu().numpy()
            for name in ("reward", "is_first")
        )  # (N, rows)
        self._rare.fill(self.first_row, reward, first)

    def rows(self, stream: int, start: int, stop: int) -> dict[str, torch.Tensor]:
        """Return rows start to stop of a stream, on the CPU."""
        slots = (torch.arange(start, stop) % self.rows_per_stream).to(self.device)
        return {
            name: ring[stream].index_select(0, slots).cpu() for name, ring in self._rings.items()
        }

    def place(
        self, stream: int, start: int, stop: int, first: int, rows: dict[str, torch.Tensor]
    ) -> None:
        """Put rows start to stop of a stream into their slots, except those before `first`.

        Raises: Damaged where they do not have this layout.
        """
        for name, (shape, dtype) in self.layout.items():
            if (
                name not in rows
                or rows[name].shape != (stop - start, *shape)
                or rows[name].dtype != dtype
            ):
                raise Damaged(
                    f"the rows saved as {name} are not of this replay's shape", f"row {start}"
                )
        skip = max(0, first - start)
        slots = (torch.arange(start + skip, stop) % self.rows_per_stream).to(self.device)
        for name, ring in self._rings.items():
            ring[stream][slots] = rows[name][skip:].to(self.device)
