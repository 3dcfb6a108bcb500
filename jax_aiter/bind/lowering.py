"""Lowering of an op on one platform: a provider's plan where one can run the call, else the reference."""

import contextlib
from typing import TYPE_CHECKING, Any

import jax
from jax.core import ShapedArray
from jax.sharding import AxisType

from jax_aiter.bind import empty, forms, partition, select, sharding, switches
from jax_aiter.core import symbolic
from jax_aiter.core.record import Record
from jax_aiter.kernels.provider import Program

if TYPE_CHECKING:
    from jax.extend.core import Primitive


def lower(
    op: Record, primitive: "Primitive", platform: str, ctx, *values, names: tuple[str, ...], implementation, arch, kernel, **params
):
    operands = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in ctx.avals_in]
    results = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in ctx.avals_out]
    structs = dict(zip(names, operands, strict=True))
    if symbolic.any_symbolic(*operands):
        with symbolic.put_off() as limits:
            op.infer(structs, params)
        if limits:
            switches.lower_limits(lambda: symbolic.insist(limits), ctx)
    call = select.make_call(op, platform, arch, structs, params, results, kernel)
    opaque = call.reference is not None and call.reference.fused
    if op.parallel and partition.can_split(ctx) and (opaque or select.preferred(call, implementation)[0] != "xla"):
        # Each device's part is lowered by this same function, for its own size, when XLA has split the program.
        def body(*parts):
            options = {"names": names, "implementation": implementation, "arch": arch, "kernel": kernel}
            return tuple(primitive.bind(*parts, **options, **params))

        split = partition.partitioned(op, names, params, body, operands, results)
        return lower_plain(ctx, values, split)
    choice = select.choose(op, call, implementation)
    if isinstance(choice.plan, Program):
        return lower_plain(ctx, values, lambda *parts: tuple(choice.plan.run(dict(zip(names, parts, strict=True)))))
    if choice.plan is not None:
        from jax_aiter.kernels.call import lower_plan  # only where a kernel runs: it loads the native module

        return lower_plan(ctx, choice.plan, *values)

    written = forms.reference(op, platform, call.reference, partition.is_split(ctx))

    def reference(*parts):
        if empty.all_empty(results):
            return empty.zeros(results)
        present = dict(zip(names, parts, strict=True))
        return written(**{n: present.get(n) for n in op.operands}, **params)

    with symbolic.named(op.name, {n: a.axes for n, a in op.operand_args(params).items()}, structs):
        return lower_plain(ctx, values, reference)


def lower_plain(ctx, values, function):
    """Trace a function of the operands on plain types and emit it.

    Types that carry explicit shardings or manual axes would make every ``scan`` and ``reshape`` inside repeat what the op's record
    has said already, so they are taken off for the trace and the declared sharding is put on the results.
    """
    mesh = sharding.explicit_mesh(ctx.avals_in)
    manual = bool(getattr(ctx.module_context.axis_context, "manual_axes", None))

    def constrained(*operands):
        out = function(*operands)
        if mesh is None or manual:
            return out
        return tuple(sharding.constrain(x, aval.sharding) for x, aval in zip(out, ctx.avals_out, strict=True))

    scope: Any = contextlib.nullcontext()
    current = mesh or jax.sharding.get_abstract_mesh()
    if AxisType.Explicit in (current.axis_types or ()):
        scope = jax.sharding.use_abstract_mesh(sharding.retyped(current, AxisType.Manual if manual else AxisType.Auto))
    with scope:
        plain = ctx.replace(
            avals_in=[ShapedArray(a.shape, a.dtype) for a in ctx.avals_in],
            avals_out=[ShapedArray(a.shape, a.dtype) for a in ctx.avals_out],
        )
        return switches.lower_function(constrained, plain, values)
