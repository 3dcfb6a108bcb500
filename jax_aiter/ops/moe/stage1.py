"""What the two records of the first half of a two-stage mixture of experts share: their checks, their arithmetic, their cases."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import check, machine, symbolic
from jax_aiter.core.axes import FP8_TYPES, INT32, Arg
from jax_aiter.core.cases import Array, constant, integers, normal, uniform
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight, check_tiles, unshuffled
from jax_aiter.ops.moe import layout as moe_layout
from jax_aiter.ops.moe.formats.quant import GROUP, Quantized
from jax_aiter.ops.moe.forms import aligned, expert, groups
from jax_aiter.ops.moe.forms.over_rows import bytes_of
from jax_aiter.ops.moe.moe_sorting import SLOT_SHIFT, padded_length

ACTIVATIONS = ("silu", "gelu", "gelu_tanh")
TOKEN_MASK = (1 << SLOT_SHIFT) - 1
SORTED = {
    "sorted_token_ids": Arg("S", INT32),
    "sorted_expert_ids": Arg("M", INT32),
    "num_valid_ids": Arg("V", INT32),
}


def weights(*dtypes: str) -> dict[str, Arg]:
    return {"input": Arg("T D", dtypes), "w1": Arg("E N1 D", dtypes)}


def validate(op: str, dims: Mapping[str, int], operands: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Everything that the operands' axes do not say."""
    check.same_dtype(op, w1=operands["w1"].dtype, input=operands["input"].dtype)
    rule = f"{op}: dimension 0 of input is {dims['T']}, must be < 2**24 (sorted_token_ids packs token and slot)"
    symbolic.below(dims["T"], 1 << SLOT_SHIFT, rule)
    check.multiple(op, "dimension 1 of w1", dims["N1"], 2, "gate rows followed by as many up rows")
    symbolic.below(0, dims["E"], f"{op}: dimension 0 of w1 is {dims['E']}, must be >= 1")
    if dims["V"] not in (1, 2):
        raise ValueError(f"{op}: num_valid_ids has {dims['V']} entries, must have 1 or 2")
    blocks = -(-dims["S"] // params["block_m"])
    if dims["M"] != blocks:
        raise ValueError(
            f"{op}: dimension 0 of sorted_expert_ids is {dims['M']}, must be ceil(S / block_m) = {blocks} "
            f"with S = {dims['S']} (dimension 0 of sorted_token_ids) and block_m = {params['block_m']}"
        )
    check_tiles(op, params["weight_layout"], w1=operands["w1"])


def rows(operands: Mapping[str, Any], params: Mapping[str, Any], x: Quantized) -> tuple[jax.Array, jax.Array]:
    """float32 ``[T·k, I]``, zero where no entry of the sorted list says what to compute, and bool ``[T·k]``: where one does."""
    w1, w1_scale, tokens, topk, size = operands["w1"], operands["w1_scale"], x.values.shape[0], params["topk"], params["block_m"]
    inter, blocks = w1.shape[1] // 2, operands["sorted_expert_ids"].shape[0]
    padding = blocks * size - operands["sorted_token_ids"].shape[0]
    nothing = jnp.asarray((topk << SLOT_SHIFT) + tokens, jnp.int32)
    ids = jnp.pad(operands["sorted_token_ids"], (0, padding), constant_values=nothing)
    weight = operands.get("sorted_weights")
    weight = None if weight is None else jnp.pad(weight, (0, padding))

    def block(b):
        """[block_m, I] of block b of the list, and where its rows belong: behind the last where they do not."""
        e = operands["sorted_expert_ids"][b]
        w, scale = groups.take_row(w1, e), groups.take_row(w1_scale, e)
        w = w if params["weight_layout"] is None else unshuffled(w, params["weight_layout"])
        if scale.ndim == 2:
            w, scale = w.astype(jnp.float32) * jnp.repeat(jnp.repeat(scale, GROUP, axis=0), GROUP, axis=1), None
        id_ = jax.lax.dynamic_slice(ids, (b * size,), (size,))
        token, slot = id_ & TOKEN_MASK, id_ >> SLOT_SHIFT
        inside = (token < tokens) & (slot >= 0) & (slot < topk) & (e >= 0) & (e < w1.shape[0])
        u = expert.first_gemm(expert.Expert(w, w, scale, None, None, None), x.rows(jnp.where(inside, token, 0)))
        if weight is not None:
            u = u * jax.lax.dynamic_slice(weight, (b * size,), (size,))[:, None]
        a = expert.activate(u, inter, {"activation": params["activation"], "swiglu_limit": None, "gate_mode": "separated"})
        return a, jnp.where(inside & (b < used), token * topk + slot, tokens * topk)

    def put(state, a, place):
        return state[0].at[place].set(a, mode="drop"), state[1].at[place].set(True, mode="drop")

    start = jnp.zeros((tokens * topk, inter), jnp.float32), jnp.zeros(tokens * topk, bool)
    if 0 in (tokens, topk, blocks):
        return start
    used = jnp.clip(operands["num_valid_ids"][0] // size, 0, blocks)
    if not machine.is_gpu():
        return jax.lax.fori_loop(0, used, lambda b, state: put(state, *block(b)), start)
    sized = not symbolic.any_symbolic_size(blocks, *w1.shape)  # else one at a time: how many there are decides nothing then
    together = max(1, min(blocks, aligned.BYTES // max(1, bytes_of(w1)))) if sized else None
    a, place = jax.lax.map(block, jnp.arange(blocks, dtype=jnp.int32), batch_size=together)
    return put(start, a.reshape(-1, inter), place.reshape(-1))


def data_checks(*, input, w1, sorted_token_ids, sorted_expert_ids, num_valid_ids, block_m, topk, **_) -> Mapping[str, jax.Array]:
    length, experts = sorted_token_ids.shape[0], w1.shape[0]
    used = jnp.arange(sorted_expert_ids.shape[0]) * block_m < num_valid_ids[0]
    token, slot = sorted_token_ids & TOKEN_MASK, sorted_token_ids >> SLOT_SHIFT
    entry = (token < input.shape[0]) & (slot >= 0) & (slot < topk)
    padding = (token == input.shape[0]) & (slot == topk)
    return {
        f"num_valid_ids[0] must be a multiple of block_m = {block_m} in [0, {length}]": (num_valid_ids[:1] < 0)
        | (num_valid_ids[:1] > length)
        | (num_valid_ids[:1] % block_m != 0),
        f"num_valid_ids[1] must be in [0, {input.shape[0]}]": (num_valid_ids[1:] < 0) | (num_valid_ids[1:] > input.shape[0]),
        f"sorted_expert_ids of blocks in use must be in [0, {experts})": (
            used & ((sorted_expert_ids < 0) | (sorted_expert_ids >= experts))
        ),
        "sorted_token_ids in use must be token | slot << 24, or T | topk << 24 for padding": (
            (jnp.arange(length) < num_valid_ids[0]) & ~(entry | padding)
        ),
    }


def static(op: str, topk: Any, block_m: Any, activation: Any) -> dict[str, Any]:
    """The parameters that both public functions take, checked."""
    check.choice(op, "activation", activation, ACTIVATIONS)
    rows = check.integer(op, "block_m", block_m, 1, 2**20)
    return {"topk": check.integer(op, "topk", topk, 1, 127), "block_m": rows, "activation": activation}


def plain(op: str, w1: Any, w2: Any) -> tuple[Any, tuple[int, int] | None]:
    """w1's data and layout, after a look at w2, of which nothing but the shape counts."""
    layout = moe_layout.layout_of(op, "w1", w1)
    if isinstance(w1, ShuffledWeight):
        w1 = w1.data
    shape, shape2 = getattr(w1, "shape", ()), getattr(w2, "shape", None)
    want = (shape[0], shape[2], shape[1] // 2) if len(shape) == 3 else None
    if shape2 is not None and want is not None and tuple(shape2) != want:
        raise ValueError(f"{op}: w2 has shape {tuple(shape2)}, must be [E, D, I] = {want} for a w1 of shape {tuple(shape)}")
    return w1, layout


def case_operands(tokens: int, experts: int, topk: int, model: int, inter: int, block: int, dtype: Any) -> dict[str, Array]:
    """Operands but for the scales. Token t goes to experts t², t²+1, ... modulo E, so experts have different numbers of rows."""
    ids, experts_of = [], []
    for e in range(experts):
        chosen = [s << SLOT_SHIFT | t for t in range(tokens) for s in range(topk) if (t * t + s) % experts == e]
        if chosen:
            blocks = -(-len(chosen) // block)
            ids += chosen + [topk << SLOT_SHIFT | tokens] * (blocks * block - len(chosen))
            experts_of += [e] * blocks
    length = padded_length(tokens, topk, experts, block)
    valid = len(ids)
    ids += [topk << SLOT_SHIFT | tokens] * (length - valid)
    experts_of += [-1] * (-(-length // block) - len(experts_of))
    integer = jnp.dtype(dtype) == np.int8
    draw = (lambda *s: integers(*s, low=-99, high=100, dtype=jnp.int8)) if integer else (lambda *s: normal(*s, dtype=dtype, std=20))
    return {
        "input": draw(tokens, model),
        "w1": draw(experts, 2 * inter, model),
        "sorted_token_ids": constant(ids, jnp.int32),
        "sorted_expert_ids": constant(experts_of, jnp.int32),
        "num_valid_ids": constant([valid, tokens], jnp.int32),
    }


def scale(*shape: int) -> Array:
    return uniform(*shape, low=0.01, high=0.02)


FP8_OR_INT8 = (*FP8_TYPES, "int8")
