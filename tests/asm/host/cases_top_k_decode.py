"""top_k_per_row_decode (gfx942)."""

import ctypes

SOURCES, TABLES = ("py_itfs_cu/asm_topk_per_row_decode.cu",), ()


def cases(host, arch):
    if arch != "gfx942":
        return
    for sequences, next_n, columns in ((1, 1, 1), (3, 2, 2048), (64, 4, 9001), (257, 1, 100000)):
        rows = sequences * next_n
        launches = host.call(
            "top_k_per_row_decode_fast",
            host.tensor("logits", "fp32", rows, columns),
            ctypes.c_int64(next_n),
            host.tensor("seq_lens", "i32", sequences),
            host.tensor("indices", "i32", rows, 2048),
            ctypes.c_int64(rows),
            ctypes.c_int64(columns),
            ctypes.c_int64(1),
        )
        operands = {"logits": f"float32[{rows},{columns}]", "seq_lens": f"int32[{sequences}]"}
        params = {"next_n": next_n, "k": 2048, "stable": False}
        yield {"op": "top_k_per_row_decode", "operands": operands, "params": params, "kernel": "asm_top_k_per_row_decode"}, launches
