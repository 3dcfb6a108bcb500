"""How far estimates are off, by kind of kernel: what the tables in jax_aiter/bind/estimates say of themselves.

`off` is the ratio between estimate and published time that nine of ten rows stay below, of rows that no constant was fitted to
(vgpu/docs/time.md). Where no time was published nothing says what it is: such a kernel is given the worst of those that are known
(2.16, a Triton kernel) and a seventh more.
"""

from __future__ import annotations

from typing import Any

#: by device: of hand-written products and mixtures
WRITTEN = {"mi300x": ("MI300X and MI308X", 1.16, 1.29), "mi355x": ("MI355X", 1.31, 1.63)}
PLAIN, BLOCKS = 1.62, 2.16  # Triton's products, of bfloat16 and with block scales, on an MI355X
FORMULA = 1.54  # M up to 512, the worse half
UNKNOWN = 2.5
#: by how much less than an entry's the ratio of a product near it is, in nine of ten of 48 (`order_near`, seeds 0 and 1)
NEAR = {"mi300x": 1.74, "mi355x": 2.06}


def errors(device: str) -> list[dict[str, Any]]:
    """The head of a device's table: of the first that names an op and an implementation, else the last."""
    where, product, mixture = WRITTEN[device]
    shuffled = "gemm_a8w8_blockscale_bpreshuffle"
    found = [
        _known("asm", ["gemm_a16w16", shuffled], product, "hand-written products", where),
        _known("asm", ["fused_moe"], mixture, "hand-written mixtures", where),
        _known("triton", ["gemm_a16w16"], PLAIN, "Triton's bfloat16 products", "MI355X"),
        _known("triton", [shuffled], BLOCKS, "Triton's products with block scales", "MI355X"),
    ]
    if device == "mi300x":
        found.append(_known("hip", ["gemm_a8w8_blockscale"], FORMULA, "Composable Kernel's by formula, M up to 512", "MI300X"))
    why = f"no published time tells; the worst that is known, {BLOCKS}, and a seventh more"
    return [*found, {"off": UNKNOWN, "known": False, "why": why}]


def near(device: str) -> dict[str, Any]:
    return {"off": NEAR[device], "why": "by so much less than an entry's is the ratio of nine of ten products near it"}


def _known(implementation: str, ops: list[str], off: float, what: str, where: str) -> dict[str, Any]:
    return {"implementation": implementation, "ops": ops, "off": off, "why": f"nine of ten {what} against published times, {where}"}
