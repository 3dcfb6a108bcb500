"""gemm_a8w8_bpreshuffle with int8: every kernel but the one that is never chosen, with whole and split K.

AITER's heuristic takes whichever of equal kernels its unordered map holds last, so only named kernels are compared.
"""

SOURCES, TABLES = ("py_itfs_cu/asm_gemm_a8w8.cu",), ("i8gemm",)
TILES = (16, 32, 48, 64, 80, 96, 128, 160)


def cases(host, arch):
    for i, tile in enumerate(TILES):
        name = f"I8gemm_bf16_perTokenI8_BpreShuffle_{tile}x128"
        for m, n, k, split in ((1, 128, 128, 1), (100 + i, 384, 640, 2), (tile, 128, 2048, 16), (tile + 1, 256, 1024, 3)):
            launches = host.call(
                "gemm_a8w8_asm",
                host.tensor("xq", "i8", m, k),
                host.tensor("wq", "i8", n, k),
                host.tensor("x_scale", "fp32", m, 1),
                host.tensor("w_scale", "fp32", n, 1),
                host.tensor("y", "bf16", m, n),
                f"_ZN5aiter{len(name)}{name}E",
                host.tensor("bias", "fp32", n),
                1,
                split,
            )
            operands = {"xq": f"int8[{m},{k}]", "wq": f"int8[{n},{k}]", "x_scale": f"float32[{m},1]", "w_scale": f"float32[{n},1]"}
            operands |= {"bias": f"float32[{n}]"} if i % 2 else {}
            params = {"out_dtype": "bfloat16", "splitK": split}
            yield {"op": "gemm_a8w8_bpreshuffle", "operands": operands, "params": params, "kernel": name}, launches
