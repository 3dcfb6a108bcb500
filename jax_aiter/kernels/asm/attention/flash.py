"""What the flash attention kernels share: which operands they take, masks, and the limits of their 32-bit arithmetic."""

from __future__ import annotations

import dataclasses

from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.registry import need
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.kernels.provider import Call

DTYPES = {"bfloat16": "bf16", "float16": "fp16"}
# AITER's default for how_v3_bf16_cvt: float32 probabilities are rounded to bfloat16 to nearest, ties away from zero.
ROUNDING = {"rtne": 0, "rtna": 1, "rtz": 2}
DEFAULT_ROUNDING = ROUNDING["rtna"]
# The tables' column `mask`. The kernels of 1 align the diagonal to the top left, as no op here does.
NO_MASK, TOP_LEFT, CAUSAL, WINDOW = 0, 1, 2, 3


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of one call. For packed sequences `queries` and `keys` are the totals, as AITER passes them."""

    packed: bool
    batch: int
    queries: int
    keys: int
    query_heads: int
    key_heads: int
    head: int
    value_head: int
    longest_q: int
    longest_k: int

    @property
    def group(self) -> int:
        return self.query_heads // self.key_heads


def shape_of(call: Call) -> Shape:
    q, k, v = (call.operands[name].shape for name in "qkv")
    packed = "cu_seqlens_q" in call.operands
    queries, keys = q[-3], k[-3]
    return Shape(
        packed,
        call.operands["cu_seqlens_q"].shape[0] - 1 if packed else q[0],
        queries,
        keys,
        q[-2],
        k[-2],
        q[-1],
        v[-1],
        min(call.params["max_seqlen_q"], queries) if packed else queries,
        min(call.params["max_seqlen_k"], keys) if packed else keys,
    )


def need_plain(call: Call, shape: Shape) -> None:
    """Refuses what none of these kernels knows, and sizes of nothing."""
    # The backward pass has its sinks in the log-sum-exp.
    for name in ("alibi_slopes", "bias", *(() if "lse" in call.operands else ("sinks",))):
        need(call.operands.get(name) is None, f"{name} is given; AITER's flash attention v3 kernels have no {name}")
    need(call.operands.get("dlse") is None, "dlse is given; AITER's backward kernels take no cotangent of the log-sum-exp")
    cap = call.params.get("logits_soft_cap", 0.0)
    need(cap == 0.0, f"logits_soft_cap = {cap}; AITER's flash attention v3 kernels have no soft cap: it must be 0")
    chunk = call.params.get("attention_chunk_size", 0)
    need(chunk == 0, f"attention_chunk_size = {chunk}; AITER's flash attention v3 kernels have no chunks: it must be 0")
    need(shape.batch > 0, "cu_seqlens_q has 1 element, so there is no sequence; there is nothing to launch")
    for name, size in (("q", shape.longest_q), ("k", shape.longest_k)):
        need(size > 0, f"max_seqlen_{name} = 0; there is nothing to launch")
    need(shape.batch < 65536, f"{shape.batch} sequences; the grid has room for 65535")


def window_of(call: Call, shape: Shape) -> tuple[int, int]:
    """The window with each side that cannot hide a key made -1, and 0 on the right of a causal call."""
    left, right = call.params["sliding_window"]
    if call.params["causal"]:
        right = 0
    # The last query stands at the last key; the first one queries - 1 before it.
    left = -1 if left >= shape.longest_k - 1 else left
    right = -1 if right >= shape.longest_q - 1 and (right > 0 or not shape.packed) else right
    return left, right


def need_strides(call: Call, *names: str) -> None:
    """AITER multiplies element strides by the item size as int32, and the kernels address one sequence with 32 bits."""
    for name in names:
        x = call.operands[name]
        tokens, heads, head = x.shape[-3:]
        size = tokens * heads * head * x.dtype.itemsize
        need(size < 2**31, f"one sequence of {name} {tuple(x.shape)} has {size} bytes; the kernels' strides are int32: below 2**31")


def need_below(limit: int, **nbytes: int) -> None:
    """Refuses buffers in which the kernels' 32-bit offsets between sequences would wrap."""
    for name, size in nbytes.items():
        need(size < limit, f"{name} has {size} bytes; the kernels' offsets are 32 bits: below 2**{limit.bit_length() - 1}")


def placed(row: Kernel, call: Call) -> Kernel:
    """The forward table's row with the code object of this device: gfx942 has one folder for MI300X/MI325X, one for MI308X.

    AITER asks for the PCI device; MI308X is the one with 80 compute units.
    """
    if row.arch != "gfx942":
        return row
    folder, _, file = row.path.rpartition("/")
    device = "MI308" if compute_units(call.target) == 80 else "MI300"
    return dataclasses.replace(row, path=f"{folder}/{device}/{file}")
