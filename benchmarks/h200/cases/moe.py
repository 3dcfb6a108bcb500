"""Mixture of experts against a float64 loop over tokens and experts with the same quantisations."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.h200.case import Arrays, Case, bf16, i32, normal, quantised, rounded, uniform, wide
from benchmarks.h200.cases.fused import ACTIVATIONS

SWIGLU = {"activation": "swiglu", "gate_mode": "interleave", "swiglu_limit": 1.5}
ALPHA, LIMIT = 1.702, 7.0


def draw(rng, tokens, experts, topk, d, inter, quant, fp8, bad_ids=False, masked=False, biased=False, local=None, rows=2) -> Arrays:
    known = 2 * experts if masked else experts
    ids = np.argsort(rng.random((tokens, known)), 1)[:, :topk].astype(i32)
    if bad_ids:
        ids[0, 0], ids[-1, -1] = -1, experts + 5
    weights = rng.random((tokens, topk)).astype(np.float32)
    kind = bf16 if quant == "none" else fp8
    std = d**-0.5 if quant == "none" else 1.0
    a = {
        "hidden_states": normal(rng, tokens, d),
        "w1": normal(rng, experts, rows * inter, d, dtype=kind, std=std),
        "w2": normal(rng, experts, d, inter, dtype=kind, std=std),
        "topk_weight": weights / weights.sum(1, keepdims=True),
        "topk_ids": ids,
    }
    if masked:
        a["expert_mask"] = (np.arange(known) % 2 == 0).astype(i32)
    if biased:
        a |= {"bias1": normal(rng, experts, rows * inter), "bias2": normal(rng, experts, d)}
    if local is not None:
        a["num_local_tokens"] = np.array([local], i32)
    shapes: dict[str, list[tuple[int, ...]]] = {
        "none": [],
        "per_tensor": [(experts,), (experts,)],
        "per_token": [(experts, rows * inter), (experts, d)],
    }
    blocks = [(experts, 2 * inter // 128, d // 128), (experts, d // 128, inter // 128)]
    for name, shape in zip(("w1_scale", "w2_scale"), shapes.get(quant, blocks), strict=False):
        a[name] = uniform(rng, *shape, low=0.5 * d**-0.5, high=2 * d**-0.5)
    return a


def _dequantised(w: np.ndarray, scale: np.ndarray | None, quant: str) -> np.ndarray:
    if scale is None:
        return wide(w)
    if quant == "per_tensor":
        return wide(w) * wide(scale).reshape(-1, 1, 1)
    if quant == "per_token":
        return wide(w) * wide(scale).reshape(w.shape[0], w.shape[1], 1)
    return wide(w) * np.repeat(np.repeat(wide(scale), 128, 1), 128, 2)


def local_expert(a: Arrays, token: int, slot: int) -> int:
    """The number among the experts held here of the one that takes a slot; how many there are where none does."""
    experts, wanted = a["w1"].shape[0], int(a["topk_ids"][token, slot])
    held = a.get("expert_mask", np.ones(experts, i32)) != 0
    there = 0 <= wanted < len(held) and held[wanted] and not ("num_local_tokens" in a and token >= a["num_local_tokens"][0])
    return int(held[:wanted].sum()) if there else experts


def oracle(a: Arrays, p: dict[str, Any], fp8) -> list[np.ndarray]:
    """The output, and the first product of each slot."""
    quant = p["quant_type"]
    x, experts = wide(a["hidden_states"]), a["w1"].shape[0]
    x[:, x.shape[1] - p["hidden_pad"] :] = 0
    x[int(a["num_local_tokens"][0]) if "num_local_tokens" in a else len(x) :] = 0
    w1, w2 = (_dequantised(a[n], a.get(f"{n}_scale"), quant) for n in ("w1", "w2"))
    groups = {"none": None, "per_tensor": None, "per_token": x.shape[1]}.get(quant, 128)
    xq = x if quant == "none" else quantised(x, fp8, groups)
    tokens, topk = a["topk_ids"].shape
    first, hidden = np.zeros((tokens, topk, w1.shape[1])), np.zeros((tokens, topk, w2.shape[2]))
    live = np.zeros((tokens, topk), bool)
    for t in range(tokens):
        for s in range(topk):
            e = local_expert(a, t, s)
            if e == experts:
                continue
            live[t, s] = True
            h = first[t, s] = rounded(xq[t] @ w1[e].T, bf16)
            hidden[t, s] = rounded(activated(h if "bias1" not in a else h + wide(a["bias1"][e]), w2.shape[2], p), bf16)
    hidden[..., hidden.shape[2] - p["intermediate_pad"] :] = 0
    inner = hidden.shape[-1] if quant == "per_token" else groups
    h = hidden if quant == "none" else quantised(hidden, fp8, inner)
    out = np.zeros_like(x)
    for t, s in zip(*np.nonzero(live), strict=True):
        e = local_expert(a, t, s)
        y = h[t, s] @ w2[e].T
        out[t] += float(a["topk_weight"][t, s]) * (y if "bias2" not in a else y + wide(a["bias2"][e]))
    out[:, out.shape[1] - p["hidden_pad"] :] = 0
    return [out, first]


#: by op, the slice of the results of `oracle` that it gives.
GIVES = {"fused_moe": slice(1), "fused_moe_keeping": slice(2), "fused_moe_gate_up": slice(1, 2)}


def activated(h: np.ndarray, inter: int, p: dict[str, Any], exact: bool = False) -> np.ndarray:
    """Of a row of the first product; rounded on the way where AITER's kernel does, unless `exact`."""
    act = {**ACTIVATIONS, "none": lambda g: g, "swiglu": lambda g: g / (1 + np.exp(-ALPHA * g))}[p["activation"]]
    if len(h) == inter:
        return act(h)
    gate, up = (h[0::2], h[1::2]) if p["gate_mode"] == "interleave" else np.split(h, 2)
    limit = LIMIT if p["swiglu_limit"] is None and p["activation"] == "swiglu" else p["swiglu_limit"]
    if limit is not None:
        gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
    if p["activation"] == "swiglu":
        return act(gate) * (up + 1)
    plain = p["activation"] == "silu" and limit is None and not exact
    return (rounded(act(gate), bf16) if plain else act(gate)) * up  # AITER's kernel for silu rounds twice


