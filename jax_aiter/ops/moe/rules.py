"""What fused_moe accepts, and how `jax.vmap` folds it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.batching import Batched
from jax_aiter.core import check, symbolic
from jax_aiter.core.axes import FLOATING, FP8_TYPES, INT32, Arg, check_dtype
from jax_aiter.ops.gemm.shuffle_weight import check_tiles
from jax_aiter.ops.moe.formats import int4, mxfp4, mxfp8
from jax_aiter.ops.moe.formats.quant import GROUP
from jax_aiter.ops.moe.forms import groups as moe_groups

OP = "fused_moe"
F32 = ("float32",)
WEIGHT_TYPES = (*FLOATING, *FP8_TYPES, "int8")
QUANTIZED = {"per_tensor": FP8_TYPES, "per_token": (*FP8_TYPES, "int8"), "per_1x128": FP8_TYPES}

OPERANDS = {
    "hidden_states": Arg("T D", WEIGHT_TYPES),
    "w1": Arg("E N1 D", (*WEIGHT_TYPES, *int4.CODES)),
    "w2": Arg("E D I", (*WEIGHT_TYPES, *int4.CODES)),
    "topk_weight": Arg("T k", F32),
    "topk_ids": Arg("T k", INT32),
    "expert_mask": Arg("G", INT32, optional=True),
    "w1_scale": Arg("E", (*FLOATING, *mxfp8.SCALES), optional=True),
    "w2_scale": Arg("E", (*FLOATING, *mxfp8.SCALES), optional=True),
    "a1_scale": Arg("1", F32, optional=True),
    "a2_scale": Arg("1", F32, optional=True),
    "bias1": Arg("E N1", FLOATING, optional=True),
    "bias2": Arg("E D", FLOATING, optional=True),
    "num_local_tokens": Arg("1", INT32, optional=True),
    "w1_zp": Arg("E", int4.CODES, optional=True),
    "w2_zp": Arg("E", int4.CODES, optional=True),
}
SCALE_AXES = {
    "per_token": {"w1_scale": "E N1", "w2_scale": "E D", "a1_scale": "T 1"},
    "per_1x128": {"w1_scale": "E N1/128 D/128", "w2_scale": "E D/128 I/128", "a1_scale": "T D/128"},
    int4.W4A16: int4.AXES,
    int4.MX: mxfp4.AXES,
    mxfp8.NAME: mxfp8.AXES,
}


def relayout(params: Mapping[str, Any]) -> Mapping[str, str]:
    return SCALE_AXES.get(params["quant_type"], {})


def validate(operands: Mapping[str, jax.ShapeDtypeStruct | None], params: Mapping[str, Any]) -> None:
    """Everything that the operands' axes do not say."""
    hidden, w1, w2 = operands["hidden_states"], operands["w1"], operands["w2"]
    assert hidden is not None
    assert w1 is not None
    assert w2 is not None
    rows, model, intermediate = w1.shape[1], w2.shape[1], int4.columns(w2, params)
    if rows not in (intermediate, 2 * intermediate):
        twice = ", times two codes" if int4.packed(params) else ""
        raise ValueError(
            f"{OP}: dimension 1 of w1 is {rows}, must be I or 2·I with I = {intermediate} (dimension 2 of w2{twice}): "
            "one projection, or gate rows followed by up rows"
        )
    if params["activation"] == "swiglu" and rows != 2 * intermediate:
        raise ValueError(
            f"{OP}: activation 'swiglu' needs gate and up rows, dimension 1 of w1 must be 2·I = {2 * intermediate}, got {rows}"
        )
    if params["gate_mode"] == "interleave" and rows != 2 * intermediate:
        raise ValueError(
            f"{OP}: gate_mode 'interleave' needs rows of gate and up, dimension 1 of w1 must be 2·I = {2 * intermediate}, "
            f"got {rows}"
        )
    if params["swiglu_limit"] is not None and rows != 2 * intermediate:
        raise ValueError(
            f"{OP}: swiglu_limit clamps gate and up rows, dimension 1 of w1 must be 2·I = {2 * intermediate}, got {rows}"
        )
    for name, size, dim in (("hidden_pad", model, "D"), ("intermediate_pad", intermediate, "I")):
        if params[name]:
            symbolic.below(params[name], size, f"{OP}: {name} is {params[name]}, must be < {dim} = {size}")
    symbolic.below(0, w1.shape[0], f"{OP}: dimension 0 of w1 is {w1.shape[0]}, must be >= 1 (experts)")
    slots = operands["topk_ids"].shape[1]  # type: ignore[union-attr]
    symbolic.below(0, slots, f"{OP}: dimension 1 of topk_ids is {slots}, must be >= 1")
    _validate_types(operands, params, hidden, w1, w2)
    check_tiles(OP, params["weight_layout"], w1=w1, w2=w2)


