"""Prefill of absorbed MLA queries: one workgroup takes 128 rows (queries times heads) of one sequence."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.mla import inputs, launch
from jax_aiter.kernels.asm.mla.rows import TABLE, never, usable_rows
from jax_aiter.kernels.asm.registry import Selected, forced, need, op
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.provider import Call, Program

SOURCE = "csrc/py_itfs_cu/asm_mla.cu mla_prefill_asm_fwd"
SUB_Q = 128  # rows of a workgroup


@op("mla_prefill_fwd", source=f"aiter/mla.py mla_prefill_fwd, {SOURCE}", tables=(TABLE,), never=never)
def select(call: Call) -> Selected:
    q, kv, params = call.operands["q"], call.operands["kv_buffer"], call.params
    sequences, (rows, heads, _) = call.operands["kv_last_page_lens"].shape[0], q.shape
    for name, x in (("q", q), ("kv_buffer", kv)):
        need(x.dtype == jnp.bfloat16, f"{name} has dtype {x.dtype.name}; the kernels take bfloat16")
    launch.check_dims(q, call.results[0])
    assert call.target.arch is not None
    listed = usable_rows(call.target.arch, prefill=True)
    fitting = [r for r in listed if r["Gqa"] == heads]
    known = ", ".join(str(r["Gqa"]) for r in listed)
    need(bool(fitting), f"q has {heads} heads; this release of AITER has prefill kernels for {known}")
    row = forced(call, fitting) or fitting[0]
    rule = "the caller's kernel=" if call.kernel else "AITER's rule: the kernel for this number of heads"
    launch.check_addresses(q, kv, rows * heads)
    output = rows * heads * launch.VALUE_DIM * 2
    need(output < launch.UINT32, f"the output holds {output} bytes; the kernels address it with 32 bits")
    grid = launch.grid_of(params["max_seqlen_q"], heads, SUB_Q, sequences, 1)
    need(max(grid) < 2**24, f"max_seqlen_q = {params['max_seqlen_q']}; the launch grid would be {grid}")
    return Selected(row, grid, rule, lambda: _program(call, row, grid))


def _program(call: Call, row: Kernel, grid: tuple[int, int, int]) -> Program:
    heads, most = call.operands["q"].shape[1], call.params["max_seqlen_q"]
    (pages, page), sequences = call.operands["kv_buffer"].shape[:2], grid[1]

    def arrays(operands: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        bounds, tokens = inputs.one_token_pages(
            operands["kv_indptr"], operands["kv_indices"], operands["kv_last_page_lens"], pages, page
        )
        rows = operands["q"].shape[0]
        return {
            "Q": operands["q"],
            "KV": operands["kv_buffer"],
            "LTP": bounds,
            "LTD": tokens,
            "LTL": jnp.ones(sequences, jnp.int32),
            "QTP": jax.lax.cummax(jnp.clip(operands["qo_indptr"], 0, rows)),
        }

    shapes = jax.eval_shape(arrays, dict(call.operands))
    writer = PlanWriter(call.op, str(call.target.arch), shapes, {"R": call.results[0]})
    writer.temporary("LSE", call.operands["q"].shape[0] * heads * 4)  # AITER allocates it; the kernels do not write it
    values = {name: writer.pointer(name) for name in ("R", "LSE", "Q", "KV", "LTP", "LTD", "LTL", "QTP")}
    bytes_of = {"s_Q_Bs": heads * launch.DIM * 2, "s_Bs": launch.DIM * 2, "s_log2_plen": 0}
    # AITER leaves the remaining members of its struct uninitialised.
    rest = dict.fromkeys(("STP", "RP", "QSCALE", "KVSCALE", "LSEP", "GKVTP"))
    numbers = {"scalar": call.params["sm_scale"], "s_MQA": heads, "s_kv_split": 1, "out_16_nosplit": 0}
    context = {"s_cp_world_size": 0, "s_cp_rank": 0}
    writer.kernel(row, grid, launch.THREADS, launch.ARGUMENTS, **values, **bytes_of, **rest, **numbers, **context)
    plan = writer.build()

    def run(operands: Mapping[str, jax.Array]) -> list[jax.Array]:
        from jax_aiter.kernels.call import call_plan  # only where a kernel runs: it loads the native module

        found = arrays(operands)
        (out,) = call_plan(plan, *(found[name] for name in shapes), result_shape_dtypes=call.results)
        bounds = found["LTP"]
        lengths, rows = bounds[1:] - bounds[:-1], out.shape[0]
        _, seen = inputs.caller_rows(operands["qo_indptr"], lengths, rows, most, most, True)
        return [jnp.where(seen[:, None, None], out, jnp.zeros((), out.dtype))]

    return Program((plan,), run)
