"""MXFP4 experts of rows in MXFP8 (a8w4): AITER's product of ragged rows, twice, over rows that we sort as it wants them.

It adds biases itself, and gpt-oss's activation where gates alternate; rows between the products stand by expert, each expert's
padded to whole tiles, and no row of padding is read.
"""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

import types

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.moe.spaces import columns
from jax_aiter.kernels.triton.rules import INT32_MAX, absent, dtype_in, first, next_power_of_2, param_is

NEEDS = ("moe.moe_op_gemm_a8w4:moe_gemm_a8w4",)
OCP = "float8_e4m3fn"
ALPHA = 1.702
#: how many experts and tiles of one expert a tile's number holds
MOST_EXPERTS = 1 << 16
MOST_TILES = 1 << 15


def suits(spec: CallSpec) -> bool:
    """Whether a call of MXFP4 weights asks for rows in fp8."""
    return str(spec.params.get("q_dtype_a")).startswith("float8")


def block_rows(spec: CallSpec) -> int:
    """As AITER's routing chooses them."""
    each = max(1, spec["topk_ids"].size // spec["w1"].shape[0])
    return max(16, min(next_power_of_2(each), 128))


def refuse(spec: CallSpec) -> str | None:
    """What MXFP4 experts with rows of 16 bits allow is asked before."""
    arch = None if spec.arch == "gfx950" else f"arch = {spec.arch}; AITER's product of MXFP8 rows and MXFP4 weights is for gfx950"
    slots, experts = spec["topk_ids"].size, spec["w1"].shape[0]
    rule = f"E = {experts}; a tile's number has 16 bits for its expert" if experts >= MOST_EXPERTS else None
    if slots > MOST_TILES * block_rows(spec):
        rule = rule or f"T * k = {slots}; a tile's number has 15 bits for its place within an expert"
    widest = (slots + (experts + 1) * block_rows(spec)) * max(spec["w1"].shape[1], columns(spec, "w1"))
    if widest > INT32_MAX:
        rule = rule or f"T * k = {slots}: the padded rows between the products have {widest} elements, more than 32 bits count"
    return first(
        arch,
        param_is(spec, "q_dtype_a", OCP),
        param_is(spec, "doweight_stage1", False),
        rule,
        absent(spec, "a1_scale", "a2_scale"),
        dtype_in(spec, "hidden_states", ("bfloat16", "float16")),
    )


def run(ctx, *, pads: tuple[int, int], interleaved: bool, limit: float | None):
    """pads: of D and of I. limit: of gate and up, None for none."""
    from jax_aiter.kernels.triton.worker.own import glue_moe, glue_sort, glue_tiles

    spec, block = ctx.spec, block_rows(ctx.spec)
    x, weights, ids = (ctx.operand(n) for n in ("hidden_states", "topk_weight", "topk_ids"))
    experts, model, inter = spec["w1"].shape[0], columns(spec, "w1"), columns(spec, "w2")
    held = ids, ctx.operand("expert_mask"), experts, ctx.operand("num_local_tokens")
    found = glue_sort.sorted_slots(*held, block, places=True)
    product = Product(ctx, found, glue_tiles.tiles(found, experts, block), block, x.dtype)
    activation = spec.params.get("activation", "silu")
    fused = activation == "swiglu" and interleaved
    rows = product("w1", *glue_tiles.mxfp8_rows(x, model - pads[0]), gathered=True, limit=limit if fused else None)
    if not fused:
        between = {"num_experts": experts, "inter": inter, "pad": pads[1], "activation": activation}
        rows = glue_moe.activate(rows, None, found.order, **between, limit=limit, interleaved=interleaved)
    parts = product("w2", *glue_tiles.mxfp8_rows(rows, inter - pads[1], found), gathered=False, limit=None)
    return glue_tiles.sum_places(parts, found, weights, ctx.results[0], num_experts=experts, pad=pads[0])


class Product:
    """AITER's product over rows by expert."""

    def __init__(self, ctx, found, tiles, block: int, dtype) -> None:
        self._ctx, self._found, self._dtype = ctx, found, dtype
        # What the wrapper reads of AITER's RoutingData, whose own count of tiles knows no padding between experts.
        data = types.SimpleNamespace(
            hist=found.totals, token_offs_raw=tiles.starts, token_offs_pad=tiles.used, block_pid_map=tiles.named
        )
        number = tiles.named.shape[0]
        topk = ctx.operand("topk_ids").shape[1]
        self._routing = types.SimpleNamespace(
            block_m=block, n_expts_act=topk, expt_data=data, n_blocks=lambda rows, block_m: number
        )

    def __call__(self, name: str, rows, scale, *, gathered: bool, limit: float | None):
        """rows: of tokens (`gathered`) or by expert. limit: of gpt-oss's activation, which is applied if it is given."""
        from aiter.ops.triton.moe.moe_op_gemm_a8w4 import moe_gemm_a8w4

        w, w_scale = self._ctx.operand(name), self._ctx.operand(f"{name}_scale")
        kept = rows.shape[1]
        return moe_gemm_a8w4(
            rows,
            w[:, :, : kept // 2].mT,
            scale,
            w_scale[:, :, : kept // 32].mT,
            bias=self._ctx.operand("bias1" if name == "w1" else "bias2"),
            routing_data=self._routing,
            gather_indx=self._found.order if gathered else None,
            out_dtype=self._dtype,
            apply_swiglu=limit is not None,
            alpha=ALPHA,
            limit=1.0 if limit is None else limit,
        )
