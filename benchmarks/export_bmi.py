"""Export samples of benchmark-mi's tasks (Czyz et al. 2023) for benchmarks/bounds.py.

    python -m benchmarks.export_bmi FILE

Run it once, in a separate environment, since the package needs numpy 1 and an old jax: pip install
benchmark-mi==0.1.3 jax==0.4.30 jaxlib==0.4.30. Samples have half precision: its rounding is a
hundredth of the tasks' noise.
"""

import sys

import numpy as np
from bmi.benchmark import BENCHMARK_TASKS

TASKS = {  # none of them Gaussian in what is seen
    "uniform": "1v1-additive-0.1",
    "wiggly": "wiggly-1v1-normal-0.75",
    "swiss_roll": "swissroll_x-normal_cdf-1v1-normal-0.75",
    "half_cube": "half_cube-multinormal-sparse-5-5-2-2.0",
    "spiral": "spiral-multinormal-sparse-5-5-2-2.0",
    "student": "asinh-student-identity-5-5-2",
}
SAMPLES = 10_000


def main(path: str) -> None:
    columns = {}
    for name, key in TASKS.items():
        task = BENCHMARK_TASKS[key]
        left, right = (np.asarray(x) for x in task.sample(SAMPLES, 0))  # (n, X), (n, Y)
        columns[f"{name}.left"], columns[f"{name}.right"] = (
            left.astype(np.float16),
            right.astype(np.float16),
        )
        columns[f"{name}.nats"] = np.float64(task.mutual_information)
    np.savez_compressed(path, **columns)


if __name__ == "__main__":
    main(sys.argv[1])
