"""A function of tensors, recorded once as a CUDA graph and then replayed: one launch in place of thousands of small ones.

An update is some ten thousand kernels of a few microseconds each: launched one by one from Python, the device waits.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from foreground import ranks

PLAIN = 3  # calls of each sizes that run as they are: libraries set up what a recording must not


class Recording:
    """One CUDA graph: the memory that it reads, and the memory that it writes at each replay."""

    def __init__(self, function: Callable, inputs: list[Tensor | None], tree: TreeSpec):
        self.inputs = [tensor if tensor is None else tensor.clone() for tensor in inputs]
        self.graph = torch.cuda.CUDAGraph()
        # With ranks another thread watches NCCL, and may ask the device for events meanwhile.
        mode = "thread_local" if ranks.number() > 1 else "global"
        with torch.cuda.graph(self.graph, capture_error_mode=mode):
            self.outputs, self.row = self.written(function, tree)

    def written(self, function: Callable, tree: TreeSpec) -> tuple[list[Tensor | None], Tensor | None]:
        """What comes out, flat, and all numbers of it in a row, (numbers,) or none."""
        outputs, self.tree = tree_flatten(function(*tree_unflatten(self.inputs, tree)))
        self.numbers = [index for index, output in enumerate(outputs) if output is not None and not output.dim()]
        return outputs, torch.stack([outputs[index].float() for index in self.numbers]) if self.numbers else None

    def replay(self, inputs: list[Tensor | None]):
        """The outputs for these inputs."""
        for mine, given in zip(self.inputs, inputs):
            if mine is not None:
                mine.copy_(given)
        self.graph.replay()
        outputs = list(self.outputs)
        if self.row is not None:
            for index, number in zip(self.numbers, self.row.clone().unbind()):
                outputs[index] = number
        return tree_unflatten(outputs, self.tree)


class Recorded:
    """The function, replayed from its fourth call on with tensors of the same sizes.

    function   of tensors, in any nest of tuples and dicts, to the same. Nothing in it may wait for the device or take a size or
               a turn from a value; what it changes in place, it changes at each replay.

    Numbers that come out may be kept; they are float32. Larger tensors are written over by the next call.
    """

    def __init__(self, function: Callable):
        self.function = function
        self.calls: dict[tuple, int] = {}
        self.recordings: dict[tuple, Recording] = {}

    def __call__(self, *inputs):
        leaves, tree = tree_flatten(inputs)
        # As they will lie in memory when they are recorded: what is compiled must not meet others then.
        leaves = [leaf if leaf is None else leaf.contiguous() for leaf in leaves]
        sizes = (tree, *(leaf if leaf is None else (leaf.shape, leaf.dtype) for leaf in leaves))
        self.calls[sizes] = self.calls.get(sizes, 0) + 1
        if self.calls[sizes] <= PLAIN:
            return self.function(*tree_unflatten(leaves, tree))
        if sizes not in self.recordings:
            self.recordings[sizes] = Recording(self.function, leaves, tree)
        return self.recordings[sizes].replay(leaves)


def uncompiled(function: Callable) -> Callable:
    """Without what is compiled in it: batches of acting and evaluating have sizes of their own, each a compilation."""

    @functools.wraps(function)
    def plain(*words, **options):
        with torch.compiler.set_stance("force_eager"):  # made here: its import is slow, and workers need none of it
            return function(*words, **options)

    return plain
