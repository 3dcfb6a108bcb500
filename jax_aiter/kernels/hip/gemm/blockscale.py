"""Products of fp8 matrices with a scale per 128 columns of a token and per 128x128 of the weight."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jax_aiter.kernels.hip.adapters import Arranged, op
from jax_aiter.kernels.hip.gemm.entries import entry
from jax_aiter.kernels.hip.gemm.rules import loaded, only, record, shuffled, unsplit, written
from jax_aiter.kernels.hip.rules import first
from jax_aiter.kernels.spec import ArraySpec, CallSpec

PLAIN, SHUFFLED = "gemm_a8w8_blockscale", "gemm_a8w8_blockscale_bpreshuffle"


def _refuse(spec: CallSpec) -> str | None:
    return first(only(spec, "xq", spec.fp8), written(spec), loaded(spec, "xq", "wq"))


#: of the kernels' argument: where an array of no strides is, of which C++ copies the one byte that nobody wrote.
NO_STRIDES = 36


def _product(ctx, name: str) -> None:
    record(ctx, name, ctx["xq"], ctx["wq"], ctx["x_scale"], ctx["w_scale"], ctx.results[0])
    ctx.unread(NO_STRIDES, 1)


@op(PLAIN, function=PLAIN, sources=(PLAIN,), needs=lambda spec: ((PLAIN, PLAIN, 5),), refuse=_refuse, entry=entry)
def gemm_a8w8_blockscale(ctx):
    _product(ctx, PLAIN)


def _transposed(spec: CallSpec) -> CallSpec:
    """With x_scale as the kernel reads it, [K/128, M]."""
    rows, blocks = spec["xq"].shape[0], spec["w_scale"].shape[1]
    operands = {**spec.operands, "x_scale": ArraySpec((blocks, rows), spec["x_scale"].dtype)}
    return dataclasses.replace(spec, operands=operands, params={**spec.params, "transpose_scale": True})


def _arrays(spec: CallSpec, operands: Mapping[str, Any]) -> Sequence[Any]:
    as_read = operands if spec.params["transpose_scale"] else {**operands, "x_scale": operands["x_scale"].T}
    return [as_read[name] for name in spec.operands]


@op(
    SHUFFLED,
    function=SHUFFLED,
    sources=(SHUFFLED,),
    needs=lambda spec: ((SHUFFLED, SHUFFLED, 5),),
    refuse=lambda spec: first(unsplit(spec), _refuse(spec), shuffled(spec, rows=64, least=384, step=128)),
    arrange=Arranged(spec=_transposed, arrays=_arrays),
    entry=entry,
)
def gemm_a8w8_blockscale_bpreshuffle(ctx):
    _product(ctx, SHUFFLED)
