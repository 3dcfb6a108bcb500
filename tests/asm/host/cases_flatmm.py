"""The float16 kernel of gemm_a8w8_blockscale_bpreshuffle (gfx942)."""

SOURCES, TABLES = ("py_itfs_cu/asm_flatmm_a8w8_blockscale.cu",), ()


def cases(host, arch):
    if arch != "gfx942":
        return
    for m, n, k in ((1, 256, 128), (128, 512, 256), (129, 256, 1024), (5000, 4096, 7168)):
        launches = host.call(
            "flatmm_a8w8_blockscale_asm",
            host.tensor("xq", "fp8", m, k),
            host.tensor("wq", "fp8", n, k),
            host.tensor("x_scale", "fp32", k // 128, m),
            host.tensor("w_scale", "fp32", k // 128, n // 128),
            host.tensor("y", "fp16", m, n),
        )
        operands = {
            "xq": f"float8_e4m3fnuz[{m},{k}]",
            "wq": f"float8_e4m3fnuz[{n},{k}]",
            "x_scale": f"float32[{m},{k // 128}]",
            "w_scale": f"float32[{n // 128},{k // 128}]",
        }
        params = {"out_dtype": "float16", "splitK": None, "transpose_scale": False}
        yield {"op": "gemm_a8w8_blockscale_bpreshuffle", "operands": operands, "params": params}, launches
