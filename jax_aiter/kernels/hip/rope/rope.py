"""Rotary position embedding from a table of cosines and sines, of one tensor or of queries and keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jax_aiter.kernels.hip.adapters import Arranged, op
from jax_aiter.kernels.hip.rules import FLOAT, dtype_in, first, fits_int32
from jax_aiter.kernels.spec import CallSpec

ONE, TWO = "rope_positions", "rope_positions_2c"
NEOX, GPTJ = 0, 1


def _spec(spec: CallSpec) -> CallSpec:
    positions = dataclasses.replace(spec["positions"], dtype="int64")
    return dataclasses.replace(spec, operands={**spec.operands, "positions": positions})


def words(positions: Any, rows: int) -> Any:
    """Rows of a table of so many as AITER's int64, which JAX has under a switch only: two words each, none negative."""
    import jax.numpy as jnp

    inside = jnp.clip(positions, 0, rows - 1)
    return jnp.stack([inside, jnp.zeros_like(inside)], axis=-1)


def _arrays(spec: CallSpec, operands: Mapping[str, Any]) -> list[Any]:
    given = {**operands, "positions": words(operands["positions"], spec["cos"].shape[0])}
    return [given[name] for name in spec.operands]


ARRANGED = Arranged(_spec, _arrays)
ENTRY = "aiter.RotaryEmbedding takes it unless AITER_ROPE_TRITON_BACKEND=1"


def _refuse(spec: CallSpec, *names: str) -> str | None:
    size = spec[names[0]].shape[-1]
    rotary = spec["cos"].shape[-1] * (2 if spec.params["reuse_freqs_front_part"] else 1)
    unwritten = None
    if spec.params["nope_first"] and rotary < size:
        unwritten = f"nope_first with {rotary} rotated of {size} elements; AITER's HIP kernel leaves some of them unwritten"
    return first(unwritten, *(dtype_in(spec, name, FLOAT) for name in (*names, "cos")), fits_int32(spec, *names, "cos"))


def _record(ctx, source: str, function: str, *names: str) -> None:
    def table(name: str):
        rows, columns = ctx[name].shape
        return ctx[name].view(rows, 1, 1, columns)

    def heads(array):
        return array.view(-1, 1, *array.shape[-2:])  # [S, B, H, D], of one sequence per position

    params = ctx.params
    style = (NEOX if params["rotate_style"] == "neox" else GPTJ, params["reuse_freqs_front_part"], params["nope_first"])
    arrays = [heads(result) for result in ctx.results] + [heads(ctx[name]) for name in names]
    ctx.call(source, function, *arrays, table("cos"), table("sin"), ctx["positions"].view(-1, 1), *style)


@op(
    "rope",
    function="rope_cached_positions_fwd_impl",
    sources=(ONE,),
    refuse=lambda spec: _refuse(spec, "x"),
    arrange=ARRANGED,
    entry=ENTRY,
)
def rope(ctx):
    _record(ctx, ONE, "rope_cached_positions_fwd_impl", "x")


@op(
    "rope_2c",
    function="rope_cached_positions_2c_fwd_impl",
    sources=(TWO,),
    refuse=lambda spec: _refuse(spec, "q", "k"),
    arrange=ARRANGED,
    entry=ENTRY,
)
def rope_2c(ctx):
    _record(ctx, TWO, "rope_cached_positions_2c_fwd_impl", "q", "k")
