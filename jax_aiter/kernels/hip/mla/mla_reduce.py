"""The join of the parts of MLA decoding: AITER's kernel behind its hand-written persistent ones.

It is recorded by itself (`spec`), and put behind the kernel by whoever plans that. A tile that one work computes is joined by
nobody: that work writes the results.
"""

from __future__ import annotations

from jax_aiter.core import arch as archs
from jax_aiter.kernels.hip.adapters import part
from jax_aiter.kernels.spec import ArraySpec, CallSpec

SOURCE, FUNCTION = "mla_reduce", "mla_reduce_v1"
WAVE = 64
#: arguments of releases that take the most queries of a tile and the most parts of one.
NEWER = 9


def spec(arch: str, *, tiles: int, tokens: int, heads: int, width: int, works: int, parts: int, lse: bool) -> CallSpec:
    """What joins the parts of `tiles` tiles of `tokens` rows, of which there are `works`, and at most `parts` of a tile.

    Its results are those of all rows, bfloat16, and their log-sum-exps if `lse`: of tiles that have one part or none they are not
    written.
    """
    rows = (works * tokens, heads)
    operands = {
        "partial_output": ArraySpec((*rows, width), "float32"),
        "partial_lse": ArraySpec(rows, "float32"),
        "reduce_indptr": ArraySpec((tiles + 1,), "int32"),
        "reduce_final_map": ArraySpec((tiles, 2), "int32"),
        "reduce_partial_map": ArraySpec((works,), "int32"),
    }
    results = [ArraySpec((tiles * tokens, heads, width), "bfloat16")]
    results += [ArraySpec((tiles * tokens, heads), "float32")] if lse else []
    params = {"tokens": tokens, "parts": parts, "units": archs.compute_units(arch)}
    return CallSpec("mla_reduce", arch, operands, params, tuple(results))


def unjoined(arch: str, parts: int) -> str | None:
    """The rule by which AITER's kernel does not join so many parts of a tile, None if it does."""
    units = archs.compute_units(arch)
    rule = f"AITER's HIP kernel joins as many parts as {arch} has compute units, {units}"
    return f"a list for {parts} workgroups; {rule}" if parts > units else None


@part("mla_reduce", function=FUNCTION, sources=(SOURCE,))
def mla_reduce(ctx):
    out, *lse = ctx.results
    sizes = (ctx.params["tokens"], ctx.params["parts"]) if NEWER in ctx.takes(SOURCE, FUNCTION) else ()
    ctx.call(SOURCE, FUNCTION, *(ctx[name] for name in ctx.spec.operands), *sizes, out, *(lse or [None]))
    # A wave keeps a number for each of its lanes, also where the last lanes have no part: beyond what release 0.1.7 asks for.
    units = ctx.params["units"]
    ctx.least_lds(4 * (units + -(-units // WAVE) * WAVE))
