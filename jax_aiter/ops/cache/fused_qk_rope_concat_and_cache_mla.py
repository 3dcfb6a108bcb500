"""MLA's queries and new cache rows in one: rotate, concatenate, write."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.arch import fp8_dtype
from jax_aiter.core.axes import FLOATING, FP8_TYPES, INT32, Arg
from jax_aiter.core.cases import case, constant, integers, normal
from jax_aiter.core.reads import at, grid, joined, spread
from jax_aiter.ops.cache import mla_layout, write
from jax_aiter.ops.quant.numerics import quantize_stored
from jax_aiter.ops.rope import rotation

OP = "fused_qk_rope_concat_and_cache_mla"
QUERIES = (*FLOATING, *FP8_TYPES)


class RopeAndCacheMla(NamedTuple):
    """Queries as attention takes them ``[T, Hq, L + R]``, rotated keys ``[T, R]``, and the cache, updated."""

    q_out: jax.Array
    k_pe_out: jax.Array
    kv_cache: jax.Array


def _abstract(dims, *, q_nope, q_pe, kv_c, k_pe, kv_cache, cos, sin, k_scale, q_scale, q_out_dtype, reuse_freqs_front_part, **_):
    check.same_dtype(OP, q_nope=q_nope.dtype, q_pe=q_pe.dtype, kv_c=kv_c.dtype, k_pe=k_pe.dtype)
    mla_layout.check_cache(OP, dims, kv_c.dtype, kv_cache, "k_scale", k_scale)
    rotation.check_tables(OP, dims, cos, sin, reuse_freqs_front_part, "R", "q_pe", "F")
    if q_scale is not None and q_out_dtype.itemsize > 1:
        raise TypeError(f"{OP}: q_scale is for fp8 queries, but q_out_dtype is {q_out_dtype.name}")
    return jax.ShapeDtypeStruct((*q_nope.shape[:2], dims["C"]), q_out_dtype), k_pe, kv_cache


def _reference(
    *, q_nope, q_pe, kv_c, k_pe, kv_cache, slot_mapping, positions, cos, sin, k_scale, q_scale,
    rotate_style, reuse_freqs_front_part, q_out_dtype, head_axis,
):  # fmt: skip
    rows, style = rotation.rows_at(cos, sin, positions), (rotate_style, reuse_freqs_front_part, False)
    q = jnp.concatenate([q_nope, rotation.rotate(q_pe, rows, *style)], axis=-1)
    if q_out_dtype.itemsize == 1:
        q = quantize_stored(q, q_scale, q_out_dtype)
    k_out = rotation.rotate(k_pe[:, None], rows, *style)[:, 0]
    return q.astype(q_out_dtype), k_out, mla_layout.write(kv_c, k_out, kv_cache, slot_mapping, k_scale)


def _batch(batched, **_):
    slots = mla_layout.capacity(write.element(batched, "kv_cache"))
    return write.one_longer_cache(batched, slots, ("cos", "sin", "k_scale", "q_scale"))


def _reads(*, q_nope, kv_cache, slot_mapping, positions, cos, **_):
    rows = rotation.row_read(positions, cos)
    token, head = grid(*q_nope.shape[:2])
    own = spread(at(token, len(q_nope)), at(head, q_nope.shape[1]), None)
    queries = {"q_nope": own, "q_pe": own, "cos": rows[token], "sin": rows[token]}
    keys = {"k_pe": np.eye(len(positions), dtype=bool)[..., None], "cos": rows, "sin": rows}
    name, label, written = mla_layout.written_part(slot_mapping, kv_cache, "kv_c", "k_pe")
    table = write.through(written["k_pe"][..., 0], rows)
    labels = [np.arange(len(token)).reshape(*q_nope.shape[:2], 1), np.arange(len(positions))[:, None]]
    return joined(
        [("q_out", labels[0], queries), ("k_pe_out", labels[1], keys), (name, label, {**written, "cos": table, "sin": table})]
    )


def _data_checks(*, kv_cache, slot_mapping, positions, cos, **_):
    slots = mla_layout.capacity(kv_cache)
    return {**write.data_checks(slot_mapping, slots), **rotation.position_checks(positions, cos)}


FUSED_QK_ROPE_CONCAT_AND_CACHE_MLA = Op(
    name=OP,
    family="MLA",
    mirrors="aiter.fused_qk_rope_concat_and_cache_mla (csrc/kernels/cache_kernels.cu)",
    operands={
        "q_nope": Arg("T Hq L"),
        "q_pe": Arg("T Hq R"),
        "kv_c": Arg("T L"),
        "k_pe": Arg("T R"),
        "kv_cache": Arg("nb bs C", (*FLOATING, *FP8_TYPES)),
        "slot_mapping": Arg("T", INT32),
        "positions": Arg("T", INT32),
        "cos": Arg("P F"),
        "sin": Arg("P F"),
        "k_scale": Arg("1", ("float32",), optional=True),
        "q_scale": Arg("1", ("float32",), optional=True),
    },
    results={"q_out": "T Hq C", "k_pe_out": "T R", "kv_cache": "nb bs C"},
    relayout=mla_layout.axes,
    abstract=_abstract,
    reference=_reference,
    fixed=("R", "F"),
    parallel=("Hq",),
    batch=_batch,
    aliases={"kv_cache": "kv_cache"},
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "bf16",
            q_nope=normal(4, 3, 16, dtype=jnp.bfloat16),
            q_pe=normal(4, 3, 8, dtype=jnp.bfloat16),
            kv_c=normal(4, 16, dtype=jnp.bfloat16),
            k_pe=normal(4, 8, dtype=jnp.bfloat16),
            kv_cache=normal(3, 4, 1, 24, dtype=jnp.bfloat16),
            slot_mapping=constant([5, -1, 11, 0], jnp.int32),
            positions=integers(4, low=0, high=9),
            cos=normal(9, 4),
            sin=normal(9, 4),
            rotate_style="gptj",
            reuse_freqs_front_part=True,
            q_out_dtype=np.dtype(jnp.bfloat16),
            head_axis=True,
        ),
        case(
            "fp8_odd",
            q_nope=normal(3, 1, 5, dtype=jnp.bfloat16),
            q_pe=normal(3, 1, 6, dtype=jnp.bfloat16),
            kv_c=normal(3, 5, dtype=jnp.bfloat16),
            k_pe=normal(3, 6, dtype=jnp.bfloat16),
            kv_cache=normal(5, 3, 11, dtype=jnp.float8_e4m3fnuz),
            slot_mapping=constant([14, 2, 0], jnp.int32),
            positions=integers(3, low=0, high=4),
            cos=normal(4, 6),
            sin=normal(4, 6),
            k_scale=constant([0.03], jnp.float32),
            q_scale=constant([0.02], jnp.float32),
            rotate_style="neox",
            reuse_freqs_front_part=False,
            q_out_dtype=np.dtype(jnp.float8_e4m3fnuz),
            head_axis=False,
        ),
    ],
)


@public
def fused_qk_rope_concat_and_cache_mla(
    q_nope: jax.Array,
    q_pe: jax.Array,
    kv_c: jax.Array,
    k_pe: jax.Array,
    kv_cache: jax.Array,
    slot_mapping: jax.Array,
    positions: jax.Array,
    cos: jax.Array,
    sin: jax.Array,
    *,
    rotate_style: str = "neox",
    reuse_freqs_front_part: bool = True,
    k_scale: jax.Array | None = None,
    q_scale: jax.Array | None = None,
    q_out_dtype: Any = None,
    implementation: str | None = None,
) -> RopeAndCacheMla:
    """`rope` of MLA's queries and shared key, the queries concatenated as attention takes them, and `concat_and_cache_mla`, as one.

    Args:
      q_nope: ``[T, Hq, L]`` float32, bfloat16 or float16: absorbed queries; q_pe: ``[T, Hq, R]``, their part to be rotated.
      kv_c: ``[T, L]``: the normalised latent; k_pe: ``[T, R]``: the shared key, not yet rotated. All four have one dtype.
      kv_cache: ``[nb, bs, L + R]``, or ``[nb, bs, 1, L + R]`` as `mla_decode_fwd` reads it; the dtype of `kv_c`, or fp8.
      slot_mapping: ``[T]`` int32, ``block * bs + place``. A token whose slot is negative or past the capacity is rotated but not
        written. If two tokens have the same slot, each element there is one of theirs, which one is undefined.
      positions: ``[T]`` int32, rows of the tables. One outside [0, P) uses the nearest row.
      cos, sin: cosines and sines, ``[P, R / 2]`` float, for example of `rope_tables`, or (reuse_freqs_front_part=False) ``[P, R]``.
      rotate_style: ``"neox"`` pairs element i with i + R/2, ``"gptj"`` (DeepSeek) pairs 2i with 2i + 1.
      k_scale: ``[1]`` float32 for an fp8 cache, q_scale: for fp8 queries (None is 1): what is stored is ``k / k_scale``, and
        returned ``q / q_scale``, rounded to nearest and saturated, after the rounding to the tokens' own dtype.
      q_out_dtype: of the queries that come out: None (the dtype of `q_nope`), a float dtype, or ``"fp8"`` or one of the fp8 dtypes.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(q_out, k_pe_out, kv_cache)``: ``[T, Hq, L + R]``, ``[T, R]`` rotated, and the cache, updated in place if it is donated.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad positions, and bad and
    repeated slots. Mirrors ``aiter.fused_qk_rope_concat_and_cache_mla``.
    """
    turned = rotation.call_of(OP, cos, sin, rotate_style, reuse_freqs_front_part=reuse_freqs_front_part)
    if q_out_dtype is None:
        q_out_dtype = q_nope.dtype
    elif isinstance(q_out_dtype, str) and q_out_dtype == "fp8":
        q_out_dtype = fp8_dtype()
    found = FUSED_QK_ROPE_CONCAT_AND_CACHE_MLA(
        q_nope=q_nope,
        q_pe=q_pe,
        kv_c=kv_c,
        k_pe=k_pe,
        kv_cache=kv_cache,
        slot_mapping=slot_mapping,
        positions=positions,
        **turned,
        k_scale=k_scale,
        q_scale=q_scale,
        q_out_dtype=check.static_dtype(OP, "q_out_dtype", q_out_dtype, QUERIES),
        head_axis=mla_layout.has_head_axis(kv_cache),
        implementation=implementation,
    )
    return RopeAndCacheMla(*found)
