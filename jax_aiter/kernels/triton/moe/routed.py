"""MXFP4 experts by AITER's products of ragged rows, twice, over rows that we sort as they want them: a16w4, a8w4 and a4w4.

They add biases themselves, and gpt-oss's activation where gates alternate; rows between the products stand by expert, each expert's
padded to whole tiles, and no row of padding is read. Up to 0.1.7 AITER has the one of MXFP8 rows alone; the others' calls go to
`mxfp4` there.
"""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

import importlib
import importlib.util
import types

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.moe.spaces import columns
from jax_aiter.kernels.triton.quant.mx import own_fp4
from jax_aiter.kernels.triton.rules import INT32_MAX, absent, dtype_in, first, next_power_of_2, param_is

#: AITER's product by what the rows are.
PRODUCTS = {"bfloat16": "moe_gemm_a16w4", "mxfp8": "moe_gemm_a8w4", "mxfp4": "moe_gemm_a4w4"}
NEEDS = ("moe.moe_op_gemm_a8w4:moe_gemm_a8w4",)
OCP = "float8_e4m3fn"
ALPHA = 1.702
#: how many experts and tiles of one expert a tile's number holds
MOST_EXPERTS = 1 << 16
MOST_TILES = 1 << 15


def rows_of(spec: CallSpec) -> str:
    """What the rows of a call of MXFP4 weights are."""
    asked = str(spec.params.get("q_dtype_a"))
    return "mxfp8" if asked.startswith("float8") else {"None": "bfloat16", "uint8": "mxfp4"}[asked]


def alone(spec: CallSpec) -> bool:
    """Whether no other kernel takes such rows."""
    return rows_of(spec) == "mxfp8"


def found(spec: CallSpec) -> bool:
    """In the worker: whether the release has the product, and it takes the call."""
    return refuse(spec) is None and importlib.util.find_spec(_module(spec)) is not None


def _module(spec: CallSpec) -> str:
    return f"aiter.ops.triton.moe.{PRODUCTS[rows_of(spec)].replace('moe_', 'moe_op_')}"


