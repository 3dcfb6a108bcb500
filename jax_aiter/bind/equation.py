"""One equation of an op's primitive in a traced program: its parameters, and the types of its results."""

from collections.abc import Mapping
from typing import Any

import jax

from jax_aiter.bind import sharding
from jax_aiter.core.record import Record

# Parameters of the equation that say how to run the op rather than what it computes.
OPTIONS = ("names", "implementation", "arch", "kernel")


def static_params(params: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in params.items() if k not in OPTIONS}


def result_types(op: Record, avals, *, names: tuple[str, ...], implementation, arch, kernel, **params):
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
