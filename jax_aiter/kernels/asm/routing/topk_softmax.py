"""Top-k routing by softmax: one workgroup routes `subm` tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.registry import Selected, forced, listed, need, op
from jax_aiter.kernels.asm.structs import struct
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.provider import Call, Program

TABLE = "topksoftmax/topksoftmax.csv"
SOURCE = "csrc/py_itfs_cu/asm_topksoftmax.cu topk_softmax_asm"
ARGUMENTS = struct(
    "topksoftmax",
    SOURCE,
    "ptr ids int32 [ceil4(T), k]",
    "ptr weights float32 [ceil4(T), k]",
    "ptr gating float32 or bfloat16 [T, E]",
    "u32 batch T",
    "u32 expert E",
    "u32 topk k",
    "u32 renormalize 0 or 1",
    "u32 out_stride bytes between rows of ids, and of weights",
)
DTYPES = {"float32": "fp32", "bfloat16": "bf16"}
# AITER lets one workgroup take up to 12 tokens only when there are many.
MANY_TOKENS = 10000


@op("topk_softmax", source=SOURCE, tables=(TABLE,))
def select(call: Call) -> Selected:
    gating = call.operands["gating_output"]
    (tokens, experts), topk = gating.shape, call.params["topk"]
    dtype = DTYPES.get(gating.dtype.name)
    need(dtype is not None, f"gating_output has dtype {gating.dtype.name}; the kernels take {' or '.join(DTYPES)}")
    rows = listed(call, TABLE)
    # Up to 0.1.9 the kernels read float32 only: what they are given is converted first, which changes no value.
    converted = dtype not in {r["dtype"] for r in rows}
    dtype = "fp32" if converted else dtype
    fitting = [r for r in rows if (r["num_experts"], r["topk"], r["dtype"]) == (experts, topk, dtype)]
    pairs = sorted({(r.number("num_experts"), r.number("topk")) for r in rows})
    need(bool(fitting), f"(E, topk) = ({experts}, {topk}); this release of AITER has kernels for {', '.join(map(str, pairs))}")
    row, rule = forced(call, fitting), "the caller's kernel="
    if row is None:
        limit = 4 if tokens < MANY_TOKENS else 12
        rows = [r for r in fitting if r.number("subm") <= limit]
        row = max(rows, key=lambda r: r.number("subm"))
        rule = f"AITER's heuristic: the most tokens per workgroup, at most {limit} for T = {tokens}"
    per_group = row.number("subm")
    grid = (-(-tokens // per_group), 1, 1)
    need(tokens * experts * 4 < 2**32, f"gating_output is {tokens} x {experts}; the kernel addresses it with 32 bits")

    def build() -> LaunchPlan | Program:
        given = jax.ShapeDtypeStruct(gating.shape, jnp.float32) if converted else gating
        writer = PlanWriter.of(dataclasses.replace(call, operands={"gating_output": given}), ("topk_weights", "topk_ids"))
        # A workgroup writes all its rows. Where T is not a multiple the last ones would lie behind the result.
        padded = grid[0] * per_group * topk * 4
        targets = {"topk_weights": "topk_weights", "topk_ids": "topk_ids"}
        if padded != tokens * topk * 4:
            for name in ("topk_weights", "topk_ids"):
                targets[name] = f"padded_{name}"
                writer.temporary(targets[name], padded)
        writer.kernel(
            row,
            grid,
            256,
            ARGUMENTS,
            ids=writer.pointer(targets["topk_ids"]),
            weights=writer.pointer(targets["topk_weights"]),
            gating=writer.pointer("gating_output"),
            batch=tokens,
            expert=experts,
            topk=topk,
            renormalize=int(call.params["renormalize"]),
            out_stride=topk * 4,
        )
        for name, target in targets.items():
            if target != name:
                writer.copy(writer.numbers[name], writer.numbers[target], nbytes=tokens * topk * 4)
        plan = writer.build()
        if not converted:
            return plan

        def run(operands: Mapping[str, jax.Array]) -> Sequence[jax.Array]:
            return call_plan(plan, operands["gating_output"].astype(jnp.float32), result_shape_dtypes=call.results)

        return Program((plan,), run)

    return Selected(row, grid, rule, build)
