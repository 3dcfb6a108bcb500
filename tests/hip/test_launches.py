"""What AITER's own host code passes to its kernels, argument by argument, by the names that its sources give them (release 0.1.7).

The sizes and strides are worked out here from the calls' shapes; recorded launches must have them, in these places.
"""

import struct

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.build import compilers
from jax_aiter.kernels.hip.provider import plan_for
from jax_aiter.kernels.plan import Launch
from jax_aiter.kernels.spec import ArraySpec, CallSpec
from jax_aiter.kernels.store import sources
from tests.needs import needs_aiter, skip_without_aiter

FP8 = "float8_e4m3fnuz"
#: by what a kernel's symbol has: the letters of `struct` and the names of its arguments, "&" for an address.
ARGUMENTS = {
    "act_and_mul_kernel": "&out &input i:d",
    "data_to_scale_kernel": "&scale &input i:cols",
    "scaled_quant_kernel": "&out &input &scale i:cols",
    "dynamic_per_token_scaled_quant_kernel": "&out &scale &input &scale_ub i:cols &num_rows i:num_rows_factor",
    "dynamic_per_group_scaled_quant_kernel": "&out &scale &input &scale_ub i:group_size q:ori_rows i:ori_cols i:ori_row_stride "
    "?:shuffle_scale &num_rows i:num_cols_factor",
    "fused_add_rms_norm_kernel": "&input &residual &weight f:epsilon i:num_tokens i:hidden_size",
    "rms_norm_kernel": "&out &input &weight f:epsilon i:num_tokens i:hidden_size",
    "topkGatingSoftmax": "&input &finished &output i:num_rows &indices &source_rows i:k i:start_expert i:end_expert "
    "i:output_stride i:indices_stride",
    "moeSoftmax": "&input &finished &output i:num_cols",
    "moeTopK": "&inputs_after_softmax &finished &output &indices &source_rows i:num_experts i:k i:start_expert i:end_expert "
    "?:need_renorm",
    **dict.fromkeys(
        ("grouped_topk_kernel", "grouped_topk_opt_sort_kernel"),
        "&gating_output &correction_bias &topk_weights &topk_ids q:stride_tk i:num_experts i:topk i:topk_group i:num_tokens "
        "f:routed_scaling_factor",
    ),
    "kn_entry_1c_sbhd_cached_indirect": "&output &input &cos &sin &positions i:max_position i:size_h i:size_d i:size_f "
    "i:stride_i_s i:stride_i_b i:stride_i_h i:stride_i_d i:stride_o_s i:stride_o_b i:stride_o_h i:stride_o_d",
}


def array(text: str) -> ArraySpec:
    dtype, _, shape = text.removesuffix("]").partition("[")
    return ArraySpec(tuple(map(int, shape.split(","))), dtype)


def gated(op, dtype, rows, d, vector, waves):
    spec = CallSpec(op, "gfx942", {"x": array(f"{dtype}[{rows},{2 * d}]")}, {"limit": 0.0}, (array(f"{dtype}[{rows},{d}]"),))
    return spec, [(f"Li{vector}E", (rows, 64 * waves), {"out": "result0", "input": "x", "d": d})]


def tensor(dtype, rows, cols):
    results = array(f"{FP8}[{rows},{cols}]"), array("float32[1]")
    spec = CallSpec("per_tensor_quant", "gfx942", {"x": array(f"{dtype}[{rows},{cols}]")}, {"quant_dtype": FP8}, results)
    both = {"scale": "result1", "input": "x", "cols": cols}
    return spec, [("data_to_scale", (rows, 256), both), ("scaled_quant", (rows, 256), {**both, "out": "result0"})]


def token(dtype, kind, rows, cols, vector):
    results = array(f"{kind}[{rows},{cols}]"), array(f"float32[{rows},1]")
    spec = CallSpec("per_token_quant", "gfx942", {"x": array(f"{dtype}[{rows},{cols}]")}, {"quant_dtype": kind}, results)
    names = {"out": "result0", "scale": "result1", "input": "x", "scale_ub": 0, "num_rows": 0, "num_rows_factor": 1}
    return spec, [(f"Li{vector}E", (rows, 256), {**names, "cols": cols})]


