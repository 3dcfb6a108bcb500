"""What `implementation=None` prefers among the implementations that accept a call: measurements first, else a table of rules.

A call that was measured on this machine (`tuning`) goes by that alone. One that is like a call of the table that ships with the
package (`measured`) goes by it where one side is faster by more than two measurements of one program differ; else by its op's rule.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from jax_aiter.bind import measured, tuning
from jax_aiter.bind.tuning import MARGIN
from jax_aiter.core import symbolic
from jax_aiter.kernels.provider import Call


@dataclasses.dataclass(frozen=True)
class Preference:
    """Kernel implementations in the order to try them, and why the others that accept the call are passed over."""

    order: tuple[str, ...]
    passed_over: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Rule:
    kernels: bool
    why: str


# AITER's Triton kernels carry configurations for AMD's matrix units and 64-wide wavefronts; on an NVIDIA H200 (sm_90) they run so
# where no tile was searched (kernels/triton/tiles/defaults). Figures: medians of device time on one H200, jax 0.11.2, triton 3.6,
# bfloat16 unless said otherwise, measured with `jax-aiter tune` and benchmarks/h200. Attention over a paged cache and MoE win
# because XLA's lowering has to gather pages or sort and loop.
_UNTUNED = "AITER's Triton kernels are configured for AMD"
_BLOCKS = "one kernel, where XLA loops over blocks of keys: 9 to 88 times as fast at 4 x 2048 to 1 x 8192 tokens"
_GROUPED = "grouped GEMMs over the rows there are, where XLA computes every group for every row"
_KEPT = "fused_moe's plan; it is bound where that is taken and so is the backward's"
SM_90: Mapping[str, Rule] = {
    "fused_moe": Rule(True, "one plan of grouped GEMMs against a loop over blocks of sorted rows"),
    "fused_moe_keeping": Rule(True, _KEPT),
    "fused_moe_gate_up": Rule(True, _KEPT),
    "fused_moe_backward": Rule(True, _GROUPED),
    "grouped_gemm": Rule(True, _GROUPED),
    "transposed_grouped_gemm": Rule(True, _GROUPED),
    "paged_attention": Rule(True, "reads pages in place"),
    "unified_attention": Rule(True, "reads pages in place"),
    "mla_decode_fwd": Rule(True, "our own kernel: 32 sequences of 2048 keys, 128 heads in 0.06 ms, XLA 0.29 ms"),
    "flash_attention": Rule(True, _BLOCKS),
    "flash_attention_varlen": Rule(True, _BLOCKS),
    "flash_attention_bwd": Rule(True, _BLOCKS),
    "flash_attention_varlen_bwd": Rule(True, _BLOCKS),
    "gemm_a8w8_blockscale": Rule(True, "scales inside the product: 256x7168x2048 in 0.06 ms, XLA 0.26 ms"),
    "topk_softmax": Rule(True, "4096 tokens, top 8 of 256: 0.01 ms, XLA 0.10 ms"),
    "rms_norm_with_add": Rule(True, "4096x8192: 0.083 ms, XLA 0.112 ms"),
    "gelu_and_mul": Rule(True, "4096x28672: 0.138 ms, XLA 0.184 ms"),
    "per_token_quant": Rule(True, "4096x8192: 0.030 ms, XLA 0.067 ms"),
    "per_tensor_quant": Rule(True, "4096x8192: two kernels, 1.2 times as fast as XLA's"),
    "group_quant": Rule(True, "4096x8192: one kernel, 1.5 times as fast as XLA's"),
    "rope": Rule(False, "4096 tokens, 32 heads of 128: 0.040 ms, XLA's fusion 0.021 ms"),
    "rope_and_cache": Rule(True, "4096 tokens, 32 and 8 heads of 128: 0.089 ms, XLA 0.109 ms; few tokens in one launch"),
    "gemm_a8w8": Rule(False, f"{_UNTUNED}: fp8 4096x4096x4096 on an H200 reaches 505 TF/s, XLA 1083 TF/s"),
    "rms_norm": Rule(False, f"{_UNTUNED}: rms_norm 4096x8192 on an H200 takes 0.073 ms, XLA's fusion 0.043 ms"),
}
OTHERS = Rule(False, f"{_UNTUNED}, and on {{arch}} XLA's own fusions are taken unless a measurement says otherwise")


def _top_k(call: Call) -> Rule:
    rows, columns = call.operands["logits"].shape
    why = "a program for each row: 64 rows of 65,536 in 0.29 ms, XLA 0.94 ms; one of 131,072 in 0.57 ms, XLA 0.15 ms"
    return Rule(bool(symbolic.decided(lambda: rows >= 32 and columns >= 8192)), why)


def _delta(call: Call) -> Rule:
    tokens = call.operands["q"].shape[-3]
    why = "by chunks: a sequence of 8,192 tokens, 32 heads, in 4.8 ms, XLA 10.3 ms; 8 of 1,024 in 4.2 ms, XLA 3.8 ms"
    return Rule(bool(symbolic.decided(lambda: tokens >= 4096)), why)


#: rules that go by sizes; figures as above
SIZED: Mapping[str, Callable[[Call], Rule]] = {"top_k_per_row_prefill": _top_k, "chunk_gated_delta_rule": _delta}


def _sm_90(call: Call) -> Rule:
    if call.params.get("quant_type") == "per_1x32":
        return OTHERS
    return SIZED[call.op](call) if call.op in SIZED else SM_90.get(call.op, OTHERS)


def preference(call: Call, accepting: Iterable[str]) -> Preference:
    """How auto ranks the kernel implementations that accept a call (given best first)."""
    accepting = tuple(accepting)
    found = _measured(call, accepting) if accepting else None
    if found is not None:
        entry, why = found
        order = tuple(name for name in entry.faster if name in accepting)
        return Preference(order, dict.fromkeys(set(accepting) - set(order), why))
    if call.reference is not None and call.reference.fused and accepting:
        return Preference((), dict.fromkeys(accepting, f"auto rule: {call.reference.name} comes before what nothing has measured"))
    rule = _sm_90(call) if call.target.platform == "cuda" else Rule(True, "")
    if rule.kernels:
        return Preference(accepting, {})
    why = f"auto rule: {rule.why.format(arch=call.target.arch)}; `jax-aiter tune` measures, implementation= decides"
    return Preference((), dict.fromkeys(accepting, why))


def _measured(call: Call, names: Iterable[str]) -> tuple[tuning.Entry, str] | None:
    """The measurement that decides among kernels of these names and XLA's program, and what it says, for people to read.

    A shipped one decides where it tells each of them from XLA's program by more than a measurement is off.
    """
    entry = tuning.lookup(call)
    if entry is not None:
        return entry, f"tuned: {entry} (a kernel must be {MARGIN:.0%} faster than xla)"
    shipped = measured.nearest(call)
    if shipped is not None and set(names) <= {*shipped.entry.faster, *shipped.entry.slower}:
        return shipped.entry, str(shipped)
    return None


def details(call: Call, taken: str) -> tuple[str, ...]:
    """For `explain`: the measurement by which auto takes this kernel, () if a rule says so."""
    found = _measured(call, [taken])
    return () if found is None else (found[1],)
