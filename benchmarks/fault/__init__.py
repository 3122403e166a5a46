"""Classes of faults for benchmarks/faults.py: each a function that tries one after another, for ever.

A try is survived when nothing was lost: the fault was noticed, the newest good state is used, the mistake is one line. What was
lost is said in words. Each has a folder of its own, empty at the start, and random numbers of its own seed.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

Tries = Iterator[str]  # "" for one that was survived, else what was lost
Fault = Callable[[Path, random.Random], Tries]
