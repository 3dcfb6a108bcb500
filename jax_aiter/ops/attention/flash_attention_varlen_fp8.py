"""Attention of packed sequences of fp8 values with scales per key head; forward only."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FP8_TYPES, Arg
from jax_aiter.core.cases import case, constant, normal, uniform
from jax_aiter.core.machine import always
from jax_aiter.ops.attention import flash_attention_varlen_bwd as varlen
from jax_aiter.ops.attention import packing
from jax_aiter.ops.attention import params as params_of
from jax_aiter.ops.attention import reads as reads_of
from jax_aiter.ops.attention.flash_attention_fp8 import SCALES, relayout, scales_per_head
from jax_aiter.ops.attention.forms import rows
from jax_aiter.ops.attention.forms.blocks import forward
from jax_aiter.ops.attention.forms.visible import Scores
from jax_aiter.ops.attention.ragged import owners


def _abstract(dims, *, q, k, v, return_lse=False, **_):
    check.same_dtype("flash_attention_varlen_fp8", q=q.dtype, k=k.dtype, v=v.dtype)
    params_of.group_size("flash_attention_varlen_fp8", dims["Hq"], dims["Hk"])
    if dims["Bp"] == 0 or dims.get("B", dims["Bp"] - 1) != dims["Bp"] - 1:
        raise ValueError(
            f"flash_attention_varlen_fp8: cu_seqlens_q has {dims['Bp']} elements, must have one more than there are sequences, "
            f"of which q_descale has {dims.get('B', 'any number')}"
        )
    out = jax.ShapeDtypeStruct((dims["Tq"], dims["Hq"], dims["Dv"]), jnp.bfloat16)
    return out, jax.ShapeDtypeStruct((dims["Hq"], dims["Tq"]) if return_lse else (0,), jnp.float32)


def _relayout(params) -> dict[str, str]:
    return relayout(params) | ({} if params.get("return_lse") else {"lse": "none"})


def _reference(
    *, q, k, v, cu_seqlens_q, cu_seqlens_k, q_descale, k_descale, v_descale, scale, causal, sliding_window, return_lse=False, **_
):  # fmt: skip
    heads, sequences = k.shape[1], cu_seqlens_q.shape[0] - 1
    lse_shape = (q.shape[1], q.shape[0]) if return_lse else (0,)
    if sequences == 0:
        return jnp.zeros((*q.shape[:2], v.shape[2]), jnp.bfloat16), jnp.full(lse_shape, -jnp.inf, jnp.float32)
    q_descale, k_descale, v_descale = (jnp.broadcast_to(x, (sequences, heads)) for x in (q_descale, k_descale, v_descale))
    keys, sequence = packing.packed_keys(cu_seqlens_q, cu_seqlens_k, q.shape[0], causal, sliding_window)
    of_key = owners(cu_seqlens_k, k.shape[0]).sequence
    k, v = (x.astype(jnp.float32) * s[of_key][..., None] for x, s in ((k, k_descale), (v, v_descale)))
    q = q.astype(jnp.float32) * jnp.repeat(q_descale[sequence], q.shape[1] // heads, axis=1)[..., None]
    out, lse = forward(packing.group(q, heads), k.swapaxes(0, 1)[None], v.swapaxes(0, 1)[None], keys, Scores(scale, 0.0))
    return packing.merge(out).astype(jnp.bfloat16), lse.reshape(lse_shape) if return_lse else jnp.zeros(lse_shape, jnp.float32)


def _reads(*, q, k, cu_seqlens_q, cu_seqlens_k, causal, sliding_window, return_lse=False, **operands):
    sees = reads_of.packed_sees(len(q), len(k), cu_seqlens_q, cu_seqlens_k, causal, sliding_window)
    found = reads_of.Heads(q, k, *sees).forward(scales={n: operands[n] for n in SCALES})
    return found if return_lse else reads_of.without_lse(found)


FLASH_ATTENTION_VARLEN_FP8 = Op(
    name="flash_attention_varlen_fp8",
    family="ATTENTION",
    mirrors="aiter.flash_attn_varlen_fp8_pertensor_func (aiter/ops/mha.py)",
    operands={
        "q": Arg("Tq Hq D", FP8_TYPES),
        "k": Arg("Tk Hk D", FP8_TYPES),
        "v": Arg("Tk Hk Dv", FP8_TYPES),
        **varlen.OFFSETS,
        **dict.fromkeys(SCALES, Arg("B Hk", ("float32",))),
    },
    results={"out": "Tq Hq Dv", "lse": "Hq Tq"},  # lse is [0] if not asked for
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    gpu=always(rows.NAME),
    infinite=("lse",),
    reads=_reads,
    data_checks=varlen.data_checks,
    cases=lambda: [
        case(
            "causal_padded",
            q=normal(9, 4, 16, dtype=jnp.float8_e4m3fnuz),
            k=normal(9, 2, 16, dtype=jnp.float8_e4m3fnuz),
            v=normal(9, 2, 16, dtype=jnp.float8_e4m3fnuz),
            cu_seqlens_q=constant([0, 3, 3, 8], jnp.int32),
            cu_seqlens_k=constant([0, 3, 4, 9], jnp.int32),
            **{name: uniform(3, 2, low=0.5, high=2.0) for name in SCALES},
            max_seqlen_q=8,
            max_seqlen_k=8,
            scale=0.25,
            causal=True,
            sliding_window=(-1, -1),
            descale_per_head=True,
            return_lse=False,
        ),
        case(
            "lse_keyless",
            q=normal(9, 4, 16, dtype=jnp.float8_e4m3fn),
            k=normal(8, 2, 16, dtype=jnp.float8_e4m3fn),
            v=normal(8, 2, 8, dtype=jnp.float8_e4m3fn),
            cu_seqlens_q=constant([0, 4, 6, 8], jnp.int32),
            cu_seqlens_k=constant([0, 2, 2, 7], jnp.int32),
            **{name: uniform(1, low=0.5, high=2.0) for name in SCALES},
            max_seqlen_q=4,
            max_seqlen_k=5,
            scale=0.25,
            causal=True,
            sliding_window=(-1, -1),
            descale_per_head=False,
            return_lse=True,
        ),
    ],
)


@public
def flash_attention_varlen_fp8(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    q_descale: jax.Array,
    k_descale: jax.Array,
    v_descale: jax.Array,
    cu_seqlens_q: jax.Array,
    cu_seqlens_k: jax.Array,
    max_seqlen_q: int,
    max_seqlen_k: int,
    *,
    causal: bool = False,
    scale: float | None = None,
    sliding_window: tuple[int, int] | None = None,
    return_lse: bool = False,
    implementation: str | None = None,
    kernel: str | None = None,
) -> Any:
    """`flash_attention_fp8` of B sequences packed one after the other.

    Args:
      q: ``[Tq, Hq, D]``, k: ``[Tk, Hk, D]``, v: ``[Tk, Hk, Dv]`` of one fp8 dtype, packed as in `flash_attention_varlen`.
      q_descale, k_descale, v_descale: float32 ``[1]`` or ``[B, Hk]``, as in `flash_attention_fp8`.
      cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k: as in `flash_attention_varlen`.
      causal, scale, sliding_window, return_lse, implementation, kernel: as in `flash_attention_fp8`.

    Returns:
      ``[Tq, Hq, Dv]`` bfloat16; rows past the last sequence are zero. With `return_lse` also float32 ``[Hq, Tq]``. Not
      differentiable.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters. Mirrors ``aiter.flash_attn_varlen_fp8_pertensor_func``.
    """
    op = "flash_attention_varlen_fp8"
    for name, x, ndim in (("q", q, 3), ("k", k, 3), ("cu_seqlens_q", cu_seqlens_q, 1)):
        params_of.require_array(op, name, x, ndim)
    scales = {"q_descale": q_descale, "k_descale": k_descale, "v_descale": v_descale}
    out, lse = FLASH_ATTENTION_VARLEN_FP8(
        q=q,
        k=k,
        v=v,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
        **scales,
        descale_per_head=scales_per_head(op, cu_seqlens_q.shape[0] - 1, k.shape[1], **scales),
        max_seqlen_q=check.integer(op, "max_seqlen_q", max_seqlen_q, 0),
        max_seqlen_k=check.integer(op, "max_seqlen_k", max_seqlen_k, 0),
        scale=params_of.softmax_scale(op, scale, q.shape[2]),
        causal=check.boolean(op, "causal", causal),
        sliding_window=params_of.window_pair(op, sliding_window),
        return_lse=check.boolean(op, "return_lse", return_lse),
        implementation=implementation,
        kernel=kernel,
    )
    return (out, lse) if return_lse else out