def group(dtype, rows, cols, size, transpose):
    scale = f"float32[{cols // size},{rows}]" if transpose else f"float32[{rows},{cols // size}]"
    params = {"quant_dtype": FP8, "group_size": size, "transpose_scale": transpose}
    results = array(f"{FP8}[{rows},{cols}]"), array(scale)
    spec = CallSpec("group_quant", "gfx942", {"x": array(f"{dtype}[{rows},{cols}]")}, params, results)
    names = {"out": "result0", "scale": "result1", "input": "x", "scale_ub": 0, "num_rows": 0, "num_cols_factor": 1}
    names |= {"group_size": size, "ori_rows": rows, "ori_cols": cols, "ori_row_stride": cols, "shuffle_scale": transpose}
    groups_per_block = 64 // (size // 32)
    return spec, [("per_group", (-(-rows * cols // size // groups_per_block), 64), names)]


def norm(op, rows, hidden, threads):
    operands = {"x": array(f"float32[{rows},{hidden}]"), "weight": array(f"float32[{hidden}]")}
    names = {"epsilon": 1e-6, "num_tokens": rows, "hidden_size": hidden, "weight": "weight"}
    if op == "rms_norm":
        names |= {"out": "result0", "input": "x"}
    else:
        operands = {"x": operands["x"], "residual": operands["x"], "weight": operands["weight"]}
        names |= {"input": "result0", "residual": "result1"}
    results = (operands["x"],) * (1 if op == "rms_norm" else 2)
    return CallSpec(op, "gfx942", operands, {"epsilon": 1e-6}, results), [("rms_norm", (rows, threads), names)]


def rope(dtype, tokens, heads, size, columns, reuse, style):
    operands = {"x": array(f"{dtype}[{tokens},{heads},{size}]"), "cos": array(f"float32[9,{columns}]")}
    operands |= {"sin": operands["cos"], "positions": array(f"int64[{tokens}]")}
    params = {"rotate_style": style, "reuse_freqs_front_part": reuse, "nope_first": False}
    row = heads * size
    names = {"output": "result0", "input": "x", "max_position": 9, "size_h": heads, "size_d": size, "size_f": columns}
    names |= {name: name for name in ("cos", "sin", "positions")}
    for side in "io":  # [S, B, H, D] of one sequence a position: the batch's stride is a row's
        names |= {f"stride_{side}_s": row, f"stride_{side}_b": row, f"stride_{side}_h": size, f"stride_{side}_d": 1}
    symbol = f"Li{int(style == 'gptj')}ELb{int(reuse)}ELb0E"
    return CallSpec("rope", "gfx942", operands, params, (operands["x"],)), [(symbol, (tokens, 64), names)]


def routed(op, tokens, experts, topk, dtype, **params):
    operands = {"gating_output": array(f"{dtype}[{tokens},{experts}]")}
    operands |= {"correction_bias": array(f"{dtype}[{experts}]")} if op == "biased_grouped_topk" else {}
    results = array(f"float32[{tokens},{topk}]"), array(f"int32[{tokens},{topk}]")
    return CallSpec(op, "gfx942", operands, {"topk": topk, **params}, results)


def softmax(dtype, tokens, experts, topk, rows, renormalize):
    """rows: of a workgroup of eight waves."""
    spec = routed("topk_softmax", tokens, experts, topk, dtype, renormalize=renormalize)
    names = {"input": "gating_output", "finished": 0, "output": "result0", "indices": "result1", "source_rows": "scratch0"}
    names |= {
        "num_rows": tokens,
        "k": topk,
        "start_expert": 0,
        "end_expert": experts,
        "output_stride": topk,
        "indices_stride": topk,
    }
    return spec, [(f"Lb{int(renormalize)}E", (-(-tokens // rows), 64), names)]


def softmax_of_any(tokens, experts, topk, renormalize):
    spec = routed("topk_softmax", tokens, experts, topk, "float32", renormalize=renormalize)
    first = {"input": "gating_output", "finished": 0, "output": "scratch1", "num_cols": experts}
    second = {"inputs_after_softmax": "scratch1", "finished": 0, "output": "result0", "indices": "result1"}
    second |= {"source_rows": "scratch0", "num_experts": experts, "k": topk, "start_expert": 0, "end_expert": experts}
    return spec, [("Softmax", (tokens, 256), first), ("TopK", (tokens, 256), {**second, "need_renorm": renormalize})]


def grouped(op, tokens, experts, topk, topk_group, symbol, lds):
    how = {"num_expert_group": 8, "topk_group": topk_group, "renormalize": True, "routed_scaling_factor": 2.5}
    biased = op == "biased_grouped_topk"
    spec = routed(op, tokens, experts, topk, "bfloat16", **how, **({} if biased else {"scoring_func": "softmax"}))
    names = {"gating_output": "gating_output", "correction_bias": "correction_bias" if biased else 0, "topk_weights": "result0"}
    names |= {"topk_ids": "result1", "stride_tk": topk, "num_experts": experts, "topk": topk, "topk_group": topk_group}
    return spec, [(symbol, (tokens, 64, lds), {**names, "num_tokens": tokens, "routed_scaling_factor": 2.5})]


CALLS = {
    "one column": gated("silu_and_mul", "bfloat16", 3, 2, 1, 1),
    "two at a time": gated("silu_and_mul", "float16", 5, 128, 2, 1),
    "four at a time": gated("gelu_and_mul", "bfloat16", 5, 256, 4, 1),
    "eight waves": gated("gelu_tanh_and_mul", "float16", 2, 4096, 8, 8),
    "a tensor": tensor("bfloat16", 5, 256),
    "a tensor of float16": tensor("float16", 1, 16),
    "tokens, 8": token("bfloat16", FP8, 7, 2048, 8),
    "tokens, 16": token("bfloat16", "int8", 3, 4096, 16),
    "tokens, 32": token("float16", FP8, 3, 8192, 32),
    "tokens, a walk": token("float16", "int8", 2, 8208, 0),
    "groups of 32": group("bfloat16", 5, 384, 32, False),
    "groups of 64": group("float16", 5, 384, 64, False),
    "groups of 128": group("bfloat16", 129, 512, 128, False),
    "groups, transposed": group("float16", 129, 512, 128, True),
    "norm": norm("rms_norm", 3, 256, 256),
    "wide norm": norm("rms_norm", 2, 4096, 1024),
    "sum and norm": norm("rms_norm_with_add", 3, 33, 33),
    "sums and norms": norm("rms_norm_with_add", 300, 4096, 256),
    "softmax, 16 rows a wave": softmax("bfloat16", 33, 64, 6, 128, True),
    "softmax, 2 rows a wave": softmax("float32", 65, 256, 8, 16, False),
    "softmax of 60": softmax_of_any(5, 60, 4, True),
    "groups of 20 experts": grouped("grouped_topk", 3, 160, 6, 3, "grouped_topk_kernel", 768),
    # one more float32 than AITER asks for: it marks a group behind the last where all are NaN
    "biased groups of 4 experts": grouped("biased_grouped_topk", 3, 32, 4, 2, "grouped_topk_kernel", 164),
    "DeepSeek-V3": grouped("biased_grouped_topk", 3, 256, 8, 4, "grouped_topk_opt_sort_kernel", 1216),
    "rope": rope("bfloat16", 5, 3, 64, 32, True, "neox"),
    "rope of pairs": rope("float32", 4, 17, 128, 64, False, "gptj"),
}
# 20 s of the compiler
COSTLY = {name: [pytest.mark.exhaustive] for name in CALLS if name.startswith(("rope", "groups of 20", "biased", "DeepSeek"))}


def test_twenty_calls_are_compared_by_default():
    assert len(CALLS) - len(COSTLY) >= 20


@pytest.fixture(scope="session")
def _ready():
    where = needs_aiter()
    if not sources.has(where, "csrc/kernels/rmsnorm_kernels.cu"):
        skip_without_aiter("release 0.1.7.post2.dev18, whose kernels have these arguments")
    try:
        compilers.find()
    except KernelBuildError as error:
        pytest.skip(str(error))


def passed(plan, launch: Launch) -> dict:
    """The arguments of a launch by AITER's names; addresses as the names of buffers, 0 for none."""
    kernel = max((name for name in ARGUMENTS if name in launch.symbol), key=len)
    pointers = {slot.offset: plan.buffers[slot.buffer].name for slot in launch.args.pointers}
    assert all(slot.byte_offset == 0 for slot in launch.args.pointers)
    found = {}
    for param, text in zip(launch.args.params, ARGUMENTS[kernel].split(), strict=True):
        if text.startswith("&"):
            found[text[1:]] = pointers.get(param.offset, 0)
        else:
            code, _, name = text.partition(":")
            (found[name],) = struct.unpack_from(f"<{code}", launch.args.blob, param.offset)
    return found


@pytest.mark.usefixtures("_ready")
@pytest.mark.parametrize("name", [pytest.param(name, marks=COSTLY.get(name, [])) for name in CALLS])
def test_arguments(name):
    spec, wanted = CALLS[name]
    plan = plan_for(spec)
    launches = [step for step in plan.steps if isinstance(step, Launch)]
    assert len(launches) == len(wanted)
    for launch, (symbol, (blocks, threads, *lds), arguments) in zip(launches, wanted, strict=True):
        assert symbol in launch.symbol
        assert (launch.grid, launch.block[0], [launch.shared_bytes]) == ((blocks, 1, 1), threads, lds or [0])
        assert passed(plan, launch) == {**arguments, **({"epsilon": pytest.approx(1e-6)} if "epsilon" in arguments else {})}
