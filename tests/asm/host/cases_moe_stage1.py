"""moe_stage1_g1u1: every table by its heuristic, and kernels by name."""

SOURCES, TABLES = ("py_itfs_cu/asm_moe_2stage.cu",), ("fmoe_2stages",)
FP8 = {"gfx942": "float8_e4m3fnuz", "gfx950": "float8_e4m3fn"}
PER_TOKEN, PER_1X128 = 2, 4
SHORT, SIZE = {"float8_e4m3fnuz": "fp8", "float8_e4m3fn": "fp8", "int8": "i8"}, {"fp8": 1, "bf16": 2}
NAMED = ("fmoe_stage1_bf16_pertokenFp8_g1u1_32x64_4tg_pf3", "fmoe_stage1_bf16_pertokenFp8_g1u1_32x512_pf3")
# Launched with fewer argument bytes than the objects declare; our plan passes all of them.
SHORT_OF_BYTES = ("x192_pf3E", "x384_pf3E")


def mangled(name):
    return f"_ZN5aiter{len(name)}{name}E"


def call(host, arch, dtype, quant, *, tokens, topk, experts, dim, inter, block, weighted=False, activation="silu", name=""):
    length = tokens * topk + experts * block - topk
    blocks = -(-length // block)
    short, blocked = SHORT[dtype], quant == PER_1X128
    rows = tokens + (tokens * 4 + 127) // 128 if blocked else tokens
    groups = (2 * inter // 128) * (dim // 128)
    launches = host.call(
        "moe_stage1_g1u1",
        host.tensor("input", short, tokens, dim),
        host.tensor("w1", short, experts, 2 * inter, dim),
        host.tensor("w2", short, experts, dim, inter),
        host.tensor("sorted_token_ids", "i32", length),
        host.tensor("sorted_expert_ids", "i32", blocks),
        host.tensor("num_valid_ids", "i32", 2),
        host.tensor("out", "fp8" if blocked else "bf16", rows, topk, inter),
        inter,
        mangled(name) if name else "",
        block,
        0,
        ("silu", "gelu").index(activation),
        quant,
        host.tensor("a1_scale", "fp32", *((dim // 128, tokens) if blocked else (tokens, 1))),
        host.tensor("w1_scale", "fp32", experts, groups) if blocked else host.tensor("w1_scale", "fp32", experts, 2 * inter, 1),
        host.tensor("sorted_weights", "fp32", length) if weighted else None,
    )
    (launched,) = (a["symbol"] for a in launches)
    operands = {
        "input": f"{dtype}[{tokens},{dim}]",
        "w1": f"{dtype}[{experts},{2 * inter},{dim}]",
        "sorted_token_ids": f"int32[{length}]",
        "sorted_expert_ids": f"int32[{blocks}]",
        "num_valid_ids": "int32[2]",
        "a1_scale": f"float32[{dim // 128},{tokens}]" if blocked else f"float32[{tokens},1]",
        "w1_scale": f"float32[{experts},{2 * inter // 128},{dim // 128}]" if blocked else f"float32[{experts},{2 * inter}]",
        **({"sorted_weights": f"float32[{length}]"} if weighted else {}),
    }
    params = {"topk": topk, "block_m": block, "activation": activation, "weight_layout": [16, 16]}
    op = "moe_stage1_g1u1_blockscale" if blocked else "moe_stage1_g1u1"
    # Among equals AITER's heuristic takes what its hash map happens to hold first, so our plan is asked for that very kernel.
    return {"op": op, "operands": operands, "params": params, "kernel": launched, "heuristic": not name}, launches


def cases(host, arch):
    fp8 = FP8[arch]
    kinds = [(fp8, PER_TOKEN, False), (fp8, PER_TOKEN, True), ("int8", PER_TOKEN, False), (fp8, PER_1X128, False)]
    for dtype, quant, weighted in kinds:
        for block in (16, 32, 64, 128):
            for tokens, inter in ((1, 512), (4096, 768)):
                shape = {"tokens": tokens, "topk": 1 + tokens % 8, "experts": 9, "dim": 512 + 128 * (tokens % 3), "inter": inter}
                activation = ("silu", "gelu")[(tokens + block // 16) % 2]
                found = call(host, arch, dtype, quant, **shape, block=block, weighted=weighted, activation=activation)
                if not found[0]["kernel"].endswith(SHORT_OF_BYTES):
                    yield found
    for name in NAMED:
        yield call(host, arch, fp8, PER_TOKEN, tokens=65, topk=8, experts=40, dim=5120, inter=1536, block=32, name=name)
