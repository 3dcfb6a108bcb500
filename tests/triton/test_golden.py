"""What is recorded for a handful of calls: kernels, grids, argument layouts. A change here is a change of what runs."""

import struct

import pytest

from jax_aiter.kernels.triton.adapters import adapters
from jax_aiter.kernels.triton.provider import chosen, plan_for
from jax_aiter.kernels.triton.sources import lacking
from jax_aiter.kernels.triton.tiles import choose
from tests.needs import needs_aiter

from .calls import call, flash, launches, stored_record


def _record(root, *arguments, **params):
    spec = call(*arguments, **params)
    plan_for(spec)
    return stored_record(spec, root)


def test_rms_norm(recording_root):
    operands = {"x": "bfloat16[64,4096]", "weight": "bfloat16[4096]"}
    record = _record(recording_root, "rms_norm", "gfx942", operands, ["bfloat16[64,4096]"], epsilon=1e-6)
    assert record["buffers"] == [
        {"kind": "operand", "index": 0, "nbytes": 64 * 4096 * 2},
        {"kind": "operand", "index": 1, "nbytes": 4096 * 2},
        {"kind": "result", "index": 0, "nbytes": 64 * 4096 * 2},
        {"kind": "scratch", "index": 0, "nbytes": 64 * 4},  # 1 / rms per row, which AITER's kernel always writes
    ]
    (step,) = record["steps"]
    assert (step["kernel"], step["grid"], step["threads"]) == ("_rms_norm_kernel", [64, 1, 1], 256)
    pointers = [["ptr", 0, 0], ["ptr", 2, 0], ["ptr", 1, 0], ["ptr", 3, 0]]
    strides = [["i32", 4096], ["i32", 4096], ["i32", 64], ["i32", 4096]]
    assert step["args"] == [*pointers, *strides, ["fp32", 1e-6]]


@pytest.mark.parametrize("arch", ["gfx942", "sm_90"])
@pytest.mark.parametrize("op", ["rms_norm", "rms_norm_with_add"])
def test_a_float32_weight_goes_to_the_same_kernel(op, arch, recording_root):
    """Which reads it in its own type: the launch is that of a narrow weight but for the compiled code."""
    operands = dict.fromkeys(["x", "residual"] if op == "rms_norm_with_add" else ["x"], "bfloat16[64,4096]")
    results, (narrow, wide) = list(operands.values()), ("bfloat16[4096]", "float32[4096]")
    one, other = (_record(recording_root, op, arch, {**operands, "weight": w}, results, epsilon=1e-6) for w in (narrow, wide))
    (buffer,) = [b for b in other["buffers"] if b not in one["buffers"]]
    assert (buffer["kind"], buffer["nbytes"]) == ("operand", 4096 * 4)
    (left,), (right,) = one["steps"], other["steps"]
    same = ("kernel", "grid", "threads", "args")
    assert {n: left[n] for n in same} == {n: right[n] for n in same}
    assert left != right


def test_arguments_equal_to_one_vanish_and_offsets_are_kept(recording_root):
    """One row: Triton compiles n_rows == 1 in."""
    operands = {"x": "bfloat16[1,4096]", "weight": "bfloat16[4096]"}
    record = _record(recording_root, "rms_norm", "gfx942", operands, ["bfloat16[1,4096]"], epsilon=1e-6)
    assert [a for a in record["steps"][0]["args"] if a[0] == "i32"] == [["i32", 4096]] * 3


def test_per_tensor_quant_starts_from_a_floor(recording_root):
    results = ["fp8[64,2048]", "float32[1]"]
    record = _record(recording_root, "per_tensor_quant", "gfx942", {"x": "bfloat16[64,2048]"}, results, quant_dtype="fp8")
    fill = record["steps"][0]
    (floor,) = struct.unpack("<f", fill["value"].to_bytes(4, "little"))
    assert (fill["step"], fill["target"], fill["nbytes"], fill["width"]) == ("fill", [2, 0], 4, 4)
    assert floor == pytest.approx(1e-10 / 240)
    assert launches(record)[1:] == [
        ("_dynamic_per_tensor_quant_fp8_i8_kernel", (64, 1, 1)),
        ("_static_per_tensor_quant_fp8_i8_kernel", (64, 1, 1)),
    ]