def block_rows(spec: CallSpec) -> int:
    """As AITER's routing chooses them."""
    each = max(1, spec["topk_ids"].size // spec["w1"].shape[0])
    return max(16, min(next_power_of_2(each), 128))


def refuse(spec: CallSpec) -> str | None:
    """What MXFP4 experts with rows of 16 bits allow is asked before."""
    rows = rows_of(spec)
    # Of 8 and of 4 bits Triton multiplies as bfloat16 where no instruction takes both; not for gfx942.
    unlike = spec.arch == "gfx942" and rows != "bfloat16"
    arch = (
        f"arch = {spec.arch}; AITER's product of {rows} rows and MXFP4 weights compiles for gfx950 and NVIDIA" if unlike else None
    )
    slots, experts = spec["topk_ids"].size, spec["w1"].shape[0]
    rule = f"E = {experts}; a tile's number has 16 bits for its expert" if experts >= MOST_EXPERTS else None
    if slots > MOST_TILES * block_rows(spec):
        rule = rule or f"T * k = {slots}; a tile's number has 15 bits for its place within an expert"
    widest = (slots + (experts + 1) * block_rows(spec)) * max(spec["w1"].shape[1], columns(spec, "w1"))
    if widest > INT32_MAX:
        rule = rule or f"T * k = {slots}: the padded rows between the products have {widest} elements, more than 32 bits count"
    return first(
        arch if unlike else None,
        param_is(spec, "q_dtype_a", OCP) if rows == "mxfp8" else None,
        param_is(spec, "doweight_stage1", False),
        rule,
        absent(spec, "a1_scale", "a2_scale"),
        # A bias and the zeros of a part of K that adds none must be of one type, or AITER's kernel does not compile.
        dtype_in(spec, "bias1", ("float32",)),
        dtype_in(spec, "bias2", ("float32",)),
        dtype_in(spec, "hidden_states", ("bfloat16",) if rows == "bfloat16" else ("bfloat16", "float16")),
    )


def run(ctx, *, pads: tuple[int, int], interleaved: bool, limit: float | None):
    """pads: of D and of I. limit: of gate and up, None for none."""
    from jax_aiter.kernels.triton.worker.own import glue_moe, glue_sort, glue_tiles

    spec, block = ctx.spec, block_rows(ctx.spec)
    x, weights, ids = (ctx.operand(n) for n in ("hidden_states", "topk_weight", "topk_ids"))
    experts, model, inter = spec["w1"].shape[0], columns(spec, "w1"), columns(spec, "w2")
    held = ids, ctx.operand("expert_mask"), experts, ctx.operand("num_local_tokens")
    order = glue_sort.sorted_slots(*held, block, places=True)
    product = Product(ctx, order, glue_tiles.tiles(order, experts, block), block, x.dtype)
    activation = spec.params.get("activation", "silu")
    fused = activation == "swiglu" and interleaved
    rows = product("w1", x, model - pads[0], gathered=True, limit=limit if fused else None)
    if not fused:
        between = {"num_experts": experts, "inter": inter, "pad": pads[1], "activation": activation}
        rows = glue_moe.activate(rows, None, order.order, **between, limit=limit, interleaved=interleaved)
    parts = product("w2", rows, inter - pads[1], gathered=False, limit=None)
    return glue_tiles.sum_places(parts, order, weights, ctx.results[0], num_experts=experts, pad=pads[0])


class Product:
    """AITER's product over rows by expert."""

    def __init__(self, ctx, order, tiles, block: int, dtype) -> None:
        self._ctx, self._order, self._dtype, self._rows = ctx, order, dtype, rows_of(ctx.spec)
        # What the wrapper reads of AITER's RoutingData, whose own count of tiles knows no padding between experts.
        data = types.SimpleNamespace(
            hist=order.totals, token_offs_raw=tiles.starts, token_offs_pad=tiles.used, block_pid_map=tiles.named
        )
        number = tiles.named.shape[0]
        topk = ctx.operand("topk_ids").shape[1]
        self._routing = types.SimpleNamespace(
            block_m=block, n_expts_act=topk, expt_data=data, n_blocks=lambda rows, block_m: number
        )

    def __call__(self, name: str, x, kept: int, *, gathered: bool, limit: float | None):
        """x: rows of tokens (`gathered`) or by expert, of whose columns the first `kept` are read. limit: of gpt-oss's activation,
        which is applied if it is given."""
        product = getattr(importlib.import_module(_module(self._ctx.spec)), PRODUCTS[self._rows])
        w, w_scale = self._ctx.operand(name), self._ctx.operand(f"{name}_scale")
        rows, scale = self._quantised(x, kept, gathered)
        return product(
            rows,
            w[:, :, : kept // 2].mT,
            scale,
            w_scale[:, :, : kept // 32].mT,
            bias=self._ctx.operand("bias1" if name == "w1" else "bias2"),
            routing_data=self._routing,
            gather_indx=self._order.order if gathered else None,
            out_dtype=self._dtype,
            apply_swiglu=limit is not None,
            alpha=ALPHA,
            limit=1.0 if limit is None else limit,
        )

    def _quantised(self, x, kept: int, gathered: bool):
        from jax_aiter.kernels.triton.worker.own import glue_moe, glue_mx, glue_tiles

        if self._rows == "bfloat16":
            return x[:, :kept], None
        if self._rows == "mxfp8":
            return glue_tiles.mxfp8_rows(x, kept, None if gathered else self._order)
        if own_fp4(self._ctx.spec.arch):
            return glue_mx.mxfp4(x, columns=kept)
        from aiter.ops.triton.quant.quant import dynamic_mxfp4_quant

        return dynamic_mxfp4_quant(x if x.shape[1] == kept else glue_moe.first_columns(x, kept))
