"""Public GEMM calls whose activations have leading axes in place of M, made from the records' cases."""

import inspect
import math

import jax
import jax.numpy as jnp

import jax_aiter
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight

from .common import is_float
from .test_bad_input import FUNCTIONS, takes_leading_axes

GEMMS = [(op, case) for op, case, _ in FUNCTIONS if takes_leading_axes(op)]


class Call:
    """One public call with activations of given leading axes, and the same rows as a matrix."""

    def __init__(self, op, case, lead):
        self.op, self.lead, self.function = op, lead, getattr(jax_aiter, op.name)
        self.args = op.operand_args(case.params)
        signature = inspect.signature(self.function).parameters
        self.params = {n: v for n, v in case.params.items() if n in signature}
        drawn = case.draw()
        self.activations = {n: self._rows(n, x) for n, x in drawn.items() if "M" in self.args[n].axes.split()}
        self.weights = {n: x for n, x in drawn.items() if n not in self.activations}
        shuffled = [n for n, p in signature.items() if p.annotation is ShuffledWeight]
        self.weights |= {n: ShuffledWeight(self.weights[n], (16, 16)) for n in shuffled}
        self.leading = {n: x.reshape(self.with_lead(n, x.shape, lead)) for n, x in self.activations.items()}

    def _rows(self, name, x):
        """As many rows as the leading axes make, the case's own repeated."""
        axis = self.args[name].axes.split().index("M")
        return jnp.take(x, jnp.arange(math.prod(self.lead)) % x.shape[axis], axis=axis)

    def with_lead(self, name, matrix, lead):
        """What stands for each dimension of an activation (its shape, say), with `lead` in place of that of M."""
        axes = self.args[name].axes.split()
        return tuple(one for axis, other in zip(axes, matrix, strict=True) for one in (lead if axis == "M" else (other,)))

    def leading_axis(self, name, index):
        """Which dimension of an activation is the leading axis `index`: they come first, or after its columns."""
        return self.args[name].axes.split().index("M") + index

    def structs(self, lead):
        return {n: jax.ShapeDtypeStruct(self.with_lead(n, x.shape, lead), x.dtype) for n, x in self.activations.items()}

    def run(self, activations, weights=None):
        return self.function(**activations, **(weights or self.weights), **self.params)

    @property
    def differentiable(self):
        """The weights with a gradient."""
        wrt = self.op.gradient.wrt if self.op.gradient else ()
        return {n: x for n, x in self.weights.items() if n in wrt}

    def gradient(self, activations, weights):
        """Of all operands that have one, for cotangents that are no constants."""

        def loss(activations, weights):
            out = self.run(activations, {**self.weights, **weights}).astype(jnp.float32)
            return jnp.sum(jnp.sin(jnp.arange(out.shape[-1], dtype=jnp.float32)) * out * out)

        assert all(is_float(x) for x in activations.values())
        return jax.jit(jax.grad(loss, (0, 1)))(activations, weights)
