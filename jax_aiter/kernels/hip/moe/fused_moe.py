"""The mixture of experts in two stages of Composable Kernel's, with what AITER launches around them: one plan.

The routing is sorted and the output cleared by one kernel, hidden states are quantised, the first stage multiplies by gate and up
and activates, its result is quantised, the second stage adds each entry's part to its token's row.

AITER takes the ids of a row to be distinct and in range. Ours need not be: what stands outside goes to an expert that is masked
out, and of an id that stands twice one entry has both weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jax_aiter.kernels.hip.adapters import Arranged, op
from jax_aiter.kernels.hip.build.ck import moe_source
from jax_aiter.kernels.hip.moe import before, moe_sorting
from jax_aiter.kernels.hip.moe.stages import choice, entry
from jax_aiter.kernels.hip.quant import quant
from jax_aiter.kernels.hip.rules import HALF, dtype_in, first, fits_int32
from jax_aiter.kernels.hip.worker.errors import RecordError
from jax_aiter.kernels.spec import ArraySpec, CallSpec

STAGE1, STAGE2 = "ck_moe_stage1", "ck_moe_stage2"
ARGUMENTS = 15  # of each stage
#: AITER's names of dtypes, in its script that writes the kernels.
DTYPES = {"bfloat16": "b16", "float16": "f16", "float8_e4m3fnuz": "f8", "float8_e4m3fn": "f8"}
SCRIPT_QUANT = {"none": "no", "per_token": "per_token", "per_1x128": "per_1x128"}
#: numbers of AITER's enumerations QuantType and ActivationType.
QUANT = {"none": 0, "per_token": 2, "per_1x128": 4}
ACTIVATION = {"silu": 0, "gelu": 1}
GROUP, LAYOUT = 128, (16, 16)
#: of what every tile takes whole columns of D and of I.
WHOLE = {"none": 64, "per_token": 128, "per_1x128": 128}


def _refuse(spec: CallSpec) -> str | None:
    params, kind = spec.params, spec.params["quant_type"]
    if kind not in QUANT:
        return f"quant_type = {kind!r}; AITER's CK stages are taken for {', '.join(QUANT)}"
    layout, activation = params["weight_layout"], params["activation"]
    plain = f"w1 and w2 have layout {layout or 'plain'}; AITER's CK stages read shuffle_weight(w, layout={LAYOUT})"
    other = f"activation = {activation!r}; AITER's CK stages have silu and gelu (erf)"
    rules = (
        None if layout is not None and tuple(layout) == LAYOUT else plain,
        None if activation in ACTIVATION else other,
        _dtypes(spec, kind),
        _sizes(spec, kind),
        _extras(spec),
        moe_sorting.unsorted(_experts(spec), spec["topk_ids"].shape[0]),
    )
    return first(*rules)


def _dtypes(spec: CallSpec, kind: str) -> str | None:
    weights, hidden, out = spec["w1"].dtype, spec["hidden_states"].dtype, spec.results[0].dtype
    wanted = HALF if kind == "none" else (spec.fp8,)
    rule = None
    if kind == "none" and not weights == hidden == out:
        rule = f"hidden_states, w1 and output_dtype are {hidden}, {weights} and {out}; AITER's unquantised CK stages take one dtype"
    elif hidden not in (*HALF, weights):
        rule = f"hidden_states has dtype {hidden}; AITER's HIP kernels quantise {' or '.join(HALF)}"
    elif out not in HALF:
        rule = f"output_dtype = {out}; AITER's CK stages write {' or '.join(HALF)}"
    return first(dtype_in(spec, "w1", wanted), dtype_in(spec, "w2", wanted), rule)


def _sizes(spec: CallSpec, kind: str) -> str | None:
    (tokens, topk), (_, model, inter), whole = spec["topk_ids"].shape, spec["w2"].shape, WHOLE[kind]
    rule = None
    if spec["w1"].shape[1] != 2 * inter:
        rule = "w1 has no gate; AITER's CK stages take gate and up"
    elif tokens >= 1 << moe_sorting.SLOT_SHIFT or topk > 127:
        rule = f"topk_ids has shape {(tokens, topk)}; a sorted id packs T < 2**24 and k <= 127 in 32 bits"
    elif model % whole or inter % whole:
        rule = f"D, I = {model}, {inter}; AITER's CK stages take multiples of {whole}"
    elif tokens * topk * max(model, 2 * inter) >= 2**31:
        rule = f"T * k = {tokens * topk} rows of D, I = {model}, {inter}; AITER's CK stages count elements with 32 bits"
    return first(rule, fits_int32(spec, "hidden_states"))


def _extras(spec: CallSpec) -> str | None:
    params, rule = spec.params, None
    for name in ("bias1", "bias2", "a2_scale"):
        if spec.has(name):
            rule = rule or f"{name} is given; AITER's CK stages take none"
    for name in ("hidden_pad", "intermediate_pad"):
        if params[name]:
            rule = rule or f"{name} = {params[name]}; AITER's CK stages know no padding of D or I"
    if params["swiglu_limit"] is not None:
        rule = rule or f"swiglu_limit = {params['swiglu_limit']}; AITER's CK stages do not clamp"
    if params["gate_mode"] != "separated":
        rule = rule or f"gate_mode = {params['gate_mode']!r}; AITER's CK stages read the gate's rows first"
    if params["doweight_stage1"] and spec["topk_ids"].shape[1] > 1:
        rule = rule or "doweight_stage1 with k > 1; AITER's sorting keeps one entry of an id that stands twice, with one weight"
    return rule


def _experts(spec: CallSpec) -> int:
    """Over which ids count: global ones with a mask."""
    return spec["expert_mask"].shape[0] if spec.has("expert_mask") else spec["w1"].shape[0]


KEPT = ("hidden_states", "w1", "w2", "topk_weight", "topk_ids", "w1_scale", "w2_scale", "a1_scale")


def _recorded(spec: CallSpec) -> CallSpec:
    """The call as it is recorded: a mask with one expert more, and AITER's choice among the kernels."""
    operands = {name: spec[name] for name in KEPT if spec.has(name)}
    operands["expert_mask"] = ArraySpec((_experts(spec) + 1,), "int32")
    chosen = choice(spec)
    kept = {name: spec.params[name] for name in ("quant_type", "activation", "doweight_stage1")}
    names = {"block_m": chosen.block_m, "kernelName1": chosen.kernel1, "kernelName2": chosen.kernel2}
    return dataclasses.replace(spec, operands=operands, params={**kept, **names})


