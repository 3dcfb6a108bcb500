"""What a token reads of a mixture of experts: its own row, and the experts held here that it is routed to; see `core.reads`."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_aiter.core.reads import NOTHING, Mask, Reads, at, grid, joined, spread, stacked
from jax_aiter.ops.gemm.shuffle_weight import SHUFFLE_WEIGHT
from jax_aiter.ops.moe.formats import int4
from jax_aiter.ops.moe.formats.quant import GROUP
from jax_aiter.ops.moe.forms.expert import interleaved

#: fused_moe's names of operands by those of the other ops
NAMES = {"topk_weights": "topk_weight", "fc1_scale": "w1_scale", "fc2_scale": "w2_scale"}


def local_experts(topk_ids, experts: int, expert_mask=None, num_local_tokens=None) -> Any:
    """int [T, k]: the number of each entry's expert among those held here, `NOTHING` where it has none."""
    held = np.arange(experts) if expert_mask is None else np.flatnonzero(expert_mask)[:experts]
    out = np.full(topk_ids.shape, NOTHING)
    for number, identifier in enumerate(held):
        out[topk_ids == identifier] = number
    if num_local_tokens is not None:
        out[int(num_local_tokens[0]) :] = NOTHING
    return out


def inside(size: int, pad: int) -> Mask:
    """bool [size]: not the last `pad`."""
    return np.arange(size) < size - pad


def _blocks(kept: np.ndarray) -> Mask:
    """Of groups of 128 that share a scale, those that hold anything kept."""
    return kept.reshape(-1, GROUP).any(1)


def _any(kept: np.ndarray, parts: int) -> Mask:
    """Of so many parts of equal size, those that hold anything kept."""
    return np.any(kept.reshape(parts, -1), axis=1) if parts else np.zeros(0, bool)