def test_norm_and_quantisation_are_one_launch(recording_root):
    """A token is a group of the next power of two columns; what was not asked for is an empty result that nothing writes."""
    operands = {"x": "bfloat16[64,1000]", "weight": "bfloat16[1000]", "residual": "bfloat16[64,1000]"}
    params = {"epsilon": 1e-6, "quant_dtype": "fp8", "group_size": None, "transpose_scale": False, "output_unquantized": False}
    results = ["fp8[64,1000]", "float32[64,1]", "bfloat16[64,0]", "bfloat16[64,1000]"]
    record = _record(recording_root, "rms_norm_quant", "gfx942", operands, results, **params)
    (step,) = record["steps"]
    assert (step["kernel"], step["grid"]) == ("_fused_rms_fp8_group_quant_kernel", [64, 1, 1])
    assert {arg[1] for arg in step["args"] if arg[0] == "ptr"} == {0, 1, 2, 3, 4, 6}
    assert [buffer["kind"] for buffer in record["buffers"]] == ["operand"] * 3 + ["result"] * 4


def test_mlas_two_norms_are_one_launch(recording_root):
    operands = {"q": "bfloat16[8,1536]", "q_weight": "bfloat16[1536]", "k": "bfloat16[8,512]", "k_weight": "bfloat16[512]"}
    params = {"q_epsilon": 1e-6, "k_epsilon": 1e-6, "quant_dtype": "fp8", "group_size": 128, "transpose_scale": True}
    results = ["fp8[8,1536]", "float32[12,8]", "bfloat16[8,0]", "bfloat16[8,512]", "bfloat16[8,0]"]
    operands = call("fused_qk_rms_norm_quant", "gfx950", operands, results, **params, output_unquantized=False)
    plan_for(operands)
    assert launches(stored_record(operands, recording_root)) == [("_fused_rms_fp8_group_quant_kernel", (8, 1, 1))]


@pytest.mark.parametrize(
    ("params", "operands", "kernel"),
    [
        ({"group_size": 128}, {}, "_act_mul_and_dynamic_fp8_group_quant_kernel"),
        ({"group_size": 128, "limit": 7.0}, {}, "_fused_clamp_silu_mul_kernel"),
        ({"group_size": None}, {}, "_fused_clamp_silu_mul_kernel"),
        ({"group_size": None}, {"scale": "float32[1]"}, "_fused_silu_mul_fp8_per_tensor_static_quant_kernel"),
    ],
)
def test_activation_and_quantisation_are_one_launch(recording_root, params, operands, kernel):
    params = {"activation": "silu", "limit": 0.0, "quant_dtype": "fp8", "transpose_scale": False, **params}
    columns = 0 if operands else 2 if params["group_size"] else 1
    operands = {"x": "bfloat16[8,512]", **operands}
    results = ["fp8[8,256]", f"float32[8,{columns}]"]
    if rule := lacking(needs_aiter(), adapters()["act_mul_and_quant"].needs(call("", "gfx942", operands, results, **params))):
        pytest.skip(rule)
    record = _record(recording_root, "act_mul_and_quant", "gfx942", operands, results, **params)
    assert [name for name, _ in launches(record)] == [kernel]


