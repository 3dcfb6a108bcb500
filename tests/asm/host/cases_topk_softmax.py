"""topk_softmax: every table row's shape, and the limits of its heuristic."""

SOURCES, TABLES = ("py_itfs_cu/asm_topksoftmax.cu",), ("topksoftmax",)
PAIRS = [(128, 4), (128, 6), (128, 8), (256, 6), (256, 8), (384, 8), (640, 8)]


def cases(host, arch):
    for experts, topk in PAIRS:
        for tokens in (1, 4, 5, 9999, 10000):
            for short, dtype in (("fp32", "float32"), ("bf16", "bfloat16")):
                renormalize = (tokens + topk) % 2
                launches = host.call(
                    "topk_softmax_asm",
                    host.tensor("topk_weights", "fp32", tokens, topk),
                    host.tensor("topk_ids", "i32", tokens, topk),
                    host.tensor("unused", "i32", tokens, topk),
                    host.tensor("gating_output", short, tokens, experts),
                    renormalize,
                )
                operands = {"gating_output": f"{dtype}[{tokens},{experts}]"}
                params = {"topk": topk, "renormalize": bool(renormalize)}
                yield {"op": "topk_softmax", "operands": operands, "params": params}, launches
