"""Normalise and rotate the queries and keys of new tokens and write keys and values into a paged cache: Qwen3, GLM-4."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.cases import case, constant, integers, normal, permutation
from jax_aiter.ops.cache.kv_layout import LAYOUTS
from jax_aiter.ops.cache.rotated import RopeAndCache, record
from jax_aiter.ops.rope import rotation

FUSED_QK_NORM_ROPE_CACHE = record(
    "fused_qk_norm_rope_cache",
    "aiter.fused_qk_norm_rope_cache_pts_quant_shuffle (aiter/ops/fused_qk_norm_rope_cache_quant.py)",
    lambda: [
        case(
            "nhd",
            q=normal(3, 4, 8),
            k=normal(3, 2, 8),
            v=normal(3, 2, 8),
            q_weight=normal(8),
            k_weight=normal(8),
            key_cache=normal(4, 2, 2, 8),
            value_cache=normal(4, 2, 2, 8),
            slot_mapping=constant([5, -1, 0], jnp.int32),
            positions=integers(3, low=0, high=7),
            cos=normal(7, 4),
            sin=normal(7, 4),
            epsilon=1e-6,
            rotate_style="neox",
            reuse_freqs_front_part=True,
            nope_first=False,
            kv_layout="NHD",
        ),
        case(
            "asm_int8_partial",
            q=normal(4, 6, 32, dtype=jnp.bfloat16),
            k=normal(4, 3, 32, dtype=jnp.bfloat16),
            v=normal(4, 3, 32, dtype=jnp.bfloat16),
            q_weight=normal(32, dtype=jnp.bfloat16),
            k_weight=normal(32),
            key_cache=constant([[[[[0] * 16] * 16] * 2] * 3] * 2, jnp.int8),
            value_cache=constant([[[[[0] * 16] * 32] * 1] * 3] * 2, jnp.int8),
            slot_mapping=permutation(4, among=32),
            positions=integers(4, low=0, high=5),
            cos=normal(5, 8),
            sin=normal(5, 8),
            k_scale=constant([0.02], jnp.float32),
            v_scale=constant([0.03], jnp.float32),
            epsilon=1e-5,
            rotate_style="gptj",
            reuse_freqs_front_part=True,
            nope_first=False,
            kv_layout="asm",
        ),
    ],
    norm=True,
)


@public
def fused_qk_norm_rope_cache(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    q_weight: jax.Array,
    k_weight: jax.Array,
    key_cache: jax.Array,
    value_cache: jax.Array,
    slot_mapping: jax.Array,
    positions: jax.Array,
    cos: jax.Array,
    sin: jax.Array,
    *,
    epsilon: float = 1e-6,
    rotate_style: str = "neox",
    reuse_freqs_front_part: bool = True,
    nope_first: bool = False,
    kv_layout: str = "NHD",
    k_scale: jax.Array | None = None,
    v_scale: jax.Array | None = None,
    implementation: str | None = None,
) -> RopeAndCache:
    """`rms_norm` of each head of the queries and keys of new tokens, then `rope_and_cache`, as one.

    Args:
      q: ``[T, Hq, D]`` float32, bfloat16 or float16; k: ``[T, Hk, D]``, v: ``[T, Hk, Dv]``, the dtype of `q`.
      q_weight, k_weight: ``[D]``, the dtype of `q`, or float32.
      epsilon: static, > 0, added to the mean of the squares by the norm.
      key_cache, value_cache, slot_mapping, positions, cos, sin: as of `rope_and_cache`, and so are rotate_style,
        reuse_freqs_front_part, nope_first, kv_layout, k_scale and v_scale.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(q_out, k_out, key_cache, value_cache)`` as of `rope_and_cache`. The norm is rounded to the dtype of `q` before the
      rotation, as the ops one after another do.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad positions, and bad and
    repeated slots. Mirrors ``aiter.fused_qk_norm_rope_cache_pts_quant_shuffle``, which takes q, k and v in one array.
    """
    op = "fused_qk_norm_rope_cache"
    check.choice(op, "kv_layout", kv_layout, LAYOUTS)
    found = FUSED_QK_NORM_ROPE_CACHE(
        q=q,
        k=k,
        v=v,
        q_weight=q_weight,
        k_weight=k_weight,
        key_cache=key_cache,
        value_cache=value_cache,
        slot_mapping=slot_mapping,
        positions=positions,
        **rotation.call_of(op, cos, sin, rotate_style, reuse_freqs_front_part=reuse_freqs_front_part, nope_first=nope_first),
        k_scale=k_scale,
        v_scale=v_scale,
        epsilon=check.real(op, "epsilon", epsilon, low=0.0, open_low=True),
        kv_layout=kv_layout,
        implementation=implementation,
    )
    return RopeAndCache(*found)
