"""fused_moe on one-stage kernels with gate and up: AITER's heuristic, and kernels asked for by name."""

SOURCES, TABLES = ("py_itfs_cu/asm_fmoe.cu", "py_itfs_cu/asm_moe_2stage.cu"), ("fmoe", "fmoe_2stages")
FP8 = {"gfx942": "float8_e4m3fnuz", "gfx950": "float8_e4m3fn"}
ACTIVATION = {"silu": 0, "gelu": 1}
# tokens, experts, topk, D, I. The sizes are in none of AITER's tuned tables, so that its heuristic decides.
SHAPES = [(33, 8, 2, 2560, 512), (257, 16, 4, 2560, 1024), (100, 8, 2, 2560, 640), (5000, 32, 8, 2560, 1536), (64, 4, 1, 2560, 384)]
BLOCK = 32
# Kernels by name: other tiles than the heuristic's, blocks of 64 and 16 rows, and those that quantise bfloat16 hidden states
# themselves, from a sorted list (16 rows) or from the plain routing (flat). Last, whether AITER passes them the plain routing.
NAMED = {
    "gfx942": [
        ("fp8", "bf16", "silu", BLOCK, "_ZN5aiter45fmoe_bf16_pertokenFp8_g1u1_vs_silu_1tg_32x512E", False),
        ("fp8", "fp16", "gelu", BLOCK, "_ZN5aiter48fmoe_fp16_pertokenFp8_g1u1_vs_gelu_1tg_ps_32x256E", False),
        ("int8", "bf16", "silu", BLOCK, "_ZN5aiter46fmoe_bf16_pertokenInt8_g1u1_vs_silu_1tg_32x128E", False),
        ("blockscale", "bf16", "silu", 64, "_ZN5aiter43fmoe_bf16_blockscaleFp8_g1u1_vs_silu_64x256E", False),
        ("blockscale", "bf16", "silu", 64, "_ZN5aiter46fmoe_bf16_blockscaleFp8_g1u1_vs_ps_silu_64x256E", False),
        ("blockscale", "bf16", "gelu", BLOCK, "_ZN5aiter49fmoe_bf16_blockscaleFp8_g1u1_novs_gelu_1tg_32x128E", False),
        ("xbf16", "bf16", "silu", 16, "_ZN5aiter55fmoe_bf16_a16_blockscaleFp8_g1u1_vs_silu_1tg_16x128_pf3E", False),
        ("xbf16", "bf16", "silu", 16, "_ZN5aiter54fmoe_bf16_a16_blockscaleFp8_g1u1_vs_silu_1tg_ps_16x256E", False),
        ("xbf16", "bf16", "silu", 1, "_ZN5aiter60fmoe_bf16_a16_blockscaleFp8_g1u1_vs_silu_1tg_16x128_flat_pf3E", True),
        ("xbf16", "bf16", "silu", 16, "_ZN5aiter62fmoe_bf16_a16_blockscaleFp8_g1u1_vs_silu_1tg_emsort_16x128_pf3E", True),
    ],
    "gfx950": [
        ("fp8", "bf16", "silu", BLOCK, "_ZN5aiter45fmoe_bf16_pertokenFp8_g1u1_vs_silu_1tg_32x256E", False),
        ("blockscale", "bf16", "silu", 16, "_ZN5aiter47fmoe_bf16_blockscaleFp8_g1u1_vs_pf2_silu_16x128E", False),
        ("blockscale", "bf16", "silu", 64, "_ZN5aiter46fmoe_bf16_blockscaleFp8_g1u1_vs_ps_silu_64x128E", False),
        ("xbf16", "bf16", "silu", 16, "_ZN5aiter48fmoe_bf16_blockscaleBf16_g1u1_vs_pf2_silu_16x128E", False),
        ("xbf16", "bf16", "silu", 1, "_ZN5aiter48fmoe_bf16_blockscaleBf16_g1u1_flat_vs_silu_1x128E", True),
        ("xbf16", "bf16", "gelu", 1, "_ZN5aiter48fmoe_bf16_blockscaleBf16_g1u1_flat_vs_gelu_1x256E", True),
    ],
}


