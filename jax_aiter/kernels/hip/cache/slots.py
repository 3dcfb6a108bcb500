"""What AITER's writers take of a call: slots in 64 bits, of which the negative ones are skipped, and a scale for each cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jax_aiter.kernels.hip.adapters import Arranged
from jax_aiter.kernels.hip.quant.quant import LARGEST
from jax_aiter.kernels.spec import ArraySpec, CallSpec

SOURCE = "cache"
ONE = ArraySpec((1,), "float32")


def block_size(layout: str) -> int:
    """The axis of a key cache that runs over the tokens of a block."""
    return {"NHD": 1, "HND": 2, "vllm": 3, "asm": 3}[layout]


def words(slot_mapping: Any, capacity: int) -> Any:
    """int32 slots as the two words of AITER's int64, which JAX has under a switch only; -1 where there is none.

    AITER's kernels skip negative slots and write past the cache's end where a slot is past it.
    """
    import jax.numpy as jnp

    slots = jnp.where((slot_mapping >= 0) & (slot_mapping < capacity), slot_mapping, -1)
    return jnp.stack([slots, slots >> 31], axis=-1)


def writer(cache: str, scales: Mapping[str, tuple[str, ...]] = MappingProxyType({})) -> Arranged:
    """Slots as AITER takes them, and what an fp8 cache wants; cache: the operand that tells the capacity.

    scales: of each scale, the tokens that it divides. They follow the other operands, 1 where the call has none; a cache that is
    not fp8 has none, as the kernels read none of it. Tokens end where fp8 does: kernels of releases after 0.1.7 make NaN of what
    is larger, and all of them of infinity.
    """

    def quantised(spec: CallSpec) -> bool:
        return bool(scales) and spec[cache].dtype == spec.fp8

    def described(spec: CallSpec) -> CallSpec:
        operands = {name: x for name, x in spec.operands.items() if name not in scales}
        operands["slot_mapping"] = dataclasses.replace(spec["slot_mapping"], dtype="int64")
        if quantised(spec):
            operands |= dict.fromkeys(scales, ONE)
        return dataclasses.replace(spec, operands=operands)

    def arrays(spec: CallSpec, operands: Mapping[str, Any]) -> list[Any]:
        import jax.numpy as jnp

        given: dict[str, Any] = {name: jnp.ones((1,), jnp.float32) for name in scales}
        given |= {name: x for name, x in operands.items() if x is not None}
        given["slot_mapping"] = words(operands["slot_mapping"], capacity(spec, cache))
        for scale, tokens in scales.items() if quantised(spec) else ():
            most = jnp.abs(given[scale]) * LARGEST[spec.fp8]
            given |= {name: jnp.clip(given[name], *(x.astype(given[name].dtype) for x in (-most, most))) for name in tokens}
        return [given[name] for name in described(spec).operands]

    return Arranged(described, arrays)


def capacity(spec: CallSpec, cache: str) -> int:
    """Slots of a cache."""
    shape = spec[cache].shape
    return shape[0] * shape[block_size(spec.params["kv_layout"]) if "kv_layout" in spec.params else 1]
