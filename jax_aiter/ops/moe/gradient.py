"""What a differentiated fused_moe is made of: a forward that keeps its first product, that product alone, and the backward.

The first product is a third of a layer's forward arithmetic. A kernel of the backward that has it does four products instead of
five; the reference's backward computes its own, block by block, and keeps nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind import select
from jax_aiter.bind.op import Op
from jax_aiter.core.axes import FLOATING, Arg
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.machine import Form, always
from jax_aiter.core.settings import ARCHS
from jax_aiter.ops.moe import cases, reads, rules
from jax_aiter.ops.moe.forms import aligned, backward, dense, forward, groups
from jax_aiter.ops.moe.forms.expert import FLOAT_ROWS, rounds_rows
from jax_aiter.ops.moe.grouped import GROUPED_GEMM

DIFFERENTIABLE = ("hidden_states", "w1", "w2", "topk_weight", "bias1", "bias2")
GATE_UP = "T k N1"


def split(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Operands of fused_moe, and its parameters."""
    operands = {n: arguments[n] for n in rules.OPERANDS}
    return operands, {n: v for n, v in arguments.items() if n not in operands}


def form(arch, operands, params) -> Form:
    return Form(dense.NAME if dense.suits(operands, params) else aligned.NAME)


def smooth(reference):
    """What forward mode differentiates: not the rounding of quantised activations, which the gradient passes straight through."""

    def function(**arguments):
        if rounds_rows(arguments):
            rows = arguments["q_dtype_a"]
            raise NotSupportedError(
                f"fused_moe: forward mode and second derivatives need quant_type {' or '.join(map(repr, FLOAT_ROWS))} and no "
                f"q_dtype_a, got {arguments['quant_type']!r}{'' if rows is None else f' and {rows.name}'}: they are those of the "
                "reference, which rounds activations. jax.grad or jax.vjp, once, passes straight through the rounding."
            )
        return reference(**arguments)

    return function


def pull(saved, cotangents, *, implementation, **params):
    operands = {n: saved.get(n) for n in rules.OPERANDS}
    # AITER has kernels for the forward only: asking for one there says nothing of the gradient, which is an op of its own.
    implementation = "xla" if implementation == "xla" else None
    kept = saved.get("gate_up")
    # The backward's derivative takes it for a constant: its reference computes its own from the operands.
    given = {"d_out": cotangents["out"], **operands, "gate_up": None if kept is None else jax.lax.stop_gradient(kept)}
    named = dict(zip(FUSED_MOE_BACKWARD.results, FUSED_MOE_BACKWARD(**given, **params, implementation=implementation), strict=True))
    wanted = [n for n in DIFFERENTIABLE if operands[n] is not None and operands[n].dtype.name in FLOATING]
    return {n: named[f"d_{n}"] for n in wanted}


def keeps(op: Op, arch: str | None, operands: Mapping[str, Any], params: Mapping[str, Any], *, implementation, kernel) -> bool:
    """Whether a call of fused_moe (`op`) keeps its first product: where kernels run it and its backward alike."""
    if arch not in ARCHS or kernel is not None or implementation not in (None, "triton") or refusal(params) is not None:
        return False
    platform = "cuda" if arch.startswith("sm_") else "rocm"
    (out,) = op.infer(operands, params)
    _, kept = FUSED_MOE_KEEPING.infer(operands, params)
    backward_operands = {"d_out": out, "gate_up": kept, **operands}

    def runs(op: Op, operands: Mapping[str, Any], how: str | None) -> bool:
        call = select.make_call(op, platform, arch, operands, params, op.infer(operands, params))
        return select.refusals(call)["triton"] is None and select.preferred(call, how)[0] == "triton"

    forwards = (op, FUSED_MOE_KEEPING)
    return all(runs(each, operands, implementation) for each in forwards) and runs(FUSED_MOE_BACKWARD, backward_operands, None)


def refusal(params: Mapping[str, Any]) -> str | None:
    """Why a call has no first product that a backward could use; None if it has."""
    if params["quant_type"] != "none":
        return f"quant_type is {params['quant_type']!r}, whose first product is one of rounded rows; it must be 'none'"
    for name in ("doweight_stage1", "hidden_pad", "intermediate_pad", "weight_layout"):
        if params[name]:
            return f"{name} is {params[name]!r}; the first product is kept as it is, of plain weights without padding"
    return None


def _kept(dims, operands, params) -> jax.ShapeDtypeStruct:
    rules.validate(operands, params)
    if (why := refusal(params)) is not None:
        raise ValueError(f"{rules.OP}: {why}")
    return jax.ShapeDtypeStruct((dims["T"], dims["k"], dims["N1"]), operands["hidden_states"].dtype)


def _abstract_keeping(dims, **arguments):
    operands, params = split(arguments)
    kept = _kept(dims, operands, params)
    return jax.ShapeDtypeStruct((dims["T"], dims["D"]), params["output_dtype"]), kept


