"""Attention over emptied axes, in float64 numpy: no key gives zero (and a log-sum-exp of -inf), no head dimension equal scores."""

import itertools

import jax.numpy as jnp
import numpy as np

from tests.attention import oracle
from tests.oracle import f64


def _scores(p, slopes, diagonal, bias=None):
    """cap, then ALiBi by the distance from `diagonal` [Sq], then the bias."""
    cap = p.get("logits_soft_cap", 0.0)

    def score(s, head, i, keys):
        s = cap * np.tanh(s / cap) if cap else s
        if slopes is not None:
            s = s - slopes[head] * np.abs(diagonal[i] - keys)
        return s if bias is None else s + f64(bias)[i, keys]

    return score


def _sequence(q, k, v, p, slopes, bias=None, sinks=None):
    """One sequence [S, H, D]: out, lse [Sq, Hq]."""
    queries, keys = q.shape[0], k.shape[0]
    visible = oracle.window_mask(queries, keys, p["causal"], p.get("sliding_window", (-1, -1)), p.get("attention_chunk_size", 0))
    score = _scores(p, slopes, np.arange(queries) + keys - queries, bias)
    sink = None if sinks is None else f64(sinks)
    return oracle.attend(f64(q), f64(k), f64(v), visible, scale=p["scale"], score=score, sink=sink)


def _slopes(o, i):
    slopes = o.get("alibi_slopes")
    return None if slopes is None else f64(slopes)[i] if slopes.ndim == 2 else f64(slopes)


def flash(o, p):
    o = _descaled(o, o["q"].shape[0])
    parts = [_sequence(*(o[n][b] for n in "qkv"), p, _slopes(o, b), o.get("bias"), o.get("sinks")) for b in range(o["q"].shape[0])]
    if not parts:
        return np.zeros((*o["q"].shape[:3], o["v"].shape[3])), np.zeros((0, *o["q"].shape[2:0:-1]))
    return np.stack([out for out, _ in parts]), np.stack([lse.T for _, lse in parts])


def _descaled(o, sequences):
    """fp8 values in their own scale; those of heads without dimensions, or of no keys, alone have one that counts."""
    scale = o.get("v_descale")
    if scale is None or o["v"].ndim == 3:
        return o
    return {**o, "v": f64(o["v"]) * np.broadcast_to(f64(scale), (sequences, o["v"].shape[2]))[:, None, :, None]}


def merge(o, p):
    """Keys of both parts: only the log-sum-exps of heads without dimensions have numbers."""
    out = np.zeros(o["out_a"].shape)
    return out, np.logaddexp(f64(o["lse_a"]), f64(o["lse_b"]))


def asked(found, p):
    """fp8: the log-sum-exp is empty unless asked for."""
    out, lse = found
    return out, lse if p["return_lse"] else np.zeros((*lse.shape[:-2], 0))


def varlen(o, p):
    q, k, v = (o[n] for n in "qkv")
    scale, sequences = o.get("v_descale"), o["cu_seqlens_q"].shape[0] - 1
    scale = np.ones((sequences, v.shape[1])) if scale is None else np.broadcast_to(f64(scale), (sequences, v.shape[1]))
    out, lse = np.zeros((*q.shape[:2], v.shape[2])), np.full((q.shape[1], q.shape[0]), -np.inf)
    for b, (i, j) in enumerate(zip(*(_spans(o[f"cu_seqlens_{x}"], o[x].shape[0]) for x in "qk"), strict=True)):
        part, part_lse = _sequence(q[i], k[j], f64(v[j]) * scale[b][:, None], p, _slopes(o, b), sinks=o.get("sinks"))
        out[i], lse[:, i] = part, part_lse.T
    return out, lse