def _validate_types(operands, params, hidden, w1, w2) -> None:
    quant = params["quant_type"]
    check.same_dtype(OP, w1=w1.dtype, w2=w2.dtype)
    if params.get("q_dtype_a") is not None and quant not in (int4.MX, mxfp8.NAME):
        raise ValueError(
            f"{OP}: q_dtype_a is given, only quant_type {int4.MX!r} of uint8 or fp8 weights has a choice of it, got {quant!r}"
        )
    if int4.decoded(params):
        {int4.W4A16: int4, int4.MX: mxfp4, mxfp8.NAME: mxfp8}[quant].validate(OP, operands, params)
        return
    for name in ("w1_zp", "w2_zp"):
        if operands[name] is not None:
            raise ValueError(f"{OP}: {name} is given, quant_type {quant!r} has no zero points")
    given = [n for n in ("w1_scale", "w2_scale", "a1_scale", "a2_scale") if operands[n] is not None]
    if quant == "none":
        if w1.dtype.name not in FLOATING:
            raise TypeError(f"{OP}: w1 has dtype {w1.dtype.name}, quant_type 'none' needs {' or '.join(FLOATING)}")
        check.same_dtype(OP, w1=w1.dtype, hidden_states=hidden.dtype)
        if given:
            raise ValueError(f"{OP}: {given[0]} is given, quant_type 'none' takes no scales")
        return
    if w1.dtype.name not in QUANTIZED[quant]:
        raise TypeError(f"{OP}: w1 has dtype {w1.dtype.name}, quant_type {quant!r} needs {' or '.join(QUANTIZED[quant])}")
    for name in ("w1_scale", "w2_scale"):
        if name not in given:
            raise TypeError(f"{OP}: {name} is required with quant_type {quant!r}, got None")
        check_dtype(OP, name, operands[name].dtype, F32)
    ready = hidden.dtype == w1.dtype
    if not ready and hidden.dtype.name not in FLOATING:
        raise TypeError(f"{OP}: hidden_states has dtype {hidden.dtype.name}, must be {w1.dtype.name} (that of w1) or a float")
    if ready and "a1_scale" not in given:
        raise TypeError(f"{OP}: a1_scale is required with quantised hidden_states ({hidden.dtype.name}), got None")
    if not ready and "a1_scale" in given and quant != "per_tensor":
        raise ValueError(f"{OP}: a1_scale of float hidden_states is static, which only quant_type 'per_tensor' has, got {quant!r}")
    if "a2_scale" in given and quant != "per_tensor":
        raise ValueError(f"{OP}: a2_scale is static, which only quant_type 'per_tensor' has, got {quant!r}")
    if quant == "per_1x128":
        for axis, name in ((1, "D"), (2, "I")):
            check.multiple(OP, f"dimension {axis} of w2 ({name})", w2.shape[axis], GROUP, "scales cover 128 columns")
        _validate_blocks(operands, w1, w2)


