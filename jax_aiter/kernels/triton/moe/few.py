"""A layer of few tokens with plain weights: which calls that is, its tiles, and how it is recorded."""

# pyright: reportMissingImports=false
# torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from typing import Any

from jax_aiter.kernels.spec import CallSpec, Tile
from jax_aiter.kernels.triton.rules import next_power_of_2
from jax_aiter.kernels.triton.tiles.space import Space, of_part, sums_fit

#: slots that are few
FEW = 16


def are_few(spec: CallSpec) -> bool:
    """Whether each slot may be by itself: slots of one expert, which read its weights once each, are then rare."""
    tokens, topk = spec["topk_ids"].shape
    return tokens * topk <= FEW and (tokens == 1 or 4 * tokens * topk <= spec["w2"].shape[0])


def alone(spec: CallSpec) -> bool:
    """Whether the kernels for vectors take the call: few slots, weights as they are, weighed at the end, nothing kept."""
    plain = spec.params.get("quant_type", "none") == "none" and not spec.params.get("doweight_stage1")
    return spec.op == "fused_moe" and plain and are_few(spec)


def _block(columns: int, most: int) -> int:
    return min(next_power_of_2(columns), most)


def own(spec: CallSpec) -> dict[str, int]:
    """How the two are launched where no tile says, as an H200 measured and by estimate of an MI300X: the first reads long rows at
    once, of the second a program does one column of all slots."""
    (_, model, inter), slots = spec["w2"].shape, spec["topk_ids"].shape[1]
    columns, warps = (128, 1) if not spec.arch.startswith("sm_") else (128, 4) if slots >= 4 else (256, 1)
    return {
        "BLOCK_I": 4,
        "BLOCK_K": _block(model, 1024),
        "num_warps": 4,
        "stage2.BLOCK_D": 1,
        "stage2.BLOCK_K": _block(inter, columns),
        "stage2.num_warps": warps,
    }


def space(spec: CallSpec) -> Space:
    values: dict[str, tuple[int, ...]] = {
        "BLOCK_I": (1, 2, 4, 8, 16),
        "BLOCK_K": (128, 256, 512, 1024, 2048),
        "num_warps": (1, 2, 4, 8),
        "stage2.BLOCK_D": (1, 2, 4, 8, 16),
        "stage2.BLOCK_K": (64, 128, 256, 512),
        "stage2.num_warps": (1, 2, 4, 8),
    }
    (_, model, inter), (tokens, topk) = spec["w2"].shape, spec["topk_ids"].shape
    bucket = {"slots": tokens * topk, "D": model, "I": inter}

    def valid(tile: Tile) -> str | None:
        whole = {**own(spec), **tile}
        second = sums_fit(spec.arch, of_part(whole, "stage2"), "BLOCK_D", next_power_of_2(topk))
        return sums_fit(spec.arch, whole, "BLOCK_I", 1) or second

    return Space(values, bucket, (own(spec),), valid)


def run(ctx: Any, pads: tuple[int, int], activation: str, limit: float | None, interleaved: bool) -> None:
    """pads: of D and of I."""
    from jax_aiter.kernels.triton.worker.own.moe import glue_vectors

    config = own(ctx.spec)
    first = ctx.tiled({name: value for name, value in config.items() if "." not in name})
    second = ctx.tiled({name.removeprefix("stage2."): value for name, value in config.items() if "." in name}, "stage2")
    routing = tuple(ctx.operand(name) for name in ("topk_ids", "topk_weight", "expert_mask", "num_local_tokens"))
    weights, biases = (ctx.operand("w1"), ctx.operand("w2")), (ctx.operand("bias1"), ctx.operand("bias2"))
    between = glue_vectors.Between(activation, limit, interleaved)
    glue_vectors.layer(ctx.operand("hidden_states"), weights, biases, routing, ctx.results[0], between, pads, first, second)
