"""JAX's own switches change no op's answer: arithmetic of ours is traced under fixed settings.

An op's types are in its record, none of them is wider than 32 bits, and its reference says where it rounds. What jax.numpy makes of
a Python number, of mixed dtypes or of unequal ranks must not depend on the program around it, nor the precision of a product. So
three kinds of code run with the switches pinned: what a lowering emits (references, and the jax.numpy between the plans of a
kernel), the rules of gradients, and the rules of batching. That is sound because each of them maps arrays of declared types to
arrays of declared types: nothing in between is the caller's.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.interpreters import mlir


def is_on(switch: str) -> bool:
    """Whether a switch of JAX is on, for the process or in a block around here."""
    return getattr(jax.config, switch)


@contextlib.contextmanager
def pinned(*, wide: bool = False) -> Iterator[None]:
    """JAX's defaults for what decides about types, ranks and precision of the arithmetic inside.

    wide: leave `jax_enable_x64` as it is. A symbolic dimension that is used as a number has 64 bits under that switch wherever
    the program around a rule is lowered, so a rule with such dimensions must be traced as it will be lowered.
    """
    with contextlib.ExitStack() as stack:
        if not wide:
            stack.enter_context(jax.enable_x64(False))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.enter_context(jax.default_matmul_precision(None))
        stack.enter_context(jax.allow_f16_reductions(True))
        yield


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Without the switches that watch or replace execution: a loop of ours stays a loop, and an infinity inside is no finding."""
    with jax.disable_jit(False), jax.debug_nans(False), jax.debug_infs(False):
        yield


def lower_function(function: Callable[..., Any], ctx: Any, values: Sequence[Any]) -> Any:
    """Trace `function` (several results) under pinned switches and emit it in the place of the primitive that `ctx` is for."""
    ctx = _with_dimensions(ctx, np.dtype(np.int32))
    with pinned(), unwatched():
        return mlir.lower_fun(function, multiple_results=True)(ctx, *values)


def lower_limits(insist: Callable[[], None], ctx: Any) -> None:
    """Emit what `insist` says about symbolic dimensions, computed in 64 bits: these limits are where 32 no longer do."""
    ctx = _with_dimensions(ctx.replace(avals_in=[], avals_out=[], tokens_out=None), np.dtype(np.int64))
    with jax.enable_x64(True), unwatched():
        mlir.lower_fun(lambda: insist() or (), multiple_results=True)(ctx)


def run_compiled(
    name: str,
    call: Callable[..., Sequence[jax.Array]],
    values: Sequence[jax.Array],
    results: Sequence[str] = (),
    infinite: Sequence[str] = (),
) -> Sequence[jax.Array]:
    """The eager rule of a primitive: `call` is a compiled function that binds it, and must not come back here.

    So `jax.disable_jit` is off for it, and also the checks of `jax.debug_nans` and `jax.debug_infs`, which would run it again
    without jit: our primitives are single steps, like JAX's own, and it is their results that are checked.
    """
    if not any(map(is_on, ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs"))):
        return call(*values)
    with unwatched():
        found = call(*values)
    check_results(name, found, results, infinite)
    return found


def check_results(name: str, found: Sequence[Any], results: Sequence[str] = (), infinite: Sequence[str] = ()) -> None:
    """`jax.debug_nans` and `jax.debug_infs`, on results of ours that are arrays.

    results: their names; those in `infinite` may hold infinities that mean something.
    """
    checked = {"nan": np.isnan} if is_on("jax_debug_nans") else {}
    checked |= {"inf": np.isinf} if is_on("jax_debug_infs") else {}
    for result, x in zip(results or map(str, range(len(found))), found, strict=True) if checked else ():
        if isinstance(x, Tracer) or not jnp.issubdtype(x.dtype, jnp.floating):
            continue
        parts = [np.asarray(shard.data) for shard in x.addressable_shards]
        for kind, is_bad in checked.items():
            if not (kind == "inf" and result in infinite) and any(is_bad(part).any() for part in parts):
                raise FloatingPointError(f"invalid value ({kind}) encountered in {name}: result {result}")


def _with_dimensions(ctx: Any, dtype: np.dtype) -> Any:
    """The context with the values of its dimension variables (and of its platform index) in `dtype`.

    JAX has them in 64 bits under `jax_enable_x64`, else in 32, and emits functions that take them so; of those that the module has
    already, none is called from the new context.
    """
    have = np.dtype(np.int64 if is_on("jax_enable_x64") else np.int32)
    if have == dtype or not ctx.dim_var_values:
        return ctx
    from jax.extend.mlir import ir
    from jax.extend.mlir.dialects import stablehlo

    wanted = ir.RankedTensorType.get([], mlir.dtype_to_ir_type(dtype))
    values = [stablehlo.convert(wanted, size) for size in ctx.dim_var_values]
    own = ctx.module_context.replace(lowering_cache={}, cached_primitive_lowerings={})
    return ctx.replace(module_context=own, dim_var_values=values)