def _spans(offsets, rows):
    """Slices of the packed rows; an emptied operand has none, whatever its offsets say."""
    bounds = np.minimum(np.asarray(offsets), rows)
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def flash_bwd(o, p):
    """From the given out and log-sum-exp, as the op has it; every sum over an empty axis is zero."""
    dq, dk, dv = (np.zeros(o[n].shape) for n in "qkv")
    bias = o.get("bias")
    dbias = np.zeros((o["q"].shape[0], 0)) if bias is None else np.zeros(bias.shape)
    for b in range(o["q"].shape[0]):
        rows = {n: f64(o[n][b]) for n in ("dout", "q", "k", "v", "out")}
        grads = _sequence_bwd(rows, f64(o["lse"][b]), p, _slopes(o, b), bias, _dlse(o, b))
        dq[b], dk[b], dv[b] = grads[:3]
        dbias = dbias if bias is None else dbias + grads[3]
    return dq, dk, dv, dbias


def varlen_bwd(o, p):
    dq, dk, dv = (np.zeros(o[n].shape) for n in "qkv")
    for b, (i, j) in enumerate(zip(*(_spans(o[f"cu_seqlens_{x}"], o[x].shape[0]) for x in "qk"), strict=True)):
        rows = {"dout": i, "q": i, "out": i, "k": j, "v": j}
        x = {n: f64(o[n][s]) for n, s in rows.items()}
        dq[i], dk[j], dv[j], _ = _sequence_bwd(x, f64(o["lse"][:, i]), p, _slopes(o, b), dlse=_dlse(o, (slice(None), i)))
    return dq, dk, dv


def _dlse(o, at):
    return None if o.get("dlse") is None else f64(o["dlse"][at])


