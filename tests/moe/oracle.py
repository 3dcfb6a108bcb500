"""Independent models of the MoE ops: a torch loop over tokens and slots in float64, and numpy restatements of AITER's formats."""

import numpy as np
import torch

from tests.oracle import f64


def leaf(x) -> torch.Tensor:
    return torch.tensor(f64(x), dtype=torch.float64, requires_grad=True)


def activate(kind: str, gate: torch.Tensor, up: torch.Tensor | None, limit: float | None) -> torch.Tensor:
    act = {"silu": torch.nn.functional.silu, "gelu": torch.nn.functional.gelu, "none": lambda x: x}
    act["gelu_tanh"] = lambda x: torch.nn.functional.gelu(x, approximate="tanh")
    if up is None:
        return act[kind](gate)
    if kind == "swiglu":
        limit = 7.0 if limit is None else limit
        gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
        return gate * torch.sigmoid(1.702 * gate) * (up + 1)
    if limit is not None:
        gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return act[kind](gate) * up


def local_expert(e: int, mask, experts: int) -> int | None:
    if mask is not None:
        if not 0 <= e < len(mask) or not mask[e]:
            return None
        e = int(np.sum(np.asarray(mask[:e]) != 0))
    return e if 0 <= e < experts else None


def moe(x, w1, w2, weight, ids, b1=None, b2=None, *, activation="silu", limit=None, early=False, mask=None, gate_mode="separated"):
    """float64 torch tensors (ids: numpy); every (token, slot) by itself, in the order of the formula."""
    inter = w2.shape[2]
    out = []
    for t in range(x.shape[0]):
        total = torch.zeros(w2.shape[1], dtype=torch.float64)
        for s in range(ids.shape[1]):
            e = local_expert(int(ids[t, s]), mask, w1.shape[0])
            if e is None:
                continue
            h = w1[e] @ x[t]
            h = h * weight[t, s] if early else h
            h = h if b1 is None else h + b1[e]
            h = h if gate_mode == "separated" else torch.cat([h[0::2], h[1::2]])
            a = activate(activation, h[:inter], None if 0 < inter == h.shape[0] else h[inter:], limit)
            y = w2[e] @ a
            y = y if b2 is None else y + b2[e]
            total = total + (y if early else y * weight[t, s])
        out.append(total)
    return torch.stack(out)


def sorting(ids, weights, experts, block, mask=None):
    """AITER's moe_sorting, expert by expert."""
    tokens, k = ids.shape
    length = tokens * k + experts * block - k
    sorted_ids = np.full(length, k << 24 | tokens, np.int32)
    sorted_weights = np.zeros(length, np.float32)
    expert_ids = np.full(-(-length // block), -1, np.int32)
    row, tile, skipped = 0, 0, 0
    for e in range(experts):
        if mask is not None and mask[e] == 0:
            skipped += 1
            continue
        rows, slots = np.nonzero(ids == e)
        tiles = -(-len(rows) // block)
        sorted_ids[row : row + len(rows)] = slots << 24 | rows
        sorted_weights[row : row + len(rows)] = weights[rows, slots]
        expert_ids[tile : tile + tiles] = e - skipped
        row, tile = row + tiles * block, tile + tiles
    return sorted_ids, sorted_weights, expert_ids, np.array([row, tokens], np.int32)


def shuffled(w: np.ndarray, layout: tuple[int, int]) -> np.ndarray:
    """Element by element: where AITER's tiles put (n, k)."""
    n, k = w.shape[-2:]
    r, c = layout[0], 2 * layout[1]
    v = 16 // w.dtype.itemsize
    out = np.empty_like(w).reshape(*w.shape[:-2], -1)
    for i in range(n):
        for j in range(k):
            place = np.ravel_multi_index((i // r, j // c, j % c // v, i % r, j % v), (n // r, k // c, c // v, r, v))
            out[..., place] = w[..., i, j]
    return out.reshape(w.shape)
