"""Attention: dense, packed, paged, ragged, latent; against a float64 softmax over gathered keys."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.h200.case import Arrays, Case, bf16, f32, i32, normal, wide


def cases(fp8: np.dtype) -> list[Case]:
    return [*flash(), *flash_backward(), *packed(), *packed_backward(), *paged(fp8), *ragged(), *latent(fp8)]


def attend(q, k, v, scale, *, causal=False, window=(-1, -1), soft_cap=0.0, slopes=None, sinks=None) -> np.ndarray:
    """[Sq, Hq, D] x [Sk, Hk, D] -> [Sq, Hq, Dv] in float64; the last query sees the last key."""
    weights, v = probabilities(q, k, v, scale, causal, window, soft_cap, slopes, sinks)[:2]
    return np.einsum("hqk,khd->qhd", weights, v)


def probabilities(q, k, v, scale, causal=False, window=(-1, -1), soft_cap=0.0, slopes=None, sinks=None):
    """Softmax weights [Hq, Sq, Sk], values repeated per query head, log-sum-exp [Hq, Sq]."""
    sq, heads, _ = q.shape
    sk, kv_heads, _ = k.shape
    k, v = (np.repeat(t, heads // kv_heads, axis=1) for t in (k, v))
    logits = np.einsum("qhd,khd->hqk", q, k) * scale
    if soft_cap:
        logits = soft_cap * np.tanh(logits / soft_cap)
    distance = np.arange(sk)[None, :] - (np.arange(sq)[:, None] + sk - sq)
    if slopes is not None:
        logits = logits - slopes[:, None, None] * np.abs(distance)
    seen = np.ones((sq, sk), bool)
    if causal:
        seen &= distance <= 0
    if window[0] >= 0:
        seen &= distance >= -window[0]
    logits = np.where(seen, logits, -np.inf)
    top = logits.max(-1, keepdims=True, initial=-1e30)
    if sinks is not None:
        top = np.maximum(top, sinks[:, None, None])
    weights = np.exp(logits - top)
    total = weights.sum(-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(sinks[:, None, None] - top)
    share = np.divide(weights, total, where=total > 0, out=np.zeros_like(weights))
    return share, v, (np.log(np.maximum(total, 1e-300)) + top)[..., 0]


#: probabilities are rounded to the value dtype before the second product, then the output.
ROUNDINGS = 2.0


def _flash_params(d, causal, window=(-1, -1)) -> dict[str, Any]:
    return {"scale": d**-0.5, "causal": causal, "sliding_window": window, "logits_soft_cap": 0.0, "alibi_per_sequence": False}


def _packed_params(d, causal, lengths_q, lengths_k) -> dict[str, Any]:
    return {**_flash_params(d, causal), "max_seqlen_q": max(lengths_q), "max_seqlen_k": max(lengths_k)}


def flash() -> list[Case]:
    def one(b, sq, sk, hq, hk, d, causal, slopes=False, window=(-1, -1), sinks=False, lse=False):
        def make(rng):
            a = {"q": normal(rng, b, sq, hq, d), "k": normal(rng, b, sk, hk, d), "v": normal(rng, b, sk, hk, d)}
            a |= {"alibi_slopes": rng.uniform(0.05, 0.5, hq).astype(np.float32)} if slopes else {}
            return {**a, "sinks": rng.normal(size=hq).astype(np.float32)} if sinks else a

        def oracle(a, p):
            slope, sink = (wide(a[n]) if n in a else None for n in ("alibi_slopes", "sinks"))
            q, k, v = (wide(a[n]) for n in "qkv")
            rows = [probabilities(q[i], k[i], v[i], p["scale"], causal, window, slopes=slope, sinks=sink) for i in range(b)]
            out = np.stack([np.einsum("hqk,khd->qhd", weights, wide_v) for weights, wide_v, _ in rows])
            return [out, np.stack([x for *_, x in rows]) if lse else None]

        name = f"{b}x{sq}x{sk}-h{hq}.{hk}-d{d}{'-causal' if causal else ''}{'-alibi' if slopes else ''}"
        name += f"-window{window[0]}" if window[0] >= 0 else ""
        name += f"{'-sinks' if sinks else ''}{'-lse' if lse else ''}"
        params = {**_flash_params(d, causal, window), **({"return_lse": True} if lse else {})}
        results = lambda a: [((b, sq, hq, d), bf16), ((b, hq, sq), f32)]  # noqa: E731
        return Case("flash_attention", name, make, params, results, oracle, roundings=ROUNDINGS)

    return [
        one(1, 1, 1, 1, 1, 64, True), one(2, 127, 127, 8, 2, 128, True), one(1, 129, 129, 3, 3, 64, False),
        one(1, 64, 200, 4, 1, 128, True), one(2, 65, 65, 4, 4, 128, True, slopes=True),
        one(1, 300, 300, 2, 2, 64, True, window=(50, -1)),
        one(2, 70, 133, 8, 2, 64, True, sinks=True), one(1, 130, 130, 4, 4, 128, True, sinks=True, lse=True),
    ]  # fmt: skip


def flash_backward() -> list[Case]:
    """The inputs hold the forward pass's own output and log-sum-exp, as the op is used."""

    return [
        _dense_backward(2, 127, 127, 4, 2, 128, True),
        _dense_backward(1, 65, 65, 3, 3, 64, False),
        _dense_backward(1, 64, 130, 4, 1, 64, True),
    ]


