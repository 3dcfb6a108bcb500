"""Mixture of experts: sort and align, grouped GEMM, activation, grouped GEMM, sum over slots, as one plan."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from typing import Any

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.activation.gated import WHOLE_ROWS
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.moe import few, mxfp4, routed
from jax_aiter.kernels.triton.moe.chiplets import xcds
from jax_aiter.kernels.triton.moe.pieces import most_tokens, pieces, widest
from jax_aiter.kernels.triton.moe.spaces import BLOCK_SCALES, MX, W4A16, columns, fused_moe_space
from jax_aiter.kernels.triton.quant.quant import DYNAMIC, GROUPS, STATIC, quantise_groups, quantise_tensor
from jax_aiter.kernels.triton.rules import HALF, absent, dtype_in, first, next_power_of_2, param_is

GELU = ("gelu", "gelu_tanh")


ACTIVATIONS = ("silu", *GELU, "swiglu", "none")
SWIGLU_LIMIT = 7.0  # of "swiglu" unless the call gives one


def gated(spec: CallSpec) -> bool:
    return spec["w1"].shape[1] == 2 * columns(spec, "w2")


def _pads(spec: CallSpec) -> tuple[int, int]:
    """Of D and of I."""
    return int(spec.params.get("hidden_pad") or 0), int(spec.params.get("intermediate_pad") or 0)


def _aiters_activation(spec: CallSpec) -> bool:
    """Whether AITER has a kernel for all that stands between the GEMMs; ours adds biases, limits, padding and the rest."""
    inter, params = columns(spec, "w2"), spec.params
    more = spec.has("bias1") or params.get("swiglu_limit") is not None or _pads(spec)[1] or interleaved(spec)
    if more or not gated(spec):
        return False
    activation = params.get("activation", "silu")
    return activation == "silu" or (activation in GELU and inter % 128 == 0)


def _leaves_out(spec: CallSpec) -> bool:
    """Whether slots of experts that are elsewhere, or of tokens that are not there, are to cost nothing: no row of theirs is read
    or written between sorting and the sum. AITER's own kernels between the products do all rows, whatever these hold.
    """
    if spec.params.get("quant_type", "none") != "none" or not (spec.has("expert_mask") or spec.has("num_local_tokens")):
        return False
    return spec.params.get("activation", "silu") == "silu" or not _aiters_activation(spec)


def interleaved(spec: CallSpec) -> bool:
    return spec.params.get("gate_mode", "separated") == "interleave"


def limit(spec: CallSpec) -> float | None:
    given = spec.params.get("swiglu_limit")
    return SWIGLU_LIMIT if given is None and spec.params.get("activation") == "swiglu" else given


def _refuse(spec: CallSpec) -> str | None:
    quant = spec.params.get("quant_type", "none")
    weights = {"none": HALF, W4A16: ("uint8",), MX: ("uint8",)}.get(quant, (spec.fp8,))
    inter = columns(spec, "w2")
    rule = None
    for name, size in (("D", spec["hidden_states"].shape[1]), ("I", inter)):
        if quant in BLOCK_SCALES and size % 128:
            rule = rule or f"{name} = {size}; AITER's block-scale kernel needs a multiple of 128"
    for name, pad in zip(("hidden_pad", "intermediate_pad"), _pads(spec), strict=True):
        if quant in BLOCK_SCALES and pad % 128:
            rule = rule or f"{name} = {pad}; AITER's block-scale kernel needs a multiple of 128"
    if quant == MX:
        rule = mxfp4.refuse(spec, (columns(spec, "w1"), inter), _pads(spec))
        rule = rule or (routed.refuse(spec) if routed.alone(spec) else None)
    tokens, most = spec["topk_ids"].shape[0], most_tokens(spec)
    if tokens > most and (quant == "per_tensor" or not most):
        rule = rule or f"T = {tokens}: T * k rows of {widest(spec)} are more elements than AITER's kernels count with 32 bits"
    return first(
        param_is(spec, "quant_type", "none", "per_tensor", "per_token", *BLOCK_SCALES, W4A16, MX),
        param_is(spec, "activation", *ACTIVATIONS),
        param_is(spec, "weight_layout", None),
        dtype_in(spec, "hidden_states", HALF),
        dtype_in(spec, "w1", weights),
        dtype_in(spec, "w2", weights),
        dtype_in(spec, "topk_weight", ("float32",)),
        dtype_in(spec, "topk_ids", ("int32",)),
        None if quant == "per_tensor" else absent(spec, "a1_scale", "a2_scale"),
        None if quant == "none" or (spec.has("w1_scale") and spec.has("w2_scale")) else "w1_scale, w2_scale: missing",
        rule,
    )


def _finds_scales(spec: CallSpec) -> bool:
    """Whether AITER quantises rows to fp8 by scales that it finds; of the whole tensor's a NaN shows."""
    return spec.params.get("quant_type", "none") in ("per_token", *BLOCK_SCALES)


