"""gemm_a8w8_blockscale_bpreshuffle: every kernel, with whole and split K, and its heuristic."""

SOURCES, TABLES = ("py_itfs_cu/asm_a8w8_blockscale_bpreshuffle.cu",), ("fp8gemm_blockscale",)
TABLE_ORDER = True
TILES = (32, 48, 64, 80, 96, 128)
FP8 = {"gfx942": "float8_e4m3fnuz", "gfx950": "float8_e4m3fn"}


def call(host, arch, m, n, k, split, name):
    launches = host.call(
        "gemm_a8w8_blockscale_bpreshuffle_asm",
        host.tensor("xq", "fp8", m, k),
        host.tensor("wq", "fp8", n, k),
        host.tensor("y", "bf16", m, n),
        host.tensor("x_scale", "fp32", k // 128, m),
        host.tensor("w_scale", "fp32", n // 128, k // 128),
        None,
        split or 1,
        f"_ZN5aiter{len(name)}{name}E" if name else None,
        1,
        host.tensor("bias", "fp32", n),
    )
    operands = {
        "xq": f"{FP8[arch]}[{m},{k}]",
        "wq": f"{FP8[arch]}[{n},{k}]",
        "x_scale": f"float32[{m},{k // 128}]",
        "w_scale": f"float32[{n // 128},{k // 128}]",
    }
    params = {"out_dtype": "bfloat16", "splitK": split, "transpose_scale": False}
    return {"op": "gemm_a8w8_blockscale_bpreshuffle", "operands": operands, "params": params, "kernel": name}, launches


def cases(host, arch):
    for i, tile in enumerate(TILES):
        name = f"fp8gemm_bf16_blockscale_BpreShuffle_{tile}x128"
        for m, n, k, split in ((1, 128, 128, 1), (100 + i, 384, 640, 2), (tile, 128, 2048, 16), (tile + 1, 256, 1024, 3)):
            yield call(host, arch, m, n, k, split, name)
    for m in (1, 32, 33, 257, 5000, 20000, 128 * 304):
        for n in (128, 384, 3200):
            yield call(host, arch, m, n, 1152, None, None)
