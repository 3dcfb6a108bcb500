"""The indexer's queries and keys of new tokens in one: normalise, rotate, quantise, write (DeepSeek-V3.2)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, integers, normal
from jax_aiter.core.reads import NOTHING, at, grid, joined, spread
from jax_aiter.ops.cache import write
from jax_aiter.ops.indexer import quantised_keys
from jax_aiter.ops.norm.layer_norm import normalize
from jax_aiter.ops.norm.rms_norm import check_weight
from jax_aiter.ops.quant.numerics import amax_scale, saturating_cast
from jax_aiter.ops.rope import rotation

OP = "indexer_qk_rope_quant_and_cache"


class IndexerQkRope(NamedTuple):
    """Quantised queries ``[T, H, D]``, their weights with the queries' scales ``[T, H]``, and the cache, updated."""

    q_out: jax.Array
    weights_out: jax.Array
    kv_cache: jax.Array


def _whole(k: Any) -> int:
    """The part of a key that has a scale of its own."""
    return max(k.shape[1], 1)


def _abstract(dims, *, q, weights, k, kv_cache, norm_weight, norm_bias, cos, sin, preshuffle, quant_dtype, **_):
    check.same_dtype(OP, q=q.dtype, k=k.dtype, weights=weights.dtype)
    quantised_keys.check_writer(OP, dims, _whole(k), preshuffle)
    for name, weight in (("norm_weight", norm_weight), ("norm_bias", norm_bias)):
        check_weight(OP, k, weight, name, "k")
    rotation.check_tables(OP, dims, cos, sin, True, "D", "q")
    return jax.ShapeDtypeStruct(q.shape, quant_dtype), jax.ShapeDtypeStruct(weights.shape, jnp.float32), kv_cache


def _reference(
    *, q, weights, k, kv_cache, slot_mapping, norm_weight, norm_bias, positions, cos, sin,
    rotate_style, epsilon, scale_fmt, weights_scale, preshuffle, quant_dtype,
):  # fmt: skip
    rows, style = rotation.rows_at(cos, sin, positions), (rotate_style, True, False)
    normed = normalize(k.astype(jnp.float32), norm_weight, norm_bias, epsilon).astype(k.dtype)
    turned = rotation.rotate(normed[:, None], rows, *style)[:, 0]
    cache = quantised_keys.write(turned, kv_cache, slot_mapping, _whole(k), scale_fmt, preshuffle, quant_dtype)
    queries = rotation.rotate(q, rows, *style).astype(jnp.float32)
    scale = amax_scale(queries, quant_dtype, -1)
    if scale_fmt == "ue8m0":
        scale = quantised_keys.power_of_two(scale)
    codes, weighted = (
        saturating_cast(queries * (1 / scale), quant_dtype),
        weights.astype(jnp.float32) * scale[..., 0] * weights_scale,
    )
    held = ((slot_mapping >= 0) & (slot_mapping < quantised_keys.capacity(kv_cache)))[:, None]
    return jnp.where(held[..., None], codes, jnp.zeros((), codes.dtype)), jnp.where(held, weighted, 0.0), cache


def _reads(*, q, k, kv_cache, slot_mapping, positions, cos, preshuffle, **_):
    rows = rotation.row_read(positions, cos)
    token, head = grid(*q.shape[:2])
    own = at(token, len(q)), at(head, q.shape[1])
    table = dict.fromkeys(("cos", "sin"), rows[token])
    held = (slot_mapping >= 0) & (slot_mapping < quantised_keys.capacity(kv_cache))
    label = np.where(held[:, None], np.arange(len(token)).reshape(q.shape[:2]), NOTHING)
    name, slot, written = quantised_keys.written_part(slot_mapping, k, kv_cache, _whole(k), preshuffle)
    tokens = written["k"][..., 0]
    of_keys = {**written, **dict.fromkeys(("cos", "sin"), write.through(tokens, rows))}
    of_keys |= dict.fromkeys(("norm_weight", "norm_bias"), tokens.any(1, keepdims=True))
    queries = {"q": spread(*own, None), **table}
    return joined(
        [("q_out", label[..., None], queries), ("weights_out", label, {**queries, "weights": spread(*own)}), (name, slot, of_keys)]
    )


def _data_checks(*, kv_cache, slot_mapping, positions, cos, **_):
    slots = quantised_keys.capacity(kv_cache)
    return {**write.data_checks(slot_mapping, slots), **rotation.position_checks(positions, cos)}


def _batch(batched, **_):
    slots = quantised_keys.capacity(write.element(batched, "kv_cache"))
    return write.one_longer_cache(batched, slots, ("norm_weight", "norm_bias", "cos", "sin"))


