"""flash_attention and flash_attention_varlen, forward: masks, head sizes, lengths around tiles, grouped heads."""

import math
from pathlib import Path

SOURCES, TABLES = (str(Path(__file__).parent / "mha_fwd_entry.cc"),), ("fmha_v3_fwd",)
# B, Sq, Sk, Hq, Hk
SHAPES = [(1, 129, 129, 8, 8), (2, 256, 256, 16, 2), (3, 257, 640, 12, 4), (1, 1000, 1000, 5, 1), (1, 20000, 20000, 8, 1)]
HEADS = [(128, 128), (192, 128)]
ROUNDING_TO_NEAREST_AWAY = 1  # AITER's default


def cases(host, arch):
    for shape in SHAPES:
        for d, dv in HEADS:
            for causal in (False, True):
                for packed in (False, True):
                    yield one(host, shape, d, dv, causal, packed)


def one(host, shape, d, dv, causal, packed):
    batch, sq, sk, hq, hk = shape
    q, k = ((batch * sq,), (batch * sk,)) if packed else ((batch, sq), (batch, sk))
    sizes = {"q": (*q, hq, d), "k": (*k, hk, d), "v": (*k, hk, dv)}
    scale = 1 / math.sqrt(d)
    operands = {n: f"bfloat16[{','.join(map(str, s))}]" for n, s in sizes.items()}
    params = {"scale": scale, "causal": causal, "sliding_window": [-1, -1], "logits_soft_cap": 0.0, "alibi_per_sequence": False}
    tensors = [host.tensor(n, "bf16", *s) for n, s in sizes.items()]
    tensors.append(host.tensor("out", "bf16", *q, hq, dv))
    tensors.append(host.tensor("lse", "fp32", *((hq, batch * sq) if packed else (batch, hq, sq))))
    if packed:
        operands |= {f"cu_seqlens_{x}": f"int32[{batch + 1}]" for x in "qk"}
        params |= {"max_seqlen_q": sq, "max_seqlen_k": sk}
    starts = [host.tensor(f"cu_seqlens_{x}", "i32", batch + 1) if packed else None for x in "qk"]
    name = "flash_attention_varlen" if packed else "flash_attention"
    launches = host.call("record_mha_fwd", *tensors, *starts, sq, int(causal), scale, ROUNDING_TO_NEAREST_AWAY)
    return {"op": name, "operands": operands, "params": params}, launches
