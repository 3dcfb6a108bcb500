"""Grouped GEMMs and their transpose, on AITER's persistent Triton kernels."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import COMPUTE_UNITS, EXACT_GROUPS, CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.moe.spaces import grouped_space
from jax_aiter.kernels.triton.rules import HALF, dtype_in, first

#: sm_90 has half of a CU's registers for a tile: AITER's 256 x 256 of MI300X and MI350X would spill.
HOPPER = {"BLOCK_SIZE_M": 128, "BLOCK_SIZE_K": 64, "BLOCK_SIZE_N": 128, "GROUP_SIZE": 8, "num_warps": 8, "num_stages": 3}
#: of our own kernel for weights' gradients (`glue_outer`)
HOPPER_OUTER = {**HOPPER, "BLOCK_SIZE_M": 64, "BLOCK_SIZE_K": 128, "BLOCK_SIZE_N": 256, "GROUP_SIZE": 4}
#: of a configuration, what the compiler is told and not the kernel.
OPTIONS = ("num_warps", "num_stages", "waves_per_eu", "matrix_instr_nonkdim", "kpack")


def exact(spec: CallSpec) -> bool:
    """Whether who made this call says of the group sizes that none is negative and that they end with the last row or before, and
    reads no row of the result behind them. Then nothing checks the sizes and nothing clears such rows: two launches less.

    No parameter of the op: parts of composed ops have it.
    """
    return bool(spec.params.get(EXACT_GROUPS))


def _refuse(spec: CallSpec) -> str | None:
    out = spec.results[0].dtype
    return first(
        dtype_in(spec, "lhs", HALF),
        dtype_in(spec, "bias", (spec["lhs"].dtype,)),
        None if out in HALF else f"preferred_element_type = {out}; AITER's Triton kernel writes {', '.join(HALF)}",
    )


def config_of(ctx, kind: str, *sizes: int, part: str = "") -> dict[str, int]:
    """Of a kernel of this kind, "gmm" or "ptgmm": AITER's or this package's, with the tile's entries for the part of a plan."""
    from aiter.ops.triton._triton_kernels.gmm import get_config

    if ctx.spec.arch.startswith("sm_"):
        return ctx.tiled({**(HOPPER if kind == "gmm" else HOPPER_OUTER), "GRID_DIM": COMPUTE_UNITS[ctx.spec.arch]}, part)
    return ctx.tiled(get_config(kind, *sizes), part)


def _launch(kernel, programs: int, arguments: dict, options: dict) -> None:
    """The kernel on those of the arguments that this release's takes: later ones have a bias and steal work."""
    kernel[(programs,)](**{name: value for name, value in arguments.items() if name in kernel.arg_names}, **options)


def _tiles(size: int, block: int) -> int:
    return -(-size // block)


@op(
    "grouped_gemm",
    source="aiter.ops.triton.gmm.gmm",
    refuse=_refuse,
    needs=lambda spec: ("gmm:gmm(bias)" if spec.has("bias") else "gmm:gmm",),
    space=grouped_space,
)
def grouped_gemm(ctx):
    """The kernel itself: up to 0.1.7 the wrapper reads the sizes on the host to see how many programs have work."""
    from aiter.ops.triton._triton_kernels.gmm import gmm_kernel

    from jax_aiter.kernels.triton.worker.own import glue, groups

    lhs, rhs, bias, out = ctx.operand("lhs"), ctx.operand("rhs"), ctx.operand("bias"), ctx.results[0]
    (m, k), n, g = lhs.shape, out.shape[1], rhs.shape[0]
    config = config_of(ctx, "gmm", m, k, n, g)
    sizes, bounds = ctx.operand("group_sizes"), None
    if not exact(ctx.spec):
        sizes, bounds = groups.group_bounds(sizes, m)
    most = (_tiles(m, config["BLOCK_SIZE_M"]) + g) * _tiles(n, config["BLOCK_SIZE_N"])
    tensors = {"lhs_ptr": lhs, "rhs_ptr": rhs, "group_sizes_ptr": sizes, "out_ptr": out, "bias_ptr": bias, "tile_counter_ptr": None}
    how = {"TRANS_RHS": ctx.spec.params["transpose_rhs"], "USE_BIAS": bias is not None, "WORK_STEALING": False, **config}
    options = {name: how.pop(name) for name in OPTIONS if name in how}
    _launch(gmm_kernel, min(config["GRID_DIM"], most), {**tensors, "M": m, "K": k, "N": n, "G": g, **how}, options)
    return out if bounds is None else glue.clear_tail(out, bounds)


@op(
    "transposed_grouped_gemm",
    source="aiter.ops.triton.gmm.ptgmm",
    refuse=_refuse,
    needs=("gmm:ptgmm",),
    space=grouped_space,
)
def transposed_grouped_gemm(ctx):
    """AITER's persistent kernel on AMD; on sm_90 our own, 1.3 times as fast there, as it overlaps the tiles of small groups."""
    from aiter.ops.triton._triton_kernels.gmm import tgmm_persistent_kernel

    from jax_aiter.kernels.triton.worker.own import glue_outer, groups

    lhs, rhs, out = ctx.operand("lhs"), ctx.operand("rhs"), ctx.results[0]
    (m, k), (g, _, n) = lhs.shape, out.shape
    config = config_of(ctx, "ptgmm", m, k, n, g)
    sizes = ctx.operand("group_sizes")
    if ctx.spec.arch.startswith("sm_"):
        sizes, bounds = groups.group_bounds(sizes, m)
        return glue_outer.outer(lhs, rhs, bounds[:-1], sizes, out, config)
    sizes = sizes if exact(ctx.spec) else groups.group_bounds(sizes, m)[0]
    most = g * _tiles(k, config["BLOCK_SIZE_K"]) * _tiles(n, config["BLOCK_SIZE_N"])
    tensors = {"lhs_ptr": lhs, "rhs_ptr": rhs, "group_sizes_ptr": sizes, "out_ptr": out, "bias_grad_ptr": None}
    how = {"TRANS_LHS": True, "COMPUTE_BIAS_GRAD": False, "ACCUMULATE": False, **config}
    options = {name: how.pop(name) for name in OPTIONS if name in how}
    _launch(tgmm_persistent_kernel, min(config["GRID_DIM"], most), {**tensors, "M": m, "K": k, "N": n, "G": g, **how}, options)
    return out