def _arrays(spec: CallSpec, operands: Mapping[str, Any]) -> list[Any]:
    given = {**operands, **before.routing(operands, _experts(spec))}
    return [given[name] for name in _recorded(spec).operands]


def _source(spec: CallSpec) -> str:
    """Of the stages."""
    params = spec.params
    return moe_source(
        dtype=DTYPES[spec["w1"].dtype],
        out=DTYPES[spec.results[0].dtype],
        quant_type=SCRIPT_QUANT[params["quant_type"]],
        activation=params["activation"],
        weighted_stage=1 if params["doweight_stage1"] else 2,
    )


def _sources(spec: CallSpec) -> tuple[str, ...]:
    stages = () if before.asked(spec) else (_source(spec),)
    return (*stages, moe_sorting.SOURCE, *(() if spec.params["quant_type"] == "none" else (quant.SOURCE,)))


def _needs(spec: CallSpec) -> tuple[tuple[str, str, int], ...]:
    return () if before.asked(spec) else tuple((_source(spec), stage, ARGUMENTS) for stage in (STAGE1, STAGE2))


@op(
    "fused_moe",
    function=f"{STAGE1}, {STAGE2}",
    sources=_sources,
    needs=_needs,
    refuse=_refuse,
    arrange=Arranged(_recorded, _arrays),
    entry=entry,
)
def fused_moe(ctx):
    if before.asked(ctx.spec):
        return before.record(ctx)
    (tokens, topk), inter = ctx["topk_ids"].shape, ctx["w2"].shape[2]
    params, out, source = ctx.params, ctx.results[0], _source(ctx.spec)
    block, kind, early = params["block_m"], params["quant_type"], params["doweight_stage1"]
    ids = ctx["expert_mask"].shape[0] - 1
    rows = before.rows(tokens, topk, ids, block)
    places, weights = ctx.scratch((rows,), "int32"), ctx.scratch((rows,), "float32")
    numbers, used = ctx.scratch((-(-rows // block),), "int32"), ctx.scratch((2,), "int32")
    listed = (places, weights, numbers, used)
    moe_sorting.sort(ctx, (ctx["topk_ids"], ctx["topk_weight"], *listed), out, block, ctx["expert_mask"])

    x, x_scale = ctx["hidden_states"], ctx.operand("a1_scale")
    if kind != "none" and x.dtype != ctx["w1"].dtype:
        x, x_scale = _quantised(ctx, x, kind)
    middle = ctx.scratch((tokens, topk, inter), out.dtype)
    how = QUANT[kind], ACTIVATION[params["activation"]]
    routing = ctx["w1"], ctx["w2"], places, numbers, used
    first_stage = middle, topk, params["kernelName1"], ctx.operand("w1_scale"), x_scale, block, weights if early else None
    _stage(ctx, source, STAGE1, x, *routing, *first_stage, *how)

    middle_scale = None
    if kind != "none":
        middle, middle_scale = _quantised(ctx, middle, kind)
    last = out, topk, params["kernelName2"], ctx.operand("w2_scale"), middle_scale, block, None if early else weights
    return _stage(ctx, source, STAGE2, middle, *routing, *last, *how)


def _quantised(ctx, x: Any, kind: str) -> tuple[Any, Any]:
    """`x` and its scales, in memory of their own."""
    columns = x.shape[-1] if kind == "per_token" else GROUP
    values, scale = ctx.scratch(x.shape, ctx["w1"].dtype), ctx.scratch((x.size // columns, 1), "float32")
    quant.by_rows(ctx, x.view(-1, columns), values, scale)
    return values, scale


def _stage(ctx, source: str, function: str, *values: Any) -> None:
    try:
        ctx.call(source, function, *values)
    except RecordError as error:
        if "IsSupportedArgument" not in str(error) and "does not support this GEMM problem" not in str(error):
            raise
        sizes = "D, I = {1}, {2}".format(*ctx["w2"].shape)
        raise RecordError(f"the tile that AITER chooses for {sizes} in {function} takes other sizes, by its own check") from error
