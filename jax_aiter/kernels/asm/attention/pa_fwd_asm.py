"""pa_fwd_asm: AITER's entry point for its hand-written paged attention kernels."""

from __future__ import annotations

from jax_aiter.kernels.asm.attention import pa
from jax_aiter.kernels.asm.registry import Selected, op
from jax_aiter.kernels.provider import Call


@op("pa_fwd_asm", source=pa.SOURCE, tables=(pa.TABLE,))
def select(call: Call) -> Selected:
    return pa.select(call, call.params["max_qlen"], call.params["high_precision"])
