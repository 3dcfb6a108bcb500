"""Quantise the keys and values of new tokens, each head of each token by a scale of its own, and write them into a paged cache."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FP8_TYPES, INT32, Arg
from jax_aiter.core.cases import case, constant, normal, permutation
from jax_aiter.core.reads import at, grid, joined, spread
from jax_aiter.ops.cache import write
from jax_aiter.ops.cache.kv_layout import LAYOUTS, cache_axes
from jax_aiter.ops.cache.kv_layout import write as put
from jax_aiter.ops.quant.numerics import amax_scale, quantize

OP = "reshape_and_cache_with_pertoken_quant"
QUANTIZED = (*FP8_TYPES, "int8")
SCALES = "nb Hk bs"


class QuantizedCaches(NamedTuple):
    """Both caches and the scales ``[nb, Hk, bs]`` of what stands in them, updated."""

    key_cache: jax.Array
    value_cache: jax.Array
    k_dequant_scales: jax.Array
    v_dequant_scales: jax.Array


def _abstract(dims, *, kv_layout, **call):
    write.check_both(OP, dims, call, kv_layout)
    return tuple(call[n] for n in QuantizedCaches._fields)


def _reference(*, key, value, key_cache, value_cache, k_dequant_scales, v_dequant_scales, slot_mapping, kv_layout):
    axes, sizes = cache_axes(kv_layout), write.sizes_of(key_cache, kv_layout)
    block, place = write.slots(slot_mapping, sizes["nb"], sizes["bs"])
    caches, scales = [], []
    for name, rows, cache, old in (
        ("key_cache", key, key_cache, k_dequant_scales),
        ("value_cache", value, value_cache, v_dequant_scales),
    ):
        scale = amax_scale(rows, cache.dtype, -1)
        caches.append(put(cache, quantize(rows, scale, cache.dtype), block, place, axes[name]))
        scales.append(put(old, scale, block, place, SCALES))
    return *caches, *scales


def _batch(batched, *, kv_layout):
    slots = write.capacity(write.element(batched, "key_cache"), kv_layout)
    return write.one_longer_cache(batched, slots, ())


def _reads(*, key_cache, value_cache, k_dequant_scales, slot_mapping, kv_layout, **_):
    """A scale reads the rows that its slot does, which decide it."""
    parts = write.written_parts(slot_mapping, key_cache, value_cache, kv_layout)
    blocks, heads, size = k_dequant_scales.shape
    block, head, place = grid(blocks, heads, size)
    tokens, kept = write.written(block * size + place, slot_mapping)
    kept = kept.reshape(-1, blocks, heads, size)
    rows, label = spread(tokens, at(head, heads), None), np.arange(len(head)).reshape(blocks, heads, size)
    return joined(
        [*parts, *((f"{x[0]}_dequant_scales", label, {x: rows, f"{x[0]}_dequant_scales": kept}) for x in ("key", "value"))]
    )


def _data_checks(*, key_cache, slot_mapping, kv_layout, **_):
    return write.data_checks(slot_mapping, write.capacity(key_cache, kv_layout))


RESHAPE_AND_CACHE_WITH_PERTOKEN_QUANT = Op(
    name=OP,
    family="ATTENTION",
    mirrors="aiter.reshape_and_cache_with_pertoken_quant (csrc/kernels/cache_kernels.cu)",
    operands={
        "key": Arg("T Hk D"),
        "value": Arg("T Hk Dv"),
        "key_cache": Arg("nb bs Hk D", QUANTIZED),
        "value_cache": Arg("nb bs Hk Dv", QUANTIZED),
        "k_dequant_scales": Arg(SCALES, ("float32",)),
        "v_dequant_scales": Arg(SCALES, ("float32",)),
        "slot_mapping": Arg("T", INT32),
    },
    results={
        "key_cache": "nb bs Hk D",
        "value_cache": "nb bs Hk Dv",
        "k_dequant_scales": SCALES,
        "v_dequant_scales": SCALES,
    },
    relayout=lambda params: cache_axes(params["kv_layout"]),
    abstract=_abstract,
    reference=_reference,
    parallel=("Hk",),
    batch=_batch,
    aliases={n: n for n in QuantizedCaches._fields},
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "asm_fp8",
            key=normal(3, 2, 32, dtype=jnp.bfloat16),
            value=normal(3, 2, 32, dtype=jnp.bfloat16),
            key_cache=normal(2, 2, 2, 16, 16, dtype=jnp.float8_e4m3fnuz),
            value_cache=normal(2, 2, 1, 32, 16, dtype=jnp.float8_e4m3fnuz),
            k_dequant_scales=normal(2, 2, 16),
            v_dequant_scales=normal(2, 2, 16),
            slot_mapping=constant([17, -1, 3], jnp.int32),
            kv_layout="asm",
        ),
        case(
            "nhd_int8_odd",
            key=normal(4, 3, 5),
            value=normal(4, 3, 7),
            key_cache=constant([[[[1] * 5] * 3] * 3] * 2, jnp.int8),
            value_cache=constant([[[[2] * 7] * 3] * 3] * 2, jnp.int8),
            k_dequant_scales=normal(2, 3, 3),
            v_dequant_scales=normal(2, 3, 3),
            slot_mapping=permutation(4, among=6),
            kv_layout="NHD",
        ),
    ],
)


@public
def reshape_and_cache_with_pertoken_quant(
    key: jax.Array,
    value: jax.Array,
    key_cache: jax.Array,
    value_cache: jax.Array,
    k_dequant_scales: jax.Array,
    v_dequant_scales: jax.Array,
    slot_mapping: jax.Array,
    *,
    kv_layout: str = "asm",
    implementation: str | None = None,
) -> QuantizedCaches:
    """The caches with token t's key and value at slot ``slot_mapping[t]``, quantised by a scale for each head, and those scales.

    Args:
      key: ``[T, Hk, D]``, value: ``[T, Hk, Dv]`` float32, bfloat16 or float16.
      key_cache, value_cache: fp8 or int8, in one of the layouts of `kv_layout` (see `reshape_and_cache`).
      k_dequant_scales, v_dequant_scales: ``[nb, Hk, bs]`` float32, a factor for each slot and head, as `pa_fwd_asm` and
        `paged_attention` read them.
      slot_mapping: ``[T]`` int32, ``block * bs + place``. A token whose slot is negative or past the capacity is skipped. If two
        tokens have the same slot, which of them stands there is undefined, for each result by itself.
      kv_layout: ``"asm"``, ``"vllm"``, ``"NHD"`` or ``"HND"``.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(key_cache, value_cache, k_dequant_scales, v_dequant_scales)``, updated in place if the arguments are donated. A scale is
      the largest magnitude of its row over the largest number of the cache's dtype, as of `per_token_quant`; a row of zeros has
      that of 1e-10.

    Raises TypeError or ValueError for wrong shapes, dtypes or layout; `debug_checks` reports bad and repeated slots.
    Mirrors ``aiter.reshape_and_cache_with_pertoken_quant``.
    """
    check.choice(OP, "kv_layout", kv_layout, LAYOUTS)
    found = RESHAPE_AND_CACHE_WITH_PERTOKEN_QUANT(
        key=key,
        value=value,
        key_cache=key_cache,
        value_cache=value_cache,
        k_dequant_scales=k_dequant_scales,
        v_dequant_scales=v_dequant_scales,
        slot_mapping=slot_mapping,
        kv_layout=kv_layout,
        implementation=implementation,
    )
    return QuantizedCaches(*found)
