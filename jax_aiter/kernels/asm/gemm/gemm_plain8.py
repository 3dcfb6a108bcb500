"""The GEMMs of 8 and 4 bits with a weight in plain order: AITER has hand-written kernels for preshuffled weights only."""

from __future__ import annotations

from jax_aiter.kernels.asm.registry import Refusal, Selected, op
from jax_aiter.kernels.provider import Call


@op("gemm_a8w8", source="csrc/py_itfs_cu/asm_gemm_a8w8.cu", tables=())
@op("gemm_a4w4", source="csrc/py_itfs_cu/asm_gemm_a4w4.cu", tables=())
@op("gemm_a8w8_blockscale", source="csrc/py_itfs_cu/asm_a8w8_blockscale_bpreshuffle.cu", tables=())
def select(call: Call) -> Selected:
    weight = "wq" if "wq" in call.operands else "B"
    raise Refusal(f"{weight} is in plain order; AITER's hand-written kernels take a preshuffled weight: see {call.op}_bpreshuffle")