def _dense_backward(b, sq, sk, hq, hk, d, causal) -> Case:
    scale, group = d**-0.5, hq // hk

    def make(rng):
        a = {"dout": normal(rng, b, sq, hq, d), "q": normal(rng, b, sq, hq, d)}
        a |= {"k": normal(rng, b, sk, hk, d), "v": normal(rng, b, sk, hk, d)}
        q, k, v = (wide(a[n]) for n in "qkv")
        rows = [probabilities(q[i], k[i], v[i], scale, causal) for i in range(b)]
        a["out"] = np.stack([np.einsum("hqk,khd->qhd", w, v) for w, v, _ in rows]).astype(np.float32).astype(bf16)
        return {**a, "lse": np.stack([lse for _, _, lse in rows]).astype(np.float32)}

    def oracle(a, p):
        grads = []
        for i in range(b):
            q, k, v, dout = (wide(a[n])[i] for n in ("q", "k", "v", "dout"))
            weights, wide_v, _ = probabilities(q, k, v, scale, causal)
            dweights = np.einsum("qhd,khd->hqk", dout, wide_v)
            dlogits = weights * (dweights - (weights * dweights).sum(-1, keepdims=True)) * scale
            dq = np.einsum("hqk,khd->qhd", dlogits, np.repeat(k, group, axis=1))
            dk, dv = np.einsum("hqk,qhd->khd", dlogits, q), np.einsum("hqk,qhd->khd", weights, dout)
            grads.append((dq, *(g.reshape(sk, hk, group, d).sum(2) for g in (dk, dv))))
        return [*(np.stack(g) for g in zip(*grads, strict=True)), None]

    name = f"{b}x{sq}x{sk}-h{hq}.{hk}-d{d}{'-causal' if causal else ''}"
    shapes = [((b, sq, hq, d), bf16), ((b, sk, hk, d), bf16), ((b, sk, hk, d), bf16), ((b, 0), f32)]
    params = {**_flash_params(d, causal), "with_bias": False}
    # probabilities, their gradients and the saved output are rounded to bfloat16 before the products
    return Case("flash_attention_bwd", name, make, params, lambda a: shapes, oracle, roundings=4.0)


def packed_backward() -> list[Case]:
    """The gradient of each sequence is that of the dense op on it alone."""

    def one(lengths, hq, hk, d):
        dense = [_dense_backward(1, n, n, hq, hk, d, True) for n in lengths]
        bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(i32)

        def make(rng):
            parts = [case.make(rng) for case in dense]
            a = {n: np.concatenate([p[n][0] for p in parts]) for n in ("dout", "q", "k", "v", "out")}
            return {**a, "lse": np.concatenate([p["lse"][0] for p in parts], 1), "cu_seqlens_q": bounds, "cu_seqlens_k": bounds}

        def oracle(a, p):
            found = []
            for case, start, stop in zip(dense, bounds[:-1], bounds[1:], strict=True):
                part = {n: a[n][None, start:stop] for n in ("dout", "q", "k", "v", "out")}
                found.append(case.oracle({**part, "lse": a["lse"][None, :, start:stop]}, p)[:3])
            return [np.concatenate([g[0] for g in grads]) for grads in zip(*found, strict=True)]

        t = int(bounds[-1])
        shapes = [((t, hq, d), bf16), ((t, hk, d), bf16), ((t, hk, d), bf16)]
        params, name = _packed_params(d, True, lengths, lengths), f"{lengths}-h{hq}.{hk}-d{d}"
        return Case("flash_attention_varlen_bwd", name, make, params, lambda a: shapes, oracle, roundings=4.0)

    return [one([65, 1, 40], 4, 2, 128)]


