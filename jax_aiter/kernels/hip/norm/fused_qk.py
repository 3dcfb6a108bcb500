"""MLA's two RMS norms in one launch, the query's quantised or not: kernels that came after release 0.1.7.

They store bfloat16 by truncation on gfx942, as AITER builds them.
"""

from __future__ import annotations

from jax_aiter.kernels.hip.adapters import Entry, op
from jax_aiter.kernels.hip.norm.rms_norm import MOST
from jax_aiter.kernels.hip.rules import HALF, dtype_in, first, fits_int32, quantised, whole_words
from jax_aiter.kernels.spec import CallSpec

SOURCE, FUNCTION = "fused_qk_norm", "aiter::fused_qk_rmsnorm"
QUANTISED, GROUPS, TOKENS = "fused_qk_rmsnorm", f"{FUNCTION}_group_quant", f"{FUNCTION}_per_token_quant"
#: rows from which AITER's entry point normalises one after the other.
MANY = 16384


def _columns(spec: CallSpec, name: str) -> str | None:
    columns = spec[name].shape[-1]
    if columns <= MOST and columns % 2 == 0:
        return None
    return f"{name} has {columns} columns; AITER's HIP kernel takes pairs, and at most {MOST}"


def _refuse(spec: CallSpec) -> str | None:
    dtype = spec["q"].dtype
    weights = (dtype_in(spec, name, (dtype,)) for name in ("q_weight", "k_weight"))
    return first(dtype_in(spec, "q", HALF), *weights, *(_columns(spec, name) for name in "qk"), fits_int32(spec, "q", "k"))


def _entry(spec: CallSpec) -> Entry:
    rows = spec["q"].size // spec["q"].shape[-1]
    several = f"from {MANY} rows aiter.rmsnorm, twice" if rows >= MANY else None
    return Entry(f"aiter.fused_qk_rmsnorm takes it below {MANY} rows", several)


@op("fused_qk_rms_norm", function=FUNCTION, sources=(SOURCE,), refuse=_refuse, entry=_entry)
def fused_qk_rms_norm(ctx):
    (q, k), params = ctx.results, ctx.params
    given = ctx["q"].rows, ctx["q_weight"], params["q_epsilon"], ctx["k"].rows, ctx["k_weight"], params["k_epsilon"]
    ctx.call(SOURCE, FUNCTION, *given, q.rows, k.rows)


@op(
    "fused_qk_rms_norm_quant",
    function=f"{GROUPS}, {TOKENS}",
    sources=(QUANTISED,),
    refuse=lambda spec: first(_refuse(spec), quantised(spec), whole_words(spec, "q")),
    entry="aiter.fused_qk_rmsnorm_group_quant and its relative with a scale per token call nothing else",
    cut_off="q_residual",
)
def fused_qk_rms_norm_quant(ctx):
    xq, scale, plain, k_out, total = ctx.results
    params, residual = ctx.params, ctx.operand("q_residual")
    q, k = ((ctx[name].rows, ctx[f"{name}_weight"], params[f"{name}_epsilon"]) for name in "qk")
    optional = plain.rows if params["output_unquantized"] else None, k_out.rows, None if residual is None else total.rows
    rest = *k, None if residual is None else residual.rows
    if params["group_size"] is None:
        ctx.call(QUANTISED, TOKENS, xq.rows, scale.view(-1, 1), *q, *optional, *rest, False)
    else:
        size, transpose = params["group_size"], bool(params["transpose_scale"])
        columns = q[0].shape[1] // size
        ctx.call(QUANTISED, GROUPS, xq.rows, scale.view(-1, columns), *q, *optional, *rest, size, transpose, False)
