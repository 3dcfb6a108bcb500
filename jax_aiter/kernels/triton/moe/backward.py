"""The gradient of fused_moe on AITER's grouped GEMMs: no loop over experts, no wait for the host."""

from __future__ import annotations

import functools

from jax_aiter.kernels.spec import EXACT_GROUPS, ArraySpec, CallSpec
from jax_aiter.kernels.triton.adapters import composed
from jax_aiter.kernels.triton.rules import HALF, dtype_in, first, param_is


def _refuse(spec: CallSpec) -> str | None:
    dtype = spec["w1"].dtype
    return first(
        param_is(spec, "quant_type", "none"),
        dtype_in(spec, "w1", HALF),
        None if spec["hidden_states"].dtype == dtype else f"hidden_states has another dtype than w1, {dtype}",
        param_is(spec, "hidden_pad", 0),
        param_is(spec, "intermediate_pad", 0),
    )


def _parts(spec: CallSpec) -> dict[str, CallSpec]:
    """The products of `jax_aiter.ops.moe.forms.grouped_backward.Products`, by their names, of sizes that are a routing's; the first
    one is there already where the forward pass kept it."""
    (experts, wide, model), (*_, inter), dtype = spec["w1"].shape, spec["w2"].shape, spec["w1"].dtype
    tokens, k = spec["topk_ids"].shape
    rows, sizes = tokens * k, ArraySpec((experts,), "int32")

    def part(op: str, left: int, right: tuple[int, ...], result: tuple[int, ...], **params: bool) -> CallSpec:
        operands = {"lhs": ArraySpec((rows, left), dtype), "rhs": ArraySpec(right, dtype), "group_sizes": sizes}
        said = {**params, "preferred_element_type": dtype, EXACT_GROUPS: True}
        return CallSpec(op, spec.arch, operands, said, (ArraySpec(result, dtype),))

    first_weight, second_weight = (experts, wide, model), (experts, model, inter)
    first = part("grouped_gemm", model, first_weight, (rows, wide), transpose_rhs=True)
    return {
        **({} if spec.has("gate_up") else {"u": first}),
        "q": part("grouped_gemm", model, second_weight, (rows, inter), transpose_rhs=False),
        "d_x": part("grouped_gemm", wide, first_weight, (rows, model), transpose_rhs=False),
        "d_w1": part("transposed_grouped_gemm", wide, (rows, model), first_weight),
        "d_w2": part("transposed_grouped_gemm", model, (rows, inter), second_weight),
    }


@composed("fused_moe_backward", refuse=_refuse, parts=_parts)
def fused_moe_backward(call, launch, operands):
    from jax_aiter.ops.moe import rules
    from jax_aiter.ops.moe.forms import grouped_backward

    given = {name: operands.get(name) for name in rules.OPERANDS}
    products = grouped_backward.Products(*(functools.partial(launch, name) for name in grouped_backward.Products._fields))
    return grouped_backward.backward(operands["d_out"], given, call.params, products, operands.get("gate_up"))
