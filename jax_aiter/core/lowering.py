"""Lowering of an op on one platform: a provider's plan where one can run the call, else the reference."""

import contextlib
from typing import TYPE_CHECKING

import jax
from jax.core import ShapedArray
from jax.interpreters import mlir

from jax_aiter.core import select, sharding

if TYPE_CHECKING:
    from jax_aiter.core.op import Op


def lower(op: "Op", platform: str, ctx, *values, names: tuple[str, ...], implementation, arch, **params):
    structs = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in ctx.avals_in)
    results = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in ctx.avals_out)
    call = select.make_call(op, platform, arch, dict(zip(names, structs, strict=True)), params, results)
    choice = select.choose(op, call, implementation)
    if choice.plan is not None:
        from jax_aiter.kernels.call import lower_plan  # only where a kernel runs: it loads the native module

        return lower_plan(ctx, choice.plan, *values)
    return _lower_reference(op, ctx, values, names, params)


def _lower_reference(op: "Op", ctx, values, names, params):
    """Trace the reference on plain types.

    Types that carry explicit shardings or manual axes would make every ``scan`` and ``reshape`` of a reference repeat what the
    op's record has said already, so they are taken off for the trace and the declared sharding is put on the results.
    """

    def reference(*operands):
        present = dict(zip(names, operands, strict=True))
        full = {n: present.get(n) for n in op.operands}
        out = tuple(op.reference(**full, **params))
        if mesh is None:
            return out
        return tuple(sharding.constrain(x, aval.sharding) for x, aval in zip(out, ctx.avals_out, strict=True))

    mesh = sharding.explicit_mesh(ctx.avals_in)
    scope = jax.sharding.use_abstract_mesh(sharding.auto_mesh(mesh)) if mesh is not None else contextlib.nullcontext()
    with scope:
        plain = ctx.replace(
            avals_in=[ShapedArray(a.shape, a.dtype) for a in ctx.avals_in],
            avals_out=[ShapedArray(a.shape, a.dtype) for a in ctx.avals_out],
        )
        return mlir.lower_fun(reference, multiple_results=True)(plain, *values)
