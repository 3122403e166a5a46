"""CUDA graphs of functions of tensors: one launch replaces thousands of small ones.

An update is about ten thousand kernels of a few microseconds each. Launched one by one from Python,
they leave the device waiting.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_unflatten

from foreground import ranks

# Calls of each size before recording: libraries initialise state that a recording must not.
PLAIN = 3


class Recording:
    """One CUDA graph, with the memory that it reads and writes at each replay."""

    def __init__(self, function: Callable, inputs: list[Tensor | None], tree: TreeSpec):
        self.inputs = [tensor if tensor is None else tensor.clone() for tensor in inputs]
        self.graph = torch.cuda.CUDAGraph()
        # With ranks another thread watches NCCL, and may ask the device for events meanwhile.
        mode = "thread_local" if ranks.number() > 1 else "global"
        with torch.cuda.graph(self.graph, capture_error_mode=mode):
            self.outputs, self.row = self.written(function, tree)

    def written(
        self, function: Callable, tree: TreeSpec
    ) -> tuple[list[Tensor | None], Tensor | None]:
        """Return the outputs, flat, and all numbers among them as one tensor, or None."""
        outputs, self.tree = tree_flatten(function(*tree_unflatten(self.inputs, tree)))
        self.numbers = [
            index for index, output in enumerate(outputs) if output is not None and not output.dim()
        ]
        return outputs, torch.stack(
            [outputs[index].float() for index in self.numbers]
        ) if self.numbers else None

    def replay(self, inputs: list[Tensor | None]):
        """Return the outputs for these inputs."""
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
    """A function that is replayed from its fourth call with tensors of the same sizes.

    function   of tensors, in any nest of tuples and dicts, to the same
    copies     whether all outputs may be kept; otherwise the next call overwrites them, numbers
               excepted

    The function may not wait for the device, and no size or branch may depend on a value. It
    changes tensors in place at each replay. Numbers among the outputs are float32.
    """

    def __init__(self, function: Callable, copies: bool = False):
        self.function = function
        self.copies = copies
        self.calls: dict[tuple, int] = {}
        self.recordings: dict[tuple, Recording] = {}

    def __call__(self, *inputs):
        leaves, tree = tree_flatten(inputs)
        # As they will lie in memory when they are recorded: what is compiled must not meet others
        # then.
        leaves = [leaf if leaf is None else leaf.contiguous() for leaf in leaves]
        sizes = (tree, *(leaf if leaf is None else (leaf.shape, leaf.dtype) for leaf in leaves))
        self.calls[sizes] = self.calls.get(sizes, 0) + 1
        if self.calls[sizes] <= PLAIN:
            return self.function(*tree_unflatten(leaves, tree))
        if sizes not in self.recordings:
            self.recordings[sizes] = Recording(self.function, leaves, tree)
        outputs = self.recordings[sizes].replay(leaves)
        return tree_map(_copy, outputs) if self.copies else outputs


def _copy(tensor: Tensor | None) -> Tensor | None:
    return tensor if tensor is None else tensor.clone()


def uncompiled(function: Callable) -> Callable:
    """Run a function without compiled code.

    Batches of acting and evaluation have other sizes, and each would be compiled.
    """

    @functools.wraps(function)
    def plain(*words, **options):
        # Made here: its import is slow, and workers need none of it.
        with torch.compiler.set_stance("force_eager"):
            return function(*words, **options)

    return plain
