"""Sparse attention's indexer: logits over packed and over paged keys, and the largest of each row."""

from __future__ import annotations

import numpy as np

from benchmarks.h200.case import Case, f32, i32, normal, uniform, wide


def cases(fp8: np.dtype) -> list[Case]:
    found = [_packed(5, 300, 16, 32, fp8), _packed(3, 128, 64, 128, fp8), _packed(2, 1, 32, 64, fp8)]
    paged = [(4, 1, 16, 64, 128, False), (6, 2, 5, 3, 20, False), (2, 1, 16, 64, 128, True), (3, 1, 1, 2, 32, False)]
    found += [_paged(t, n, size, h, d, shuffled, fp8) for t, n, size, h, d, shuffled in paged]
    found.append(_paged(7, 0, 16, 16, 32, True, fp8))
    sizes = [(1, 1, 1), (5, 300, 8), (4, 2048, 2047), (6, 2500, 700), (4, 9001, 4097), (3, 700, 2048)]
    found += [_ranges(rows, columns, k, kind) for rows, columns, k in sizes for kind in ("distinct", "equals")]
    return [*found, _ranges(3, 5000, 3000, "odd"), _lengths(6, 4500, 2050, 1), _lengths(6, 130, 128, 3)]


def _sums(q, weights, keys) -> tuple[np.ndarray, np.ndarray]:
    """Logits of one token and how far float32 may be off: D + H additions and a few factors, of the sum of magnitudes."""
    heads = np.maximum(q @ keys.T, 0)
    bound = np.abs(weights) @ (np.abs(q) @ np.abs(keys.T)) * (sum(q.shape) + 8) * 2.0**-24
    return weights @ heads, bound


def _measure(rows):
    """Error over what is allowed; rows: per token, the columns that it sees with their logits and bounds."""

    def check(a, p, got):
        (logits,), worst = got, 0.0
        for row, (columns, want, bound) in zip(logits, rows(a, p), strict=True):
            seen = np.zeros(row.shape, bool)
            seen[columns] = True
            if not (row[~seen] == -np.inf).all():
                return float("inf")
            worst = max(worst, float(np.max(np.abs(row[columns] - want) / (bound + 1e-30), initial=0.0)))
        return worst

    return check


def _case(op: str, name: str, make, params, results, rows) -> Case:
    return Case(op, name, make, params, results, lambda a, p: [None], check=_measure(rows))


def _packed(tokens: int, keys: int, heads: int, dim: int, fp8: np.dtype) -> Case:
    """Ranges that start inside of a tile, that are empty, and that end past the keys."""

    def make(rng):
        starts, ends = np.sort(rng.integers(0, keys + 1, (2, tokens)), axis=0).astype(i32)
        starts[0], ends[0] = -3, keys + 9
        starts[-1], ends[-1] = keys, max(keys - 200, 0)
        values = {"q": normal(rng, tokens, heads, dim, dtype=fp8), "kv": normal(rng, keys, dim, dtype=fp8)}
        scores = {"kv_scales": uniform(rng, keys), "weights": normal(rng, tokens, heads, dtype=f32)}
        return {**values, **scores, "cu_starts": starts, "cu_ends": ends}

    def rows(a, p):
        scaled = wide(a["kv"]) * wide(a["kv_scales"])[:, None]
        for t in range(tokens):
            seen = np.arange(max(a["cu_starts"][t], 0), min(a["cu_ends"][t], keys))
            yield seen, *_sums(wide(a["q"][t]), wide(a["weights"][t]), scaled[seen])

    name = f"{tokens}x{keys}-{heads}x{dim}"
    return _case("fp8_mqa_logits", name, make, {}, lambda a: [((tokens, keys), f32)], rows)