def _needs(spec: CallSpec) -> tuple[str, ...]:
    quant = spec.params.get("quant_type", "none")
    if few.alone(spec):
        return ()
    if quant == MX and routed.alone(spec):
        return routed.NEEDS
    own = mxfp4.needs(spec) if quant == MX else ("moe.moe_op:fused_moe",)
    activation = WHOLE_ROWS if spec.params.get("activation") in GELU and _aiters_activation(spec) else ()
    given = {"none": (), W4A16: (), MX: (), "per_tensor": STATIC if spec.has("a1_scale") else DYNAMIC}.get(quant, GROUPS)
    return *own, "utils.moe_config_utils:get_optimal_moe_config", *activation, *given


def _refuse_kept(spec: CallSpec) -> str | None:
    """The first product is kept as the kernel writes it: of zeros in slots that no expert here takes."""
    return _refuse(spec) or first(param_is(spec, "quant_type", "none"), param_is(spec, "doweight_stage1", False))


_KEPT: dict[str, Any] = {"source": "aiter.ops.triton.moe.moe_op.fused_moe", "refuse": _refuse_kept, "tiles": "fused_moe"}


@op("fused_moe_keeping", needs=_needs, space=fused_moe_space, **_KEPT)
@op("fused_moe_gate_up", needs=_needs, space=fused_moe_space, **_KEPT)
@op(
    "fused_moe",
    source="aiter.ops.triton.moe.moe_op.fused_moe, moe_op_gemm_a*w4.moe_gemm_a*w4, activation.fused_silu_mul, quant; of few tokens "
    "jax_aiter.kernels.triton.worker.own.moe.glue_vectors.layer",
    refuse=_refuse,
    needs=_needs,
    space=lambda spec: few.space(spec) if few.alone(spec) else fused_moe_space(spec),
    hides_nan=_finds_scales,
)
def fused_moe(ctx):
    spec = ctx.spec
    if spec.params.get("quant_type") == MX and not spec.tile and routed.found(spec):
        return routed.run(ctx, pads=_pads(spec), interleaved=interleaved(spec), limit=limit(spec))
    if few.alone(spec):
        few.run(ctx, _pads(spec), spec.params.get("activation", "silu"), limit(spec), interleaved(spec))
        return ctx.results
    for piece in pieces(ctx):
        _layer(piece, ctx.spec["topk_ids"].shape[0])
    return ctx.results


