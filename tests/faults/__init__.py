"""Faults for ``python -m tests.faults``: each is a generator of tries without end.

A try is survived when nothing was lost: the fault was detected, the newest good state is used, and
an error is one line. Otherwise the try says what was lost. Each fault has its own folder, empty at
the start, and its own seeded random numbers.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

Tries = Iterator[str]  # "" for a try that was survived, otherwise what was lost
Fault = Callable[[Path, random.Random], Tries]
