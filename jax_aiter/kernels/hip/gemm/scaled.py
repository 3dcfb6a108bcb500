"""Products of quantised matrices, with a scale per token and per output feature."""

from __future__ import annotations

from typing import Any

from jax_aiter.kernels.hip.adapters import op
from jax_aiter.kernels.hip.gemm.entries import entry
from jax_aiter.kernels.hip.gemm.rules import loaded, only, record, shuffled, unsplit, written
from jax_aiter.kernels.hip.rules import absent, first
from jax_aiter.kernels.spec import CallSpec

ROWS, SHUFFLED = "gemm_a8w8", "gemm_a8w8_bpreshuffle"


def _refuse(spec: CallSpec) -> str | None:
    bias = None
    if spec.has("bias") and spec["bias"].dtype != spec.results[0].dtype:
        bias = f"bias has dtype {spec['bias'].dtype}; AITER's CK kernels take it in the result's, {spec.results[0].dtype}"
    return first(written(spec), bias, loaded(spec, "xq", "wq"))


def _sources(name: str, arguments: int) -> dict[str, Any]:
    return {"function": name, "sources": (name,), "needs": lambda spec: ((name, name, arguments),), "entry": entry}


@op("gemm_a8w8", refuse=_refuse, **_sources(ROWS, 7))
def gemm_a8w8(ctx):
    arrays = ctx["xq"], ctx["wq"], ctx["x_scale"], ctx["w_scale"], ctx.results[0]
    # The last is splitK: AITER takes it from its tuned rows, whose is 0 in all of them, and 0 where there is none.
    record(ctx, ROWS, *arrays, ctx.operand("bias"), 0)


def _refuse_shuffled(spec: CallSpec) -> str | None:
    kinds = only(spec, "xq", spec.fp8), absent(spec, "bias"), unsplit(spec), written(spec)
    return first(*kinds, shuffled(spec, rows=32, least=192, step=64), loaded(spec, "xq", "wq"))


@op("gemm_a8w8_bpreshuffle", refuse=_refuse_shuffled, **_sources(SHUFFLED, 5))
def gemm_a8w8_bpreshuffle(ctx):
    record(ctx, SHUFFLED, ctx["xq"], ctx["wq"], ctx["x_scale"], ctx["w_scale"], ctx.results[0])