def packed() -> list[Case]:
    def one(lengths_q, lengths_k, hq, hk, d, causal):
        bounds_q, bounds_k = (np.concatenate([[0], np.cumsum(n)]).astype(i32) for n in (lengths_q, lengths_k))

        def make(rng):
            tq, tk = bounds_q[-1], bounds_k[-1]
            a = {"q": normal(rng, tq, hq, d), "k": normal(rng, tk, hk, d), "v": normal(rng, tk, hk, d)}
            return {**a, "cu_seqlens_q": bounds_q, "cu_seqlens_k": bounds_k}

        def oracle(a, p):
            q, k, v = (wide(a[n]) for n in "qkv")
            spans = zip(bounds_q[:-1], bounds_q[1:], bounds_k[:-1], bounds_k[1:], strict=True)
            return [np.concatenate([attend(q[a:b], k[c:e], v[c:e], p["scale"], causal=causal) for a, b, c, e in spans]), None]

        params, tokens = _packed_params(d, causal, lengths_q, lengths_k), int(bounds_q[-1])
        results = lambda a: [((tokens, hq, d), bf16), ((hq, tokens), f32)]  # noqa: E731
        name = f"{lengths_q}-{hq}.{hk}-d{d}"
        return Case("flash_attention_varlen", name, make, params, results, oracle, roundings=ROUNDINGS)

    return [one([5, 127, 1], [5, 127, 1], 8, 2, 128, True), one([33, 64], [40, 100], 4, 4, 64, False)]


