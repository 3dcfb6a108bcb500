"""From an `Op` record to a JAX primitive: abstract evaluation, eager dispatch, lowering, batching."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
from jax.interpreters import ad, mlir
from jax.interpreters import batching as jax_batching

from jax_aiter.bind import batching, lowering, partition, sharding, switches
from jax_aiter.core import gradient

if TYPE_CHECKING:
    from jax.extend.core import Primitive

    from jax_aiter.bind.op import Op

# Parameters of the equation that say how to run the op rather than what it computes.
OPTIONS = ("names", "implementation", "arch", "kernel")


def static_params(params: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in params.items() if k not in OPTIONS}


def make(op: "Op") -> "Primitive":
    from jax.extend.core import Primitive  # not at the top: it imports pallas, which costs more than this whole package

    prim = Primitive(f"jax_aiter.{op.name}")
    prim.multiple_results = True
    prim.def_impl(functools.partial(_eager, op, prim))
    prim.def_abstract_eval(functools.partial(_abstract_eval, op))
    ad.primitive_jvps[prim] = functools.partial(gradient.jvp, op)
    jax_batching.fancy_primitive_batchers[prim] = functools.partial(batching.rule, op)
    mlir.register_lowering(prim, functools.partial(lowering.lower, op, "cpu"))
    for platform in ("rocm", "cuda"):
        mlir.register_lowering(prim, functools.partial(lowering.lower, op, platform), platform=platform)
    if op.parallel:
        partition.ask_for_devices(prim)
    return prim


@functools.lru_cache(maxsize=4096)
def _jitted(prim: "Primitive", params: tuple):
    return jax.jit(functools.partial(prim.bind, **dict(params)))


def _eager(op: "Op", prim: "Primitive", *values, **params):
    call = _jitted(prim, tuple(sorted(params.items())))
    return switches.run_compiled(prim.name, call, values, results=tuple(op.results), infinite=op.infinite)


def _abstract_eval(op: "Op", *avals, **params):
    return result_types(op, avals, **params)


def result_types(op: "Op", avals, *, names: tuple[str, ...], implementation, arch, kernel, **params):
    """Shapes, dtypes and shardings of the results of a call."""
    structs = {n: jax.ShapeDtypeStruct(a.shape, a.dtype) for n, a in zip(names, avals, strict=True)}
    out = op.infer(structs, params)
    specs = sharding.result_specs(op, dict(zip(names, avals, strict=True)), out, params)
    # Updating an operand's aval, rather than making a new one, keeps what it says about manual mesh axes under every JAX version.
    like = avals[0]
    results = []
    for struct, spec in zip(out, specs, strict=True):
        extra = {} if spec is None else {"sharding": spec}
        results.append(like.update(shape=struct.shape, dtype=struct.dtype, weak_type=False, **extra))
    return results


def same_varying_axes(values: Sequence[jax.Array]) -> list[jax.Array]:
    """Make all operands vary over the same mesh axes; the transpose of this step sums the gradients of replicated operands."""
    sets = [sharding.varying_axes(jax.typeof(x)) for x in values]
    union = frozenset().union(*sets)
    if not union:
        return list(values)
    out = []
    for x, have in zip(values, sets, strict=True):
        missing = tuple(sorted(union - have))
        out.append(jax.lax.pcast(x, missing, to="varying") if missing else x)
    return out
