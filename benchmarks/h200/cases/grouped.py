"""Grouped GEMMs and their transpose against float64 products of each group."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.h200.case import Arrays, Case, bf16, i32, normal, wide


def _groups(sizes: np.ndarray, rows: int):
    ends = np.minimum(np.cumsum(sizes), rows)
    return zip(ends - np.diff(ends, prepend=0), ends, strict=True)


def product(a: Arrays, p: dict[str, Any]) -> list[np.ndarray]:
    lhs, rhs = wide(a["lhs"]), wide(a["rhs"])
    rhs = rhs.transpose(0, 2, 1) if p["transpose_rhs"] else rhs
    out = np.zeros((len(lhs), rhs.shape[2]))
    for g, (start, end) in enumerate(_groups(a["group_sizes"], len(lhs))):
        out[start:end] = lhs[start:end] @ rhs[g] + (wide(a["bias"][g]) if "bias" in a else 0.0)
    return [out]


def transposed(a: Arrays, p: dict[str, Any]) -> list[np.ndarray]:
    lhs, rhs = wide(a["lhs"]), wide(a["rhs"])
    return [np.stack([lhs[start:end].T @ rhs[start:end] for start, end in _groups(a["group_sizes"], len(lhs))])]


def forward(rows: int, sizes: list[int], k: int, n: int, transpose_rhs: bool = False, bias: bool = False) -> Case:
    groups = len(sizes)

    def make(rng) -> Arrays:
        shape = (groups, n, k) if transpose_rhs else (groups, k, n)
        a = {"lhs": normal(rng, rows, k), "rhs": normal(rng, *shape, std=k**-0.5), "group_sizes": np.asarray(sizes, i32)}
        return {**a, "bias": normal(rng, groups, n)} if bias else a

    name = f"M{rows}-G{groups}-K{k}-N{n}{'-T' if transpose_rhs else ''}{'-bias' if bias else ''}"
    params = {"transpose_rhs": transpose_rhs, "preferred_element_type": bf16}
    return Case("grouped_gemm", name, make, params, lambda a: [((rows, n), bf16)], product)


def weights(rows: int, sizes: list[int], k: int, n: int) -> Case:
    def make(rng) -> Arrays:
        return {"lhs": normal(rng, rows, k), "rhs": normal(rng, rows, n), "group_sizes": np.asarray(sizes, i32)}

    params = {"preferred_element_type": bf16}
    name = f"M{rows}-G{len(sizes)}-K{k}-N{n}"
    return Case("transposed_grouped_gemm", name, make, params, lambda a: [((len(sizes), k, n), bf16)], transposed)


def cases() -> list[Case]:
    """Groups of nothing and across tiles, rows behind the last group, sizes that ask for more rows than there are."""
    return [
        forward(37, [5, 0, 20, 3], 96, 80),
        forward(300, [0, 299, 0, 1], 64, 257, transpose_rhs=True),
        forward(65, [1, 64, 9], 33, 48, bias=True),
        weights(37, [5, 0, 20, 3], 96, 80),
        weights(300, [0, 299, 0, 1], 65, 33),
    ]
