"""Derivatives of ops: a reverse rule as data, forward mode from the reference, both behind one linear primitive (`bind.linear`)."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from jax_aiter.bind import empty, linear
from jax_aiter.core.arch import target_arch
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.core.record import Record

if TYPE_CHECKING:
    from jax.extend.core import Primitive


@dataclasses.dataclass(frozen=True)
class Derivative(linear.Map):
    """The derivative of one call of an op in the operands `moving`, at the values of the operands and results `saved`."""

    op: Record
    present: tuple[tuple[str, tuple[int, ...], Any], ...]  # name, shape and dtype of each operand
    params: tuple[tuple[str, Any], ...]
    implementation: str | None
    saved: tuple[str, ...]
    moving: tuple[str, ...]
    results: tuple[str, ...]  # those with a derivative, which are the float ones

    def __repr__(self) -> str:
        return self.op.name

    def _function(self, residuals: Sequence[jax.Array]) -> tuple[Callable[..., list[jax.Array]], list[jax.Array]]:
        """The float results as a function of the operands that move, and those operands' values.

        Operands that are not saved stand in as zeros: the derivative does not depend on them.
        """
        rule = self.op.gradient
        assert rule is not None
        values: dict[str, Any] = dict(zip(self.saved, residuals, strict=True))
        values = {n: values[n] if n in values else jnp.zeros(shape, dtype) for n, shape, dtype in self.present}
        function = rule.forward or self.op.reference

        def run(*moving: jax.Array) -> list[jax.Array]:
            full = {**dict.fromkeys(self.op.operands), **values, **dict(zip(self.moving, moving, strict=True))}
            return [x for x in function(**full, **dict(self.params)) if is_differentiable(x.dtype)]

        return run, [values[n] for n in self.moving]

    def push(self, residuals, tangents):
        if self.implementation not in (None, "xla"):
            raise NotSupportedError(
                f"{self.op.name}: forward-mode derivatives (jax.jvp, jax.jacfwd, jax.hessian) are those of the reference, "
                f"implementation={self.implementation!r} has none. Use jax.grad or jax.vjp, or implementation='xla' or None."
            )
        run, primals = self._function(residuals)
        return jax.jvp(run, primals, list(tangents))[1]

    def pull(self, residuals, cotangents, unused):
        rule = self.op.gradient
        assert rule is not None
        if rule.backward is None:
            run, primals = self._function(residuals)
            return linear.reversed_by_jax(self.op.name, run, primals, cotangents)
        values = dict(zip(self.saved, residuals, strict=True))
        saved = {n: values.get(n) for n in rule.saves}
        given = {
            n: None if absent and n in rule.unused else ct for n, ct, absent in zip(self.results, cotangents, unused, strict=True)
        }
        found = rule.backward(saved, given, implementation=self.implementation, **dict(self.params))
        return [found.get(n) for n in self.moving]


def is_differentiable(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)


def jvp(op: Record, primitive: "Primitive", primals, tangents, *, names: tuple[str, ...], implementation, arch, kernel, **params):
    """The JVP rule of an op's primitive."""
    moves = {n: type(t) is not ad.Zero and is_differentiable(x.dtype) for n, x, t in zip(names, primals, tangents, strict=True)}
    perturbed = tuple(n for n, moved in moves.items() if moved)
    rule = op.gradient
    lacking = [n for n, x in zip(names, primals, strict=True) if moves[n] and not (rule and rule.has(n, x.dtype))]
    if lacking:
        raise TypeError(_no_gradient(op, lacking, {n: x.dtype for n, x in zip(names, primals, strict=True)}))
    options = {"names": names, "implementation": implementation, "arch": arch, "kernel": kernel}
    kept = _kept(op, perturbed, dict(zip(names, primals, strict=True)), params, arch, implementation=implementation, kernel=kernel)
    results = (primitive if kept is None else kept.primitive).bind(*primals, **options, **params)
    aside = {} if kept is None else dict(zip([*kept.results][len(op.results) :], results[len(op.results) :], strict=True))
    results = results[: len(op.results)]
    if rule is None or not perturbed or empty.all_empty(x for x in results if is_differentiable(x.dtype)):
        return results, [linear.no_tangent(x) for x in results]
    values, found = dict(zip(names, primals, strict=True)), dict(zip(op.results, results, strict=True))
    named = {**found, **values, **{f"result:{n}": r for n, r in found.items()}}  # an operand's name wins, `result:` says otherwise
    named |= {n: jax.lax.stop_gradient(x) for n, x in aside.items()}
    saved = tuple(n for n in rule.saves if n in named)
    floats = tuple(n for n, x in found.items() if is_differentiable(x.dtype))
    derivative = Derivative(
        op,
        tuple((n, tuple(x.shape), jnp.dtype(x.dtype)) for n, x in values.items()),
        tuple(sorted(params.items())),
        implementation,
        saved,
        perturbed,
        floats,
    )
    moving = [t for n, t in zip(names, tangents, strict=True) if moves[n]]
    pushed = linear.bind(derivative, [named[n] for n in saved], moving, [jax.typeof(found[n]) for n in floats])
    by_name = dict(zip(floats, pushed, strict=True))
    return results, [by_name[n] if n in by_name else linear.no_tangent(x) for n, x in found.items()]


def _kept(op: Record, perturbed: Sequence[str], values: Mapping[str, jax.Array], params, arch, **how) -> Any:
    """The op that is bound instead, so that the backward pass has more of its results; None to bind this one."""
    keeps = None if op.gradient is None or not perturbed else op.gradient.keeps
    if keeps is None:
        return None
    structs = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in values.items()}
    return keeps.op if keeps.when(arch or target_arch(), structs, params, **how) else None


def narrowing(op: Record, others: Sequence[Any]) -> Callable[[list[bool], Any], tuple[list[bool], Any]]:
    """JAX's rule for dead results of `op`: that one of `others`, of the same operands, runs instead which gives those in use."""

    def rule(used: list[bool], eqn: Any) -> tuple[list[bool], Any]:
        if not any(used):
            return [False] * len(eqn.invars), None
        wanted = [name for name, alive in zip(op.results, used, strict=True) if alive]
        fitting = next((other for other in others if list(other.results) == wanted), None)
        if fitting is not None:
            outvars = [v for v, alive in zip(eqn.outvars, used, strict=True) if alive]
            eqn = eqn.replace(primitive=fitting.primitive, outvars=outvars)
        return [True] * len(eqn.invars), eqn

    return rule


def _no_gradient(op: Record, lacking: Sequence[str], dtypes: Mapping[str, Any]) -> str:
    if op.gradient is None:
        return (
            f"{op.name} has no gradient (asked for: {', '.join(lacking)}). Wrap its operands in jax.lax.stop_gradient if none is "
            "wanted."
        )
    name = lacking[0]
    quantised = f" of dtype {jnp.dtype(dtypes[name]).name}, which is quantised" if name in op.gradient.wrt else ""
    return (
        f"{op.name} has no gradient with respect to {name}{quantised}; it has one for {', '.join(op.gradient.wrt)}"
        f"{' that are not' if quantised else ''}. Wrap {name} in jax.lax.stop_gradient if none is wanted."
    )