def _paged(tokens: int, next_n: int, size: int, heads: int, dim: int, preshuffle: bool, fp8: np.dtype) -> Case:
    """next_n: tokens to a sequence; 0: three sequences of 3, 0 and all but 4, with one token of none."""
    sequences, columns = 3 if next_n == 0 else tokens // next_n, 5
    blocks = sequences * columns + 1

    def make(rng):
        cache = rng.integers(0, 256, (blocks, size, dim + 4), np.uint8)  # every byte that is not written is noise
        keys, flat = normal(rng, blocks, size, dim, dtype=fp8), cache.reshape(blocks, -1)
        laid = keys.view(np.uint8)
        if preshuffle:
            laid = laid.reshape(blocks, size // 16, 16, dim // 16, 16).swapaxes(2, 3)
        flat[:, : size * dim] = laid.reshape(blocks, -1)
        flat[:, size * dim :] = np.ascontiguousarray(uniform(rng, blocks, size)).view(np.uint8).reshape(blocks, -1)
        lengths = rng.integers(next_n, columns * size + 1, sequences).astype(i32)
        lengths[0] = columns * size
        tables = rng.permutation(blocks)[: sequences * columns].reshape(sequences, columns).astype(i32)
        for row, length in zip(tables, lengths, strict=True):
            row[-(-int(length) // size) :] = -5
        found = {
            "q": normal(rng, tokens, heads, dim, dtype=fp8),
            "kv_cache": cache,
            "weights": normal(rng, tokens, heads, dtype=f32),
        }
        found |= {"block_tables": tables, "context_lens": lengths}
        return found if next_n else found | {"cu_seqlens_q": np.array([0, 3, 3, tokens - 1], i32)}

    def rows(a, p):
        flat = a["kv_cache"].reshape(blocks, -1)
        keys = flat[:, : size * dim]
        if preshuffle:
            keys = keys.reshape(blocks, size // 16, dim // 16, 16, 16).swapaxes(2, 3)
        keys = wide(np.ascontiguousarray(keys).view(fp8).reshape(blocks, size, dim))
        keys = keys * wide(np.ascontiguousarray(flat[:, size * dim :]).view(f32))[..., None]
        offsets = a.get("cu_seqlens_q", np.arange(sequences + 1) * next_n)
        for t in range(tokens):
            owner = np.flatnonzero((offsets[:-1] <= t) & (t < offsets[1:]))
            end = 0 if not len(owner) else max(int(a["context_lens"][owner[0]] - (offsets[owner[0] + 1] - 1 - t)), 0)
            own = keys[np.maximum(a["block_tables"][owner[0] if len(owner) else 0], 0)].reshape(-1, dim)[:end]
            yield np.arange(end), *_sums(wide(a["q"][t]), wide(a["weights"][t]), own)

    name = f"{tokens}x{next_n}-{size}-{heads}x{dim}" + "-preshuffled" * preshuffle
    results = lambda a: [((tokens, columns * size), f32)]  # noqa: E731
    return _case("fp8_paged_mqa_logits", name, make, {"preshuffle": preshuffle}, results, rows)


def _selected(op: str, name: str, make, params, k: int, range_of) -> Case:
    """The k first of a sort of bit patterns, the lowest columns among equals; range_of: of a row, from the arguments."""

    def check(a, p, got):
        (columns,), rows = got, a["logits"]
        for row, found in enumerate(np.asarray(columns)):
            first, last = (int(np.clip(x, 0, rows.shape[1])) for x in range_of(a, row))
            bits = rows[row, first : max(last, first)].view(i32)
            rank = np.where(bits < 0, bits.astype(np.int64) & 0x7FFFFFFF, -1 - bits.astype(np.int64))
            want = np.sort(np.argsort(rank, kind="stable")[:k]) + first
            if not np.array_equal(found, np.concatenate([want, np.full(k - len(want), -1)])):
                return float("inf")
        return 0.0

    params = {**params, "k": k, "stable": True}
    return Case(op, name, make, params, lambda a: [((len(a["logits"]), k), i32)], lambda a, p: [None], check=check)


def _logits(rng, rows: int, columns: int, kind: str) -> np.ndarray:
    drawn = rng.standard_normal((rows, columns)).astype(f32)
    if kind == "equals":
        drawn = np.round(drawn)
    if kind == "odd":
        special = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-42, np.copysign(np.nan, -1)], f32)
        drawn[:, ::100] = rng.choice(special, drawn[:, ::100].shape)
    return drawn


def _ranges(rows: int, columns: int, k: int, kind: str) -> Case:
    """Ranges that begin before the row and end behind it, and one that is empty."""

    def make(rng):
        bounds = np.sort(rng.integers(0, columns + 1, (2, rows)), axis=0).astype(i32)
        bounds[:, 0], bounds[:, -1] = (-3, columns + 5), (0, columns)
        if rows > 2:
            bounds[:, 1] = columns // 2
        return {"logits": _logits(rng, rows, columns, kind), "row_starts": bounds[0], "row_ends": bounds[1]}

    name = f"{rows}x{columns}-{k}-{kind}"
    return _selected("top_k_per_row_prefill", name, make, {}, k, lambda a, row: (a["row_starts"][row], a["row_ends"][row]))


def _lengths(rows: int, columns: int, k: int, next_n: int) -> Case:
    """Lengths of which one is past the row, one below the number of tokens."""

    def make(rng):
        lengths = rng.integers(1, columns, rows // next_n).astype(i32)
        lengths[0], lengths[-1] = columns + 7, next_n - 1
        return {"logits": _logits(rng, rows, columns, "equals"), "seq_lens": lengths}

    def range_of(a, row):
        length = min(max(int(a["seq_lens"][row // next_n]), 0), columns)
        return 0, length - next_n + 1 + row % next_n

    return _selected("top_k_per_row_decode", f"{rows}x{columns}-{k}-{next_n}", make, {"next_n": next_n}, k, range_of)
