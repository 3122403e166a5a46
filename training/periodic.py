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
        """Return the means since the last call, and begin anew.

        `X/residual` and `X/variance` become `X/explained`, 1 - the ratio of their means: that of single batches
        is thousands below 0 where rewards are rare. It is left out where nothing varied.
        """
        self._fold()
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        for name in [name for name in means if name.endswith("/variance")]:
            of = name.removesuffix("/variance")
            variance, residual = means.pop(name), means.pop(f"{of}/residual")
            if variance > 1e-8:
                means[f"{of}/explained"] = 1 - residual / variance
        return means