def _layer(ctx, whole: int) -> None:
    """Fills the results of a call, or of a piece of one of so many tokens as `whole`."""
    import torch
    from aiter.ops.triton.utils.moe_config_utils import get_optimal_moe_config

    from jax_aiter.kernels.triton.worker.own import glue, glue_moe, glue_sort
    from jax_aiter.kernels.triton.worker.own.moe import glue_few

    spec = ctx.spec
    x, w1, w2 = (ctx.operand(name) for name in ("hidden_states", "w1", "w2"))
    quant, early = spec.params.get("quant_type", "none"), bool(spec.params.get("doweight_stage1"))
    (tokens, model), experts, (_, topk) = x.shape, w2.shape[0], ctx.operand("topk_ids").shape
    # Of MXFP4 weights AITER has configurations with hidden states of 4 bits alone, and none for gfx942.
    fp8 = quant not in ("none", W4A16, MX)
    config = get_optimal_moe_config(x.dtype, use_fp8_w8a8=fp8, use_int4_w4a16=quant in (W4A16, MX), M=whole)
    if quant in BLOCK_SCALES:
        config = {**config, "BLOCK_SIZE_K": 128}  # one scale per 128 along K: a tile may not straddle two
    configured = (lambda config: mxfp4.configured(config, spec.arch)) if quant == MX else (lambda config: config)
    config = configured(ctx.tiled(config))
    held = ctx.operand("topk_ids"), ctx.operand("expert_mask"), experts, ctx.operand("num_local_tokens")
    grouped = glue_few.few_slots if few.are_few(spec) else glue_sort.sorted_slots
    found = grouped(*held, config["BLOCK_SIZE_M"])
    ids, every, taken = found.local, (found.order, found.blocks, found.padded), (found.order, found.blocks, found.taken)
    some = _leaves_out(spec)
    if quant == "per_tensor" and not spec.has("a1_scale"):
        x = glue.taken_rows(x, ids, experts)
    kept = {"fused_moe_keeping": ctx.results[1:], "fused_moe_gate_up": ctx.results[:1]}.get(spec.op, ())
    gate_up = kept[0] if kept else torch.empty((tokens, topk, w1.shape[1]), dtype=x.dtype, device="meta")
    # What is kept holds zeros in slots of no expert, which AITER's kernel writes into every slot that it is told of.
    gemm = Gemm(ctx, config, taken if some and not kept else every, quant)
    gemm(x, "w1", gate_up, topk, ctx.operand("a1_scale"), pad=_pads(spec)[0], weighted=early)
    if spec.op == "fused_moe_gate_up":
        return
    second = Gemm(ctx, configured(ctx.tiled(config, "stage2")), taken if some else every, quant)
    hidden = _activate(ctx, gate_up.view(tokens * topk, w1.shape[1]), ids)
    parts = torch.empty((tokens, topk, model), dtype=x.dtype, device="meta")
    second(hidden, "w2", parts, 1, ctx.operand("a2_scale"), pad=_pads(spec)[1], weighted=not early)
    bias, pad = ctx.operand("bias2"), _pads(spec)[0]
    if bias is None and not pad:
        glue.sum_slots(parts, ctx.results[0], ids if some else None, experts if some else 0)
        return
    weights = None if early else ctx.operand("topk_weight")
    glue_moe.sum_biased(parts, bias, ids, weights, ctx.results[0], num_experts=experts, pad=pad, some=some)


def _activate(ctx, gate_up, ids):
    """[T·k, I] between the GEMMs, without the padding of I."""
    from aiter.ops.triton import activation as own

    from jax_aiter.kernels.triton.worker.own import glue, glue_moe

    spec = ctx.spec
    activation, some = spec.params.get("activation", "silu"), _leaves_out(spec)
    experts = spec["w2"].shape[0]
    if _aiters_activation(spec):
        if some:
            return glue.silu_mul(gate_up, ids, experts)
        if activation == "silu":  # AITER has a Triton kernel for it from 0.1.8 on; before, it is a HIP kernel's work
            return getattr(own, "fused_silu_mul", glue.silu_mul)(gate_up)
        from aiter.ops.triton.fusions.fused_clamp_act_mul import fused_clamp_act_mul

        return fused_clamp_act_mul(gate_up, activation=activation)
    inter = columns(spec, "w2")
    return glue_moe.activate(
        gate_up,
        ctx.operand("bias1"),
        ids,
        num_experts=experts,
        inter=inter,
        pad=_pads(spec)[1],
        activation=activation,
        limit=limit(spec),
        interleaved=interleaved(spec),
        some=some,
    )


