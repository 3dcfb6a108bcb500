"""flash_attention_bwd and flash_attention_varlen_bwd: delta, the gradients by blocks of keys, dq out of its accumulator."""

import math
from pathlib import Path

SOURCES, TABLES = (str(Path(__file__).parent / "mha_bwd_entry.cc"),), ("fmha_v3_bwd",)
SHAPES = [(1, 129, 129, 8, 8), (2, 256, 256, 16, 2), (3, 257, 640, 12, 4), (1, 1000, 1000, 5, 1)]  # B Sq Sk Hq Hk
HEADS = [64, 96, 128]
DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def defaults(arch, head, packed, sk):
    """What aiter/ops/mha.py passes: float32 atomics but where gfx950 needs one block of keys; rounding by arch."""
    one_block = arch == "gfx950" and not packed and sk <= 256 and 64 < head <= 128
    return int(not one_block), 1 if arch == "gfx942" else 0


def cases(host, arch):
    for shape in SHAPES:
        for head in HEADS:
            for causal in (False, True):
                for packed in (False, True):
                    for dtype in DTYPES:
                        found = one(host, arch, shape, head, causal, packed, dtype)
                        if any(a["action"] == "launch" for a in found[1]):
                            yield found


def one(host, arch, shape, head, causal, packed, dtype):
    batch, sq, sk, hq, hk = shape
    q, k = ((batch * sq,), (batch * sk,)) if packed else ((batch, sq), (batch, sk))
    sizes = {"q": (*q, hq, head), "k": (*k, hk, head), "v": (*k, hk, head), "out": (*q, hq, head)}
    rows = (hq, batch * sq) if packed else (batch, hq, sq)
    tensors = {n: host.tensor(n, dtype, *s) for n, s in sizes.items()}
    tensors["lse"] = host.tensor("lse", "fp32", *rows)
    tensors["dout"] = host.tensor("dout", dtype, *q, hq, head)
    tensors["delta"] = host.tensor("delta", "fp32", *rows)
    tensors["dq"] = host.tensor("dq", dtype, *q, hq, head)
    tensors |= {n: host.tensor(n, dtype, *k, hq, head) for n in ("dk", "dv")}
    tensors["accumulator"] = host.tensor("dq_accumulator", "fp32", 1)
    starts = [host.tensor(f"cu_seqlens_{x}", "i32", batch + 1) if packed else None for x in "qk"]
    scale = 1 / math.sqrt(head)
    order = ("q", "k", "v", "out", "lse", "dout", "delta", "dq", "dk", "dv", "accumulator")
    lengths = (sq, sk, int(causal), scale, *defaults(arch, head, packed, sk))
    launches = host.call("record_mha_bwd", *(tensors[n] for n in order), *starts, *lengths)

    operands = {n: f"{DTYPES[dtype]}[{','.join(map(str, s))}]" for n, s in {**sizes, "dout": (*q, hq, head)}.items()}
    operands["lse"] = f"float32[{','.join(map(str, rows))}]"
    params = {"scale": scale, "causal": causal, "sliding_window": [-1, -1], "logits_soft_cap": 0.0, "alibi_per_sequence": False}
    params["with_bias"] = False
    if packed:
        operands |= {f"cu_seqlens_{x}": f"int32[{batch + 1}]" for x in "qk"}
        params |= {"max_seqlen_q": sq, "max_seqlen_k": sk}
        del params["with_bias"]
    name = "flash_attention_varlen_bwd" if packed else "flash_attention_bwd"
    return {"op": name, "operands": operands, "params": params}, launches
