"""What AITER's fused_moe launches for a call: one stage of hand-written code, two of Composable Kernel's, or one of each.

As ``get_2stage_cfgs`` of aiter/fused_moe.py has it: a tuned row decides, else the rules that are restated here.
"""

from __future__ import annotations

import dataclasses

from jax_aiter.core import arch
from jax_aiter.kernels.hip.adapters import Entry
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.tables import moe
from jax_aiter.kernels.tables.tuned import Row

#: as part of the name of every kernel of Composable Kernel's stages.
CK = "ck2stages"
#: rows of a block, where nothing is tuned: of block scales, and what else is tried.
BLOCKSCALE, BLOCKS = 64, (32, 64, 128)
COLUMNS = 128  # of I, by which the blocks' workgroups are counted
FEW, MANY = 16, 1024


@dataclasses.dataclass(frozen=True)
class Choice:
    """block_m: rows that a workgroup takes. kernel1, kernel2: the stages' kernels, "" for what AITER's dispatcher takes then."""

    block_m: int
    kernel1: str = ""
    kernel2: str = ""


def padded_tokens(tokens: int) -> int:
    """The number of tokens under which rows are kept in the releases whose stages these are (``get_padded_M``)."""
    return FEW if tokens <= FEW else MANY if tokens >= MANY else 1 << (tokens - 1).bit_length()


def tuned(spec: CallSpec) -> Row | None:
    (tokens, topk), (experts, model, inter) = spec["topk_ids"].shape, spec["w2"].shape
    asked = moe.Asked(
        arch=spec.arch,
        units=arch.compute_units(spec.arch),
        model_dim=model,
        inter_dim=inter,
        experts=experts,
        topk=topk,
        activation=spec.params["activation"],
        dtype=spec.results[0].dtype,
        weights=spec["w1"].dtype,
        quant_type=spec.params["quant_type"],
        gated=spec["w1"].shape[1] == 2 * inter,
        doweight_stage1=bool(spec.params["doweight_stage1"]),
    )
    return moe.lookup(asked, (padded_tokens(tokens),), same_activation=True)


def choice(spec: CallSpec) -> Choice:
    """Of Composable Kernel's stages for a call: the tuned row's, where it is of these."""
    row = tuned(spec)
    if row is not None and CK in str(row["kernelName1"]):
        return Choice(int(row["block_m"]), str(row["kernelName1"]), str(row["kernelName2"]))
    return Choice(BLOCKSCALE if spec.params["quant_type"] == "per_1x128" else _block(spec))


def _block(spec: CallSpec) -> int:
    """``get_block_size_M``: fewest rounds over the compute units, then fewest of them idle in the last."""
    units, (tokens, topk), (experts, _, inter) = arch.compute_units(spec.arch), spec["topk_ids"].shape, spec["w2"].shape
    tiles = -(-inter // COLUMNS)

    def cost(block: int) -> tuple[int, int]:
        groups = (tiles * (padded_tokens(tokens) * topk + experts * block - topk) + block - 1) // block
        return -(-groups // units), units - groups % units

    return min(BLOCKS, key=cost)


def entry(spec: CallSpec) -> Entry:
    """By what rule AITER's fused_moe takes these stages, and what it takes instead where it does not."""
    row = tuned(spec)
    if row is not None:
        name, whose = str(row["kernelName1"]), f"AITER's tuned row for {row['token']} tokens"
        if CK in name:
            return Entry(f"{whose}: {name}, then {row['kernelName2']}")
        stages = "one stage" if str(row.get("run_1stage")) == "1" else "a hand-written first stage"
        return Entry(whose, f"{whose} takes {stages}, {name}")
    rule = f"aiter.fused_moe without a tuned row: blocks of {choice(spec).block_m} rows"
    return Entry(rule, _elsewhere(spec), left_open="AITER has no tuned row for this mixture")


def _elsewhere(spec: CallSpec) -> str | None:
    kind, early = spec.params["quant_type"], spec.params["doweight_stage1"]
    if kind == "none" or (kind == "per_1x128" and early):
        return None
    one = "AITER takes its hand-written kernel of one stage"
    handwritten = (spec.params["activation"] == "silu" or kind == "per_token") and spec.results[0].dtype == "bfloat16" and not early
    if handwritten and kind == "per_1x128" and spec["w2"].shape[2] % 256 == 0:
        return f"{one} for block scales where I is a multiple of 256"
    if handwritten and kind == "per_token" and spec.arch == "gfx942" and padded_tokens(spec["topk_ids"].shape[0]) > 32:
        return f"{one} for more than 32 tokens"
    return "AITER takes its hand-written first stage, and these for the second"
