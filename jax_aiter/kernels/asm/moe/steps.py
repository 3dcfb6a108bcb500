"""What runs before a kernel of one stage as AITER's own HIP kernels, where they can be built or their plan is cached.

One launch sorts the routing and clears the output, one quantises the hidden states: less than XLA's launches in every call
(docs/asm-moe-steps.md). Where they cannot be had, XLA's kernels do the same, and `explain` says why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from jax_aiter.kernels.asm import recorded
from jax_aiter.kernels.asm.moe.launch import Before, OneStage, global_experts
from jax_aiter.kernels.hip.moe import before
from jax_aiter.kernels.hip.moe.moe_sorting import unsorted
from jax_aiter.kernels.provider import Call
from jax_aiter.kernels.spec import ArraySpec, CallSpec

XLAS = "quantised and sorted by XLA's kernels"


@dataclasses.dataclass(frozen=True)
class Recorded(recorded.Recorded):
    """Of a call. experts: over which its ids count."""

    experts: int

    @classmethod
    def of(cls, call: Call, stage: OneStage, quant_type: str | None = None) -> Recorded:
        """quant_type: by which hidden states are quantised, as the kernel reads them; None where something else does that."""
        experts = global_experts(call)
        spec = _unrecorded(call, stage, experts) or _spec(call, stage, experts, quant_type)
        alone = isinstance(spec, str) or spec.params["quant_type"] == "none"
        done = f"{'sorted' if alone else 'quantised and sorted'} by AITER's HIP kernels, which clear the output too"
        return cls(spec, done, XLAS, experts)

    def before(self) -> Before | None:
        """The plan, from the cache or made now; None where XLA's kernels are taken."""
        plan = self.plan()
        if plan is None:
            return None
        assert isinstance(self.spec, CallSpec)
        results = before.LISTED + (() if self.spec.params["quant_type"] == "none" else before.QUANTISED)
        return Before(plan, tuple(self.spec.operands), results)

    def arrays(self, operands: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """What the plan takes, of the op's operands."""
        assert isinstance(self.spec, CallSpec)
        given = {**operands, **before.routing(operands, self.experts)}
        return {name: given[name] for name in self.spec.operands}

    def structs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes of `arrays`, in its order."""
        assert isinstance(self.spec, CallSpec)
        return {name: jax.ShapeDtypeStruct(x.shape, np.dtype(x.dtype)) for name, x in self.spec.operands.items()}


def _unrecorded(call: Call, stage: OneStage, experts: int) -> str | None:
    tokens, topk = call.operands["topk_ids"].shape
    if stage.flat:
        return "the kernel takes the routing unsorted"
    if call.params["doweight_stage1"] and topk > 1:
        return "weights go before the activation, and AITER's sorting gives an id that stands twice one entry"
    return unsorted(experts, tokens)


def _spec(call: Call, stage: OneStage, experts: int, quant_type: str | None) -> CallSpec | str:
    x, out, weights = call.operands["hidden_states"], call.results[0], call.operands["w1"].dtype.name
    hidden, topk = ArraySpec(x.shape, x.dtype.name), call.operands["topk_ids"].shape[1]
    quantised = None if hidden.dtype == weights else quant_type
    rule = None if quantised is None else before.unquantised(hidden, quantised)
    if rule is not None:
        return rule
    assert call.target.arch is not None
    described = ArraySpec(out.shape, out.dtype.name)
    return before.spec(call.target.arch, hidden, described, topk, experts, stage.block, quantised, weights)