def _gate_up(operands: Mapping[str, Any], product: Callable[..., Sequence[jax.Array]]) -> jax.Array:
    """``w1[e] @ x[t]`` of every slot, zeros where no expert here takes it."""
    x, w1, (tokens, k) = operands["hidden_states"], operands["w1"], operands["topk_ids"].shape
    routed = forward.routing(operands)
    (rows,) = product(
        lhs=x[routed.order // k],
        rhs=w1,
        group_sizes=routed.counts,
        bias=None,
        transpose_rhs=True,
        preferred_element_type=x.dtype,
    )
    return groups.by_entry(routed, rows).reshape(tokens, k, w1.shape[1])


def _reads(of: Callable[..., Any], arguments: Mapping[str, Any]):
    known = {*rules.OPERANDS, "gate_up"}  # d_out is read as hidden_states are
    operands = {n: x for n, x in arguments.items() if n in known}
    return of(params={n: v for n, v in arguments.items() if n not in known}, **operands)


def _reference_keeping(**arguments):
    operands, params = split(arguments)
    return forward.forward(operands, params), _gate_up(operands, GROUPED_GEMM.reference)


def _pull_gate_up(saved, cotangents, *, implementation, **params) -> Mapping[str, Any]:
    operands = {n: saved.get(n) for n in rules.OPERANDS}
    moving = ("hidden_states", "w1")

    def function(*values):
        given = {**operands, **dict(zip(moving, values, strict=True))}
        return _gate_up(given, lambda **call: GROUPED_GEMM(**call, implementation=implementation))

    found = jax.vjp(function, *(operands[n] for n in moving))[1](cotangents["gate_up"])
    return dict(zip(moving, found, strict=True))


def _pull_keeping(saved, cotangents, **options):
    """The backward of the output, plus that of the first product where something depends on it."""
    found = pull(saved, cotangents, **options)
    if cotangents["gate_up"] is None:
        return found
    more = _pull_gate_up(saved, cotangents, **options)
    return found | {n: found[n].astype(jnp.float32) + x.astype(jnp.float32) for n, x in more.items()}


FUSED_MOE_KEEPING = Op(
    name="fused_moe_keeping",
    family="MOE",
    mirrors="aiter.fused_moe.fused_moe, with what stands between its two products",
    operands=rules.OPERANDS,
    results={"out": "T D", "gate_up": GATE_UP},
    abstract=_abstract_keeping,
    reference=_reference_keeping,
    gpu=form,
    relayout=rules.relayout,
    batch=rules.batch,
    reads=lambda **arguments: _reads(reads.keeping, arguments),
    gradient=Gradient(
        wrt=DIFFERENTIABLE,
        saves=(*rules.OPERANDS, "gate_up"),
        backward=_pull_keeping,
        forward=smooth(_reference_keeping),
        unused=("gate_up",),
    ),
    data_checks=rules.data_checks,
    defaults=cases.DEFAULTS,
    cases=cases.keeping,
)

FUSED_MOE_GATE_UP = Op(
    name="fused_moe_gate_up",
    family="MOE",
    mirrors="aiter.fused_moe.fused_moe, its first product",
    operands=rules.OPERANDS,
    results={"gate_up": GATE_UP},
    abstract=lambda dims, **arguments: (_kept(dims, *split(arguments)),),
    reference=lambda **arguments: (_gate_up(split(arguments)[0], GROUPED_GEMM.reference),),
    gpu=always(aligned.NAME),
    relayout=rules.relayout,
    batch=rules.batch,
    reads=lambda **arguments: _reads(reads.gate_up, arguments),
    gradient=Gradient(wrt=("hidden_states", "w1"), saves=tuple(rules.OPERANDS), backward=_pull_gate_up),
    data_checks=rules.data_checks,
    defaults=cases.DEFAULTS,
    cases=cases.keeping,
)


def _backward_abstract(dims, d_out, gate_up=None, **arguments):
    operands, params = split(arguments)
    rules.validate(operands, params)
    if gate_up is not None and ((why := refusal(params)) is not None or gate_up.dtype != operands["hidden_states"].dtype):
        raise ValueError(
            f"fused_moe_backward: gate_up is given, of dtype {gate_up.dtype.name}: {why or 'not that of hidden_states'}"
        )
    return backward.abstract(operands, params)


def _backward_reference(d_out, gate_up=None, **arguments):
    return backward.backward(d_out, *split(arguments))


FUSED_MOE_BACKWARD = Op(
    name="fused_moe_backward",
    family="MOE",
    mirrors="none: the gradient of fused_moe, which AITER does not have",
    operands={"d_out": Arg("T D"), **rules.OPERANDS, "gate_up": Arg(GATE_UP, FLOATING, optional=True)},
    results=backward.RESULTS,
    abstract=_backward_abstract,
    reference=_backward_reference,
    gpu=always(aligned.NAME),
    reads=lambda **arguments: _reads(reads.backward, arguments),
    data_checks=rules.data_checks,
    relayout=rules.relayout,
    gradient=Gradient(
        wrt=("d_out", *DIFFERENTIABLE),
        saves=("d_out", *rules.OPERANDS),
        backward=None,
        forward=smooth(_backward_reference),
    ),
    defaults=cases.DEFAULTS,
    cases=cases.backward,
)
