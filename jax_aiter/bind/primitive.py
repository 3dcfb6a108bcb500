"""From a record to a JAX primitive: abstract evaluation, eager dispatch, lowering, batching."""

import functools
from typing import TYPE_CHECKING

import jax
from jax.interpreters import ad, mlir, partial_eval
from jax.interpreters import batching as jax_batching

from jax_aiter.bind import batching, derivative, equation, lowering, partition, switches
from jax_aiter.core import machine
from jax_aiter.core.record import Record

if TYPE_CHECKING:
    from jax.extend.core import Primitive


def make(op: Record) -> "Primitive":
    from jax.extend.core import Primitive  # not at the top: it imports pallas, which costs more than this whole package

    prim = Primitive(f"jax_aiter.{op.name}")
    prim.multiple_results = True
    prim.def_impl(functools.partial(_eager, op, prim))
    prim.def_abstract_eval(lambda *avals, **params: equation.result_types(op, avals, **params))
    ad.primitive_jvps[prim] = functools.partial(derivative.jvp, op, prim)
    jax_batching.fancy_primitive_batchers[prim] = functools.partial(batching.rule, op, prim)
    mlir.register_lowering(prim, functools.partial(lowering.lower, op, prim, "cpu"))
    for platform in machine.GPUS:
        mlir.register_lowering(prim, functools.partial(lowering.lower, op, prim, platform), platform=platform)
    if op.gradient is not None and (keeps := op.gradient.keeps) is not None:
        partial_eval.dce_rules[keeps.op.primitive] = derivative.narrowing(keeps.op, (op, *keeps.alone))
    if op.parallel:
        partition.ask_for_devices(prim)
    return prim


@functools.lru_cache(maxsize=4096)
def _jitted(prim: "Primitive", params: tuple):
    return jax.jit(functools.partial(prim.bind, **dict(params)))


def _eager(op: Record, prim: "Primitive", *values, **params):
    call = _jitted(prim, tuple(sorted(params.items())))
    return switches.run_compiled(prim.name, call, values, results=tuple(op.results), infinite=op.infinite)