class Routed:
    """Masks of fused_moe's operands for groups that each read some (token, slot) entries."""

    def __init__(self, operands: Mapping[str, np.ndarray], params: Mapping[str, Any]):
        self.operands = {NAMES.get(n, n): x for n, x in operands.items() if x is not None}
        get, w1, w2 = self.operands.get, self.operands["w1"], self.operands["w2"]
        self.expert = local_experts(self.operands["topk_ids"], len(w1), get("expert_mask"), get("num_local_tokens"))
        self.experts, self.layout, self.params = len(w1), params["weight_layout"], params
        local = get("num_local_tokens")
        self.local = np.arange(len(self.expert))[None] < (len(self.expert) if local is None else int(local[0]))
        self.model = inside(w2.shape[1], params["hidden_pad"])
        inter = int4.columns(w2, params)
        self.inter = inside(inter, params["intermediate_pad"])
        projections = w1.shape[1] // inter
        self.rows = np.repeat(self.inter, projections) if interleaved(params) else np.tile(self.inter, projections)

    def masks(self, entries: np.ndarray) -> dict[str, Mask]:
        """entries: bool [G, T, k], of which those without an expert here count for nothing."""
        entries = entries & (self.expert != NOTHING)
        tokens = entries.any(2)
        experts = np.stack([(entries & (self.expert == e)).any((1, 2)) for e in range(self.experts)], 1)
        kept = self.model[None], self.inter[None], self.rows[None]
        model, inter, rows = kept
        quant = self.params["quant_type"]
        found = {
            "hidden_states": spread(tokens, model),
            "topk_weight": entries,
            "topk_ids": np.repeat(spread(self.local, None), len(entries), axis=0),
            "w1": self._weight("w1", rows, model) & experts[:, :, None, None],
            "w2": self._weight("w2", model, inter) & experts[:, :, None, None],
            "bias1": spread(experts, rows),
            "bias2": spread(experts, model),
            "gate_up": entries[..., None],  # kept of the forward pass
            "fc1_smooth_scale": spread(experts, model),
            "fc2_smooth_scale": spread(experts, inter),
        }
        if quant == "per_tensor":
            found |= {"w1_scale": experts, "w2_scale": experts}
        elif quant == "per_token":
            found |= {"w1_scale": spread(experts, rows), "w2_scale": spread(experts, model), "a1_scale": spread(tokens, None)}
        elif int4.decoded(self.params):
            found |= self._groups(experts)
        elif quant == "per_1x128":
            model, inter, rows = (_blocks(x)[None] for x in kept)
            found |= {"w1_scale": spread(experts, rows, model), "w2_scale": spread(experts, model, inter)}
            found["a1_scale"] = spread(tokens, model)
        return found

    def _groups(self, experts: np.ndarray) -> dict[str, Mask]:
        """Scales by group of columns; weights of two codes to a byte, and their zero points of two rows to a byte."""
        found = {}
        for name, rows, columns in (("w1", self.rows, self.model), ("w2", self.model, self.inter)):
            groups = _any(columns, self.operands[f"{name}_scale"].shape[2])
            found[f"{name}_scale"] = spread(experts, rows[None], groups[None])
            if not int4.packed(self.params):
                continue
            codes = self._weight(name, rows[None], _any(columns, len(columns) // 2)[None])
            found[name] = codes & experts[:, :, None, None]
            found[f"{name}_zp"] = spread(experts, _any(rows, len(rows) // 2)[None], groups[None])
        return found

    def _weight(self, name: str, rows: np.ndarray, columns: np.ndarray) -> Mask:
        """bool [1, 1, N, K] of the elements as the weight stores them."""
        mask = (rows[0][:, None] & columns[0])[None]
        if self.layout is None or mask.all():
            return mask[None]
        dtype = self.operands[name].dtype
        moved = SHUFFLE_WEIGHT.reference(w=jnp.asarray(mask).astype(dtype), layout=self.layout, inverse=False)[0]
        return np.asarray(moved.astype(jnp.float32))[None] != 0


def forward(*, params: Mapping[str, Any], **operands: np.ndarray) -> Reads:
    """One group per token; with a dynamic per-tensor scale every token that has an expert reads what all of those read."""
    routed = Routed(operands, params)
    tokens, k = routed.expert.shape
    entries = spread(at(np.arange(tokens), tokens), None) & np.ones((1, 1, k), bool)
    found = routed.masks(entries)
    dynamic = params["quant_type"] == "per_tensor"
    if dynamic and ("a2_scale" not in routed.operands or ("a1_scale" not in routed.operands)):
        found = {n: np.broadcast_to(m.any(0), m.shape) for n, m in found.items()}
    some = (routed.expert != NOTHING).any(1)
    out = np.where(some[:, None] & routed.model, np.arange(tokens)[:, None], NOTHING)
    back = {name: own for own, name in NAMES.items() if own in operands}
    return Reads(tokens, {"out": out}, {back.get(n, n): m for n, m in found.items()})


def gate_up(*, params: Mapping[str, Any], **operands: np.ndarray) -> Reads:
    """One group per slot, of the first product."""
    routed = Routed(operands, params)
    tokens, k = routed.expert.shape
    found = routed.masks(np.eye(tokens * k, dtype=bool).reshape(-1, tokens, k))
    # Which rows and which experts those are, the routing says; the product itself has no weights of slots and no second matrix.
    found = {n: m if n in ("hidden_states", "w1", "topk_ids") else np.zeros_like(m) for n, m in found.items()}
    slot = np.arange(tokens * k).reshape(tokens, k)
    return Reads(tokens * k, {"gate_up": np.where(routed.expert != NOTHING, slot, NOTHING)[:, :, None]}, found)


def keeping(*, params: Mapping[str, Any], **operands: np.ndarray) -> Reads:
    """The groups of the output and those of the first product."""
    parts = forward(params=params, **operands), gate_up(params=params, **operands)
    return joined([(name, label, part.operands) for part in parts for name, label in part.groups.items()])


def backward(*, params: Mapping[str, Any], **operands: np.ndarray) -> Reads:
    """Groups: the tokens (of their two gradients), then the experts (of weights and biases)."""
    routed = Routed(operands, params)
    tokens, k = routed.expert.shape
    by_token = spread(at(np.arange(tokens), tokens), None) & np.ones((1, 1, k), bool)
    by_expert = routed.expert == np.arange(routed.experts)[:, None, None]
    # A token reads whole entries; so does an expert, but an entry of its own alone, whose token has others too.
    parts = [routed.masks(by_token), routed.masks(by_expert)]
    found = {n: stacked([p[n] for p in parts]) for n in parts[0]}
    found["d_out"] = found["hidden_states"]
    if params["quant_type"] == "per_tensor":
        found = {n: np.broadcast_to(m.any(0), m.shape) for n, m in found.items()}
    used, taken = routed.expert != NOTHING, by_expert.any((1, 2))
    token = np.arange(tokens)
    expert = np.where(taken, np.arange(tokens, tokens + routed.experts), NOTHING)[:, None]

    def per_expert(*kept: np.ndarray) -> Mask:
        mask = spread(*(x[None] for x in kept))
        return np.where(mask, expert.reshape(-1, *[1] * len(kept)), NOTHING)

    trained = params["quant_type"] == "none"
    nothing = np.full((1, 1, 1), NOTHING)
    groups = {
        "d_hidden_states": np.where(used.any(1)[:, None] & routed.model, token[:, None], NOTHING),
        "d_w1": per_expert(routed.rows, routed.model) if trained else nothing,
        "d_w2": per_expert(routed.model, routed.inter) if trained else nothing,
        "d_topk_weight": np.where(used, token[:, None], NOTHING),
        "d_bias1": nothing[0] if operands.get("bias1") is None else per_expert(routed.rows),
        "d_bias2": nothing[0] if operands.get("bias2") is None else per_expert(routed.model),
    }
    return Reads(tokens + routed.experts, groups, found)


def stage1(
    *, input, w1, sorted_token_ids, sorted_expert_ids, num_valid_ids, topk: int, block_m: int, blockscale: bool, **_
) -> Reads:
    """One group per (token, slot) that an entry of the sorted list names."""
    tokens, entries = len(input), np.arange(len(sorted_token_ids))
    token, slot = sorted_token_ids & 0xFFFFFF, sorted_token_ids >> 24
    used = (entries // block_m < num_valid_ids[0] // block_m) & (token < tokens) & (slot >= 0) & (slot < topk)
    expert, place = np.full(tokens * topk, NOTHING), np.full(tokens * topk, NOTHING)
    which = (token * topk + slot)[used]
    expert[which], place[which] = sorted_expert_ids[entries // block_m][used], entries[used]
    label = np.where(expert != NOTHING, np.arange(tokens * topk), NOTHING).reshape(tokens, topk, 1)
    own, of = at(grid(tokens, topk)[0], tokens), at(expert, len(w1))
    found = {
        "input": spread(own, None),
        "w1": spread(of, None, None),
        "a1_scale": spread(None, own) if blockscale else spread(own, None),
        "w1_scale": spread(of, None, None) if blockscale else spread(of, None),
        "sorted_weights": at(place, len(entries)),
        "sorted_token_ids": (entries < num_valid_ids[0])[None],
        "sorted_expert_ids": (np.arange(len(sorted_expert_ids)) < num_valid_ids[0] // block_m)[None],
    }
    return Reads(tokens * topk, {"out": label, "out_scale": label}, found)
