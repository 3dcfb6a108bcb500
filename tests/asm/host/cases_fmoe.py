"""fused_moe on one-stage kernels with gate and up: AITER's heuristic, and kernels asked for by name."""

SOURCES, TABLES = ("py_itfs_cu/asm_fmoe.cu", "py_itfs_cu/asm_moe_2stage.cu"), ("fmoe", "fmoe_2stages")
FP8 = {"gfx942": "float8_e4m3fnuz", "gfx950": "float8_e4m3fn"}
ACTIVATION = {"silu": 0, "gelu": 1}
# tokens, experts, topk, D, I. The sizes are in none of AITER's tuned tables, so that its heuristic decides.
SHAPES = [(33, 8, 2, 1152, 512), (257, 16, 4, 1152, 1024), (100, 8, 2, 1152, 640), (5000, 32, 8, 1152, 1536), (64, 4, 1, 1152, 384)]
BLOCK = 32


def call(arch, kind, out, activation, shape):
    tokens, experts, topk, dim, inter = shape
    dtype = "int8" if kind == "int8" else FP8[arch]
    block = kind == "blockscale"
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


def launches(host, kind, out, activation, shape):
    tokens, experts, topk, dim, inter = shape
    dtype = "i8" if kind == "int8" else "fp8"
    padded = tokens * topk + experts * BLOCK - topk
    blocks = -(-padded // BLOCK)
    block = kind == "blockscale"
    common = (
        host.tensor("O", out, tokens, dim),
        host.tensor("X", dtype, tokens, dim),
        host.tensor("GU", dtype, experts, 2 * inter, dim),
        host.tensor("D", dtype, experts, dim, inter),
        host.tensor("STP", "i32", padded),
        host.tensor("SW", "fp32", padded),
        host.tensor("SEP", "i32", blocks),
        host.tensor("XC", "i32", 2),
        topk,
        host.tensor("XQ", "fp32", *((dim // 128, tokens) if block else (tokens, 1))),
        host.tensor("GUQ", "fp32", experts, 2 * inter * dim // 16384 if block else 2 * inter),
        host.tensor("DQ", "fp32", experts, dim * inter // 16384 if block else dim),
        "",
    )
    if block:
        return host.call("fmoe_fp8_blockscale_g1u1", *common, 128, 128, None, ACTIVATION[activation], BLOCK)
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