def call(arch, kind, out, activation, shape):
    tokens, experts, topk, dim, inter = shape
    dtype = "int8" if kind == "int8" else FP8[arch]
    block = kind in ("blockscale", "xbf16")
    scales = ([2 * inter // 128, dim // 128], [dim // 128, inter // 128]) if block else ([2 * inter], [dim])
    operands = {
        "hidden_states": f"bfloat16[{tokens},{dim}]",
        "w1": f"{dtype}[{experts},{2 * inter},{dim}]",
        "w2": f"{dtype}[{experts},{dim},{inter}]",
        "topk_weight": f"float32[{tokens},{topk}]",
        "topk_ids": f"int32[{tokens},{topk}]",
        "w1_scale": f"float32[{','.join(map(str, [experts, *scales[0]]))}]",
        "w2_scale": f"float32[{','.join(map(str, [experts, *scales[1]]))}]",
    }
    params = {
        "activation": activation,
        "quant_type": "per_1x128" if block else "per_token",
        "doweight_stage1": False,
        "hidden_pad": 0,
        "intermediate_pad": 0,
        "swiglu_limit": None,
        "output_dtype": {"bf16": "bfloat16", "fp16": "float16"}[out],
        "weight_layout": [16, 16],
    }
    return {"op": "fused_moe", "operands": operands, "params": params}


def launches(host, kind, out, activation, shape, rows=BLOCK, kernel="", plain=False):
    tokens, experts, topk, dim, inter = shape
    dtype = "i8" if kind == "int8" else "fp8"
    padded = tokens * topk + experts * rows - topk
    block = kind in ("blockscale", "xbf16")
    if plain:
        ids = host.tensor("STP", "i32", tokens, topk)
        routing = (ids, host.tensor("SW", "fp32", tokens, topk), ids, ids)
    else:
        routing = (
            host.tensor("STP", "i32", padded),
            host.tensor("SW", "fp32", padded),
            host.tensor("SEP", "i32", -(-padded // rows)),
            host.tensor("XC", "i32", 2),
        )
    common = (
        host.tensor("O", out, tokens, dim),
        host.tensor("X", "bf16" if kind == "xbf16" else dtype, tokens, dim),
        host.tensor("GU", dtype, experts, 2 * inter, dim),
        host.tensor("D", dtype, experts, dim, inter),
        *routing,
        topk,
        None if kind == "xbf16" else host.tensor("XQ", "fp32", *((dim // 128, tokens) if block else (tokens, 1))),
        host.tensor("GUQ", "fp32", experts, 2 * inter * dim // 16384 if block else 2 * inter),
        host.tensor("DQ", "fp32", experts, dim * inter // 16384 if block else dim),
        kernel,
    )
    if block:
        return host.call("fmoe_fp8_blockscale_g1u1", *common, 128, 128, None, ACTIVATION[activation], rows)
    return host.call("fmoe_g1u1", *common, None, ACTIVATION[activation])


def cases(host, arch):
    for kind in ("fp8", "int8", "blockscale"):
        for out in ("bf16", "fp16"):
            if kind == "blockscale" and out == "fp16":
                continue  # AITER's host code accepts bfloat16 results only
            for activation in ACTIVATION:
                for shape in SHAPES:
                    try:
                        recorded = launches(host, kind, out, activation, shape)
                    except ValueError:
                        continue  # AITER has no kernel for this shape
                    yield call(arch, kind, out, activation, shape), recorded
    for kind, out, activation, rows, kernel, plain in NAMED[arch]:
        for shape in ((1, 8, 2, 2560, 512), (37, 16, 4, 2560, 1024)):
            recorded = launches(host, kind, out, activation, shape, rows, kernel, plain)
            yield {**call(arch, kind, out, activation, shape), "kernel": kernel}, recorded