def case(tokens, experts, topk, d, inter, quant, fp8, activation="silu", settings=(), op="fused_moe", **flags) -> Case:
    params: dict[str, Any] = {
        "activation": activation, "quant_type": quant, "doweight_stage1": False, "hidden_pad": 0, "intermediate_pad": 0,
        "swiglu_limit": None, "gate_mode": "separated", "q_dtype_a": None, "output_dtype": bf16, "weight_layout": None,
        **dict(settings),
    }  # fmt: skip
    marks = [*flags, *([] if params["activation"] == "silu" else [params["activation"]])]
    marks += [name for name in dict(settings) if name != "activation"]
    name = f"T{tokens}-E{experts}-k{topk}-D{d}-I{inter}-{quant}{''.join('-' + mark for mark in marks)}"
    return Case(
        op,
        name,
        lambda rng: draw(rng, tokens, experts, topk, d, inter, quant, fp8, **flags),
        params,
        lambda a: [((tokens, d), bf16), ((tokens, topk, a["w1"].shape[1]), bf16)][GIVES[op]],
        lambda a, p: oracle(a, p, fp8)[GIVES[op]],
        roundings=3.0,  # gate/up, the expert's output, the sum
        check=None if quant == "none" else lambda a, p, got: _quantised_error(got[0], oracle(a, p, fp8)[0]),
    )


def _quantised_error(got: np.ndarray, want: np.ndarray) -> float:
    """An intermediate next to an fp8 rounding boundary may go either way when float32 sums differ in order: a bfloat16
    spacing (2^-8 relative) crosses one of the boundaries (2^-3 apart) for up to 6 % of the values after both roundings,
    each then off by up to 2^-3. That is a relative rms of 3 %, and no single output further off than 8 times that.
    """
    error, rms = np.abs(wide(got) - want), np.sqrt(np.mean(np.square(want)))
    return float(max(np.sqrt(np.mean(np.square(error))) / (0.03 * rms), error.max() / (0.24 * rms)))


def cases(fp8: np.dtype) -> list[Case]:
    quants = ("none", "per_tensor", "per_token", "per_1x128")
    found = [case(tokens, 8, 2, 256, 128, quant, fp8) for quant in quants for tokens in (1, 33)]
    found += [case(64, 64, 8, 512, 256, quant, fp8) for quant in quants]
    found += [case(17, 8, 2, 256, 128, "none", fp8, bad_ids=True), case(17, 8, 2, 256, 128, "none", fp8, masked=True)]
    found += [
        case(17, 8, 2, 256, 128, quant, fp8, activation) for quant, activation in (("none", "gelu_tanh"), ("per_token", "gelu"))
    ]
    found += [case(33, 8, 2, 256, 128, "none", fp8, op=op, bad_ids=True) for op in ("fused_moe_keeping", "fused_moe_gate_up")]
    pads = {"hidden_pad": 37, "intermediate_pad": 5}
    found += [
        case(17, 8, 4, 256, 96, "none", fp8, settings=SWIGLU | pads, biased=True),  # gpt-oss
        case(17, 8, 2, 256, 96, "per_token", fp8, settings=SWIGLU | pads, biased=True, local=11),
        case(17, 8, 2, 256, 96, "per_tensor", fp8, settings={"swiglu_limit": 1.0, **pads}, local=11),
        case(17, 8, 2, 384, 256, "per_1x128", fp8, settings={**SWIGLU, "hidden_pad": 128, "intermediate_pad": 128}, biased=True),
        case(9, 8, 2, 256, 96, "none", fp8, settings={"activation": "gelu"}, rows=1),
        case(9, 8, 2, 256, 96, "none", fp8, settings={"activation": "none", "intermediate_pad": 3}, rows=1, biased=True),
    ]
    return found
