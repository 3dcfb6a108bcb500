"""Gated activations."""

from __future__ import annotations

from jax_aiter.kernels.hip.adapters import op
from jax_aiter.kernels.hip.rules import HALF, dtype_in, first, fits_int32
from jax_aiter.kernels.spec import CallSpec

SOURCE = "activation"
NARROW, VECTOR = 128, 8
ENTRY = "aiter's function of this name is this one"


def _refuse(spec: CallSpec) -> str | None:
    columns = spec["x"].shape[-1] // 2
    whole = None
    if columns % 2:
        whole = f"x has {columns} columns per half; AITER's HIP kernels take pairs"  # one of release 0.1.7 would do
    elif columns >= NARROW and columns % VECTOR:
        whole = (
            f"x has {columns} columns per half; from {NARROW} on AITER's HIP kernel writes up to {VECTOR} at a time, past the end "
            f"of a row that is no multiple of {VECTOR}"
        )
    return first(dtype_in(spec, "x", HALF), whole, fits_int32(spec, "x"))


def _unlimited(spec: CallSpec) -> str | None:
    limit = spec.params["limit"]
    return f"limit = {limit}; AITER's HIP kernel of this activation has none" if limit else _refuse(spec)


def _record(ctx, function: str, *later: float) -> None:
    ctx.call(SOURCE, f"aiter::{function}", ctx.results[0].rows, ctx["x"].rows, later=later)


def _limited(spec: CallSpec) -> tuple[tuple[str, str, int], ...]:
    return ((SOURCE, "aiter::silu_and_mul", 3),) if spec.params["limit"] else ()


@op("silu_and_mul", function="aiter::silu_and_mul", sources=(SOURCE,), refuse=_refuse, entry=ENTRY, needs=_limited)
def silu_and_mul(ctx):
    _record(ctx, "silu_and_mul", ctx.params["limit"])


@op("gelu_and_mul", function="aiter::gelu_and_mul", sources=(SOURCE,), refuse=_unlimited, entry=ENTRY)
def gelu_and_mul(ctx):
    _record(ctx, "gelu_and_mul")


@op("gelu_tanh_and_mul", function="aiter::gelu_tanh_and_mul", sources=(SOURCE,), refuse=_unlimited, entry=ENTRY)
def gelu_tanh_and_mul(ctx):
    _record(ctx, "gelu_tanh_and_mul")
