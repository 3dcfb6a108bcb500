"""The work list of AITER's persistent MLA kernels, for all layers of a model at once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.arch import FNUZ
from jax_aiter.core.axes import FLOATING, FP8_TYPES, INT32, Arg
from jax_aiter.ops.attention import work_arguments
from jax_aiter.ops.attention.block_table import check_offsets
from jax_aiter.ops.mla import metadata
from jax_aiter.ops.mla.metadata import MlaMetadata
from jax_aiter.ops.mla.tiles import Tiles
from jax_aiter.ops.mla.work import decoding_work, token_bounds

OP = "get_mla_metadata_v1"
BF16 = np.dtype(jnp.bfloat16)
KEYS = 2**30  # of all sequences: the kernels address the list of their numbers with 32 bits


def _tiles(sequences: Any, tiles: tuple[int, int, int]) -> Tiles:
    return Tiles(sequences, *tiles, 0, 0)  # a list does not depend on the heads of a tile


def _abstract(dims, *, tiles, num_cu, **_):
    check_offsets(OP, "seqlens_qo_indptr", dims["Bp"], dims["B"], of="kv_last_page_lens")
    listed = _tiles(dims["B"], tiles)
    work_arguments.below_rows(OP, listed.number + num_cu, listed.tokens, dims["B"])
    found: Any = metadata.structs(listed, num_cu)
    return tuple(found)


def _reference(
    *, seqlens_qo_indptr, seqlens_kv_indptr, kv_last_page_lens, is_causal, page_size, max_seqlen_qo, tiles, num_cu, **_
):  # fmt: skip
    listed = _tiles(kv_last_page_lens.shape[0], tiles)
    bounds = token_bounds(seqlens_kv_indptr, kv_last_page_lens, page_size)
    works = decoding_work(seqlens_qo_indptr, bounds, listed, max_seqlen_qo, is_causal, num_cu)
    return tuple(metadata.of_list(works, listed, is_causal))


def _data_checks(*, seqlens_qo_indptr, seqlens_kv_indptr, kv_last_page_lens, page_size, max_seqlen_qo, **_):
    most = KEYS // page_size
    return {
        **work_arguments.data_checks(seqlens_qo_indptr, "seqlens_kv_indptr", seqlens_kv_indptr, most, page_size, max_seqlen_qo),
        f"kv_last_page_lens must be in [1, {page_size}]": (kv_last_page_lens < 1) | (kv_last_page_lens > page_size),
    }


GET_MLA_METADATA_V1 = Op(
    name=OP,
    family="MLA",
    mirrors="aiter.get_mla_metadata_v1, get_mla_metadata_info_v1 (aiter/ops/attention.py, csrc/kernels/mla/metadata)",
    operands={
        "seqlens_qo_indptr": Arg("Bp", INT32),
        "seqlens_kv_indptr": Arg("Bp", INT32),
        "kv_last_page_lens": Arg("B", INT32),
    },
    results=metadata.AXES,
    abstract=_abstract,
    reference=_reference,
    data_checks=_data_checks,
    cases=lambda: [
        work_arguments.offsets_case(
            "ragged_pages",
            {"seqlens_qo_indptr": [0, 1, 4, 4], "seqlens_kv_indptr": [0, 2, 20, 21], "kv_last_page_lens": [3, 16, 1]},
            num_heads_per_head_k=32, is_causal=True, dtype_q=BF16, dtype_kv=BF16, page_size=16, max_seqlen_qo=3,
            tiles=(2, 1, 3), num_cu=5,
        ),
        work_arguments.offsets_case(
            "one_token_pages",
            {"seqlens_qo_indptr": [0, 1, 3], "seqlens_kv_indptr": [0, 700, 765], "kv_last_page_lens": [1, 1]},
            num_heads_per_head_k=128, is_causal=False, dtype_q=FNUZ, dtype_kv=FNUZ, page_size=1, max_seqlen_qo=2,
            tiles=(1, 2, 1), num_cu=4,
        ),
    ],
)  # fmt: skip


@public
def get_mla_metadata_v1(
    seqlens_qo_indptr: jax.Array,
    seqlens_kv_indptr: jax.Array,
    kv_last_page_lens: jax.Array,
    num_heads_per_head_k: int,
    num_heads_k: int = 1,
    is_causal: bool = True,
    *,
    max_seqlen_qo: int,
    dtype_q: Any,
    dtype_kv: Any,
    page_size: int = 1,
    num_cu: int | None = None,
    implementation: str | None = None,
) -> MlaMetadata:
    """The work list of `mla_decode_fwd`: which workgroup takes which keys of which sequence, computed once for all layers.

    Args:
      seqlens_qo_indptr, seqlens_kv_indptr: ``[B + 1]`` int32, `mla_decode_fwd`'s `qo_indptr`, in queries, and `kv_indptr`, in
        pages.
      kv_last_page_lens: ``[B]`` int32, tokens in the last page of each sequence.
      num_heads_per_head_k: static, the query heads Hq; num_heads_k: 1, since all heads share one key.
      is_causal: static, `mla_decode_fwd`'s `causal`.
      max_seqlen_qo: static, at least the most queries of a sequence, the same as `mla_decode_fwd` is given.
      dtype_q, dtype_kv: dtypes of its `q` and `kv_buffer`.
      page_size: static, tokens of a page of `kv_buffer`.
      num_cu: static, workgroups to share the work among; None: the compute units of the target (without one, of the MI300X).
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``; the list is made by XLA on every device.

    Returns:
      An `MlaMetadata` of int32 arrays, whose shapes follow from the static arguments and B alone (``jax.eval_shape`` tells them,
      as AITER's ``get_mla_metadata_info_v1`` does): pass them on with ``mla_decode_fwd(..., **metadata._asdict())``.

    Keys are dealt out in blocks of 16, as evenly as AITER's list does, but the cuts are not the same ones and every work has a
    partial result. Sequences without queries get no work. Kernels that split every sequence evenly, and other implementations,
    do not use a list. Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad offsets
    and lengths. Mirrors ``aiter.get_mla_metadata_v1`` in its default mode.
    """
    heads = check.integer(OP, "num_heads_per_head_k", num_heads_per_head_k, 1)
    check.integer(OP, "num_heads_k", num_heads_k, 1, 1)
    causal = check.boolean(OP, "is_causal", is_causal)
    queries = check.integer(OP, "max_seqlen_qo", max_seqlen_qo, 1)
    dtype_q = check.static_dtype(OP, "dtype_q", dtype_q, (*FLOATING, *FP8_TYPES))
    dtype_kv = check.static_dtype(OP, "dtype_kv", dtype_kv, (*FLOATING, *FP8_TYPES))
    one = metadata.tiles_for(dtype_q, dtype_kv, heads, queries, causal, 1)
    units = work_arguments.workgroups(OP, num_cu)
    found = GET_MLA_METADATA_V1(
        seqlens_qo_indptr=seqlens_qo_indptr,
        seqlens_kv_indptr=seqlens_kv_indptr,
        kv_last_page_lens=kv_last_page_lens,
        num_heads_per_head_k=heads,
        is_causal=causal,
        dtype_q=dtype_q,
        dtype_kv=dtype_kv,
        page_size=check.integer(OP, "page_size", page_size, 1),
        max_seqlen_qo=queries,
        tiles=(one.folds, one.count, one.tokens),
        num_cu=units,
        implementation=implementation,
    )
    return MlaMetadata(*found)
