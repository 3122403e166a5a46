"""The recurrent cell over T steps as one function with a hand-written gradient.

On a CPU the gradient of torch would cost more than the matrix products.

Shapes: T steps, N rows, D deterministic state.
"""

import torch
from torch.nn import functional as F

EPSILON = 1e-5  # that of nn.LayerNorm
silu_backward = torch.ops.aten.silu_backward.default
layer_norm_backward = torch.ops.aten.native_layer_norm_backward.default


class Unrolled(torch.autograd.Function):
    """`Recurrence.forward` over all steps, with dense weights (D, D) and (D, 3 D); see
    `Recurrence.unroll`.

    The loop of the backward pass holds only what depends on the step after it. All else is done
    once, over all steps.
    """

    @staticmethod
    def forward(
        ctx, state, drive, keep, recurrent, recurrent_bias, gates, gates_bias, scale, shift
    ):
        size = state.shape[-1]
        drive = drive + recurrent_bias
        bias = gates_bias.clone()
        bias[2 * size :] -= 1  # see Recurrence.forward
        before, summed, candidates, states = (
            torch.empty(drive.shape, dtype=drive.dtype) for _ in range(4)
        )
        gate = drive.new_empty(*drive.shape[:-1], 3 * size)
        resets, raws, updates = (part.unbind() for part in gate.split(size, -1))
        for t, now in enumerate(drive.unbind()):
            torch.mul(state, keep[t], out=before[t])
            torch.addmm(now, before[t], recurrent, out=summed[t])
            hidden = F.silu(torch.native_layer_norm(summed[t], (size,), scale, shift, EPSILON)[0])
            torch.addmm(bias, hidden, gates, out=gate[t])
            torch.mul(resets[t].sigmoid_(), raws[t], out=candidates[t]).tanh_()
            state = torch.lerp(before[t], candidates[t], updates[t].sigmoid_(), out=states[t])
        ctx.save_for_backward(
            before, summed, gate, candidates, keep, recurrent, gates, scale, shift
        )
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        before, summed, gate, candidates, keep, recurrent, gates, scale, shift = ctx.saved_tensors
        shape = scale.shape
        reset, raw, update = gate.chunk(3, -1)
        normed, *moments = torch.native_layer_norm(summed, shape, scale, shift, EPSILON)
        # These factors turn the gradient of a new state into that of its candidate, then of reset,
        # candidate and update gate.
        through = update * (1 - candidates.square())
        of_reset = through * raw * reset * (1 - reset)
        factors = torch.stack(
            [of_reset, through * reset, (candidates - before) * update * (1 - update)], -2
        )
        stays = 1 - update
        of_gates = torch.empty_like(factors)  # (T, N, 3, D)
        of_normed = torch.empty_like(summed)
        of_drive = torch.empty_like(summed)
        onward = None
        for t in reversed(range(len(gradient))):
            now = gradient[t] if onward is None else onward.add_(gradient[t])
            torch.mul(now.unsqueeze(-2), factors[t], out=of_gates[t])
            of_normed[t] = silu_backward(of_gates[t].flatten(1) @ gates.t(), normed[t])
            row = of_normed[t], summed[t], shape, moments[0][t], moments[1][t], scale, shift
            of_drive[t] = layer_norm_backward(*row, [True, False, False])[0]
            onward = torch.addmm(now * stays[t], of_drive[t], recurrent.t()).mul_(keep[t])
        flat = (x.flatten(0, 1) for x in (before, summed, F.silu(normed), of_normed, of_drive))
        before, summed, hidden, of_normed, of_sums = flat
        of_gates = of_gates.flatten(2).flatten(0, 1)
        moments = (moment.flatten(0, 1) for moment in moments)
        _, *of_norm = layer_norm_backward(
            of_normed, summed, shape, *moments, scale, shift, [False, True, True]
        )
        products = before.t() @ of_sums, of_sums.sum(0), hidden.t() @ of_gates, of_gates.sum(0)
        return onward, of_drive, None, *products, *of_norm
