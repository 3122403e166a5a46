"""Periodic work of training, and means of metrics between two log lines."""

import torch


class Every:
    """Whether a clock has passed a multiple of `period` since the last time; never for period 0.

    done   the clock at the last time
    """

    def __init__(self, period: int, done: int):
        self.period = period
        self.done = done

    def due(self, now: int) -> bool:
        return bool(self.period) and now // self.period != self.done // self.period

    def __call__(self, now: int) -> bool:
        """Return `due`, and mark it as done if it was due."""
        due = self.due(now)
        if due:
            self.done = now
        return due


class Metrics:
    """Means of metrics between two log lines.

    Tensors are copied from the device once per line, or every MOST_ROWS updates.
    """

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
            table = torch.stack(
                [torch.stack([row[name].float() for name in names]) for row in rows]
            )
            for name, total in zip(names, table.sum(0).tolist()):
                self.sums[name] = self.sums.get(name, 0.0) + total
                self.counts[name] = self.counts.get(name, 0) + len(rows)
        self.rows = []

    def flush(self) -> dict[str, float]:
        """Return the means since the last call, and reset.

        `X/residual` and `X/variance` become `X/explained`, 1 - the ratio of their means. Where
        rewards are rare, the ratio of single batches would be thousands below 0. It is left out
        where the variance is 0.
        """
        self._fold()
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums = {}
        self.counts = {}
        for name in [name for name in means if name.endswith("/variance")]:
            of = name.removesuffix("/variance")
            variance = means.pop(name)
            residual = means.pop(f"{of}/residual")
            if variance > 1e-8:
                means[f"{of}/explained"] = 1 - residual / variance
        return means
