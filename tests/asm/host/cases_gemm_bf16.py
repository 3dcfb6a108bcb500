"""gemm_a16w16: every kernel by name, and sizes in none of AITER's tuned tables for its heuristic."""

SOURCES, TABLES = ("py_itfs_cu/asm_gemm_a16w16.cu",), ("bf16gemm",)
TABLE_ORDER = True
SUFFIXES = ("bshuffle_splitk", "pf3_splitk", "bshuffle_splitk_clean", "splitk_clean")
TILES = (32, 48, 64, 80, 96, 128, 160)
NAMES = [f"bf16gemm_fp32bf16_tn_{m}x64_{suffix}" for m in TILES for suffix in SUFFIXES]


def call(host, op, m, n, k, *, out, bias, name=None):
    shuffled = op == "gemm_a16w16_bpreshuffle"
    launches = host.call(
        "gemm_a16w16_asm",
        host.tensor("a", "bf16", m, k),
        host.tensor("b", "bf16", n, k),
        host.tensor("y", {"bfloat16": "bf16", "float32": "fp32"}[out], m, n),
        host.tensor("semaphore", "u32", 16, 64),
        host.tensor("bias", "bf16", n) if bias else None,
        -1,
        f"_ZN5aiter{len(name)}{name}E" if name else None,
        int(shuffled),
    )
    operands = {"a": f"bfloat16[{m},{k}]", "b": f"bfloat16[{n},{k}]"} | ({"bias": f"bfloat16[{n}]"} if bias else {})
    return {"op": op, "operands": operands, "params": {"out_dtype": out}, "kernel": name}, launches


def cases(host, arch):
    for i, name in enumerate(NAMES):
        op = "gemm_a16w16_bpreshuffle" if "bshuffle" in name else "gemm_a16w16"
        out = ("bfloat16", "float32")[i % 2]
        try:
            yield call(host, op, 77 + i, 320, 192 + 64 * (i % 5), out=out, bias=i % 3 == 0, name=name)
        except ValueError as error:  # AITER has not every tile with every suffix
            if "not find kernel" not in str(error):
                raise
    for op in ("gemm_a16w16", "gemm_a16w16_bpreshuffle"):
        for m in (1, 15, 16, 17, 31, 33, 100, 257, 1000, 5000):
            for n, k in ((64, 192), (320, 1088), (3008, 448)):
                yield call(host, op, m, n, k, out=("bfloat16", "float32")[m % 2], bias=n == 320)
