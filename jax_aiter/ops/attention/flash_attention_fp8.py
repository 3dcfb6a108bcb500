"""Attention of whole sequences of fp8 values with scales per key head; forward only."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FP8_TYPES, Arg
from jax_aiter.core.cases import case, normal, uniform
from jax_aiter.core.machine import always
from jax_aiter.ops.attention import params as params_of
from jax_aiter.ops.attention import reads as reads_of
from jax_aiter.ops.attention.flash_attention_bwd import group_heads, merge_heads
from jax_aiter.ops.attention.forms import rows
from jax_aiter.ops.attention.forms.blocks import forward
from jax_aiter.ops.attention.forms.visible import Scores, dense_keys

SCALES: tuple[str, ...] = ("q_descale", "k_descale", "v_descale")


def _abstract(dims, *, q, k, v, return_lse=False, **_):
    check.same_dtype("flash_attention_fp8", q=q.dtype, k=k.dtype, v=v.dtype)
    params_of.group_size("flash_attention_fp8", dims["Hq"], dims["Hk"])
    rows = (dims["B"], dims["Hq"], dims["Sq"]) if return_lse else (dims["B"], 0)
    out = jax.ShapeDtypeStruct((dims["B"], dims["Sq"], dims["Hq"], dims["Dv"]), jnp.bfloat16)
    return out, jax.ShapeDtypeStruct(rows, jnp.float32)


def relayout(params) -> dict[str, str]:
    return {} if params["descale_per_head"] else dict.fromkeys(SCALES, "1")


def _relayout(params) -> dict[str, str]:
    return relayout(params) | ({} if params.get("return_lse") else {"lse": "B none"})


def _reference(
    *, q, k, v, q_descale, k_descale, v_descale, scale, causal, sliding_window, descale_per_head, return_lse=False
):  # fmt: skip
    heads, queries, length = k.shape[2], q.shape[1], k.shape[1]
    q_descale, k_descale, v_descale = (jnp.broadcast_to(x, (q.shape[0], heads)) for x in (q_descale, k_descale, v_descale))
    keys = dense_keys(queries, length, causal, sliding_window)
    k, v = (x.swapaxes(1, 2).astype(jnp.float32) * s[:, :, None, None] for x, s in ((k, k_descale), (v, v_descale)))
    grouped = group_heads(q.astype(jnp.float32), heads) * q_descale[:, :, None, None, None]
    out, lse = forward(grouped, k, v, keys, Scores(scale, 0.0))
    lse = lse.reshape(q.shape[0], q.shape[2], queries) if return_lse else jnp.zeros((q.shape[0], 0), jnp.float32)
    return merge_heads(out).astype(jnp.bfloat16), lse


def _reads(*, q, k, causal, sliding_window, descale_per_head, return_lse=False, **operands):
    sees = reads_of.dense_sees(q.shape[1], k.shape[1], causal, sliding_window)
    found = reads_of.Heads(q, k, sees).forward(scales={n: operands[n] for n in SCALES})
    return found if return_lse else reads_of.without_lse(found)


def scales_per_head(op: str, sequences: int, heads: int, **scales: jax.Array) -> bool:
    """Whether scales are [B, Hk] rather than [1]; all three must be alike."""
    for name, x in scales.items():
        shape = getattr(x, "shape", None)
        if shape not in ((1,), (sequences, heads)):
            raise ValueError(f"{op}: {name} has shape {shape}, must be (1,) or {(sequences, heads)}")
    if len({x.ndim for x in scales.values()}) > 1:
        raise ValueError(f"{op}: the scales must have one shape, got {', '.join(f'{n} {x.shape}' for n, x in scales.items())}")
    return scales["q_descale"].ndim == 2


FLASH_ATTENTION_FP8 = Op(
    name="flash_attention_fp8",
    family="ATTENTION",
    mirrors="aiter.flash_attn_fp8_pertensor_func (aiter/ops/mha.py)",
    operands={
        "q": Arg("B Sq Hq D", FP8_TYPES),
        "k": Arg("B Sk Hk D", FP8_TYPES),
        "v": Arg("B Sk Hk Dv", FP8_TYPES),
        **dict.fromkeys(SCALES, Arg("B Hk", ("float32",))),
    },
    results={"out": "B Sq Hq Dv", "lse": "B Hq Sq"},  # lse is [B, 0] if not asked for
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    gpu=always(rows.NAME),
    infinite=("lse",),
    parallel=("B",),
    fold="B",
    reads=_reads,
    cases=lambda: [
        case(
            "causal",
            q=normal(2, 5, 4, 16, dtype=jnp.float8_e4m3fnuz),
            k=normal(2, 7, 2, 16, dtype=jnp.float8_e4m3fnuz),
            v=normal(2, 7, 2, 16, dtype=jnp.float8_e4m3fnuz),
            **{name: uniform(2, 2, low=0.5, high=2.0) for name in SCALES},
            scale=0.25,
            causal=True,
            sliding_window=(-1, -1),
            descale_per_head=True,
            return_lse=False,
        ),
        case(
            "window_ocp",
            q=normal(1, 9, 1, 8, dtype=jnp.float8_e4m3fn),
            k=normal(1, 4, 1, 8, dtype=jnp.float8_e4m3fn),
            v=normal(1, 4, 1, 16, dtype=jnp.float8_e4m3fn),
            **{name: uniform(1, low=0.5, high=2.0) for name in SCALES},
            scale=0.25,
            causal=False,
            sliding_window=(2, 1),
            descale_per_head=False,
            return_lse=False,
        ),
        case(
            "lse_keyless",
            q=normal(2, 7, 4, 16, dtype=jnp.float8_e4m3fn),
            k=normal(2, 5, 2, 16, dtype=jnp.float8_e4m3fn),
            v=normal(2, 5, 2, 8, dtype=jnp.float8_e4m3fn),
            **{name: uniform(1, low=0.5, high=2.0) for name in SCALES},
            scale=0.25,
            causal=True,
            sliding_window=(-1, -1),
            descale_per_head=False,
            return_lse=True,
        ),
    ],
)


@public
def flash_attention_fp8(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    q_descale: jax.Array,
    k_descale: jax.Array,
    v_descale: jax.Array,
    *,
    causal: bool = False,
    scale: float | None = None,
    sliding_window: tuple[int, int] | None = None,
    return_lse: bool = False,
    implementation: str | None = None,
    kernel: str | None = None,
) -> Any:
    """`flash_attention` of quantised values: ``softmax(scale (q q_descale) (k k_descale)ᵀ) (v v_descale)``.

    AITER's kernels round the probabilities to fp8 too, relative to each row's largest; the reference lowering does not.

    Args:
      q: ``[B, Sq, Hq, D]`` float8_e4m3fnuz (gfx942) or float8_e4m3fn.
      k: ``[B, Sk, Hk, D]``, v: ``[B, Sk, Hk, Dv]``, the dtype of `q`.
      q_descale, k_descale, v_descale: float32 ``[1]``, or ``[B, Hk]``: a factor per sequence and key head (query heads that share a
        key head share their scale).
      causal, scale, sliding_window, return_lse: as in `flash_attention`.
      implementation: None (auto), ``"asm"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``[B, Sq, Hq, Dv]`` bfloat16, and with `return_lse` float32 ``[B, Hq, Sq]``. Not differentiable.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters. Mirrors ``aiter.flash_attn_fp8_pertensor_func``.
    """
    op = "flash_attention_fp8"
    for name, x in (("q", q), ("k", k)):
        params_of.require_array(op, name, x, 4)
    scales = {"q_descale": q_descale, "k_descale": k_descale, "v_descale": v_descale}
    out, lse = FLASH_ATTENTION_FP8(
        q=q,
        k=k,
        v=v,
        **scales,
        descale_per_head=scales_per_head(op, k.shape[0], k.shape[2], **scales),
        scale=params_of.softmax_scale(op, scale, q.shape[3]),
        causal=check.boolean(op, "causal", causal),
        sliding_window=params_of.window_pair(op, sliding_window),
        return_lse=check.boolean(op, "return_lse", return_lse),
        implementation=implementation,
        kernel=kernel,
    )
    return (out, lse) if return_lse else out
