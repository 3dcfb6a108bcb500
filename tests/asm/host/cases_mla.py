"""MLA: decoding that splits every sequence evenly, decoding by work lists, prefill.

What `aiter/mla.py` does above the C functions is written out here: the number of partitions, the folding of heads to 16, the
results it allocates. Left out are calls that ours answers otherwise, on purpose: AITER aborts on them or computes nonsense (no
causal mask where there must be one, a null output pointer, no log-sum-exp), or takes a kernel that `_mla_rows.TRAITS` excludes.
"""

SOURCES, TABLES = ("py_itfs_cu/asm_mla.cu",), ("mla",)
UNITS = {"gfx942": 304, "gfx950": 256}
LONG = {"bf16": "bfloat16"}
# By architecture and dtypes of q and kv: heads x max_seqlen_qo.
EVEN = {
    "gfx942": {"bf16": "16x1 16x2 16x4 16x6 128x1 8x1 32x1", "fp8": "8x1 16x1 16x3 16x4 128x1 128x2 128x4"},
    "gfx950": {"bf16": "16x1 16x3 16x4 16x6 128x1 8x1 64x1 32x1 32x2 32x4", "fp8": "16x1 128x1 128x3"},
}
LISTED = {
    "gfx942": {"bf16 fp8": "16x1 16x4", "bf16 bf16": "48x1 64x3 8x2 96x2", "fp8 fp8": "64x1 32x1 32x4"},
    "gfx950": {"bf16 fp8": "16x2", "bf16 bf16": "48x1 64x2 128x2", "fp8 fp8": "8x4 32x1 32x4 64x3"},
}
LEAST = {8: 64, 16: 128, 24: 128, 32: 128, 48: 64, 64: 64, 128: 32, 256: 32, 384: 32, 512: 32}


def partitions(arch, sequences, tokens, heads, queries, dtype):
    """get_meta_param."""
    units, average, best = UNITS[arch], tokens / sequences, (-1.0, 0)
    for i in range(1, 17):
        groups = sequences * i
        value = groups / ((groups + units - 1) // units * units) * average / (average + 84.1 * i)
        if value > best[0]:
            best = (value, i)
    found = best[1]
    if dtype == "fp8":
        least = LEAST[heads * queries]
        found = min(found, (tokens + sequences * least - 1) // (sequences * least))
        if found > 1:
            found = min(found, int(abs(tokens / sequences - queries) // least) + 1)
    return found


def listed(calls):
    return [(*map(int, shape.split("x")), *types.split()) for types, shapes in calls.items() for shape in shapes.split()]


def cases(host, arch):
    for heads, queries, dtype in listed(EVEN[arch]):
        for sequences, tokens in ((1, 4000), (3, 6000), (64, 64 * 900)):
            for lse in (False, True):
                found = partitions(arch, sequences, tokens, heads, queries, dtype)
                if found > 1:
                    yield from decode(host, arch, sequences, tokens, heads, queries, dtype, dtype, lse, found)
    for heads, queries, q, kv in listed(LISTED[arch]):
        for sequences, tokens in ((1, 4000), (64, 64 * 900)):
            for lse in (False, True):
                if not lse or (arch, q, kv) in (("gfx950", "fp8", "fp8"), ("gfx950", "bf16", "bf16")) or (heads, q) == (64, "fp8"):
                    yield from decode(host, arch, sequences, tokens, heads, queries, q, kv, lse, None)
    for heads in (16, 128):
        for sequences, rows in ((1, 7), (5, 700)):
            yield from prefill(host, sequences, rows, heads)


def decode(host, arch, sequences, tokens, heads, queries, q, kv, lse, splits):
    rows, pages, fold = sequences * queries, tokens + 7, 1
    native = (arch == "gfx950" and q == kv) or (heads, q) in ((8, "bf16"), (64, "fp8"), (128, "fp8"))
    if splits is None and heads > 16 and not native:
        fold = heads // 16
    shape = rows * fold, heads // fold
    fp8 = {"QSCALE": q == "fp8", "KVSCALE": kv == "fp8"}
    scales = [host.tensor(n, "fp32", 1) if used else None for n, used in fp8.items()]
    parts = splits or 1
    launches = host.call(
        "mla_decode_stage1_asm_fwd",
        host.tensor("Q", q, *shape, 576),
        host.tensor("KV", kv, pages, 1, 1, 576),
        host.tensor("QTP", "i32", sequences + 1),
        host.tensor("LTP", "i32", sequences + 1),
        host.tensor("LTD", "i32", tokens),
        host.tensor("LTL", "i32", sequences),
        host.tensor("STP", "i32", sequences + 1) if splits else None,
        None if splits else host.tensor("addresses", "u64", 2),
        None if splits else host.tensor("WORKS", "i32", UNITS[arch] + 1),
        None if splits else host.tensor("INFO", "i32", 1000, 8),
        queries,
        1,
        1,
        0.125,
        host.tensor("R", "fp32", shape[0], parts, shape[1], 512),
        host.tensor("LSE", "fp32", shape[0], parts, shape[1], 1),
        host.tensor("final", "bf16", *shape, 512),
        host.tensor("final_lse", "fp32", *shape) if lse else None,
        *scales,
        None,
        1,
        0,
        host.tensor("valid", "i32", sequences) if splits else None,
        int(bool(splits)),
        1,
    )
    long = {**LONG, "fp8": "float8_e4m3fnuz" if arch == "gfx942" else "float8_e4m3fn"}
    operands = {
        "q": f"{long[q]}[{rows},{heads},576]",
        "kv_buffer": f"{long[kv]}[{pages},1,1,576]",
        "qo_indptr": f"int32[{sequences + 1}]",
        "kv_indptr": f"int32[{sequences + 1}]",
        "kv_indices": f"int32[{tokens}]",
        "kv_last_page_lens": f"int32[{sequences}]",
    }
    operands |= {n: "float32[1]" for n, used in (("q_scale", fp8["QSCALE"]), ("kv_scale", fp8["KVSCALE"])) if used}
    params = {"max_seqlen_qo": queries, "sm_scale": 0.125, "logit_cap": 0.0, "causal": True, "return_lse": lse}
    yield {"op": "mla_decode_fwd", "operands": operands, "params": params}, launches


def prefill(host, sequences, rows, heads):
    launches = host.call(
        "mla_prefill_asm_fwd",
        host.tensor("Q", "bf16", rows, heads, 576),
        host.tensor("KV", "bf16", 5000, 1, 1, 576),
        host.tensor("QTP", "i32", sequences + 1),
        host.tensor("LTP", "i32", sequences + 1),
        host.tensor("LTD", "i32", 4000),
        host.tensor("LTL", "i32", sequences),
        300,
        0.125,
        host.tensor("R", "bf16", rows, 1, heads, 512),
        host.tensor("LSE", "fp32", rows, 1, heads, 1),
    )
    operands = {
        "q": f"bfloat16[{rows},{heads},576]",
        "kv_buffer": "bfloat16[5000,1,1,576]",
        "qo_indptr": f"int32[{sequences + 1}]",
        "kv_indptr": f"int32[{sequences + 1}]",
        "kv_indices": "int32[4000]",
        "kv_last_page_lens": f"int32[{sequences}]",
    }
    yield {"op": "mla_prefill_fwd", "operands": operands, "params": {"max_seqlen_q": 300, "sm_scale": 0.125}}, launches
