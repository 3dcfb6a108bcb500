"""The work list of AITER's persistent paged attention kernels, for all layers of a model at once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.ops.attention import pa_metadata, work_arguments
from jax_aiter.ops.attention.block_table import check_offsets
from jax_aiter.ops.attention.pa_metadata import PaMetadata
from jax_aiter.ops.attention.pa_work import asked, used_blocks, work_list, works_of

OP = "get_pa_metadata_v1"
MOST_HEADS = 2**15 - 1  # a work names its query heads in 16 bits


def _pages(block_size: int) -> int:
    """Of all sequences at most: tokens are counted in int32."""
    return (2**31 - 1) // block_size


def _abstract(dims, *, num_heads_k, max_seqlen_qo, num_cu, **_):
    sequences = dims["B"]
    for name in ("seqlens_qo_indptr", "pages_kv_indptr"):
        check_offsets(OP, name, dims["Bp"], sequences)
    works = works_of(sequences, num_heads_k, num_cu)
    work_arguments.below_rows(OP, works, max_seqlen_qo, sequences, more=1)
    found: Any = pa_metadata.structs(sequences, num_heads_k, num_cu)
    return tuple(found)


def _reference(
    *, seqlens_qo_indptr, pages_kv_indptr, context_lens, num_heads_per_head_k, num_heads_k, block_size, max_seqlen_qo, num_cu
):  # fmt: skip
    first, count, _ = used_blocks(pages_kv_indptr, context_lens, _pages(block_size), block_size)
    (count,) = asked(seqlens_qo_indptr, count)
    listed = work_list(first, count, max_seqlen_qo, num_heads_per_head_k, num_heads_k, num_cu)
    return tuple(pa_metadata.of_list(listed, max_seqlen_qo, num_heads_k, num_cu))


def _data_checks(*, seqlens_qo_indptr, pages_kv_indptr, context_lens, block_size, max_seqlen_qo, **_):
    most = _pages(block_size)
    held = jnp.diff(jnp.clip(pages_kv_indptr, 0, most)) * block_size
    return {
        **work_arguments.data_checks(seqlens_qo_indptr, "pages_kv_indptr", pages_kv_indptr, most, block_size, max_seqlen_qo),
        "context_lens must be in [0, tokens of the sequence's pages]": (context_lens < 0) | (context_lens > held),
    }


GET_PA_METADATA_V1 = Op(
    name=OP,
    family="ATTENTION",
    mirrors="aiter.get_pa_metadata_v1, get_pa_metadata_info_v1 (aiter/ops/attention.py, csrc/kernels/mla/metadata)",
    operands={
        "seqlens_qo_indptr": Arg("Bp", INT32),
        "pages_kv_indptr": Arg("Bp", INT32),
        "context_lens": Arg("B", INT32),
    },
    results=pa_metadata.AXES,
    abstract=_abstract,
    reference=_reference,
    data_checks=_data_checks,
    cases=lambda: [
        work_arguments.offsets_case(
            "two_heads",
            {"seqlens_qo_indptr": [0, 1, 4, 4, 6], "pages_kv_indptr": [0, 2, 11, 12, 12], "context_lens": [17, 130, 9, 0]},
            num_heads_per_head_k=3, num_heads_k=2, block_size=16, max_seqlen_qo=3, num_cu=8,
        ),
    ],
)  # fmt: skip


@public
def get_pa_metadata_v1(
    seqlens_qo_indptr: jax.Array,
    pages_kv_indptr: jax.Array,
    context_lens: jax.Array,
    num_heads_per_head_k: int,
    num_heads_k: int = 1,
    is_causal: bool = True,
    *,
    max_seqlen_qo: int = 1,
    block_size: int = 16,
    num_cu: int | None = None,
    implementation: str | None = None,
) -> PaMetadata:
    """The work list of `pa_persistent_fwd`: which workgroup takes which blocks of which sequence, computed once for all layers.

    Args:
      seqlens_qo_indptr, pages_kv_indptr: ``[B + 1]`` int32, `pa_persistent_fwd`'s `qo_indptr`, in queries, and `kv_indptr`, in
        pages.
      context_lens: ``[B]`` int32, tokens of each sequence.
      num_heads_per_head_k, num_heads_k: static, query heads per key/value head, and key/value heads.
      is_causal: static; the list is the same either way. `pa_persistent_fwd` is causal.
      max_seqlen_qo: static, at least the most queries of a sequence: `pa_persistent_fwd`'s `max_qlen`.
      block_size: static, tokens of a block of the cache.
      num_cu: static, workgroups to share the work among, a multiple of `num_heads_k`; None: as many as the compute units of the
        target (without one, of the MI300X) allow.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``; the list is made by XLA on every device.

    Returns:
      A `PaMetadata` of int32 arrays, whose shapes follow from the static arguments and B alone (``jax.eval_shape`` tells them, as
      AITER's ``get_pa_metadata_info_v1`` does): pass them on with ``pa_persistent_fwd(..., **metadata._asdict())``.

    The works are AITER's, cut at the same blocks, but for three things: query rows are counted `max_seqlen_qo` for every sequence,
    which is how `pa_persistent_fwd` lays them out; every sequence has its place in the `reduce` arrays, not only those that are
    split; and pages past a sequence's length may lie between those of two sequences. Sequences without queries get no pages.
    Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad offsets and lengths. Mirrors
    ``aiter.get_pa_metadata_v1``; addresses (its ``work_metadata_ptrs``) mean nothing in JAX, and each launch passes its own.
    """
    check.boolean(OP, "is_causal", is_causal)
    kv_heads = check.integer(OP, "num_heads_k", num_heads_k, 1, MOST_HEADS)
    group = check.integer(OP, "num_heads_per_head_k", num_heads_per_head_k, 1, MOST_HEADS // kv_heads)
    units = work_arguments.workgroups(OP, num_cu)
    if num_cu is None:
        units = max(units - units % kv_heads, kv_heads)
    check.multiple(OP, "num_cu", units, kv_heads, "every key/value head has workgroups of its own")
    found = GET_PA_METADATA_V1(
        seqlens_qo_indptr=seqlens_qo_indptr,
        pages_kv_indptr=pages_kv_indptr,
        context_lens=context_lens,
        num_heads_per_head_k=group,
        num_heads_k=kv_heads,
        block_size=check.integer(OP, "block_size", block_size, 1),
        max_seqlen_qo=check.integer(OP, "max_seqlen_qo", max_seqlen_qo, 1),
        num_cu=units,
        implementation=implementation,
    )
    return PaMetadata(*found)
