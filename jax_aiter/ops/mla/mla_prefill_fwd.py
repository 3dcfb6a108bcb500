"""Prefill with multi-head latent attention on the paged latent cache: long queries, absorbed as in decoding."""

import dataclasses

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, constant, normal, permutation
from jax_aiter.ops.mla import latent
from jax_aiter.ops.mla.mla_decode_fwd import MLA_DECODE_FWD


def _abstract(dims, *, q, kv_buffer, v_head_dim=latent.VALUE_DIM, **_):
    return (latent.output("mla_prefill_fwd", dims, q=q, kv_buffer=kv_buffer, v_head_dim=v_head_dim),)


def _reference(*, max_seqlen_q, **arguments):
    return (latent.attention(**arguments, longest=max_seqlen_q)[0],)


def _data_checks(*, max_seqlen_q, **operands):
    return latent.data_checks("max_seqlen_q", max_seqlen_q, **operands)


LISTS = ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens")

MLA_PREFILL_FWD = dataclasses.replace(
    MLA_DECODE_FWD,
    name="mla_prefill_fwd",
    mirrors="aiter.mla.mla_prefill_fwd (aiter/mla.py)",
    operands={
        "q": Arg("Tq Hq D"),
        "kv_buffer": Arg("pages page 1 D"),
        **{n: MLA_DECODE_FWD.operands[n] for n in LISTS},
    },
    results={"out": "Tq Hq V"},
    abstract=_abstract,
    reference=_reference,
    infinite=(),
    data_checks=_data_checks,
    defaults={"v_head_dim": latent.VALUE_DIM},
    cases=lambda: [
        case(
            "chunk_of_a_longer_context",
            q=normal(7, 2, 576, dtype=jnp.bfloat16),
            kv_buffer=normal(9, 2, 1, 576, dtype=jnp.bfloat16),
            qo_indptr=constant([0, 3, 7], jnp.int32),
            kv_indptr=constant([0, 2, 5], jnp.int32),
            kv_indices=permutation(6, among=9),
            kv_last_page_lens=constant([1, 2], jnp.int32),
            max_seqlen_q=4,
            sm_scale=0.04,
        ),
        case(
            "rank_32",
            q=normal(4, 3, 40),
            kv_buffer=normal(6, 1, 1, 40),
            qo_indptr=constant([0, 4], jnp.int32),
            kv_indptr=constant([0, 4], jnp.int32),
            kv_indices=permutation(4, among=6),
            kv_last_page_lens=constant([1], jnp.int32),
            max_seqlen_q=4,
            sm_scale=0.2,
            v_head_dim=32,
        ),
    ],
)


@public
def mla_prefill_fwd(
    q: jax.Array,
    kv_buffer: jax.Array,
    qo_indptr: jax.Array,
    kv_indptr: jax.Array,
    kv_indices: jax.Array,
    kv_last_page_lens: jax.Array,
    *,
    max_seqlen_q: int,
    sm_scale: float,
    v_head_dim: int | None = None,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """Causal attention of absorbed MLA queries over a paged latent cache that holds their own keys too.

    Args:
      q: ``[Tq, Hq, D]`` float32, bfloat16 or float16; sequence b has rows ``qo_indptr[b] .. qo_indptr[b + 1] - 1``, at its last
        positions. Rows of no sequence give zeros.
      kv_buffer: ``[pages, page, 1, D]``, the dtype of `q`; the value of a token is the first V of its D numbers.
      qo_indptr, kv_indptr: ``[B + 1]`` int32 from 0, not decreasing; `kv_indptr` counts pages.
      kv_indices: ``[n]`` int32, n >= kv_indptr[B]: the pages of sequence b at ``kv_indptr[b] .. kv_indptr[b + 1] - 1``.
      kv_last_page_lens: ``[B]`` int32, tokens in the last page of each sequence, 1 to page.
      max_seqlen_q: static, at least the most queries of a sequence (kernels size their grids by it).
      sm_scale: of the scores, usually ``1 / sqrt(192)``.
      v_head_dim: static, V, the rank of the latent; None is 512, for D = 576, the only sizes that AITER's kernels take.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: the one hand-written kernel to run (its symbol, or its code object's name).

    Returns:
      ``[Tq, Hq, V]``, the dtype of `q`. Queries without keys give 0. Not differentiable. (AITER's function also returns a
      buffer for the log-sum-exp, which its kernels leave unwritten.)

    Pages and places outside the cache or past a last page's length count as in `mla_decode_fwd`. Raises TypeError or ValueError
    for wrong shapes, dtypes or parameters; `debug_checks` reports bad offsets, pages and lengths. Mirrors
    ``aiter.mla.mla_prefill_fwd``.
    """
    op = "mla_prefill_fwd"
    (out,) = MLA_PREFILL_FWD(
        q=q,
        kv_buffer=kv_buffer,
        qo_indptr=qo_indptr,
        kv_indptr=kv_indptr,
        kv_indices=kv_indices,
        kv_last_page_lens=kv_last_page_lens,
        max_seqlen_q=check.integer(op, "max_seqlen_q", max_seqlen_q, 1),
        sm_scale=check.real(op, "sm_scale", sm_scale, low=0.0, open_low=True),
        v_head_dim=latent.value_dim(op, q, v_head_dim),
        implementation=implementation,
        kernel=kernel,
    )
    return out
