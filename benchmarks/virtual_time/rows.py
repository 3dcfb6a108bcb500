"""The rows of AITER's tuned tables that name a hand-written or a Triton kernel, with the time that each one prints."""

from __future__ import annotations

import collections
import hashlib
import math
from dataclasses import dataclass
from typing import Any

from jax_aiter.kernels.tables.tuned import Row as Table
from jax_aiter.kernels.tables.tuned import tuned_rows

#: Compute units -> device.
DEVICES = {"gfx942": {304: "mi300x", 80: "mi308x"}, "gfx950": {256: "mi355x"}}
GEMM = {
    "gemm_a8w8_bpreshuffle": "*a8w8_bpreshuffle_tuned_gemm*.csv",
    "gemm_a8w8_blockscale_bpreshuffle": "*a8w8_blockscale_bpreshuffle_tuned_gemm*.csv",
    "gemm_a16w16": "*bf16_tuned_gemm*.csv",
    "gemm_a4w4_bpreshuffle": "*a4w4_blockscale_tuned_gemm*.csv",
}
MOE = "*tuned_fmoe*.csv"
MOE_SHAPE = (
    "token",
    "model_dim",
    "inter_dim",
    "expert",
    "topk",
    "act_type",
    "dtype",
    "q_dtype_w",
    "q_type",
    "use_g1u1",
    "doweight_stage1",
)


@dataclass(frozen=True)
class Row:
    """One published time.

    family: the op, "fused_moe" or "moe_stage1". shape: what identifies the call. kernel: the symbol; of Triton, which chooses its
    tile itself, the weight's shape. split: of K. m: rows or tokens. block_m: rows of a block of the sorted list, of a mixture of
    experts. implementation: whose kernel it is, "asm" or "triton".
    """

    family: str
    arch: str
    device: str
    shape: tuple[tuple[str, Any], ...]
    kernel: str
    split: int
    us: float
    m: int
    block_m: int = 0
    implementation: str = "asm"

    @property
    def key(self) -> str:
        return f"{self.family} {self.device} {' '.join(f'{n}={v}' for n, v in self.shape)}"

    @property
    def fitted(self) -> bool:
        """Constants may be fitted to rows whose key's sha256 is even; the others are only reported on."""
        return int(hashlib.sha256(self.key.encode()).hexdigest(), 16) % 2 == 0


def _device(row: Table) -> str | None:
    units = row.get("cu_num")
    return DEVICES.get(str(row.get("gfx")), {}).get(units) if isinstance(units, int) else None


def _time(text: Any) -> float:
    try:
        return float(text)
    except ValueError:
        return math.inf


def gemm_row(op: str, row: Table) -> Row | None:
    """A line of a table of products, if it names a kernel that can be estimated."""
    device, name = _device(row), str(row.get("kernelName"))
    triton = op == "gemm_a8w8_blockscale_bpreshuffle" or (op == "gemm_a16w16" and str(row["bpreshuffle"]) != "True")
    implementation = "triton" if triton and row.get("libtype") == "triton" else "asm"
    if implementation == "triton":
        name = f"{row['N']}x{row['K']}"
    other = op == "gemm_a8w8_bpreshuffle" and row.get("q_dtype_w") != "torch.int8"
    other |= op == "gemm_a16w16" and row.get("libtype") != implementation
    if device is None or other or (implementation == "asm" and not name.startswith("_ZN5aiter")):
        return None
    more = [(n, row[n]) for n in ("bias", "outdtype", "bpreshuffle") if op == "gemm_a16w16"]
    shape = tuple([(n, row[n]) for n in "MNK"] + more)
    return Row(op, str(row["gfx"]), device, shape, name, int(row["splitK"]), _time(row["us"]), int(row["M"]),
               implementation=implementation)  # fmt: skip


def moe_row(row: Table) -> Row | None:
    """A line of a table of mixtures of experts, if it names a hand-written kernel."""
    device, name = _device(row), str(row.get("kernelName1"))
    if device is None or not name.startswith("_ZN5aiter"):
        return None
    single = str(row.get("run_1stage")) == "1"
    shape = tuple((n, row.get(n, 0)) for n in MOE_SHAPE)
    us = _time(row["us1"] if "us1" in row and not single else row["us"])
    return Row("fused_moe" if single else "moe_stage1", str(row["gfx"]), device, shape, name, 0, us, int(row["token"]),
               int(row["block_m"]))  # fmt: skip


def published() -> list[Row]:
    """All of them with a finite time, each once, less those whose time is that of the same kernel at another M (copies)."""
    rows = [gemm_row(op, row) for op, pattern in GEMM.items() for row in tuned_rows(pattern)]
    rows += [moe_row(row) for row in tuned_rows(MOE)]
    rows = [row for row in dict.fromkeys(rows) if row is not None and math.isfinite(row.us) and row.us > 0]
    times = collections.Counter((row.family, row.device, row.kernel, row.us) for row in rows)
    return [row for row in rows if times[row.family, row.device, row.kernel, row.us] == 1]