def _cache(rng, lengths, hk, d, block, dtype, blocks_per_sequence=None):
    """Keys, values and a table of scattered blocks; unused table entries point anywhere valid."""
    width = blocks_per_sequence or max(1, -(-max(lengths) // block))
    total = len(lengths) * width + 3
    tables = rng.permutation(total)[: len(lengths) * width].reshape(len(lengths), width).astype(i32)
    return normal(rng, total, block, hk, d, dtype=dtype), normal(rng, total, block, hk, d, dtype=dtype), tables


def _window(tokens: int | None) -> tuple[int, int]:
    """The number of most recent tokens seen, itself included, as (left, right)."""
    return (-1, -1) if not tokens else (tokens - 1, -1)


def _gather(cache, table, length):
    return wide(cache)[table].reshape(-1, *cache.shape[2:])[:length]


def paged(fp8: np.dtype) -> list[Case]:
    def one(lengths, hq, hk, d, block, layout, dtype=bf16, width=None, window=0, soft_cap=0.0, slopes=False):
        scaled = dtype == fp8

        def make(rng):
            keys, values, tables = _cache(rng, lengths, hk, d, block, dtype, width)
            if layout == "HND":
                keys, values = (np.ascontiguousarray(np.swapaxes(c, 1, 2)) for c in (keys, values))
            a = {"query": normal(rng, len(lengths), hq, d), "key_cache": keys, "value_cache": values, "block_tables": tables}
            a["context_lens"] = np.array(lengths, i32)
            if scaled:
                a |= {"k_scale": np.array([0.7], np.float32), "v_scale": np.array([1.3], np.float32)}
            return {**a, "alibi_slopes": rng.uniform(0.05, 0.5, hq).astype(np.float32)} if slopes else a

        def oracle(a: Arrays, p):
            keys, values = a["key_cache"], a["value_cache"]
            if layout == "HND":
                keys, values = np.swapaxes(keys, 1, 2), np.swapaxes(values, 1, 2)
            out = []
            for i, length in enumerate(lengths):
                k, v = (_gather(c, a["block_tables"][i], length) for c in (keys, values))
                k, v = (k * 0.7, v * 1.3) if scaled else (k, v)
                row = attend(wide(a["query"])[i : i + 1], k, v, p["scale"], causal=True, window=_window(window), soft_cap=soft_cap,
                             slopes=wide(a["alibi_slopes"]) if slopes else None)  # fmt: skip
                out.append(row)
            return [np.concatenate(out)]

        params = {"scale": d**-0.5, "logits_soft_cap": soft_cap, "sliding_window": window, "kv_layout": layout}
        params |= {"ragged": False, "per_token_scales": False}
        name = f"B{len(lengths)}-h{hq}.{hk}-d{d}-bs{block}-{layout}-{np.dtype(dtype).name}"
        name += f"{'-window' if window else ''}{'-cap' if soft_cap else ''}{'-alibi' if slopes else ''}-L{max(lengths)}"
        # fp8 keys times a bf16 query: the keys are exact in bf16, so nothing is added
        return Case("paged_attention", name, make, params, lambda a: [((len(lengths), hq, d), bf16)], oracle, roundings=ROUNDINGS)

    return [
        one([1], 1, 1, 64, 16, "HND"),
        one([5, 0, 127, 129], 8, 2, 128, 16, "HND"),
        one([1000, 33], 8, 8, 128, 16, "HND"),
        one([1500, 3], 16, 2, 128, 32, "NHD", width=80),
        one([2500, 77], 4, 4, 64, 16, "NHD"),
        one([700, 16], 8, 1, 128, 16, "NHD", soft_cap=20.0),
        one([300, 40], 8, 2, 128, 16, "HND", window=64),
        one([300, 40], 8, 2, 128, 32, "NHD", slopes=True),
        one([1100, 200], 8, 2, 128, 32, "NHD", dtype=fp8),
    ]


def ragged() -> list[Case]:
    def one(queries, contexts, hq, hk, d, block, window=0, soft_cap=0.0, sinks=False):
        bounds = np.concatenate([[0], np.cumsum(queries)]).astype(i32)

        def make(rng):
            keys, values, tables = _cache(rng, contexts, hk, d, block, bf16)
            a = {"q": normal(rng, int(bounds[-1]), hq, d), "key_cache": keys, "value_cache": values}
            a |= {"cu_seqlens_q": bounds, "context_lens": np.array(contexts, i32), "block_tables": tables}
            return {**a, "sinks": normal(rng, hq)} if sinks else a

        def oracle(a: Arrays, p):
            out = []
            for i, length in enumerate(contexts):
                k, v = (_gather(a[n], a["block_tables"][i], length) for n in ("key_cache", "value_cache"))
                q = wide(a["q"])[bounds[i] : bounds[i + 1]]
                out.append(attend(q, k, v, p["scale"], causal=True, window=_window(window), soft_cap=soft_cap,
                                  sinks=wide(a["sinks"]) if sinks else None))  # fmt: skip
            return [np.concatenate(out)]

        params = {"scale": d**-0.5, "causal": True, "sliding_window": window, "logits_soft_cap": soft_cap}
        params |= {"kv_layout": "NHD", "per_token_scales": False}
        name = f"{queries}-{contexts}-h{hq}.{hk}-d{d}{'-window' if window else ''}{'-sinks' if sinks else ''}"
        results = lambda a: [((int(bounds[-1]), hq, d), bf16)]  # noqa: E731
        return Case("unified_attention", name, make, params, results, oracle, roundings=ROUNDINGS)

    return [
        one([7, 1, 33], [20, 300, 33], 8, 2, 128, 16),
        one([1, 1], [700, 5], 4, 1, 64, 32),
        one([65, 129], [65, 400], 4, 4, 128, 16, window=50),
        one([9, 4], [90, 40], 8, 2, 64, 16, sinks=True, soft_cap=10.0),
    ]


def latent(fp8: np.dtype) -> list[Case]:
    def one(lengths, heads, page, rank=512, rope=64):
        counts = [-(-n // page) for n in lengths]
        bounds = np.concatenate([[0], np.cumsum(counts)]).astype(i32)

        def make(rng):
            total = int(bounds[-1]) + 2
            return {
                "q": normal(rng, len(lengths), heads, rank + rope),
                "kv_buffer": normal(rng, total, page, 1, rank + rope),
                "qo_indptr": np.arange(len(lengths) + 1, dtype=i32),
                "kv_indptr": bounds,
                "kv_indices": rng.permutation(total)[: bounds[-1]].astype(i32),
                "kv_last_page_lens": np.array([n - (c - 1) * page for n, c in zip(lengths, counts, strict=True)], i32),
            }

        def oracle(a: Arrays, p):
            out = []
            for i, length in enumerate(lengths):
                pages = a["kv_indices"][bounds[i] : bounds[i + 1]]
                kv = _gather(a["kv_buffer"], pages, length)
                q, scale = wide(a["q"])[i : i + 1], p["sm_scale"]
                weights, values, lse = probabilities(q, kv, kv[..., :rank], scale)
                out.append((np.einsum("hqk,khd->qhd", weights, values), lse.T))
            return [np.concatenate(part) for part in zip(*out, strict=True)]

        params = {"max_seqlen_qo": 1, "sm_scale": (rank + rope) ** -0.5, "logit_cap": 0.0, "causal": True, "return_lse": True}
        name, rows = f"{lengths}-h{heads}-page{page}", len(lengths)
        results = lambda a: [((rows, heads, rank), bf16), ((rows, heads), f32)]  # noqa: E731
        return Case("mla_decode_fwd", name, make, params, results, oracle, roundings=ROUNDINGS)

    return [one([1], 16, 1), one([200, 33], 16, 1), one([300, 65], 16, 64), one([1000, 17, 64], 128, 64)]
