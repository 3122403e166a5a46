"""Rows with a rare reward, so that the replay can draw them more often.

A reward is rare where each of the ten steps before it, of the same episode, has none. A uniform
sample seldom holds such a row, and the model then learns little of what leads to it. UNREAL
(arXiv 1611.05397) balances its samples for reward prediction likewise.

Shapes: N streams, B batch.
"""

from bisect import bisect_left

import numpy as np

QUIET = 10  # steps of the same episode, without a reward, before a rare one
MOST = 10  # times as often as in a uniform sample, so that the model does not memorise a few events


class RareRewards:
    """The numbers of these rows, for each of N streams, in rising order.

    capacity   rows that a stream holds
    """

    def __init__(self, streams: int, capacity: int):
        self.rows: list[list[int]] = [[] for _ in range(streams)]
        self._last = [-1] * streams  # newest row with a reward, or first of an episode
        self._paid = np.zeros((streams, capacity), bool)  # whether each row has a reward
        self._number_paid = 0

    def add(self, row: int, reward: np.ndarray, is_first: np.ndarray) -> None:
        """Take in a row of every stream: (N,), (N,)."""
        kept = self._paid[:, row % self._paid.shape[1]]
        self._number_paid += int((reward != 0).sum()) - int(kept.sum())
        kept[:] = reward != 0
        for stream in np.flatnonzero((reward != 0) | is_first):
            if not is_first[stream] and row - self._last[stream] > QUIET:
                self.rows[stream].append(row)
            self._last[stream] = row

    def fill(self, first: int, reward: np.ndarray, is_first: np.ndarray) -> None:
        """Take in the rows from `first` on, (N, rows) each, as `add` would one by one."""
        rows = np.arange(first, first + reward.shape[1])
        self._paid[:, rows % self._paid.shape[1]] = reward != 0
        self._number_paid = int(self._paid.sum())
        for stream, own in enumerate(self.rows):
            events = rows[(reward[stream] != 0) | is_first[stream]]
            quiet = np.diff(events, prepend=-1) > QUIET
            own.extend(events[quiet & ~is_first[stream, events - first]].tolist())
            self._last[stream] = int(events[-1]) if len(events) else -1

    def draw(
        self,
        generator: np.random.Generator,
        share: float,
        starts: tuple[np.ndarray, np.ndarray],
        bounds: tuple[int, int],
        length: int,
        count: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Replace some of the starts of sequences of T rows by starts of sequences with a rare
        reward.

        share    of the sequences, times the share of rows without a reward; at most MOST times the
                 share of a uniform sample
        starts   streams and first rows of the other sequences, (B,) each
        bounds   first row of a stream that may be drawn, and the row after the last
        length   T, at least 2: a rare reward is not the first row of a sequence
        count    rows that each stream holds

        Returns streams and first rows, (B,) each.
        """
        first, stop = bounds
        stream, start = starts
        # The rows before it must be there, so that a resumed run finds the same rows.
        ranges = [(bisect_left(rows, first + QUIET), bisect_left(rows, stop)) for rows in self.rows]
        counts = np.array([end - begin for begin, end in ranges])
        number = counts.sum()
        streams = len(self.rows)
        unpaid = 1 - self._number_paid / (streams * count)
        uniform = number * (length - 1) / (streams * (stop - first - length + 1))
        chosen = generator.random(len(start)) < min(share * unpaid, MOST * uniform)
        if not number or length < 2:
            return starts
        stream, start = stream.copy(), start.copy()
        for index in np.flatnonzero(chosen):
            place = int(generator.integers(number))
            own = int(np.searchsorted(counts.cumsum(), place, side="right"))
            row = self.rows[own][ranges[own][0] + place - int(counts[:own].sum())]
            earliest, latest = max(first, row - length + 1), min(row - 1, stop - length)
            stream[index] = own
            start[index] = int(generator.integers(earliest, latest + 1))
        return stream, start