def _validate_blocks(operands, w1, w2) -> None:
    for name, w in (("w1_scale", w1), ("w2_scale", w2)):
        want = (w.shape[0], w.shape[1] // GROUP, w.shape[2] // GROUP)
        if operands[name].shape != want:
            raise ValueError(f"{OP}: {name} has shape {operands[name].shape}, must be {want}: one scale per 128x128 block")
    a1, groups = operands["a1_scale"], w1.shape[2] // GROUP
    if a1 is not None and a1.shape[1] != groups:
        raise ValueError(f"{OP}: dimension 1 of a1_scale is {a1.shape[1]}, must be D/128 = {groups}")


def data_checks(*, topk_ids, w1, expert_mask, num_local_tokens=None, **_) -> Mapping[str, jax.Array]:
    return routing_checks(topk_ids, w1.shape[0], expert_mask, num_local_tokens)


def routing_checks(topk_ids, experts: int, expert_mask, num_local_tokens=None) -> dict[str, jax.Array]:
    """experts: how many are held here, which is all there are without a mask."""
    limit = experts if expert_mask is None else expert_mask.shape[0]
    outside = (topk_ids < 0) | (topk_ids >= limit)
    if num_local_tokens is not None:
        outside &= jnp.arange(topk_ids.shape[0])[:, None] < num_local_tokens
    rules = {f"topk_ids must be in [0, {limit})": outside}
    if num_local_tokens is not None:
        tokens = topk_ids.shape[0]
        rules[f"num_local_tokens must be in [0, {tokens}]"] = (num_local_tokens < 0) | (num_local_tokens > tokens)
    if expert_mask is not None:
        # vLLM's expert_map says -1 for an expert that is elsewhere, and 0 for the first that is here: the reverse of a mask.
        not_a_mask = (expert_mask != 0) & (expert_mask != 1)
        rules["expert_mask must be 0 or 1; of an expert_map of local numbers and -1, pass expert_map >= 0"] = not_a_mask
        rules[f"expert_mask must mark at most the {experts} experts held here"] = jnp.sum(expert_mask != 0) > experts
    return rules


TOKENS = ("hidden_states", "topk_weight", "topk_ids")
EXPERTS = ("w1", "w2", "w1_scale", "w2_scale", "w1_zp", "w2_zp", "bias1", "bias2")


def batch(batched: Batched, **params: Any):
    """Fold the batch into tokens; batched experts become that many more experts, and ids are offset to find them.

    Not where a scale is taken over (or holds for) all rows of one call, nor where folding would copy an unbatched weight: the loop
    does those.
    """
    values = batched.values
    if params["quant_type"] == "per_tensor" and (
        {"a1_scale", "a2_scale"} & batched.names or not {"a1_scale", "a2_scale"} <= set(values)
    ):
        return NotImplemented
    own_experts = bool(batched.names & set(EXPERTS))
    if own_experts and not {"w1", "w2"} <= batched.names:
        return NotImplemented
    size, experts = batched.size, values["w1"].shape[1 if "w1" in batched else 0]
    ids, mask, local = batched.broadcast("topk_ids"), batched.get("expert_mask"), batched.get("num_local_tokens")
    if own_experts or mask is not None or local is not None:
        axes = (0, 0 if "expert_mask" in batched else None, 0 if "num_local_tokens" in batched else None)
        ids = jax.vmap(lambda i, m, n: moe_groups.local_ids(i, experts, m, n), in_axes=axes)(ids, mask, local)
    if own_experts:
        ids = jnp.where(ids >= 0, ids + experts * jnp.arange(size, dtype=jnp.int32)[:, None, None], -1)
    merged = {n: x for n, x in values.items() if n not in ("expert_mask", "num_local_tokens")}
    by_token = [*TOKENS, *(["a1_scale"] if params["quant_type"] != "per_tensor" and "a1_scale" in values else [])]
    for name in [*by_token, *([n for n in EXPERTS if n in values] if own_experts else [])]:
        full = ids if name == "topk_ids" else batched.broadcast(name)
        merged[name] = full.reshape(size * full.shape[1], *full.shape[2:])
    return [x.reshape(size, x.shape[0] // size, *x.shape[1:]) for x in batched.bind(**merged)]
