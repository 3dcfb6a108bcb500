"""Linear attention against float64 recurrences: causal convolutions and gated delta rules, over sequences and in decoding."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from benchmarks.h200.case import Arrays, Case, bf16, f32, i32, normal, uniform, wide


def cases() -> list[Case]:
    """Sequences without tokens, shorter than a window, skipped, and padding; widths that are no power of two; drafts."""
    return [*_convolutions(), *_rules(), *_decodes()]


def _silu(x: Any) -> Any:
    return x / (1 + np.exp(-x))


def _window(long: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, activation: str) -> Any:
    width = weight.shape[1]
    out = sum(weight[:, j] * long[j : len(long) - width + 1 + j] for j in range(width)) + (0.0 if bias is None else bias)
    return _silu(out) if activation == "silu" else out


def packed(a: Arrays, p: dict[str, Any]) -> list[np.ndarray]:
    x, weight, states, past = wide(a["x"]), wide(a["weight"]), wide(a["conv_states"]), a["weight"].shape[1] - 1
    out, offsets = np.zeros(x.shape), np.clip(a["query_start_loc"], 0, len(x))
    for n, line in enumerate(a["cache_indices"]):
        rows = slice(offsets[n], offsets[n + 1])
        if 0 <= line < len(states) and rows.stop > rows.start:
            long = np.concatenate([states[line, :past] * a["has_initial_state"][n], x[rows]])
            out[rows], states[line, :past] = _window(long, weight, _bias(a), p["activation"]), long[len(long) - past :]
    return [out, states]


def _bias(a: Arrays) -> np.ndarray | None:
    return wide(a["bias"]) if "bias" in a else None


def updated(a: Arrays, p: dict[str, Any]) -> list[np.ndarray]:
    x, weight, states, past = wide(a["x"]), wide(a["weight"]), wide(a["conv_state"]), a["weight"].shape[1] - 1
    out = x.copy()
    for b, line in enumerate(a["conv_state_indices"]):
        if 0 <= line < len(states):
            first = a["num_accepted_tokens"][b] - 1 if "num_accepted_tokens" in a else 0
            long = np.concatenate([states[line, first : first + past], x[b]])
            kept = long[1:] if "num_accepted_tokens" in a else long[len(x[b]) :]
            out[b], states[line, : len(kept)] = _window(long, weight, _bias(a), p["activation"]), kept
    return [out, states]


def _convolutions() -> list[Case]:
    def sequences(rng, dtype, width, dim, lines, size):
        a = {"x": normal(rng, 43, dim, dtype=dtype), "weight": normal(rng, dim, width, dtype=dtype)}
        a |= {"bias": normal(rng, dim, dtype=dtype)} if width == 4 else {}
        a["conv_states"] = normal(rng, lines, size, dim, dtype=dtype)
        ints = {"query_start_loc": [0, 1, 1, 30, 32, 40], "cache_indices": [lines - 1, 1, 0, -1, 2]}
        a |= {n: np.asarray(v, i32) for n, v in ints.items()}
        return {**a, "has_initial_state": np.array([True, True, False, True, True])}

    def update(rng, dtype, length, accepted, dim, size):
        a = {"x": normal(rng, 4, length, dim, dtype=dtype), "conv_state": normal(rng, 6, size, dim, dtype=dtype)}
        a |= {"weight": normal(rng, dim, 4, dtype=dtype), "bias": normal(rng, dim, dtype=dtype)}
        a["conv_state_indices"] = np.asarray([5, -1, 0, 2], i32)
        return a | ({"num_accepted_tokens": np.asarray([1, 1, 3, 2], i32)} if accepted else {})

    def both(a, states):
        return [(a["x"].shape, a["x"].dtype), (a[states].shape, a[states].dtype)]

    found = []
    # A product of two bfloat16 numbers is rounded to bfloat16 by AITER's kernels before it is added: four of them.
    for name, *given in (("bf16-W4", bf16, 4, 300, 6, 3), ("f32-W2", f32, 2, 40, 4, 5), ("bf16-W3", bf16, 3, 24, 4, 2)):
        params = {"activation": "silu" if name == "bf16-W4" else "none"}
        make = lambda rng, given=given: sequences(rng, *given)  # noqa: E731
        found.append(Case("causal_conv1d_fn", name, make, params, lambda a: both(a, "conv_states"), packed, roundings=8.0))
    for name, *given in (
        ("bf16-L1", bf16, 1, False, 300, 3),
        ("f32-L3-accepted", f32, 3, True, 20, 6),
        ("bf16-L5", bf16, 5, False, 9, 3),
    ):
        make = lambda rng, given=given: update(rng, *given)  # noqa: E731
        results = lambda a: both(a, "conv_state")  # noqa: E731
        found.append(Case("causal_conv1d_update", name, make, {"activation": "silu"}, results, updated, roundings=8.0))
    return found


def _steps(q, k, v, gate, beta, state, scale: float, unit: bool):
    """One sequence: the results ``[L, HV, V]`` and the state ``[HV, K, V]`` behind each token."""
    if unit:
        q, k = (x / np.sqrt((x * x).sum(-1, keepdims=True) + 1e-6) for x in (q, k))
    shared = v.shape[1] // max(q.shape[1], 1)
    q, k = (np.repeat(x, shared, axis=1) for x in (q, k))
    out, states = np.zeros(v.shape), []
    for t in range(len(q)):
        state = np.exp(gate[t])[..., None] * state
        u = beta[t][:, None] * (v[t] - np.einsum("hkv,hk->hv", state, k[t]))
        state = state + k[t][..., None] * u[:, None]
        out[t] = scale * np.einsum("hkv,hk->hv", state, q[t])
        states.append(state)
    return out, states


def rule(a: Arrays, p: dict[str, Any]) -> list[np.ndarray]:
    q, k, v, beta = (wide(a[n]) for n in ("q", "k", "v", "beta"))
    gate = wide(a["gk"]) if "gk" in a else wide(a["g"])[..., None] if "g" in a else np.zeros((*beta.shape, 1))
    offsets = a.get("cu_seqlens")
    spans = [(b, slice(None)) for b in range(len(q))] if offsets is None else [(0, slice(*o)) for o in itertools.pairwise(offsets)]
    out, finals = np.zeros(v.shape), []
    for n, (b, rows) in enumerate(spans):
        state = wide(a["initial_state"][n]) if "initial_state" in a else np.zeros((v.shape[2], q.shape[3], v.shape[3]))
        arrays = (x[b, rows] for x in (q, k, v, gate, beta))
        out[b, rows], states = _steps(*arrays, state=state, scale=p["scale"], unit=p["use_qk_l2norm_in_kernel"])
        finals.append(states[-1] if states else state)
    return [out, np.array(finals).reshape(len(finals), v.shape[2], q.shape[3], v.shape[3])]


def _rules() -> list[Case]:
    def one(name, batch, tokens, heads, values, k, v, dtype=bf16, gates=None, offsets=None):
        def make(rng):
            a = {n: normal(rng, batch, tokens, heads, k, dtype=dtype) for n in ("q", "k")}
            a["v"] = normal(rng, batch, tokens, values, v, dtype=dtype)
            if gates:
                shape = (batch, tokens, values, k) if gates == "gk" else (batch, tokens, values)
                a[gates] = uniform(rng, *shape, low=-1.0, high=0.0)
            a["beta"] = uniform(rng, batch, tokens, values, low=0.0, high=1.0)
            if gates:
                a["initial_state"] = normal(rng, batch if offsets is None else len(offsets) - 1, values, k, v, dtype=f32)
            return a if offsets is None else {**a, "cu_seqlens": np.asarray(offsets, i32)}

        params = {"scale": k**-0.5, "use_qk_l2norm_in_kernel": True, "ragged": offsets is not None}
        states = lambda a: batch if offsets is None else len(offsets) - 1  # noqa: E731
        results = lambda a: [(a["v"].shape, dtype), ((states(a), values, k, v), f32)]  # noqa: E731
        # In float32 each of a handful of tokens has two sums over K, two quotients and its update, all rounded.
        return Case("chunk_gated_delta_rule", name, make, params, results, rule, roundings=2.0 if dtype == bf16 else 16.0)

    return [
        one("T20-K16-V24", 2, 20, 1, 2, 16, 24, gates="g"),
        one("packed-gk", 1, 23, 2, 2, 16, 8, gates="gk", offsets=[0, 9, 9, 20]),
        one("f32-K12", 1, 5, 2, 2, 12, 5, dtype=f32),
        # By chunks: the last of one token, of all, and packed with a sequence of none and padding.
        one("T65-K32-V40", 2, 65, 1, 2, 32, 40, gates="g"),
        one("T128-K24-f32", 1, 128, 1, 1, 24, 16, dtype=f32),
        one("packed-chunks", 1, 300, 1, 1, 16, 16, gates="g", offsets=[0, 1, 64, 64, 290]),
        one("packed-gk-chunks", 1, 211, 1, 2, 48, 16, gates="gk", offsets=[0, 63, 210]),
    ]


def decode(a: Arrays, p: dict[str, Any]) -> list[np.ndarray]:
    pool, rows, offsets = wide(a["initial_state"]), wide(a["qkv"]), a["cu_seqlens"]
    lines, values, size, width = pool.shape
    columns = (rows.shape[1] - values * size) // 2
    heads = columns // max(width, 1)
    q, k = (x.reshape(len(rows), heads, width) for x in (rows[:, :columns], rows[:, columns : 2 * columns]))
    v = rows[:, 2 * columns :].reshape(len(rows), values, size)
    rate, soft = np.exp(wide(a["A_log"])), np.log1p(np.exp(wide(a["a"]) + wide(a["dt_bias"])))
    gate = -rate[:, None] * soft if p["is_kda"] else (-rate * soft)[..., None]
    beta, out, new = 1 / (1 + np.exp(-wide(a["b"]))), np.zeros(v.shape), pool.copy()
    for n, indices in enumerate(a["ssm_state_indices"]):
        if not len(indices):
            continue
        first = indices[a["num_accepted_tokens"][n] - 1 if "num_accepted_tokens" in a else 0]
        s = slice(offsets[n], offsets[n + 1])
        if 0 <= first < lines:
            given = (x[s] for x in (q, k, v, gate, beta))
            out[s], states = _steps(*given, state=pool[first].swapaxes(1, 2), scale=p["scale"], unit=p["use_qk_l2norm_in_kernel"])
            for index, state in zip(indices, states, strict=False):
                if 0 <= index < lines:
                    new[index] = state.swapaxes(1, 2)
    return [out, new]


def _decodes() -> list[Case]:
    def one(name, offsets, indices, heads, values, k, v, accepted=None, kda=False, pool=f32):
        def make(rng):
            gates, tokens = (k,) if kda else (), offsets[-1] + 1
            a = {
                "A_log": normal(rng, values, dtype=f32),
                "a": normal(rng, tokens, values, *gates),
                "b": normal(rng, tokens, values),
            }
            a |= {"dt_bias": normal(rng, values, *gates, dtype=f32), "qkv": normal(rng, tokens, 2 * heads * k + values * v)}
            a |= {"initial_state": normal(rng, 7, values, v, k, dtype=pool)}
            a |= {"cu_seqlens": np.asarray(offsets, i32), "ssm_state_indices": np.asarray(indices, i32)}
            return a if accepted is None else {**a, "num_accepted_tokens": np.asarray(accepted, i32)}

        params = {"beta": 1.0, "threshold": 20.0, "scale": k**-0.5, "use_qk_l2norm_in_kernel": True, "is_kda": kda}
        results = lambda a: [((len(a["qkv"]), values, v), bf16), (a["initial_state"].shape, pool)]  # noqa: E731
        return Case("fused_rearrange_sigmoid_gated_delta_rule", name, make, params, results, decode)

    return [
        one("N3-K16-V40", [0, 1, 2, 3], [[6], [-1], [0]], 1, 2, 16, 40),
        one("drafts-K12", [0, 3, 5], [[1, 4, 5], [0, 2, 3]], 2, 2, 12, 8, accepted=[2, 1], pool=bf16),
        one("kda-K16", [0, 1, 2], [[2], [5]], 1, 2, 16, 8, kda=True),
    ]
