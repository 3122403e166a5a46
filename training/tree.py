"""Nested states as a tree of JSON and flat tensors, without pickle."""

import math
import re
from typing import Any

import numpy as np
import torch

TENSOR_NAME = re.compile(r"[A-Za-z0-9._/-]{1,512}")
MAX_DEPTH = 100


def flatten(value: Any, place: str, tensors: dict[str, torch.Tensor], depth: int = 0) -> Any:
    """Return a JSON tree of the state; tensors and arrays go to `tensors`, the tree holds their
    names.

    Plain JSON values stay; any other value is an object with one key that names its type.
    """
    if depth > MAX_DEPTH:
        raise TypeError(f"{place[:80]}... is nested too deeply, or holds itself")
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, torch.Tensor):
        return {"tensor": _put(value.detach(), place, tensors)}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        flat = torch.from_numpy(np.frombuffer(value.tobytes(), dtype=np.uint8).copy())
        return {
            "array": _put(flat, place, tensors),
            "dtype": value.dtype.str,
            "shape": list(value.shape),
        }
    if isinstance(value, list):
        return [flatten(each, f"{place}/{i}", tensors, depth + 1) for i, each in enumerate(value)]
    if isinstance(value, tuple):
        return {
            "tuple": [
                flatten(each, f"{place}/{i}", tensors, depth + 1) for i, each in enumerate(value)
            ]
        }
    if isinstance(value, dict):
        wrong = [key for key in value if type(key) not in (str, int)]
        if wrong:
            raise TypeError(f"the key {wrong[0]!r} at {place} is neither a string nor an int")
        return {
            "dict": [
                [key, flatten(each, f"{place}/{key}", tensors, depth + 1)]
                for key, each in value.items()
            ]
        }
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__} (at {place})")


def _put(tensor: torch.Tensor, place: str, tensors: dict[str, torch.Tensor]) -> str:
    """Store a tensor under its place, without characters that names cannot have; return it."""
    name = plain = re.sub(r"[^A-Za-z0-9._/-]", "_", place)[:480]
    number = len(tensors)
    # Two places may have one plain name, and a place may look like a name with a number.
    while name in tensors:
        name, number = f"{plain}.{number}", number + 1
    tensors[name] = tensor
    return name


def restore(node: Any, tensors: dict[str, torch.Tensor], unused: set[str]) -> Any:
    """Invert `flatten`.

    Raises: KeyError, TypeError or ValueError for a tree that `flatten` does not produce.
    """
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, list):
        return [restore(each, tensors, unused) for each in node]
    if set(node) == {"float"}:
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[node["float"]]
    if set(node) == {"tensor"}:
        return _get(node["tensor"], tensors, unused)
    if set(node) == {"tuple"}:
        return tuple(restore(each, tensors, unused) for each in node["tuple"])
    if set(node) == {"dict"}:
        pairs = [(key, restore(each, tensors, unused)) for key, each in node["dict"]]
        if len({key for key, _ in pairs}) < len(pairs) or any(
            type(key) not in (str, int) for key, _ in pairs
        ):
            raise ValueError("keys that a state cannot have")
        return dict(pairs)
    if set(node) == {"array", "dtype", "shape"} and re.fullmatch(
        r"[<>|][biufc]\d{1,2}", node["dtype"]
    ):
        flat = _get(node["array"], tensors, unused)
        if flat.dtype != torch.uint8:
            raise ValueError("an array that is not of bytes")
        return (
            np.frombuffer(flat.numpy().tobytes(), dtype=np.dtype(node["dtype"]))
            .reshape(node["shape"])
            .copy()
        )
    raise ValueError("a node of no known kind")


def _get(name: str, tensors: dict[str, torch.Tensor], unused: set[str]) -> torch.Tensor:
    if not TENSOR_NAME.fullmatch(name) or name not in unused:
        raise KeyError(f"no tensor {name[:80]}")
    unused.remove(name)
    return tensors[name]
