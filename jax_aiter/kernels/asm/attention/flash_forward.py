"""Flash attention v3, forward: one workgroup takes `ts_qo` queries of one head."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.attention.flash import (
    CAUSAL,
    DEFAULT_ROUNDING,
    DTYPES,
    NO_MASK,
    Shape,
    need_below,
    need_plain,
    need_strides,
    placed,
    shape_of,
    window_of,
)
from jax_aiter.kernels.asm.registry import Selected, forced, listed, need, op
from jax_aiter.kernels.asm.structs import struct
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.provider import Call, Program

TABLE = "fmha_v3_fwd/fmha_fwd.csv"
SOURCE = "csrc/cpp_itfs/mha_fwd.cu fmha_fwd_v3"
ARGUMENTS = struct(
    "fmha_fwd_v3",
    SOURCE,
    "ptr o [B, Sq, Hq, Dv]",
    "ptr q [B, Sq, Hq, D]",
    "ptr k [B, Sk, Hk, D]",
    "ptr v [B, Sk, Hk, Dv]",
    "ptr lse float32 [B, Hq, Sq], natural logarithm",
    "fp32 scalar of the scores",
    "u32 seq_len queries: of each sequence, or all that are packed",
    "u32 Seqs bytes between queries",
    "u32 Ts bytes between tiles of queries",
    "u32 Hs bytes between query heads",
    "u32 Bs bytes between sequences of queries",
    "u32 gqa query heads per key head",
    "u32 k_Seqs bytes between keys",
    "u32 k_Hs bytes between key heads",
    "u32 k_Bs bytes between sequences of keys",
    "u32 opt tuning: how causal tiles are ordered",
    "u32 has_lse 0 or 1",
    "u32 kv_seq_len keys, as seq_len",
    "u32 qk_head_dim D",
    "u32 v_head_dim Dv",
    "u32 q_head_num Hq",
    "u32 v_Seqs bytes between values",
    "u32 v_Hs",
    "u32 v_Bs",
    "u32 o_Seqs bytes between outputs",
    "u32 o_Hs",
    "u32 o_Bs",
    "ptr qseq int32 [B + 1]: where packed sequences of queries begin",
    "ptr kseq int32 [B + 1]",
    "u32 lse_Hs bytes between heads of lse",
    "ptr qseq_padding as qseq, where each sequence's memory begins",
    "ptr kseq_padding",
    "ptr q_descale float32 [1] or [B, Hk]",
    "ptr k_descale",
    "ptr v_descale",
    "u32 descale_q_Bs bytes",
    "u32 descale_q_Hs",
    "u32 descale_k_Bs",
    "u32 descale_k_Hs",
    "u32 descale_v_Bs",
    "u32 descale_v_Hs",
)
MINUS_INFINITY = 0xFF800000
FP8_ROWS = "fp8bf16"
# Up to this many queries AITER prefers its CK kernel (aiter/ops/mha.py, "Prefer CK for decode cases").
FEW_QUERIES = 128


def _wide(shape: Shape) -> bool:
    return (shape.head, shape.value_head) == (192, 128)


def _heads(call: Call, fp8: bool) -> tuple[tuple[int, int], ...]:
    if not fp8:
        return (128, 128), (192, 128)
    return ((128, 128),) if call.target.arch == "gfx942" else ((128, 128), (256, 256))


def _need_fp8(call: Call, shape: Shape) -> None:
    # They find a query head's key head by a shift from a table.
    need(shape.group in (1, 2, 4, 8, 16), f"{shape.group} query heads per key head; the fp8 kernels take 1, 2, 4, 8 or 16")
    if call.target.arch == "gfx950":
        rule = "q_descale is [B, Hk]; gfx950's fp8 kernels read one scale for all sequences and heads: it must be [1]"
        need(not call.params["descale_per_head"], rule)
    else:
        rule = f"causal with up to {shape.longest_q} queries; gfx942's fp8 kernels apply scales twice from the 257th on"
        need(not call.params["causal"] or shape.longest_q <= 256, rule)


def grid_of(call: Call, row: Kernel, shape: Shape) -> tuple[int, int, int]:
    """AITER's get_grid_dim. Causal workgroups take two tiles, one early and one late, so that all have equal work."""
    tiles = -(-shape.queries // row.number("ts_qo"))
    unpaired = call.target.arch == "gfx942" and _wide(shape)
    pairs = -(-tiles // 2) if row["mask"] == CAUSAL and not (unpaired and shape.packed) else tiles
    if shape.packed:
        return shape.query_heads, shape.batch, pairs
    return (shape.query_heads, tiles, shape.batch) if unpaired else (pairs, shape.query_heads, shape.batch)


def _tuning(call: Call, row: Kernel, shape: Shape) -> int:
    if call.target.arch == "gfx942" and _wide(shape):
        return 0
    downgraded = row["mask"] == CAUSAL and (shape.query_heads % 8 != 0 or shape.queries > 16384)
    return 3 if downgraded else 5


def _select(call: Call) -> Selected:
    shape = shape_of(call)
    need_plain(call, shape)
    fp8 = "q_descale" in call.operands
    dtype = FP8_ROWS if fp8 else DTYPES.get(call.operands["q"].dtype.name)
    need(dtype in ("bf16", FP8_ROWS), f"q has dtype {call.operands['q'].dtype.name}; the kernels take bfloat16")
    heads, known = (shape.head, shape.value_head), _heads(call, fp8)
    need(heads in known, f"head sizes (D, Dv) = {heads}; the kernels have {' and '.join(map(str, known))}")
    if fp8:
        _need_fp8(call, shape)
    window = window_of(call, shape)
    need(window in ((-1, -1), (-1, 0)), f"sliding_window = {call.params['sliding_window']}; the kernels have no window")
    need_strides(call, *"qkv")
    # Unlike the others' offsets, that of a sequence's log-sum-exp has 32 bits.
    need_below(2**32, **{"the log-sum-exp": shape.batch * shape.query_heads * shape.queries * 4 if not shape.packed else 0})
    mask = NO_MASK if window == (-1, -1) else CAUSAL
    assert call.target.arch is not None
    fitting = [
        r
        for r in listed(call, TABLE)
        if (r["dtype"], r["hdim_q"], r["hdim_v"], r["mask"], r["mode"]) == (dtype, *heads, mask, int(shape.packed))
    ]
    need(bool(fitting), f"this release of AITER has no {dtype} kernels of head sizes {heads} for {call.target.arch}")
    row, rule = forced(call, fitting), "the caller's kernel="
    if row is None:
        # gfx950's kernels have no choice of rounding.
        row = next(r for r in fitting if call.target.arch != "gfx942" or r["bf16_cvt"] == DEFAULT_ROUNDING)
        rule = "AITER's rule: dtype, head sizes, mask, batch or packed, and its default rounding of probabilities"
    row = placed(row, call)
    grid = grid_of(call, row, shape)
    passes_over = None
    if not shape.packed and shape.queries <= FEW_QUERIES:
        passes_over = f"Sq = {shape.queries}; up to {FEW_QUERIES} queries AITER takes its CK kernel"
    return Selected(row, grid, rule, lambda: _build(call, row, grid, shape), passes_over, left_open=passes_over)


#: Older kernels without a mask leave rows of a packed sequence without keys undefined.
KEYLESS_SINCE = "0.1.11"


def _build(call: Call, row: Kernel, grid: tuple[int, int, int], shape: Shape) -> LaunchPlan | Program:
    plan = _plan(call, row, grid, shape)
    if not shape.packed or row["mask"] != NO_MASK or row.since(KEYLESS_SINCE):
        return plan if _written(call) == call.results else Program((plan,), lambda operands: _called(plan, call, operands))

    def run(operands: Mapping[str, jax.Array]) -> list[jax.Array]:
        out, *lse = _called(plan, call, operands)
        starts, keys = operands["cu_seqlens_q"], jnp.diff(operands["cu_seqlens_k"])
        sequence = jnp.searchsorted(starts[1:], jnp.arange(shape.queries, dtype=starts.dtype), side="right")
        seen = keys.at[sequence].get(mode="fill", fill_value=0) > 0  # rows past the last sequence belong to none
        return [jnp.where(seen[:, None, None], out, 0), *(jnp.where(seen, x, -jnp.inf) if x.size else x for x in lse)]

    return Program((plan,), run)


def _written(call: Call):
    """The results that are there: fp8 has no backward pass that would need the log-sum-exp, which is empty unless asked for."""
    return call.results if call.results[1].size else call.results[:1]


def _called(plan: LaunchPlan, call: Call, operands: Mapping[str, jax.Array]) -> list[jax.Array]:
    written = call_plan(plan, *(operands[name] for name in call.operands), result_shape_dtypes=_written(call))
    return [*written, *(jnp.zeros(x.shape, x.dtype) for x in call.results[len(written) :])]


def _plan(call: Call, row: Kernel, grid: tuple[int, int, int], shape: Shape):
    assert call.target.arch is not None
    results: dict[str, jax.ShapeDtypeStruct] = dict(zip(("out", "lse"), _written(call), strict=False))
    writer = PlanWriter(call.op, call.target.arch, call.operands, results)
    has_lse = "lse" in writer.numbers
    if shape.packed:
        # Rows past the last sequence belong to no workgroup: they see no key.
        writer.clear("out")
        if has_lse:
            writer.fill(writer.numbers["lse"], MINUS_INFINITY, width=4)
    item = call.operands["q"].dtype.itemsize
    row_q, row_k = shape.query_heads * shape.head * item, shape.key_heads * shape.head * item
    row_v, row_o = shape.key_heads * shape.value_head * item, shape.query_heads * shape.value_head * 2
    per_batch = 0 if shape.packed else 1
    descale_b, descale_h = (shape.key_heads * 4, 4) if call.params.get("descale_per_head") else (0, 0)
    writer.kernel(
        row,
        grid,
        256 if _wide(shape) else 512,
        ARGUMENTS,
        o=writer.pointer("out"),
        q=writer.pointer("q"),
        k=writer.pointer("k"),
        v=writer.pointer("v"),
        lse=writer.pointer("lse"),
        scalar=call.params["scale"],
        seq_len=shape.queries,
        Seqs=row_q,
        Ts=row.number("ts_qo") * row_q,
        Hs=shape.head * item,
        Bs=per_batch * shape.queries * row_q,
        gqa=shape.group,
        k_Seqs=row_k,
        k_Hs=shape.head * item,
        k_Bs=per_batch * shape.keys * row_k,
        opt=_tuning(call, row, shape),
        has_lse=int(has_lse),
        kv_seq_len=shape.keys,
        qk_head_dim=shape.head,
        v_head_dim=shape.value_head,
        q_head_num=shape.query_heads,
        v_Seqs=row_v,
        v_Hs=shape.value_head * item,
        v_Bs=per_batch * shape.keys * row_v,
        o_Seqs=row_o,
        o_Hs=shape.value_head * 2,
        o_Bs=per_batch * shape.queries * row_o,
        qseq=writer.pointer("cu_seqlens_q"),
        kseq=writer.pointer("cu_seqlens_k"),
        lse_Hs=shape.queries * 4 if has_lse else 0,
        qseq_padding=writer.pointer("cu_seqlens_q"),
        kseq_padding=writer.pointer("cu_seqlens_k"),
        q_descale=writer.pointer("q_descale"),
        k_descale=writer.pointer("k_descale"),
        v_descale=writer.pointer("v_descale"),
        **{f"descale_{n}_{axis}": stride for n in "qkv" for axis, stride in (("Bs", descale_b), ("Hs", descale_h))},
    )
    return writer.build()


@op("flash_attention", source=SOURCE, tables=(TABLE,))
def flash_attention(call: Call) -> Selected:
    return _select(call)


@op("flash_attention_varlen", source=SOURCE, tables=(TABLE,))
def flash_attention_varlen(call: Call) -> Selected:
    return _select(call)


@op("flash_attention_fp8", source=SOURCE, tables=(TABLE,))
def flash_attention_fp8(call: Call) -> Selected:
    return _select(call)


@op("flash_attention_varlen_fp8", source=SOURCE, tables=(TABLE,))
def flash_attention_varlen_fp8(call: Call) -> Selected:
    return _select(call)
