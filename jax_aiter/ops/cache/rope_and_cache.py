"""Rotate the queries and keys of new tokens and write keys and values into a paged cache, in place where it is donated."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.cases import case, constant, integers, normal, permutation
from jax_aiter.ops.cache.kv_layout import LAYOUTS
from jax_aiter.ops.cache.rotated import RopeAndCache, record
from jax_aiter.ops.rope import rotation

ROPE_AND_CACHE = record(
    "rope_and_cache",
    "aiter fused_qk_rope_reshape_and_cache (aiter/ops/triton/fusions/fused_kv_cache.py)",
    lambda: [
        case(
            "nhd",
            q=normal(3, 4, 8),
            k=normal(3, 2, 8),
            v=normal(3, 2, 8),
            key_cache=normal(4, 2, 2, 8),
            value_cache=normal(4, 2, 2, 8),
            slot_mapping=constant([5, -1, 0], jnp.int32),
            positions=integers(3, low=0, high=7),
            cos=normal(7, 4),
            sin=normal(7, 4),
            rotate_style="neox",
            reuse_freqs_front_part=True,
            nope_first=False,
            kv_layout="NHD",
        ),
        case(
            "hnd_partial",
            q=normal(4, 6, 10, dtype=jnp.bfloat16),
            k=normal(4, 3, 10, dtype=jnp.bfloat16),
            v=normal(4, 3, 7, dtype=jnp.bfloat16),
            key_cache=normal(4, 3, 3, 10, dtype=jnp.bfloat16),
            value_cache=normal(4, 3, 3, 7, dtype=jnp.bfloat16),
            slot_mapping=permutation(4, among=12),
            positions=integers(4, low=0, high=5),
            cos=normal(5, 6),
            sin=normal(5, 6),
            rotate_style="gptj",
            reuse_freqs_front_part=False,
            nope_first=True,
            kv_layout="HND",
        ),
        case(
            "vllm",
            q=normal(2, 2, 8, dtype=jnp.float16),
            k=normal(2, 1, 8, dtype=jnp.float16),
            v=normal(2, 1, 8, dtype=jnp.float16),
            key_cache=normal(3, 1, 1, 4, 8, dtype=jnp.float16),
            value_cache=normal(3, 1, 8, 4, dtype=jnp.float16),
            slot_mapping=constant([11, -3], jnp.int32),
            positions=integers(2, low=0, high=6),
            cos=normal(6, 4, dtype=jnp.float16),
            sin=normal(6, 4, dtype=jnp.float16),
            rotate_style="gptj",
            reuse_freqs_front_part=True,
            nope_first=False,
            kv_layout="vllm",
        ),
        case(
            "asm_fp8",
            q=normal(2, 3, 32, dtype=jnp.bfloat16),
            k=normal(2, 1, 32, dtype=jnp.bfloat16),
            v=normal(2, 1, 32, dtype=jnp.bfloat16),
            key_cache=normal(3, 1, 2, 16, 16, dtype=jnp.float8_e4m3fnuz),
            value_cache=normal(3, 1, 1, 32, 16, dtype=jnp.float8_e4m3fnuz),
            slot_mapping=constant([17, 3], jnp.int32),
            positions=integers(2, low=0, high=9),
            cos=normal(9, 16),
            sin=normal(9, 16),
            k_scale=constant([0.02], jnp.float32),
            v_scale=constant([0.03], jnp.float32),
            rotate_style="neox",
            reuse_freqs_front_part=True,
            nope_first=False,
            kv_layout="asm",
        ),
    ],
)


@public
def rope_and_cache(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    key_cache: jax.Array,
    value_cache: jax.Array,
    slot_mapping: jax.Array,
    positions: jax.Array,
    cos: jax.Array,
    sin: jax.Array,
    *,
    rotate_style: str = "neox",
    reuse_freqs_front_part: bool = True,
    nope_first: bool = False,
    kv_layout: str = "NHD",
    k_scale: jax.Array | None = None,
    v_scale: jax.Array | None = None,
    implementation: str | None = None,
) -> RopeAndCache:
    """`rope` of the queries and keys of new tokens, and `reshape_and_cache` of the rotated keys and of the values, as one.

    Args:
      q: ``[T, Hq, D]`` float32, bfloat16 or float16; k: ``[T, Hk, D]``, v: ``[T, Hk, Dv]``, the dtype of `q`.
      key_cache, value_cache: blocks of `bs` slots in one of the layouts of `kv_layout` (see `reshape_and_cache`); the dtype of `k`,
        or fp8 or int8.
      slot_mapping: ``[T]`` int32, ``block * bs + place``. A token whose slot is negative or past the capacity is rotated but not
        written. If two tokens have the same slot, each element there is one of theirs, which one is undefined.
      positions: ``[T]`` int32, rows of the tables. One outside [0, P) uses the nearest row.
      cos, sin: cosines and sines, ``[P, R]`` float, for example of `rope_tables`: one column per rotated pair, or
        (reuse_freqs_front_part=False) one per element. What of D is not rotated passes unchanged.
      rotate_style, nope_first: as of `rope`.
      kv_layout: ``"NHD"``, ``"HND"``, ``"vllm"`` or ``"asm"``.
      k_scale, v_scale: ``[1]`` float32 for fp8 and int8 caches (None is 1): what is stored is ``k / k_scale`` and ``v / v_scale``,
        rounded to nearest and saturated; the keys are rounded to their own dtype before. AITER's kernels round once only, so that a
        code may be the neighbouring one.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(q_out, k_out, key_cache, value_cache)``: `q` and `k` rotated, and the caches, updated in place if the arguments are donated
      (``jax.jit(..., donate_argnums=...)`` or carried by ``lax.scan``), on every platform and for every dtype.

    Raises TypeError or ValueError for wrong shapes, dtypes or layout; `debug_checks` reports bad positions, and bad and repeated
    slots. Mirrors AITER's ``fused_qk_rope_reshape_and_cache``.
    """
    op = "rope_and_cache"
    check.choice(op, "kv_layout", kv_layout, LAYOUTS)
    found = ROPE_AND_CACHE(
        q=q,
        k=k,
        v=v,
        key_cache=key_cache,
        value_cache=value_cache,
        slot_mapping=slot_mapping,
        positions=positions,
        **rotation.call_of(op, cos, sin, rotate_style, reuse_freqs_front_part=reuse_freqs_front_part, nope_first=nope_first),
        k_scale=k_scale,
        v_scale=v_scale,
        kv_layout=kv_layout,
        implementation=implementation,
    )
    return RopeAndCache(*found)
