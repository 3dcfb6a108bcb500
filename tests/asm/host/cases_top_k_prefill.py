"""top_k_per_row_prefill (gfx942)."""

import ctypes

SOURCES, TABLES = ("py_itfs_cu/asm_topk_per_row_prefill.cu",), ()


def cases(host, arch):
    if arch != "gfx942":
        return
    for rows, columns in ((1, 1), (3, 2048), (257, 9001), (70000, 4096)):
        launches = host.call(
            "top_k_per_row_prefill_fast",
            host.tensor("logits", "fp32", rows, columns),
            host.tensor("row_starts", "i32", rows),
            host.tensor("row_ends", "i32", rows),
            host.tensor("indices", "i32", rows, 2048),
            None,
            ctypes.c_int64(rows),
            ctypes.c_int64(columns),
            ctypes.c_int64(1),
        )
        # AITER allocates the workspace here, at an address of its own.
        for action in launches:
            if action["action"] == "launch":
                action["args"] = "0" * 16 + action["args"][16:]
                action["pointers"] = {"0": "workspace", **action["pointers"]}
        operands = {"logits": f"float32[{rows},{columns}]", "row_starts": f"int32[{rows}]", "row_ends": f"int32[{rows}]"}
        params = {"k": 2048, "stable": False}
        yield (
            {"op": "top_k_per_row_prefill", "operands": operands, "params": params, "kernel": "asm_top_k_per_row_prefill"},
            launches,
        )
