"""Nested states of checkpoints, leaf by leaf."""

import hashlib

import numpy as np
import torch


def leaves_of(state, place: str = "") -> list[tuple[str, object]]:
    """Return (place, value) of every leaf of nested dicts and lists."""
    pairs = (
        state.items()
        if isinstance(state, dict)
        else enumerate(state)
        if isinstance(state, list | tuple)
        else None
    )
    if pairs is None:
        return [(place, state)]
    return [leaf for key, value in pairs for leaf in leaves_of(value, f"{place}/{key}")]


def described(state: dict) -> dict[str, str]:
    """Return place -> value as a text."""
    return {place: text_of(value) for place, value in leaves_of(state)}


def text_of(value) -> str:
    """Return a value as a text; of an array type, shape and a hash."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
    return repr(value)


def differing(one: dict[str, str], other: dict[str, str]) -> str:
    """Return where two descriptions differ."""
    places = [place for place in sorted({*one, *other}) if one.get(place) != other.get(place)]
    return f"{len(places)} of {len(one)} differ, {', '.join(places[:6])}"


def node_at(node, place: str):
    """Return the node at a place of `leaves_of`."""
    if not place:
        return node
    pairs = dict(node.items() if isinstance(node, dict) else enumerate(node))
    key = _key(pairs, place)
    return node_at(pairs[key], place[len(str(key)) + 1 :])


def put(node, place: str, value):
    """Return a copy with another value at a place of `leaves_of`; other parts are shared."""
    if not place:
        return value
    pairs = dict(node.items() if isinstance(node, dict) else enumerate(node))
    key = _key(pairs, place)
    pairs[key] = put(pairs[key], place[len(str(key)) + 1 :], value)
    return pairs if isinstance(node, dict) else type(node)(pairs.values())


def _key(pairs: dict, place: str):
    """Return the key that a place starts with; keys may contain slashes."""
    return next(key for key in pairs if place == f"/{key}" or place.startswith(f"/{key}/"))
