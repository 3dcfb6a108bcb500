"""fused_moe on one-stage kernels with the weight before the activation (tkw1), and without a gate."""

from tests.asm.host import cases_fmoe

SOURCES, TABLES = cases_fmoe.SOURCES, cases_fmoe.TABLES
BLOCK, SHAPES = cases_fmoe.BLOCK, cases_fmoe.SHAPES


def tkw1(host, arch, out, activation, shape):
    tokens, experts, topk, dim, inter = shape
    padded = tokens * topk + experts * BLOCK - topk
    launches = host.call(
        "fmoe_g1u1_tkw1",
        *common(host, "fp8", out, shape, rows=2 * inter, padded=padded),
        host.tensor("XQ", "fp32", tokens, 1),
        host.tensor("GUQ", "fp32", experts, 2 * inter),
        host.tensor("DQ", "fp32", experts, dim),
        "",
        None,
        cases_fmoe.ACTIVATION[activation],
    )
    call = cases_fmoe.call(arch, "fp8", out, activation, shape)
    return {**call, "params": {**call["params"], "doweight_stage1": True}}, launches


def common(host, dtype, out, shape, *, rows, padded, slots=1):
    tokens, experts, topk, dim, inter = shape
    return (
        host.tensor("O", out, tokens, dim),
        host.tensor("X", dtype, tokens * slots, dim),
        host.tensor("GU", dtype, experts, rows, dim),
        host.tensor("D", dtype, experts, dim, inter),
        host.tensor("STP", "i32", padded),
        host.tensor("SW", "fp32", padded),
        host.tensor("SEP", "i32", -(-padded // BLOCK)),
        host.tensor("XC", "i32", 2),
        topk,
    )


def without_gate(host, arch, kind, out, activation, shape):
    tokens, experts, topk, dim, inter = shape
    padded = tokens * topk + experts * BLOCK - topk
    call = cases_fmoe.call(arch, kind, out, activation, shape)
    operands, params = dict(call["operands"]), dict(call["params"])
    if kind == "int8":
        operands |= {"w1": f"int8[{experts},{inter},{dim}]", "w1_scale": f"float32[{experts},{inter}]"}
        launches = host.call(
            "fmoe_int8_g1u0",
            *common(host, "i8", out, shape, rows=inter, padded=padded, slots=topk),
            host.tensor("XQ", "fp32", tokens * topk),
            host.tensor("GUQ", "fp32", experts, inter),
            host.tensor("DQ", "fp32", experts, dim),
            host.tensor("SMQ", "fp32", experts, inter),
            cases_fmoe.ACTIVATION[activation],
        )
    else:
        dtype = params["output_dtype"]
        operands |= {"hidden_states": f"{dtype}[{tokens},{dim}]", "w1": f"{dtype}[{experts},{inter},{dim}]"}
        operands |= {"w2": f"{dtype}[{experts},{dim},{inter}]"}
        del operands["w1_scale"], operands["w2_scale"]
        params["quant_type"] = "none"
        launches = host.call("fmoe", *common(host, out, out, shape, rows=inter, padded=padded))
    return {**call, "operands": operands, "params": params}, launches


def cases(host, arch):
    # D a multiple of 256, as the kernels need; not in AITER's tuned tables.
    shapes = [(tokens, experts, topk, 1280, inter) for tokens, experts, topk, _, inter in SHAPES]
    for out in ("bf16", "fp16"):
        for activation in cases_fmoe.ACTIVATION:
            for shape in shapes:
                yield tkw1(host, arch, out, activation, shape)
    if arch == "gfx942":  # AITER ships the objects its host code names for this one only
        for activation in cases_fmoe.ACTIVATION:
            for shape in shapes:
                yield without_gate(host, arch, "int8", "bf16", activation, shape)
        for out in ("bf16", "fp16"):  # the host code does not look at the activation, and the kernels compute gelu
            for shape in shapes[:2]:
                yield without_gate(host, arch, "none", out, "gelu", shape)