INDEXER_QK_ROPE_QUANT_AND_CACHE = Op(
    name=OP,
    family="ATTENTION",
    mirrors="aiter.indexer_qk_rope_quant_and_cache (csrc/kernels/cache_kernels.cu)",
    operands={
        "q": Arg("T H D"),
        "weights": Arg("T H"),
        "k": Arg("T D"),
        "kv_cache": Arg("nb bs W", ("uint8",)),
        "slot_mapping": Arg("T", INT32),
        "norm_weight": Arg("D"),
        "norm_bias": Arg("D"),
        "positions": Arg("T", INT32),
        "cos": Arg("P R"),
        "sin": Arg("P R"),
    },
    results={"q_out": "T H D", "weights_out": "T H", "kv_cache": "nb bs W"},
    abstract=_abstract,
    reference=_reference,
    fixed=("D", "bs", "W", "R"),
    parallel=("H",),
    batch=_batch,
    aliases={"kv_cache": "kv_cache"},
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "bf16",
            q=normal(4, 3, 128, dtype=jnp.bfloat16),
            weights=normal(4, 3, dtype=jnp.bfloat16),
            k=normal(4, 128, dtype=jnp.bfloat16),
            kv_cache=integers(3, 4, 132, low=0, high=256, dtype=jnp.uint8),
            slot_mapping=constant([5, -1, 11, 0], jnp.int32),
            norm_weight=normal(128),
            norm_bias=normal(128),
            positions=integers(4, low=0, high=9),
            cos=normal(9, 32),
            sin=normal(9, 32),
            rotate_style="neox",
            epsilon=1e-6,
            scale_fmt=None,
            weights_scale=0.125,
            preshuffle=False,
            quant_dtype=np.dtype(jnp.float8_e4m3fnuz),
        ),
        case(
            "preshuffled_odd",
            q=normal(3, 1, 16),
            weights=normal(3, 1),
            k=normal(3, 16),
            kv_cache=integers(2, 16, 23, low=0, high=256, dtype=jnp.uint8),
            slot_mapping=constant([31, 2, 17], jnp.int32),
            norm_weight=normal(16),
            norm_bias=normal(16),
            positions=integers(3, low=0, high=5),
            cos=normal(5, 3),
            sin=normal(5, 3),
            rotate_style="gptj",
            epsilon=1e-5,
            scale_fmt="ue8m0",
            weights_scale=-2.0,
            preshuffle=True,
            quant_dtype=np.dtype(jnp.float8_e4m3fn),
        ),
    ],
)


@public
def indexer_qk_rope_quant_and_cache(
    q: jax.Array,
    weights: jax.Array,
    k: jax.Array,
    kv_cache: jax.Array,
    slot_mapping: jax.Array,
    norm_weight: jax.Array,
    norm_bias: jax.Array,
    positions: jax.Array,
    cos: jax.Array,
    sin: jax.Array,
    *,
    rotate_style: str = "neox",
    epsilon: float = 1e-6,
    scale_fmt: str | None = None,
    weights_scale: float = 1.0,
    preshuffle: bool = False,
    quant_dtype: Any = "fp8",
    implementation: str | None = None,
) -> IndexerQkRope:
    """What the indexer does to new tokens before it scores: queries rotated and quantised, keys normalised, rotated and written.

    Args:
      q: ``[T, H, D]`` float32, bfloat16 or float16: queries; k: ``[T, D]``: keys, one for all heads, neither normalised nor
        rotated; weights: ``[T, H]``, by which heads' scores are weighted. All three have one dtype.
      kv_cache: uint8 ``[nb, bs, W]``, W >= D + 4, as `indexer_k_quant_and_cache` lays it out, one scale to a key.
      slot_mapping: ``[T]`` int32, ``block * bs + place``. A token whose slot is negative or past the capacity is not written, and
        its query and weights are zeros. If two tokens have the same slot, each byte there is one of theirs, which one is undefined.
      norm_weight, norm_bias: ``[D]`` of `layer_norm` over a key; the dtype of `k`, or float32.
      positions: ``[T]`` int32, rows of the tables. One outside [0, P) uses the nearest row.
      cos, sin: cosines and sines, ``[P, R]`` float, for example of `rope_tables`: the first 2 R elements of a query and a key are
        rotated.
      rotate_style: static: ``"neox"`` pairs element i with i + R, ``"gptj"`` 2i with 2i + 1.
      epsilon: static, >= 0, added to the variance by the norm.
      scale_fmt: static. The scale of a query or a key is its largest magnitude (at least 1e-10 and 1e-4) over the largest fp8
        value: as it is (None), or the next power of two (``"ue8m0"``). What is stored is ``x / scale``, rounded to nearest and
        saturated, after the roundings of norm and rotation to the tokens' own dtype.
      weights_scale: static: a factor of all weights, for example ``D**-0.5 * H**-0.5``.
      preshuffle, quant_dtype: static; see `indexer_k_quant_and_cache`.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(q_out, weights_out, kv_cache)``: fp8 ``[T, H, D]``; float32 ``[T, H]``, ``weights * scale of the query * weights_scale``,
      which with `q_out` is what `fp8_paged_mqa_logits` and `sparse_attn_indexer` take; the cache, updated in place if it is
      donated.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad positions, and bad and
    repeated slots. Mirrors ``aiter.indexer_qk_rope_quant_and_cache``, which leaves queries without a slot unwritten.
    """
    call = {"q": q, "weights": weights, "k": k, "kv_cache": kv_cache, "slot_mapping": slot_mapping, "positions": positions}
    found = INDEXER_QK_ROPE_QUANT_AND_CACHE(
        **call,
        norm_weight=norm_weight,
        norm_bias=norm_bias,
        **rotation.call_of(OP, cos, sin, rotate_style),
        epsilon=check.real(OP, "epsilon", epsilon, low=0.0),
        weights_scale=check.real(OP, "weights_scale", weights_scale),
        **quantised_keys.parameters(OP, scale_fmt, preshuffle, quant_dtype),
        implementation=implementation,
    )
    return IndexerQkRope(*found)
