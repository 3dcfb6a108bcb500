"""Quantise the indexer's keys of new tokens and write them, with their scales, into its paged cache."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, integers, normal
from jax_aiter.core.reads import joined
from jax_aiter.ops.cache import write
from jax_aiter.ops.indexer import quantised_keys

OP = "indexer_k_quant_and_cache"


def _abstract(dims, *, k, kv_cache, slot_mapping, quant_block_size, preshuffle, **_):
    quantised_keys.check_writer(OP, dims, quant_block_size, preshuffle)
    return (kv_cache,)


def _reference(*, k, kv_cache, slot_mapping, quant_block_size, scale_fmt, preshuffle, quant_dtype):
    return (quantised_keys.write(k, kv_cache, slot_mapping, quant_block_size, scale_fmt, preshuffle, quant_dtype),)


INDEXER_K_QUANT_AND_CACHE = Op(
    name=OP,
    family="ATTENTION",
    mirrors="aiter.indexer_k_quant_and_cache (csrc/kernels/cache_kernels.cu)",
    operands={"k": Arg("T D"), "kv_cache": Arg("nb bs W", ("uint8",)), "slot_mapping": Arg("T", INT32)},
    results={"kv_cache": "nb bs W"},
    abstract=_abstract,
    reference=_reference,
    fixed=("D", "bs", "W"),
    batch=lambda batched, **_: write.one_longer_cache(batched, quantised_keys.capacity(write.element(batched, "kv_cache")), ()),
    aliases={"kv_cache": "kv_cache"},
    reads=lambda *, k, kv_cache, slot_mapping, quant_block_size, preshuffle, **_: joined(
        [quantised_keys.written_part(slot_mapping, k, kv_cache, quant_block_size, preshuffle)]
    ),
    data_checks=lambda *, kv_cache, slot_mapping, **_: write.data_checks(slot_mapping, quantised_keys.capacity(kv_cache)),
    cases=lambda: [
        case(
            "bf16",
            k=normal(4, 128, dtype=jnp.bfloat16),
            kv_cache=integers(3, 4, 132, low=0, high=256, dtype=jnp.uint8),
            slot_mapping=constant([5, -1, 11, 0], jnp.int32),
            quant_block_size=128,
            scale_fmt=None,
            preshuffle=False,
            quant_dtype=np.dtype(jnp.float8_e4m3fnuz),
        ),
        case(
            "preshuffled_powers_of_two",
            k=normal(3, 32),
            kv_cache=integers(2, 16, 40, low=0, high=256, dtype=jnp.uint8),
            slot_mapping=constant([31, 2, 17], jnp.int32),
            quant_block_size=32,
            scale_fmt="ue8m0",
            preshuffle=True,
            quant_dtype=np.dtype(jnp.float8_e4m3fn),
        ),
        case(
            "odd_two_scales",
            k=normal(3, 6, dtype=jnp.float16),
            kv_cache=integers(3, 5, 15, low=0, high=256, dtype=jnp.uint8),
            slot_mapping=constant([14, 3, -9], jnp.int32),
            quant_block_size=3,
            scale_fmt=None,
            preshuffle=False,
            quant_dtype=np.dtype(jnp.float8_e4m3fnuz),
        ),
    ],
)


@public
def indexer_k_quant_and_cache(
    k: jax.Array,
    kv_cache: jax.Array,
    slot_mapping: jax.Array,
    *,
    quant_block_size: int = 128,
    scale_fmt: str | None = None,
    preshuffle: bool = False,
    quant_dtype: Any = "fp8",
    implementation: str | None = None,
) -> jax.Array:
    """The index cache with token t's key, quantised, at slot ``slot_mapping[t]``; every other byte keeps its value.

    Args:
      k: ``[T, D]`` float32, bfloat16 or float16: normalised and rotated keys.
      kv_cache: uint8 ``[nb, bs, W]``, W >= D + 4 D / quant_block_size. Each block is bs keys of D fp8 bytes, then bs times
        D / quant_block_size float32 scales, then padding.
      slot_mapping: ``[T]`` int32, ``block * bs + place``. A token whose slot is negative or past the capacity is skipped. If two
        tokens have the same slot, each byte there is one of theirs, which one is undefined.
      quant_block_size: static, divides D: columns with a scale of their own (128, the whole key, for DeepSeek).
      scale_fmt: static. The scale is the largest magnitude (at least 1e-4) over the largest fp8 value: as it is (None), or the
        next power of two (``"ue8m0"``). What is stored is ``k / scale``, rounded to nearest and saturated.
      preshuffle: static. Keys of a block in tiles of 16 keys by 16 bytes, which the preshuffled `fp8_paged_mqa_logits` reads; bs
        and D must be multiples of 16.
      quant_dtype: static: ``"fp8"`` (the target's e4m3 type) or one of the two.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      The shape and dtype of `kv_cache`, updated in place if it is donated.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad and repeated slots.
    Mirrors ``aiter.indexer_k_quant_and_cache``.
    """
    return INDEXER_K_QUANT_AND_CACHE(
        k=k,
        kv_cache=kv_cache,
        slot_mapping=slot_mapping,
        quant_block_size=check.integer(OP, "quant_block_size", quant_block_size, 1),
        **quantised_keys.parameters(OP, scale_fmt, preshuffle, quant_dtype),
        implementation=implementation,
    )[0]