def test_fused_moe_is_one_plan(recording_root):
    operands = {
        "hidden_states": "bfloat16[64,1024]",
        "w1": "bfloat16[8,1024,1024]",
        "w2": "bfloat16[8,1024,512]",
        "topk_weight": "float32[64,2]",
        "topk_ids": "int32[64,2]",
    }
    params = {"quant_type": "none", "activation": "silu"}
    record = _record(recording_root, "fused_moe", "gfx942", operands, ["bfloat16[64,1024]"], **params)
    steps = launches(record)
    assert [name for name, _ in steps] == [
        "fill",  # counts start from 0
        "_rank_slots_kernel",
        "_place_experts_kernel",
        "_place_slots_kernel",
        "_fused_moe_kernel",
        "_silu_mul_kernel" if lacking(needs_aiter(), ("activation:fused_silu_mul",)) else "fused_silu_mul_kernel",
        "_fused_moe_kernel",
        "_sum_slots_kernel",
    ]
    assert dict(steps)["_rank_slots_kernel"] == (64 * 2 // 64, 1, 1)
    assert dict(steps)["_place_experts_kernel"] == (9, 1, 1)  # one expert more, for what is left out


@pytest.mark.parametrize(
    ("tokens", "kernels"),
    [
        (1, ["_expert_columns_kernel", "_joined_slots_kernel"]),
        (32, ["_sort_slots_kernel", "_fused_moe_kernel", None, "_fused_moe_kernel", "_sum_slots_kernel"]),
    ],
)
def test_few_tokens_take_few_launches(recording_root, tokens, kernels):
    """Of one, each slot is by itself; of up to 64 slots one program sorts."""
    operands = {
        "hidden_states": f"bfloat16[{tokens},1024]",
        "w1": "bfloat16[8,1024,1024]",
        "w2": "bfloat16[8,1024,512]",
        "topk_weight": f"float32[{tokens},2]",
        "topk_ids": f"int32[{tokens},2]",
    }
    params = {"quant_type": "none", "activation": "silu"}
    record = _record(recording_root, "fused_moe", "gfx942", operands, [f"bfloat16[{tokens},1024]"], **params)
    found = [name for name, _ in launches(record)]
    assert len(found) == len(kernels)
    assert all(name == wanted for name, wanted in zip(found, kernels, strict=True) if wanted)


def test_a_layer_of_gpt_oss_takes_no_launch_more(recording_root):
    """Biases, the clamped swiglu of alternating columns and the padding are parts of kernels that run anyhow."""
    operands = {
        "hidden_states": "bfloat16[64,1024]",
        "w1": "bfloat16[8,1024,1024]",
        "w2": "bfloat16[8,1024,512]",
        "topk_weight": "float32[64,4]",
        "topk_ids": "int32[64,4]",
        "bias1": "bfloat16[8,1024]",
        "bias2": "bfloat16[8,1024]",
    }
    params = {"quant_type": "none", "activation": "swiglu", "gate_mode": "interleave", "hidden_pad": 64, "intermediate_pad": 32}
    record = _record(recording_root, "fused_moe", "gfx942", operands, ["bfloat16[64,1024]"], **params)
    last = [name for name, _ in launches(record)][-4:]
    assert last == ["_fused_moe_kernel", "_activate_kernel", "_fused_moe_kernel", "_sum_biased_kernel"]


@pytest.mark.parametrize(
    ("width", "kernels"),
    [
        (16, [("_paged_attn_decode_v1_w_dot_kernel", (4, 2, 1))]),
        (256, [("_paged_attn_decode_v2_w_dot_kernel", (4, 2, 4)), ("_paged_attn_decode_v2_w_dot_reduce_kernel", (4, 2, 1))]),
    ],
)
def test_paged_attention_splits_long_contexts(recording_root, width, kernels):
    operands = {
        "query": "bfloat16[4,8,128]",
        "key_cache": "bfloat16[64,2,16,128]",
        "value_cache": "bfloat16[64,2,16,128]",
        "block_tables": f"int32[4,{width}]",
        "context_lens": "int32[4]",
    }
    record = _record(recording_root, "paged_attention", "gfx942", operands, ["bfloat16[4,8,128]"], scale=0.1, kv_layout="HND")
    assert launches(record) == [("_clip_kernel", (1, 1, 1)), *kernels, ("_clear_empty_kernel", (4, 1, 1))]


def test_a_cache_is_written_where_it_stands(recording_root):
    """The result is the operand's memory; slots are looked at first, and on AMD what fp8 cannot hold is bounded."""
    if rule := lacking(needs_aiter(), ("kv_cache:cat_and_cache_mla",)):
        pytest.skip(rule)
    operands = {
        "kv_c": "bfloat16[5,512]",
        "k_pe": "bfloat16[5,64]",
        "kv_cache": "fp8[8,16,1,576]",
        "slot_mapping": "int32[5]",
        "scale": "float32[1]",
    }
    record = _record(recording_root, "concat_and_cache_mla", "gfx942", operands, ["fp8[8,16,1,576]"], head_axis=True)
    assert record["aliases"] == [[2, 5]]
    assert launches(record) == [
        ("_slots_kernel", (1, 1, 1)),
        ("_bounded_kernel", (3, 1, 1)),
        ("_bounded_kernel", (1, 1, 1)),
        ("_cat_and_cache_mla_kernel", (5, 1, 1)),
    ]
    plan = plan_for(call("concat_and_cache_mla", "gfx942", operands, ["fp8[8,16,1,576]"], head_axis=True))
    assert plan.aliases == ((2, 0),)


@pytest.mark.parametrize("layout", ["NHD", "asm"])
def test_rotation_and_cache_are_one_plan(recording_root, layout):
    """Keys without a slot are rotated by a kernel of our own: AITER's leaves their rows as they are."""
    if rule := lacking(needs_aiter(), ("fusions.fused_kv_cache:fused_qk_rope_reshape_and_cache(upcast_operand)",)):
        pytest.skip(rule)
    caches = ["bfloat16[4,16,2,64]"] * 2 if layout == "NHD" else ["bfloat16[4,2,8,16,8]", "bfloat16[4,2,2,64,8]"]
    operands = {"q": "bfloat16[3,4,64]", "k": "bfloat16[3,2,64]", "v": "bfloat16[3,2,64]"}
    operands |= {"key_cache": caches[0], "value_cache": caches[1], "slot_mapping": "int32[3]", "positions": "int32[3]"}
    operands |= {"cos": "float32[9,32]", "sin": "float32[9,32]"}
    params = {"rotate_style": "neox", "reuse_freqs_front_part": True, "nope_first": False, "kv_layout": layout}
    results = ["bfloat16[3,4,64]", "bfloat16[3,2,64]", *caches]
    record = _record(recording_root, "rope_and_cache", "gfx942", operands, results, **params)
    assert record["aliases"] == [[3, 11], [4, 12]]
    assert launches(record) == [
        ("_clip_kernel", (1, 1, 1)),
        ("_slots_kernel", (1, 1, 1)),
        ("_fused_qk_rope_reshape_and_cache_kernel", (12, 1, 1)),
        ("_turn_skipped_kernel", (3, 2, 1)),
    ]


FUSED = "_fused_qk_rope_reshape_and_cache_kernel"
ROTATED = {"rotate_style": "neox", "reuse_freqs_front_part": True, "nope_first": False, "kv_layout": "NHD"}


@pytest.mark.parametrize("dtype", ["bfloat16", "fp8", "int8"])
@pytest.mark.parametrize("norm", [False, True])
def test_rotation_and_a_caches_write(recording_root, dtype, norm):
    """AITER's kernel with what mends its slots and positions, where this release has one that takes the call; else one launch."""
    size = {"q": "bfloat16[4,8,64]", "k": "bfloat16[4,2,64]", "v": "bfloat16[4,2,64]"}
    weights = dict.fromkeys(("q_weight", "k_weight"), "bfloat16[64]") if norm else {}
    caches = dict.fromkeys(("key_cache", "value_cache"), f"{dtype}[9,16,2,64]")
    rest = {"slot_mapping": "int32[4]", "positions": "int32[4]", "cos": "float32[9,32]", "sin": "float32[9,32]"}
    op, given = ("fused_qk_norm_rope_cache", {"epsilon": 1e-6}) if norm else ("rope_and_cache", {})
    operands = {**size, **weights, **caches, **rest}
    record = _record(recording_root, op, "gfx942", operands, [size["q"], size["k"], *caches.values()], **ROTATED, **given)
    names = [name for name, _ in launches(record)]
    theirs = not lacking(needs_aiter(), ("fusions.fused_kv_cache:fused_qk_rope_reshape_and_cache(upcast_operand)",))
    if theirs and dtype == "bfloat16" and not norm:
        assert names == ["_clip_kernel", "_slots_kernel", FUSED, "_turn_skipped_kernel"]
    else:
        assert launches(record) == [("_heads_kernel", (4, 12, 1))]
    assert record["aliases"] == [[list(operands).index(n), len(operands) + i] for n, i in (("key_cache", 2), ("value_cache", 3))]


def _linear(root, op, arch, operands, results, **params):
    if rule := lacking(needs_aiter(), adapters()[op].needs(call(op, arch, operands, results, **params))):
        pytest.skip(rule)
    return _record(root, op, arch, operands, results, **params)


def test_packed_sequences_of_the_delta_rule_are_one_launch_between_two_of_ours(recording_root):
    """Offsets within the tokens, the kernel over blocks of values and heads of sequences, zeros past the last sequence."""
    operands = {"q": "bfloat16[1,40,2,128]", "k": "bfloat16[1,40,2,128]", "v": "bfloat16[1,40,4,128]", "gk": "float32[1,40,4,128]"}
    operands |= {"beta": "float32[1,40,4]", "initial_state": "float32[3,4,128,128]", "cu_seqlens": "int32[4]"}
    results = ["bfloat16[1,40,4,128]", "float32[3,4,128,128]"]
    params = {"scale": 0.1, "use_qk_l2norm_in_kernel": True, "ragged": True}
    record = _linear(recording_root, "chunk_gated_delta_rule", "gfx942", operands, results, **params)
    kernels = [("_clip_kernel", (1, 1, 1)), ("_fused_recurrent_gated_delta_rule_fwd_kernel", (16, 12, 1))]
    assert launches(record) == [*kernels, ("_clear_tail_kernel", (40, 1, 1))]


def test_a_step_of_a_convolution_writes_over_a_copy_of_its_tokens(recording_root):
    operands = {
        "x": "bfloat16[4,1,512]",
        "conv_state": "bfloat16[9,3,512]",
        "weight": "bfloat16[512,4]",
        "conv_state_indices": "int32[4]",
    }
    results = ["bfloat16[4,1,512]", "bfloat16[9,3,512]"]
    record = _linear(recording_root, "causal_conv1d_update", "gfx942", operands, results, activation="silu")
    assert launches(record) == [("copy", (4, 4 * 512 * 2)), ("_causal_conv1d_update_kernel", (4, 2, 1))]
    assert record["aliases"] == [[1, 5]]
    assert ["ptr", 0, 0] not in record["steps"][1]["args"]


def test_a_step_of_decoding_begins_with_zeros(recording_root):
    """Tokens of nobody; then offsets within the tokens and lines of sequences that are no longer than theirs."""
    operands = {
        "A_log": "float32[4]",
        "a": "bfloat16[3,4]",
        "b": "bfloat16[3,4]",
        "dt_bias": "float32[4]",
        "qkv": "bfloat16[3,1024]",
    }
    operands |= {"initial_state": "float32[9,4,128,128]", "cu_seqlens": "int32[4]", "ssm_state_indices": "int32[3,1]"}
    params = {"beta": 1.0, "threshold": 20.0, "scale": 0.1, "use_qk_l2norm_in_kernel": True, "is_kda": False}
    results = ["bfloat16[3,4,128]", "float32[9,4,128,128]"]
    record = _linear(recording_root, "fused_rearrange_sigmoid_gated_delta_rule", "gfx950", operands, results, **params)
    ours = [("fill", (8, 3 * 4 * 128 * 2)), ("_clip_kernel", (1, 1, 1)), ("_lines_of_short_kernel", (1, 1, 1))]
    assert launches(record) == [*ours, ("fused_rearrange_sigmoid_gated_delta_rule_update_kernel", (1, 4, 12))]
    assert record["aliases"] == [[5, 9]]


@pytest.mark.parametrize("arch", ["gfx942", "sm_90"])
def test_the_backward_pass_of_attention_on_our_kernels(arch, recording_root):
    """A fill of the sums, deltas, the pass over the scores with 2 blocks of keys for each of 2 heads, dq rounded."""
    spec = flash(arch, backward=True)
    tile = {"KERNEL": "own", "BLOCK_M": 64, "BLOCK_N": 128, "num_warps": 8, "num_stages": 1}
    with choose.forced(spec.op, tile):
        tiled, _ = chosen(spec)
    plan_for(tiled)
    record = stored_record(tiled, recording_root)
    sums = record["steps"][0]["target"][0]
    assert (record["buffers"][sums]["kind"], record["buffers"][sums]["nbytes"]) == ("scratch", 4 * 256 * 4 * 128)
    assert launches(record) == [
        ("fill", (sums, 4 * 256 * 4 * 128)),
        ("_rows_kernel", (4 * 256 // 64, 1, 1)),
        ("_gradients_kernel", (2 * 2, 1, 1)),
        ("_round_kernel", (4 * 256 // 64, 1, 1)),
    ]
    assert record["steps"][0]["value"] == 0