class Gemm:
    """AITER's grouped GEMM with the activations quantised as `quant` says."""

    def __init__(self, ctx, config: dict, routing, quant: str) -> None:
        self._ctx, self._config, self._routing, self._quant = ctx, config, routing, quant

    def __call__(self, a, name: str, out, slots_per_row: int, a_scale, *, pad: int, weighted: bool) -> None:
        """name: of the weight. pad: its last columns, which are not read; of `a` too, or it comes without."""
        import triton.language as tl
        from aiter.ops.triton.moe import moe_op

        from jax_aiter.kernels.triton.worker.own import glue_moe

        w, w_scale, zeros = (self._ctx.operand(n) for n in (name, f"{name}_scale", f"{name}_zp"))
        whole = columns(self._ctx.spec, name)
        if self._quant == MX:
            mxfp4.product(
                self._ctx, a, name, out, self._routing, slots_per_row, self._config, columns=whole - pad, weighted=weighted
            )
            return
        if self._quant != W4A16:  # whose kernel reads as many columns as `a` has
            w = w[:, :, : whole - pad]
        if a.shape[1] != whole - pad:
            a = a[:, : whole - pad] if self._quant in ("none", W4A16) else glue_moe.first_columns(a, whole - pad)
        compute = tl.bfloat16 if self._ctx.spec["hidden_states"].dtype == "bfloat16" else tl.float16
        block_shape = None
        if self._quant == "per_tensor":
            # The wrapper quantises by itself; ours starts from a scale that an all-zero input leaves defined.
            moe_op.moe_set_quant_func(lambda xq, x, scale: quantise_tensor(x, a_scale, xq, scale))
            w_scale = w_scale.view(-1)
        elif self._quant == "per_token":
            block_shape = [1, next_power_of_2(a.shape[1])]
            a, a_scale = quantise_groups(a, block_shape[1])
            w_scale = w_scale.view(w.shape[0], w.shape[1], 1)
        elif self._quant in BLOCK_SCALES:
            block_shape = [128, 128]
            a, a_scale = quantise_groups(a, 128)
            w_scale = w_scale.view(w.shape[0], -(-w.shape[1] // 128), -1)[:, :, : w.shape[2] // 128]
        elif self._quant == W4A16:
            block_shape = [0, whole // w_scale.shape[2]]
        quantised = self._quant not in ("none", W4A16)
        with xcds(moe_op, self._config) as config:
            moe_op.fused_moe(
                a,
                w,
                out,
                a_scale if quantised else None,
                w_scale,
                zeros,
                self._ctx.operand("topk_weight"),
                self._ctx.operand("topk_ids"),
                *self._routing,
                weighted,
                slots_per_row,
                compute,
                quantised,
                False,
                self._quant == W4A16,
                block_shape,
                config,
            )


def plain_product(ctx, a, w, out, routing, config: dict, slots_per_row: int) -> None:
    """``out[i] = w[e] @ a[i // slots_per_row]`` of float rows by AITER's grouped GEMM, for the rows i that `routing` names of each
    expert e: their order, the expert of each block of it, and how many there are. out: [rows, 1, N]; w: [E, N, K], of any strides.
    """
    import torch
    import triton.language as tl
    from aiter.ops.triton.moe import moe_op

    rows = torch.empty((out.shape[0], 1), dtype=torch.int32, device="meta")  # the wrapper counts them and reads nothing
    compute = tl.bfloat16 if ctx.spec["hidden_states"].dtype == "bfloat16" else tl.float16
    no_scales = (None, None, None)
    kinds = (False, False, False)  # fp8, int8 and int4 weights
    with xcds(moe_op, config) as own:
        moe_op.fused_moe(
            a, w, out, *no_scales, ctx.operand("topk_weight"), rows, *routing, False, slots_per_row, compute, *kinds, None, own
        )
