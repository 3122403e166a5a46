"""What training does now and then: when it is due, and the means of what was measured meanwhile."""

import torch


class Every:
    """Whether a clock has passed a multiple of `period` since something was last done; never for period 0.

    done   the clock when it was last done
    """

    def __init__(self, period: int, done: int):
        self.period, self.done = period, done

    def due(self, now: int) -> bool:
        return bool(self.period) and now // self.period != self.done // self.period

    def __call__(self, now: int) -> bool:
        """`due`, and done if it was."""
        due = self.due(now)
        if due:
            self.done = now
        return due


class Metrics:
    """Means of metrics between two lines; tensors are fetched from the device once a line, or every MOST_ROWS updates."""

    MOST_ROWS = 256

    def __init__(self):
        self.rows: list[dict[str, torch.Tensor]] = []
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, row: dict[str, torch.Tensor]) -> None:
        self.rows.append(row)
        if len(self.rows) >= self.MOST_ROWS:
            self._fold()

    def _fold(self) -> None:
        kinds: dict[tuple[str, ...], list[dict]] = {}  # not every update has every metric
        for row in self.rows:
            kinds.setdefault(tuple(row), []).append(row)
        for names, rows in kinds.items():
            table = torch.stack([torch.stack([row[name].float() for name in names]) for row in rows])
            for name, total in zip(names, table.sum(0).tolist()):
                self.sums[name] = self.sums.get(name, 0.0) + total
                self.counts[name] = self.counts.get(name, 0) + len(rows)
        self.rows = []

    def flush(self) -> dict[str, float]:
        self._fold()
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means
