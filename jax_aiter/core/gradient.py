"""Reverse-mode rules of ops: `jax.custom_vjp` around the primitive, with the rule as data."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

if TYPE_CHECKING:
    from jax_aiter.core.op import Op


@dataclasses.dataclass(frozen=True)
class Gradient:
    """How to pull cotangents back through an op.

    wrt: operands that have a gradient. A float operand that is not listed raises when something asks for its gradient: a silent
        zero would train the wrong model.
    saves: operands and results that `backward` needs, by name.
    backward: ``(saved, cotangents, *, implementation, **params) -> {operand: cotangent}``; `saved` and `cotangents` are dicts
        (absent optional operands are None, unused results have zero cotangents). The caller casts to the operand's dtype.
    """

    wrt: tuple[str, ...]
    saves: tuple[str, ...]
    backward: Callable[..., Mapping[str, jax.Array | None]]


def _materialise(cotangent: Any) -> jax.Array:
    if isinstance(cotangent, SymbolicZero):
        aval: Any = cotangent.aval
        return jnp.zeros(aval.shape, aval.dtype)
    return cotangent


@functools.lru_cache(maxsize=4096)
def differentiable(op: "Op", operands: tuple, params: tuple, bound: tuple) -> Callable[..., tuple[jax.Array, ...]]:
    """The op as a differentiable function of its present operands, in order."""
    rule = op.gradient
    assert rule is not None
    names = tuple(name for name, _ in operands)
    structs = dict(operands)
    static: dict[str, Any] = dict(params)
    options: dict[str, Any] = dict(bound)

    def bind(*values):
        return tuple(op.primitive.bind(*values, names=names, **static, **options))

    call = jax.custom_vjp(bind)

    def forward(*primals):
        for name, primal in zip(names, primals, strict=True):
            if primal.perturbed and name not in rule.wrt and jnp.issubdtype(structs[name].dtype, jnp.floating):
                raise TypeError(
                    f"{op.name} has no gradient with respect to {name}; it has one for {', '.join(rule.wrt)}. "
                    f"Wrap {name} in jax.lax.stop_gradient if none is wanted."
                )
        values = [primal.value for primal in primals]
        results = bind(*values)
        named = {**dict.fromkeys(op.operands), **dict(zip(names, values, strict=True))}
        named |= {f"result:{n}": r for n, r in zip(op.results, results, strict=True)}
        return results, {n: named[n] if n in named else named[f"result:{n}"] for n in rule.saves}

    def backward(saved, cotangents):
        given = {name: _materialise(ct) for name, ct in zip(op.results, cotangents, strict=True)}
        gradients = rule.backward(saved, given, implementation=options["implementation"], **static)
        out = []
        for name in names:
            g = gradients.get(name) if name in rule.wrt else None
            if g is not None and g.shape != structs[name].shape:
                raise AssertionError(f"{op.name}: gradient of {name} has shape {g.shape}, must be {structs[name].shape}")
            out.append(None if g is None else g.astype(structs[name].dtype))
        return tuple(out)

    call.defvjp(forward, backward, symbolic_zeros=True)
    return call
