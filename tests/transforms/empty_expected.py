"""What each op gives for the calls of `emptied`, in float64 numpy and torch: nothing sums to zero, its maximum is the floor.

Only results with elements are asked for: those without are their shapes. `expected` gives float64 arrays.
"""

import numpy as np
import torch

from benchmarks.h200.cases import linear
from tests.mhc import oracle as mhc
from tests.moe import oracle as moe
from tests.oracle import f64

from . import empty_attention as attention
from .common import OPS

FLOOR = float(np.float32(1e-10))  # the least maximum that a dynamic scale is made from
LARGEST = {"float8_e4m3fnuz": 240.0, "float8_e4m3fn": 448.0, "int8": 127.0}


def _gemm(names, o, p):
    """[..., M, K] · [..., N, K]ᵀ with K = 0: the bias alone."""
    a, b = (o[n].shape for n in names)
    bias = f64(o["bias"]) if o.get("bias") is not None else np.zeros((*b[:-2], b[-2]))
    assert a[-1] == 0 or 0 in (a[-2], b[-2])
    return (np.broadcast_to(bias[..., None, :], (*a[:-1], b[-2])),)


def _scale(shape, dtype):
    return np.full(shape, FLOOR / LARGEST[np.dtype(dtype).name])


def _quant(shape_of_scale):
    def expected(o, p):
        given = o.get("scale")
        scale = f64(given) if given is not None else _scale(shape_of_scale(o["x"].shape), p["quant_dtype"])
        return np.zeros(o["x"].shape), scale

    return expected


def _norm_quant(o, p):
    """Rows without columns: their scales alone are there, unless they are by group (none), or one was given."""
    lead = o["x"].shape[:-1]
    return np.zeros((*lead, 0)), _scale((*lead, 1), p["quant_dtype"]), np.zeros((*lead, 0)), np.zeros((*lead, 0))


