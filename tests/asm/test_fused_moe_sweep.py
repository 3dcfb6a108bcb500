"""Every g1u1 object of AITER's tables by name, small: those that fused_moe accepts agree with float64, the rest are refused.

By default a third of each table, `exhaustive` the whole: that is how the limits in `_moe_limits` were found and are kept complete.
"""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.kernels.asm.moe import g1u1, limits

from . import common, moe

TABLES = [(act, out, kind) for act in ("silu", "gelu") for out in ("bf16", "fp16") for kind in g1u1.KINDS]
OUT = {"bf16": "bfloat16", "fp16": "float16"}


def rows(arch, act, out, kind):
    return common.rows("fused_moe", arch, f"fmoe/{act}/fmoe_{out}_{kind}_g1u1_{act}.csv")


def structs(arch, kind, inter, out):
    """The shapes of a call that every kernel of a table would take, were it not for the kernel."""
    quant = "per_token" if kind.startswith("pertoken") else "per_1x128"
    dtype = np.dtype(np.int8 if kind == "pertokenInt8" else moe.FP8[arch])
    return moe.structs(moe.Shape(dim=1024, inter=inter), dtype, quant, OUT[out]), quant


@functools.lru_cache(maxsize=2)
def arguments(arch, kind, tile, out, dim, tiles=1):
    dtype = np.int8 if kind == "pertokenInt8" else moe.FP8[arch]
    quant = "per_token" if kind.startswith("pertoken") else "per_1x128"
    args = moe.arguments(np.random.default_rng(tile), moe.Shape(dim=dim, inter=tile * tiles), dtype, quant, hidden=OUT[out])
    return args, moe.on_device(args), quant


def run(row, arch, act, out, kind, *, dim=None, tiles=1):
    tile = row.number("subGU_n")
    args, arrays, quant = arguments(arch, kind, tile, out, dim or limits.smallest(row), tiles)

    def call(arrays):
        return jax_aiter.fused_moe(
            **arrays, quant_type=quant, activation=moe.named(act), output_dtype=jnp.dtype(OUT[out]), kernel=row.symbol
        )

    with common.running(call, arrays) as result:
        moe.assert_agrees(result, moe.oracle(args, tile=tile, activation=moe.named(act), top=moe.top_of(row)))


def usable(row, out):
    bad = limits.defect(row) is not None or row["smf"] != 0
    return not bad and not (limits.takes_float(row) and out == "fp16")


@pytest.mark.parametrize(("act", "out", "kind"), TABLES)
def test_some_of_each_table(arch, act, out, kind):
    found = sorted((r for r in rows(arch, act, out, kind) if usable(r, out)), key=lambda r: (r["subGU_n"], r.symbol))
    for row in found[TABLES.index((act, out, kind)) % 3 :: 3]:
        run(row, arch, act, out, kind)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("act", "out", "kind"), TABLES)
def test_each_table_whole(arch, act, out, kind):
    for row in rows(arch, act, out, kind):
        if usable(row, out):
            run(row, arch, act, out, kind)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("act", "out", "kind"), [t for t in TABLES if t[:2] == ("silu", "bf16")])
def test_the_least_step_behind_the_smallest_model(arch, act, out, kind):
    """The next D that a kernel accepts, and two tiles of I."""
    for row in rows(arch, act, out, kind):
        if usable(row, out):
            run(row, arch, act, out, kind, dim=limits.smallest(row) + limits.step(row), tiles=2)


@pytest.mark.parametrize(("act", "out", "kind"), TABLES)
def test_the_others_are_refused(arch, act, out, kind):
    """For a size at which nothing else is in the way."""
    for row in rows(arch, act, out, kind):
        if usable(row, out):
            continue
        arrays, quant = structs(arch, kind, row.number("subGU_n"), out)
        settings = {"quant_type": quant, "activation": act, "output_dtype": jnp.dtype(OUT[out]), "kernel": row.symbol}
        (found,) = jax_aiter.explain(lambda a, settings=settings: jax_aiter.fused_moe(**a, **settings), arrays)
        assert "asm" in found.refusals, f"{row} would run"
