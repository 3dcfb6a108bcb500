"""Decoding with multi-head latent attention: one shared key per token, whose first numbers are also its value."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FLOATING, FP8_TYPES, INT32, Arg
from jax_aiter.core.cases import case, constant, normal, permutation
from jax_aiter.core.machine import always
from jax_aiter.ops.attention.forms import chunked
from jax_aiter.ops.mla import latent, metadata


def _abstract(dims, *, q, kv_buffer, q_scale, kv_scale, v_head_dim=latent.VALUE_DIM, **rest):
    metadata.check("mla_decode_fwd", dims, rest)
    scales = {"q_scale": q_scale, "kv_scale": kv_scale}
    out = latent.output("mla_decode_fwd", dims, q=q, kv_buffer=kv_buffer, v_head_dim=v_head_dim, **scales)
    return out, jax.ShapeDtypeStruct(out.shape[:2], jnp.float32)


def _reference(*, max_seqlen_qo, return_lse, **arguments):
    given = {n: x for n, x in arguments.items() if n not in metadata.AXES}  # a work list changes no result
    return latent.attention(**given, longest=max_seqlen_qo)


def _data_checks(*, max_seqlen_qo, **operands):
    found = latent.data_checks("max_seqlen_qo", max_seqlen_qo, **operands)
    return {**found, **metadata.data_checks(max_seqlen_qo, **operands)}


MLA_DECODE_FWD = Op(
    name="mla_decode_fwd",
    family="MLA",
    mirrors="aiter.mla.mla_decode_fwd (aiter/mla.py)",
    operands={
        "q": Arg("Tq Hq D", (*FLOATING, *FP8_TYPES)),
        "kv_buffer": Arg("pages page 1 D", (*FLOATING, *FP8_TYPES)),
        "qo_indptr": Arg("Bp", INT32),
        "kv_indptr": Arg("Bp", INT32),
        "kv_indices": Arg("slots", INT32),
        "kv_last_page_lens": Arg("B", INT32),
        "q_scale": Arg("1", ("float32",), optional=True),
        "kv_scale": Arg("1", ("float32",), optional=True),
        **metadata.OPERANDS,
    },
    results={"out": "Tq Hq V", "lse": "Tq Hq"},
    abstract=_abstract,
    reference=_reference,
    gpu=always(chunked.NAME),
    fixed=("page", "D"),
    infinite=("lse",),
    batch=latent.batch,
    reads=latent.reads,
    data_checks=_data_checks,
    defaults={"v_head_dim": latent.VALUE_DIM},
    cases=lambda: [
        case(
            "ragged_bf16",
            q=normal(5, 2, 576, dtype=jnp.bfloat16),
            kv_buffer=normal(7, 2, 1, 576, dtype=jnp.bfloat16),
            qo_indptr=constant([0, 1, 4], jnp.int32),
            kv_indptr=constant([0, 2, 5], jnp.int32),
            kv_indices=permutation(6, among=7),
            kv_last_page_lens=constant([1, 2], jnp.int32),
            **metadata.constants(  # of two workgroups
                work_meta_data=[1, 1, 3, 1],
                work_indptr=[0, 1, 2],
                work_info_set=[[0, 0, 0, 3, 0, 3, 0, 0], [1, 3, 3, 6, 3, 9, 0, 0], [0] * 8],
                reduce_indptr=[0, 1, 2],
                reduce_final_map=[[0, 3], [3, 6]],
                reduce_partial_map=[0, 3, 0],
            ),
            max_seqlen_qo=3,
            sm_scale=0.04,
            logit_cap=0.0,
            causal=True,
            return_lse=True,
        ),
        case(
            "fp8_cap",
            q=normal(2, 1, 576, dtype=jnp.float8_e4m3fnuz),
            kv_buffer=normal(6, 1, 1, 576, dtype=jnp.float8_e4m3fnuz),
            qo_indptr=constant([0, 1, 2], jnp.int32),
            kv_indptr=constant([0, 3, 5], jnp.int32),
            kv_indices=permutation(5, among=6),
            kv_last_page_lens=constant([1, 1], jnp.int32),
            q_scale=constant([0.5], jnp.float32),
            kv_scale=constant([2.0], jnp.float32),
            max_seqlen_qo=1,
            sm_scale=0.04,
            logit_cap=5.0,
            causal=True,
            return_lse=True,
        ),
        case(
            "rank_32",
            q=normal(3, 2, 40),
            kv_buffer=normal(4, 2, 1, 40),
            qo_indptr=constant([0, 1, 3], jnp.int32),
            kv_indptr=constant([0, 1, 3], jnp.int32),
            kv_indices=permutation(3, among=4),
            kv_last_page_lens=constant([2, 1], jnp.int32),
            max_seqlen_qo=2,
            sm_scale=0.2,
            logit_cap=0.0,
            causal=True,
            return_lse=True,
            v_head_dim=32,
        ),
    ],
)


@public
def mla_decode_fwd(
    q: jax.Array,
    kv_buffer: jax.Array,
    qo_indptr: jax.Array,
    kv_indptr: jax.Array,
    kv_indices: jax.Array,
    kv_last_page_lens: jax.Array,
    *,
    max_seqlen_qo: int,
    sm_scale: float,
    logit_cap: float = 0.0,
    q_scale: jax.Array | None = None,
    kv_scale: jax.Array | None = None,
    causal: bool = True,
    return_lse: bool = False,
    v_head_dim: int | None = None,
    work_meta_data: jax.Array | None = None,
    work_indptr: jax.Array | None = None,
    work_info_set: jax.Array | None = None,
    reduce_indptr: jax.Array | None = None,
    reduce_final_map: jax.Array | None = None,
    reduce_partial_map: jax.Array | None = None,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Attention of absorbed MLA queries over a paged latent cache (DeepSeek-V2/V3: rank 512 and 64 rotary dimensions).

    Args:
      q: ``[Tq, Hq, D]`` float32, bfloat16, float16 or fp8; sequence b has rows ``qo_indptr[b] .. qo_indptr[b + 1] - 1``, at its
        last positions. Rows of no sequence give zeros.
      kv_buffer: ``[pages, page, 1, D]``, the dtype of `q`, or fp8; the value of a token is the first V of its D numbers.
      qo_indptr, kv_indptr: ``[B + 1]`` int32 from 0, not decreasing; `kv_indptr` counts pages.
      kv_indices: ``[n]`` int32, n >= kv_indptr[B]: the pages of sequence b at ``kv_indptr[b] .. kv_indptr[b + 1] - 1``.
      kv_last_page_lens: ``[B]`` int32, tokens in the last page of each sequence, 1 to page.
      max_seqlen_qo: static, at least the most queries of a sequence (kernels size their grids by it).
      sm_scale: of the scores, usually ``1 / sqrt(192)``.
      logit_cap: if not 0, scores become ``cap * tanh(score / cap)`` (AITER's asm kernels know only 0).
      q_scale, kv_scale: ``[1]`` float32 for fp8 `q` and `kv_buffer`, whose values are multiplied by it; None is 1.
      causal: a query sees no key after its position.
      return_lse: also return the log-sum-exp of the scores (natural logarithm).
      v_head_dim: static, V, the rank of the latent; None is 512, for D = 576, the only sizes that AITER's kernels take.
      work_meta_data, work_indptr, work_info_set, reduce_indptr, reduce_final_map, reduce_partial_map: all or none: what
        `get_mla_metadata_v1` makes of this batch, for AITER's persistent kernels, which are then preferred to those that split
        every sequence evenly. None: a persistent kernel's list is made in this call. They change no result.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: the one hand-written kernel to run (its symbol, or its code object's name).

    Returns:
      ``[Tq, Hq, V]``, the dtype of `q` (bfloat16 for fp8), and with `return_lse` float32 ``[Tq, Hq]``. Queries without keys give
      0 and -inf. Not differentiable.

    Places past a last page's length are never attended to, pages past a sequence's last never read, and a page number outside
    ``[0, pages)`` counts as absent. AITER's hand-written kernels read a page number outside as the nearest one inside, and fill up
    their last tile of keys with the first token of `kv_buffer`, times zero: that token must be finite.
    Metadata of another number of heads or queries, or of another `causal`, makes a persistent kernel's results NaN where its shapes
    do not tell; that of other sequences makes them undefined. Neither reads or writes outside the operands.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad offsets,
    pages and lengths. Mirrors ``aiter.mla.mla_decode_fwd``.
    """
    op = "mla_decode_fwd"
    out, lse = MLA_DECODE_FWD(
        q=q,
        kv_buffer=kv_buffer,
        qo_indptr=qo_indptr,
        kv_indptr=kv_indptr,
        kv_indices=kv_indices,
        kv_last_page_lens=kv_last_page_lens,
        q_scale=q_scale,
        kv_scale=kv_scale,
        work_meta_data=work_meta_data,
        work_indptr=work_indptr,
        work_info_set=work_info_set,
        reduce_indptr=reduce_indptr,
        reduce_final_map=reduce_final_map,
        reduce_partial_map=reduce_partial_map,
        max_seqlen_qo=check.integer(op, "max_seqlen_qo", max_seqlen_qo, 1),
        sm_scale=check.real(op, "sm_scale", sm_scale, low=0.0, open_low=True),
        logit_cap=check.real(op, "logit_cap", logit_cap, low=0.0),
        causal=check.boolean(op, "causal", causal),
        return_lse=check.boolean(op, "return_lse", return_lse),
        v_head_dim=latent.value_dim(op, q, v_head_dim),
        implementation=implementation,
        kernel=kernel,
    )
    return (out, lse) if return_lse else out