def _sequence_bwd(x, lse, p, slopes, bias=None, dlse=None):
    q, k, v = (x[n] for n in "qkv")
    (queries, heads, _), keys, group = q.shape, k.shape[0], q.shape[1] // max(k.shape[1], 1)
    visible = oracle.window_mask(queries, keys, p["causal"], p["sliding_window"], p.get("attention_chunk_size", 0))
    cap, score = p["logits_soft_cap"], _scores(p, slopes, np.arange(queries) + keys - queries, bias)
    dq, dk, dv, dbias = np.zeros(q.shape), np.zeros(k.shape), np.zeros(v.shape), np.zeros((queries, keys))
    for h in range(heads):
        raw = q[:, h] @ k[:, h // group].T * p["scale"]
        s = np.stack([score(raw[i], h, i, np.arange(keys)) for i in range(queries)]) if queries else raw
        weight = np.where(visible, np.exp(s - lse[h][:, None]), 0.0)
        delta = np.sum(x["dout"][:, h] * x["out"][:, h], axis=-1) - (0.0 if dlse is None else dlse[h])
        ds = weight * (x["dout"][:, h] @ v[:, h // group].T - delta[:, None])
        dbias += ds
        ds = ds * (1 - np.tanh(raw / cap) ** 2 if cap else 1.0) * p["scale"]
        dq[:, h] = ds @ k[:, h // group]
        dk[:, h // group] += ds.T @ q[:, h]
        dv[:, h // group] += weight.T @ x["dout"][:, h]
    return dq, dk, dv, dbias


def paged(name, offsets_name):
    """A cache with heads of no dimensions or no columns in the table, token by token."""

    def expected(o, p):
        q, table, layout = o[name], np.asarray(o["block_tables"]), p["kv_layout"]
        offsets = np.arange(q.shape[0] + 1) if o.get(offsets_name) is None else np.asarray(o[offsets_name])
        x = 16 // o["key_cache"].dtype.itemsize
        heads = o["value_cache"].shape[2 if layout == "NHD" else 1]
        size = o["key_cache"].shape[{"NHD": 1, "HND": 2}.get(layout, 3)]
        values = o["value_cache"].shape[{"vllm": 2}.get(layout, 3)]
        out = np.zeros((*q.shape[:2], values))
        if not q.shape[2] and table.size:
            for b, rows in enumerate(_spans(offsets, q.shape[0])):
                length = min(int(o["context_lens"][b]), table.shape[1] * size)
                v = np.zeros((length, heads, values))
                for t in range(length):
                    for h in range(heads):
                        for d in range(values):
                            place = oracle.value_element(layout, x, table[b, t // size], t % size, h, d)
                            v[t, h, d] = f64(o["value_cache"][place])
                        v[t, h] *= _value_scale(o.get("v_scale"), b, table[b, t // size], h, t % size)
                out[rows] = _paged_sequence(o, p, b, q[rows].shape[0], v)
        if o.get("output_scale") is not None:
            largest = float(jnp.finfo(p["output_dtype"]).max)
            out = np.clip(out / f64(o["output_scale"])[0], -largest, largest)
        return (out,)

    def _paged_sequence(o, p, b, queries, v):
        length, heads = v.shape[0], o[name].shape[1]
        window, chunk = p["sliding_window"], p.get("attention_chunk_size", 0)
        visible = oracle.window_mask(queries, length, p.get("causal", True), (window - 1 if window else -1, -1), chunk)
        slopes, cap = _slopes(o, b), p["logits_soft_cap"]
        first = length - queries if offsets_name == "cu_seqlens_q" else length - 1  # ALiBi's origin

        def score(s, head, i, keys):
            s = s if slopes is None else s + slopes[head] * (keys - first)
            return cap * np.tanh(s / cap) if cap and offsets_name != "cu_seqlens_q" else s

        nothing = np.zeros((queries, heads, 0)), np.zeros((length, v.shape[1], 0))
        sink = None if o.get("sinks") is None else f64(o["sinks"])
        return oracle.attend(*nothing, v, visible, scale=1.0, score=score, sink=sink)[0]

    return expected


def _value_scale(scale, sequence, block, head, slot):
    """That of one value of a paged cache: the caches' own dtype, or scales per tensor, per sequence and head, or per token."""
    at = {0: (), 1: (0,), 2: (sequence, head), 3: (block, head, slot)}[np.ndim(scale)]
    return 1.0 if scale is None else f64(scale)[at]


def mla(o, p):
    tokens, heads = o["q"].shape[:2]
    return np.zeros((tokens, heads, p.get("v_head_dim", 512))), np.full((tokens, heads), -np.inf)


def no_works(o, p):
    """No sequences: nothing to do for any workgroup."""
    works = p["num_cu"] - 1
    header = np.array([*p["tiles"], p["is_causal"]])
    return header, np.zeros(works + 2), np.zeros((works, 8)), np.zeros(1), np.zeros((0, 2)), np.zeros(works)


def no_pages(o, p):
    """No sequences: the same of paged attention."""
    shares = p["num_cu"] // p["num_heads_k"]
    works, pieces = p["num_heads_k"] * (shares - 1), 2 * (shares - 1)
    return np.zeros(p["num_cu"] + 1), np.zeros((works, 8)), np.zeros(1), np.zeros((0, 2)), np.zeros(pieces)


def packed_mqa_logits(o, p):
    """No heads, or heads of no dimensions: zero at every key that a token sees."""
    column = np.arange(o["kv"].shape[0])
    sees = (np.asarray(o["cu_starts"])[:, None] <= column) & (column < np.asarray(o["cu_ends"])[:, None])
    return (np.where(sees, 0.0, -np.inf),)


def mqa_logits(o, p):
    """No heads, or heads of no dimensions: zero at every key that a token sees."""
    tokens, sequences = o["q"].shape[0], o["context_lens"].shape[0]
    length = o["block_tables"].shape[1] * o["kv_cache"].shape[1]
    out = np.full((tokens, length), -np.inf)
    offsets = o.get("cu_seqlens_q")
    offsets = np.arange(sequences + 1) * (tokens // max(sequences, 1)) if offsets is None else np.asarray(offsets)
    for b, rows in enumerate(_spans(offsets, tokens)):
        for t in range(rows.start, rows.stop):
            out[t, : max(0, min(length, int(o["context_lens"][b]) - (rows.stop - 1 - t)))] = 0.0
    return (out,)
