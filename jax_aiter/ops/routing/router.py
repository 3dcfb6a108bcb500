"""The record that the top-k routers share. They differ in how experts are chosen and in what weighs them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jax_aiter.bind.op import Op
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import Case
from jax_aiter.core.gradient import Gradient
from jax_aiter.ops.routing import selection


def router(
    name: str,
    *,
    mirrors: str,
    check: Callable[..., None],
    choose: Callable[..., jax.Array],
    weigh: Callable[..., selection.Weights],
    cases: Callable[[], list[Case]],
    operands: Mapping[str, Arg] | None = None,
    logits: str = "gating_output",
    decides: tuple[str, ...] = (),
) -> Op:
    """A record with results ``topk_weights`` and ``topk_ids``.

    check: ``(dims, **params)``: raises for what the axes do not say.
    choose: ``(*, **operands, **params) -> ids [T, k]``.
    weigh: ``(**params) -> (logits, ids) -> weights``: what is differentiated, since the choice of ids is locally constant.
    operands: the logits alone, if not given. No other one has a part in the weights: their true derivative is zero.
    logits: the name of the ``[T, E]`` operand that is weighed.
    decides: other operands that the choice depends on, and so which experts have a derivative.
    """
    operands = {logits: Arg("T E")} if operands is None else operands

    def params_of(arguments):
        return {n: x for n, x in arguments.items() if n not in operands}

    def abstract(dims, **arguments):
        check(dims, **params_of(arguments))
        return selection.struct(arguments[logits], arguments["topk"])

    def reference(**arguments):
        ids = choose(**arguments)
        return weigh(**params_of(arguments))(arguments[logits], ids), ids

    def backward(saved: Mapping[str, Any], cotangents: Mapping[str, Any], *, implementation: str | None, **params: Any):
        found = selection.pull_back(weigh(**params), saved[logits], saved["topk_ids"], cotangents["topk_weights"])
        return {**dict.fromkeys(operands), logits: found}

    return Op(
        name=name,
        family="MOE",
        mirrors=mirrors,
        operands=operands,
        results={"topk_weights": "T k", "topk_ids": "T k"},
        abstract=abstract,
        reference=reference,
        parallel=("T",),
        fold="T",
        gradient=Gradient(wrt=tuple(operands), saves=(logits, *decides, "topk_ids"), backward=backward),
        cases=cases,
    )