def _row_quant(name, width):
    """Scales of rows of nothing, for the ops whose two results are values and scales."""
    return lambda o, p: (
        np.zeros((*o[name].shape[:-1], o[name].shape[-1] // width)),
        _scale((*o[name].shape[:-1], 1), p["quant_dtype"]),
    )


def _qk_quant(o, p, whole):
    """One half is that of the whole call, the other a query without columns, which has its scales, or a key without any."""
    if o["q"].shape[-1]:
        return _as_before("fused_qk_rms_norm_quant")(o, p, whole)
    xq, scale, y, total = _norm_quant({"x": o["q"]}, p)
    k = f64(o["k"])
    norm = k / np.sqrt((k * k).mean(-1, keepdims=True) + p["k_epsilon"]) if k.size else k
    return xq, scale, y, norm * f64(o["k_weight"]), total


def _sorting(o, p):
    mask = o.get("expert_mask")
    ids, weights = np.asarray(o["topk_ids"]), np.asarray(o["topk_weights"])
    return moe.sorting(ids, weights, p["num_experts"], p["block_size"], None if mask is None else np.asarray(mask))


def _moe_loop(o, p, leaves):
    """fused_moe and its siblings where I, or the number of tokens or of global experts, is zero: quantised zeros are zeros."""
    x, w1, w2 = (leaves[n] for n in ("hidden_states", "w1", "w2"))
    if not x.shape[0]:
        return torch.zeros((0, w2.shape[1]), dtype=torch.float64)
    mask, local, ids = o.get("expert_mask"), o.get("num_local_tokens"), np.asarray(o["topk_ids"]).copy()
    if local is not None:
        ids[int(local[0]) :] = -1
    return moe.moe(
        x, w1, w2, leaves["topk_weight"], ids, leaves.get("bias1"), leaves.get("bias2"), activation=p["activation"],
        limit=p["swiglu_limit"], early=p["doweight_stage1"], mask=None if mask is None else np.asarray(mask),
        gate_mode=p["gate_mode"],
    )  # fmt: skip


def _leaves(o):
    names = ("hidden_states", "w1", "w2", "topk_weight", "bias1", "bias2")
    found = {n: moe.leaf(o[n]) for n in names if o.get(n) is not None}
    # Two codes to a byte: of nothing that is summed, what they stand for does not matter.
    return {n: x.detach().repeat_interleave(2, 2) if o[n].dtype == np.uint8 else x for n, x in found.items()}


def _fused_moe(o, p):
    out = _moe_loop(o, p, _leaves(o)).detach().numpy()
    kept = np.arange(out.shape[1]) < out.shape[1] - p["hidden_pad"]
    return (np.where(kept, out, 0.0),)


def _gate_up(o, p):
    return (np.zeros((*o["topk_ids"].shape, o["w1"].shape[1])),)


def _fused_moe_backward(o, p):
    leaves = _leaves(o)
    experts, rows, _ = o["w1"].shape
    for name, size in (("bias1", rows), ("bias2", o["w2"].shape[1])):
        leaves.setdefault(name, torch.zeros((experts, size), dtype=torch.float64, requires_grad=True))
    dout = f64(o["d_out"])
    dout[:, dout.shape[1] - p["hidden_pad"] :] = 0.0
    total = (_moe_loop(o, p, leaves) * torch.tensor(dout)).sum()
    wanted = [leaves[n] for n in ("hidden_states", "w1", "w2", "topk_weight", "bias1", "bias2")]
    found = torch.autograd.grad(total, wanted, allow_unused=True) if total.requires_grad else [None] * len(wanted)
    grads = [np.zeros(tuple(w.shape)) if g is None else g.numpy() for g, w in zip(found, wanted, strict=True)]
    if p["quant_type"] != "none":  # quantised weights have no gradient
        grads[1:3] = [np.zeros((0, 0, 0))] * 2
    return tuple(grads)


def _grouped(o, p):
    """Of no columns to sum over, or no groups: the bias of each row's group, zeros in rows of none."""
    rows, sizes = o["lhs"].shape[0], np.asarray(o["group_sizes"])
    out = np.zeros((rows, o["rhs"].shape[1 if p["transpose_rhs"] else 2]))
    if o.get("bias") is not None and len(sizes):
        held = np.repeat(np.arange(len(sizes)), sizes)[:rows]
        out[: len(held)] = f64(o["bias"])[held]
    return (out,)


def _nothing(*names):
    """Zeros of the operands' shapes: what smooth-quantised or first-half MoE gives without columns or rows to sum over."""

    def expected(o, p):
        return tuple(np.zeros(o[n].shape) for n in names)

    return expected


def _stage1(o, p):
    return (np.zeros((o["input"].shape[0], p["topk"], o["w1"].shape[1] // 2)),)


def _stage1_blockscale(o, p):
    """A row that the list names has the scale of zeros, another one 0."""
    (out,) = _stage1(o, p)
    named, tokens = np.zeros(out.shape[:2], bool), out.shape[0]
    used = int(o["num_valid_ids"][0]) // p["block_m"] * p["block_m"]
    for id_ in np.asarray(o["sorted_token_ids"])[:used]:
        if (id_ & 0xFFFFFF) < tokens and id_ >> 24 < p["topk"]:
            named[id_ & 0xFFFFFF, id_ >> 24] = True
    groups = out.shape[2] // 128
    scale = np.where(named[..., None], FLOOR / LARGEST[o["w1"].dtype.name], 0.0)
    return out, np.broadcast_to(scale, (*out.shape[:2], groups))


def _per_row(o, p):
    return (np.full((o["logits"].shape[0], p["k"]), -1.0),)


def _as_before(name):
    """The results that the emptied axis has nothing to do with: those of the call with it, drawn alike."""
    return lambda o, p, whole: tuple(f64(x) for x in OPS[name](**whole, **p))


def _caches(name):
    """No new tokens leave the caches as they are; heads without key dimensions still have their values written."""

    def expected(o, p, whole):
        if o["slot_mapping"].shape[0]:
            return _as_before(name)(o, p, whole)
        return tuple(f64(o[n]) if n in OPS[name].aliases else None for n in OPS[name].results)

    return expected


def _per_token_caches(o, p, whole):
    """Rows without elements have the scale of zeros."""
    name = "reshape_and_cache_with_pertoken_quant"
    found = dict(zip(OPS[name].results, _caches(name)(o, p, whole), strict=True))
    for rows in ("key", "value"):
        if not o[rows].shape[-1]:
            scales = f64(o[f"{rows[0]}_dequant_scales"]).copy()
            blocks, _, size = scales.shape
            slots = np.asarray(o["slot_mapping"])
            slots = slots[(slots >= 0) & (slots < blocks * size)]
            scales[slots // size, :, slots % size] = FLOOR / LARGEST[o["key_cache"].dtype.name]
            found[f"{rows[0]}_dequant_scales"] = scales
    return tuple(found.values())


def _gathered(o, p, whole):
    """No sequences and no blocks give zeros."""
    if 0 not in o["block_tables"].shape:
        return _as_before("gather_cache")(o, p, whole)
    return tuple(np.zeros(x.shape) for x in OPS["gather_cache"](**whole, **p))


def _gathered_keys(o, p, whole):
    """No sequences and no blocks give zeros."""
    if 0 not in o["block_table"].shape:
        return _as_before("cp_gather_indexer_k_quant_cache")(o, p, whole)
    groups = p["head_dim"] // p["quant_block_size"]
    return np.zeros((p["total_tokens"], p["head_dim"])), np.zeros((p["total_tokens"], groups))


def _activated(o, p):
    (z,) = (torch.from_numpy(np.array(x)) for x in _gemm("ab", o, p))
    functions = {"gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu}
    return (functions[p["activation"]](z).numpy(),)


def _prequant(o, p):
    """`_gemm` with tokens before the batch where they stand so."""
    x = o["X"].swapaxes(0, 1) if p["transpose_bm_in"] else o["X"]
    (y,) = _gemm(("X", "WQ"), {**o, "X": x}, p)
    return (y.swapaxes(0, 1) if p["transpose_bm"] else y,)


def _linear(recurrence):
    """Linear attention of no tokens, channels, heads or sequences is what its recurrence says of them."""
    return lambda o, p: recurrence({n: np.asarray(x) for n, x in o.items() if x is not None}, p)


def _fp4(o, p):
    """`_gemm` with tokens before the batch where they stand so."""
    (y,) = _gemm("xw", o, p)
    return (y.swapaxes(0, 1) if p.get("transpose_bm") else y,)


def _no_tokens(o, p):
    """Rows without a vocabulary have no token."""
    return (np.full(len(next(iter(o.values()))), -1.0),)


def _no_vocabulary(o, p):
    """Drafts of no vocabulary are none."""
    rows, places = o["uniforms"].shape
    return np.full((rows, places), -1.0), np.zeros(rows)


def _mixed(o, p):
    """Streams without columns have weights, by the biases alone; none at all add up to zeros."""
    given = (o[n] for n in ("residual", "fn", "hc_scale", "hc_base"))
    found = mhc.pre(*given, p["hc_post_mult_value"], p["sinkhorn_repeat"], o.get("norm_weight"), p["norm_eps"])
    lead = o["residual"].shape[:-2]
    return found if p["sinkhorn_repeat"] else (np.zeros((*lead, 0, 1)), np.zeros((*lead, 0, 0)), found)


def _both_mixed(o, p):
    streams = mhc.post(*(o[n] for n in ("layer_input", "residual_in", "post_layer_mix", "comb_res_mix")))
    return (*_mixed({**o, "residual": np.asarray(streams, o["residual_in"].dtype)}, p), streams)


EXPECTED = {
    "causal_conv1d_fn": _linear(linear.packed),
    "causal_conv1d_update": _linear(linear.updated),
    "chunk_gated_delta_rule": _linear(linear.rule),
    "fused_rearrange_sigmoid_gated_delta_rule": _linear(linear.decode),
    "mhc_pre": _mixed,
    "mhc_fused_post_pre": _both_mixed,
    **dict.fromkeys(("greedy_sample", "mixed_sample_outer_exponential", "sampling_with_uniforms"), _no_tokens),
    "chain_speculative_sampling_with_uniforms": _no_vocabulary,
    "batched_gemm_a8w8": lambda o, p: _gemm(("XQ", "WQ"), o, p),
    "batched_gemm_a8w8_a_per_token_group_prequant_w_per_batched_tensor_quant": _prequant,
    "batched_gemm_bf16": lambda o, p: _gemm(("XQ", "WQ"), o, p),
    "gemm_a16w16": lambda o, p: _gemm("ab", o, p),
    "gemm_a16w16_act": _activated,
    "gemm_a16w16_bpreshuffle": lambda o, p: _gemm("ab", o, p),
    **{
        name: lambda o, p: _gemm(("xq", "wq"), o, p)
        for name in ("gemm_a8w8", "gemm_a8w8_bpreshuffle", "gemm_a8w8_blockscale", "gemm_a8w8_blockscale_bpreshuffle")
    },
    **dict.fromkeys(("gemm_a4w4", "gemm_a4w4_bpreshuffle"), lambda o, p: _gemm(("A", "B"), o, p)),
    **dict.fromkeys(("gemm_a8wfp4", "gemm_a16wfp4", "batched_gemm_a16wfp4"), _fp4),
    "per_tensor_quant": _quant(lambda shape: (1,)),
    "per_token_quant": _quant(lambda shape: (*shape[:-1], 1)),
    "rms_norm_quant": _norm_quant,
    "act_mul_and_quant": _row_quant("x", 2),
    "gated_rms_norm_group_quant": _row_quant("x", 1),
    "fused_qk_rms_norm": _as_before("fused_qk_rms_norm"),
    "fused_qk_rms_norm_quant": _qk_quant,
    "moe_sorting": _sorting,
    "fused_moe": _fused_moe,
    "fused_moe_backward": _fused_moe_backward,
    "fused_moe_keeping": lambda o, p: (*_fused_moe(o, p), *_gate_up(o, p)),
    "fused_moe_gate_up": _gate_up,
    "asm_moe": _nothing("hidden_states"),
    "asm_moe_tkw1": _nothing("hidden_states"),
    "grouped_gemm": _grouped,
    "transposed_grouped_gemm": lambda o, p: (np.zeros((len(o["group_sizes"]), o["lhs"].shape[1], o["rhs"].shape[1])),),
    "moe_stage1_g1u1": _stage1,
    "moe_stage1_g1u1_blockscale": _stage1_blockscale,
    "flash_attention": attention.flash,
    "flash_attention_fp8": lambda o, p: attention.asked(attention.flash(o, p), p),
    "flash_attention_bwd": attention.flash_bwd,
    "flash_attention_varlen": attention.varlen,
    "flash_attention_varlen_fp8": lambda o, p: attention.asked(attention.varlen(o, p), p),
    "flash_attention_varlen_bwd": attention.varlen_bwd,
    "merge_attention_states": attention.merge,
    "paged_attention": attention.paged("query", "cu_seqlens"),
    "unified_attention": attention.paged("q", "cu_seqlens_q"),
    "pa_fwd_asm": _nothing("query"),
    "pa_persistent_fwd": _nothing("query"),
    "mla_decode_fwd": attention.mla,
    "get_mla_metadata_v1": attention.no_works,
    "get_pa_metadata_v1": attention.no_pages,
    "mla_prefill_fwd": lambda o, p: attention.mla(o, p)[:1],
    "fp8_mqa_logits": attention.packed_mqa_logits,
    "fp8_paged_mqa_logits": attention.mqa_logits,
    "cp_gather_indexer_k_quant_cache": _gathered_keys,
    "top_k_per_row_decode": _per_row,
    "top_k_per_row_prefill": _per_row,
    "fused_topk": _as_before("fused_topk"),
    **{name: _caches(name) for name, op in OPS.items() if "slot_mapping" in op.operands},
    "indexer_k_quant_and_cache": lambda o, p: (f64(o["kv_cache"]),),  # keys without elements have no scales either
    "reshape_and_cache_with_pertoken_quant": _per_token_caches,
    "gather_cache": _gathered,
    "rope_2c": _as_before("rope_2c"),
}


def expected(op, operands, params, whole):
    """The op's results for emptied operands; `whole`: the operands as they were."""
    function = EXPECTED[op.name]
    given = {**dict.fromkeys(op.operands), **operands}
    return function(given, params, whole) if function.__code__.co_argcount == 3 else function(given, params)
