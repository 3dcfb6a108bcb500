"""Read keys and values of sequences out of a paged cache, packed: what a prefill over cached context attends to."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FLOATING, INT32, Arg
from jax_aiter.core.cases import case, constant, normal, permutation
from jax_aiter.core.reads import NOTHING, Reads, at, grid
from jax_aiter.ops.attention import block_table
from jax_aiter.ops.attention.ragged import offset_checks, owners, some_sequence
from jax_aiter.ops.cache import write
from jax_aiter.ops.cache.dtypes import CACHE_DTYPES, kv_dtypes
from jax_aiter.ops.cache.kv_layout import LAYOUTS, cache_axes, check_caches
from jax_aiter.ops.cache.paged_reads import by_layout
from jax_aiter.ops.shared import narrow

OP = "gather_cache"


def _abstract(dims, *, key_cache, value_cache, cu_seqlens, k_scale, v_scale, total_tokens, kv_layout, out_dtype, **_):
    kv_dtypes(OP, key_cache.dtype, key_cache.dtype, value_cache.dtype, k_scale, v_scale)
    head = dims["D"] if "D" in dims else dims["D/x"] * dims["x"]
    check_caches(OP, kv_layout, dims, key_cache.dtype, head)
    block_table.check_offsets(OP, "cu_seqlens", dims["Bp"], dims["B"], "block_tables")
    if key_cache.dtype.itemsize > 1 and out_dtype != key_cache.dtype:
        raise TypeError(
            f"{OP}: out_dtype is {out_dtype.name}, must be that of key_cache, {key_cache.dtype.name}, which is not quantised"
        )
    return tuple(jax.ShapeDtypeStruct((total_tokens, dims["Hk"], d), out_dtype) for d in (head, dims["Dv"]))


def _take_keys(layout: str):
    def take(x: jax.Array, index: Any) -> jax.Array:
        block, place = index
        if layout == "NHD":
            return x[block, place]
        return x[block, :, place] if layout == "HND" else x[block, :, :, place].reshape(len(block), x.shape[1], -1)

    return take


def _take_values(layout: str):
    def take(x: jax.Array, index: Any) -> jax.Array:
        block, place = index
        if layout == "asm":
            return x[block, :, place // x.shape[-1], :, place % x.shape[-1]]
        return x[block, :, :, place] if layout == "vllm" else _take_keys(layout)(x, index)

    return take


def _reference(
    *, key_cache, value_cache, block_tables, cu_seqlens, seq_starts, k_scale, v_scale, total_tokens, kv_layout, out_dtype,
    per_token_scales,
):  # fmt: skip
    sizes = write.sizes_of(key_cache, kv_layout)
    cu_seqlens, block_tables = some_sequence(cu_seqlens, block_tables)
    if block_tables.shape[1] == 0:
        block_tables = jnp.full((block_tables.shape[0], 1), -1, jnp.int32)
    own = owners(cu_seqlens, total_tokens)
    position = own.offset if seq_starts is None or not seq_starts.shape[0] else own.offset + seq_starts[own.sequence]
    column, place = position // sizes["bs"], position % sizes["bs"]
    last = block_tables.shape[1] - 1
    block = block_tables[own.sequence, jnp.clip(column, 0, last)]
    held = own.owned & (position >= 0) & (column <= last) & (block >= 0) & (block < sizes["nb"])
    block = jnp.clip(block, 0, sizes["nb"] - 1)
    out = []
    for x, take, scale in ((key_cache, _take_keys, k_scale), (value_cache, _take_values, v_scale)):
        rows = narrow.read(x, (block, place), take(kv_layout))
        if x.dtype.itemsize == 1:
            rows = rows.astype(jnp.float32)
            if scale is not None:
                rows = rows * (scale[block, :, place][..., None] if per_token_scales else scale[0])
        out.append(jnp.where(held[:, None, None], rows, 0).astype(out_dtype))
    return tuple(out)


def _positions(block_tables, cu_seqlens, seq_starts, total_tokens: int, size: int):
    """Sequence of each row, `NOTHING` where there is none, and its position."""
    owner, position = np.full(total_tokens, NOTHING), np.zeros(total_tokens, int)
    for b, (first, end) in enumerate(itertools.pairwise(cu_seqlens)):
        for t in range(max(first, 0), min(end, total_tokens)):
            place = t - first + (0 if seq_starts is None else seq_starts[b])
            if 0 <= place < block_tables.shape[1] * size:
                owner[t], position[t] = b, place
    return owner, position


def _reads(
    *, key_cache, value_cache, block_tables, cu_seqlens, seq_starts, total_tokens, kv_layout, per_token_scales, **_
):  # fmt: skip
    sizes = write.sizes_of(key_cache, kv_layout)
    blocks, size, heads = sizes["nb"], sizes["bs"], sizes["Hk"]
    owner, position = _positions(block_tables, cu_seqlens, seq_starts, total_tokens, size)
    used = np.zeros(block_tables.shape, bool)
    slots, known = np.zeros((total_tokens, blocks, size), bool), np.zeros(total_tokens, bool)
    for t in np.flatnonzero(owner >= 0):
        used[owner[t], position[t] // size] = True
        block = block_tables[owner[t], position[t] // size]
        if 0 <= block < blocks:
            slots[t, block, position[t] % size], known[t] = True, True
    token, head = grid(total_tokens, heads)
    mask = slots[token][..., None] & at(head, heads)[:, None, None]
    none, count = np.zeros_like(mask), len(token)
    label = np.where(known[:, None], np.arange(count).reshape(total_tokens, heads), NOTHING)[..., None]
    operands = {"block_tables": used[None]}
    for i, (which, x) in enumerate((("key", key_cache), ("value", value_cache))):
        both = np.concatenate([none, mask] if i else [mask, none])
        axes = cache_axes(kv_layout)[f"{which}_cache"]
        operands[f"{which}_cache"] = by_layout(both, axes, x.shape[-1])
        if per_token_scales:
            operands[f"{which[0]}_scale"] = by_layout(both, "nb Hk bs")
    return Reads(2 * count, {"key": label, "value": np.where(label >= 0, label + count, NOTHING)}, operands)


def _data_checks(*, key_cache, block_tables, cu_seqlens, seq_starts, total_tokens, kv_layout, **_):
    sizes = write.sizes_of(key_cache, kv_layout)
    columns, size = block_tables.shape[1], sizes["bs"]
    lengths = jnp.diff(cu_seqlens)
    starts = jnp.zeros_like(lengths) if seq_starts is None else seq_starts
    room = columns * size - lengths
    first = jnp.arange(columns) * size
    used = (lengths[:, None] > 0) & (first < (starts + lengths)[:, None]) & (first + size > starts[:, None])
    checks = offset_checks("cu_seqlens", cu_seqlens, total_tokens)
    checks["seq_starts must be in [0, what block_tables has room for - length]"] = (starts < 0) | (starts > room)
    outside = (block_tables < 0) | (block_tables >= sizes["nb"])
    return {**checks, f"block_tables must be in [0, {sizes['nb']}) where a token is read": used & outside}


GATHER_CACHE = Op(
    name=OP,
    family="ATTENTION",
    mirrors="vLLM cp_mha_gather_cache (vllm/v1/attention/backends/rocm_aiter_fa.py), which feeds aiter.flash_attn_varlen_func",
    operands={
        "key_cache": Arg("nb bs Hk D", CACHE_DTYPES),
        "value_cache": Arg("nb bs Hk Dv", CACHE_DTYPES),
        "block_tables": Arg("B M", INT32),
        "cu_seqlens": Arg("Bp", INT32),
        "seq_starts": Arg("B", INT32, optional=True),
        "k_scale": Arg("1", ("float32",), optional=True),
        "v_scale": Arg("1", ("float32",), optional=True),
    },
    results={"key": "N Hk D", "value": "N Hk Dv"},
    relayout=block_table.cache_relayout,
    abstract=_abstract,
    reference=_reference,
    parallel=("Hk",),
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "nhd",
            key_cache=normal(6, 2, 2, 8),
            value_cache=normal(6, 2, 2, 8),
            block_tables=permutation(2, 3, among=6),
            cu_seqlens=constant([0, 3, 5], jnp.int32),
            total_tokens=6,
            kv_layout="NHD",
            out_dtype=np.dtype(jnp.float32),
            per_token_scales=False,
        ),
        case(
            "asm_int8",
            key_cache=constant([[[[[3] * 16] * 16] * 2] * 3] * 4, jnp.int8),
            value_cache=constant([[[[[5] * 16] * 32] * 1] * 3] * 4, jnp.int8),
            block_tables=permutation(1, 3, among=4),
            cu_seqlens=constant([0, 4], jnp.int32),
            seq_starts=constant([14], jnp.int32),
            k_scale=normal(4, 3, 16),
            v_scale=normal(4, 3, 16),
            total_tokens=5,
            kv_layout="asm",
            out_dtype=np.dtype(jnp.bfloat16),
            per_token_scales=True,
        ),
        case(
            "vllm_fp8",
            key_cache=normal(5, 1, 2, 3, 16, dtype=jnp.float8_e4m3fnuz),
            value_cache=normal(5, 1, 7, 3, dtype=jnp.float8_e4m3fnuz),
            block_tables=permutation(2, 2, among=5),
            cu_seqlens=constant([0, 0, 4], jnp.int32),
            k_scale=constant([0.5], jnp.float32),
            v_scale=constant([0.25], jnp.float32),
            total_tokens=4,
            kv_layout="vllm",
            out_dtype=np.dtype(jnp.bfloat16),
            per_token_scales=False,
        ),
    ],
)


@public
def gather_cache(
    key_cache: jax.Array,
    value_cache: jax.Array,
    block_tables: jax.Array,
    cu_seqlens: jax.Array,
    *,
    total_tokens: int,
    seq_starts: jax.Array | None = None,
    kv_layout: str = "NHD",
    k_scale: jax.Array | None = None,
    v_scale: jax.Array | None = None,
    out_dtype: Any = None,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Keys and values of each sequence's cached tokens, packed one sequence after the other: what `flash_attention_varlen` takes.

    Args:
      key_cache, value_cache: in one of the layouts of `kv_layout` (see `reshape_and_cache`), of any dtype that it writes.
      block_tables: ``[B, M]`` int32: the blocks of each sequence.
      cu_seqlens: ``[B + 1]`` int32 from 0: sequence b has rows ``cu_seqlens[b] .. cu_seqlens[b + 1] - 1`` of the result.
      total_tokens: static, the rows of the result. Those of no sequence are zeros.
      seq_starts: ``[B]`` int32, the position of each sequence's first row; None: 0 (a later chunk of the context has another).
      kv_layout: ``"NHD"``, ``"HND"``, ``"vllm"`` or ``"asm"``.
      k_scale, v_scale: float32 for fp8 and int8 caches, ``[1]``, or ``[nb, Hk, bs]`` for each slot and head; what comes out is
        multiplied by it (None is 1).
      out_dtype: of the results: for an fp8 or int8 cache float32, bfloat16 (None) or float16, else the cache's.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(key, value)``: ``[total_tokens, Hk, D]`` and ``[total_tokens, Hk, Dv]``. A row whose position lies outside of the
      table, or whose block outside of the cache, is zeros.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad offsets, positions and blocks.
    Mirrors vLLM's ``cp_mha_gather_cache``, which feeds ``aiter.flash_attn_varlen_func``.
    """
    check.choice(OP, "kv_layout", kv_layout, LAYOUTS)
    if out_dtype is None:
        out_dtype = jnp.bfloat16 if key_cache.dtype.itemsize == 1 else key_cache.dtype
    key, value = GATHER_CACHE(
        key_cache=key_cache,
        value_cache=value_cache,
        block_tables=block_tables,
        cu_seqlens=cu_seqlens,
        seq_starts=seq_starts,
        k_scale=k_scale,
        v_scale=v_scale,
        total_tokens=check.integer(OP, "total_tokens", total_tokens, 0),
        kv_layout=kv_layout,
        out_dtype=check.static_dtype(OP, "out_dtype", out_dtype, FLOATING),
        per_token_scales=block_table.scales_per_token(k_scale, v_scale),
        implementation=implementation,
    )
    return key, value
