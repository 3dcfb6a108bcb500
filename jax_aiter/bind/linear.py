"""A primitive for derivatives of ops: a linear map that is evaluated in forward mode and transposed by a rule in reverse mode.

`jax.custom_vjp` has no forward mode, and `jax.custom_jvp` leaves the reverse to JAX. Here one equation stands for the derivative
at some values; `jax.jvp` evaluates it, `jax.grad` transposes it, and so on through every transformation, since differentiating a
derivative makes another one.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad, mlir
from jax.interpreters import batching as jax_batching

from jax_aiter.bind import forms, lowering, sharding, switches
from jax_aiter.core import machine, symbolic

if TYPE_CHECKING:
    from jax.extend.core import Primitive


class Map:
    """A linear map of tangents at some residuals, and its transpose. Instances are hashable: they are parameters of equations."""

    def push(self, residuals: Sequence[jax.Array], tangents: Sequence[jax.Array]) -> Sequence[jax.Array]:
        raise NotImplementedError

    def pull(
        self, residuals: Sequence[jax.Array], cotangents: Sequence[jax.Array], unused: tuple[bool, ...]
    ) -> Sequence[jax.Array | None]:
        """unused: which cotangents are zeros because nothing depends on their results."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Vmapped(Map):
    """The map over a batch: at axis 0 of every cotangent and of the residuals and tangents that `batched` says have it."""

    of: Map
    residuals: tuple[bool, ...]
    tangents: tuple[bool, ...]
    size: int
    spmd_axis_name: Any

    def __repr__(self) -> str:  # the op's name: it stands in messages
        return repr(self.of)

    def _map(self, function: Callable[..., Any], *axes: Sequence[int | None]) -> Callable[..., Any]:
        in_axes = tuple(list(a) for a in axes)
        return jax.vmap(function, in_axes, axis_size=self.size, spmd_axis_name=self.spmd_axis_name)

    @staticmethod
    def _axes(batched: Sequence[bool]) -> list[int | None]:
        return [0 if b else None for b in batched]

    def push(self, residuals, tangents):
        return self._map(self.of.push, self._axes(self.residuals), self._axes(self.tangents))(list(residuals), list(tangents))

    def pull(self, residuals, cotangents, unused):
        pull = self._map(lambda saved, given: self.of.pull(saved, given, unused), self._axes(self.residuals), [0] * len(cotangents))
        found = pull(list(residuals), list(cotangents))
        return [g if g is None or b else jnp.sum(g, axis=0) for g, b in zip(found, self.tangents, strict=True)]


@dataclasses.dataclass(frozen=True)
class Again(Map):
    """The derivative of a map in its residuals and tangents together, those of them that `moving` marks."""

    of: Map
    split: int  # the first so many residuals of this map are those of `of`
    moving: tuple[bool, ...]

    def __repr__(self) -> str:
        return repr(self.of)

    def _function(self, residuals):
        def run(*moving: jax.Array):
            values = iter(moving)
            full = [next(values) if m else x for m, x in zip(self.moving, residuals, strict=True)]
            return list(self.of.push(full[: self.split], full[self.split :]))

        return run, [x for m, x in zip(self.moving, residuals, strict=True) if m]

    def push(self, residuals, tangents):
        run, primals = self._function(residuals)
        return jax.jvp(run, primals, list(tangents))[1]

    def pull(self, residuals, cotangents, unused):
        run, primals = self._function(residuals)
        return reversed_by_jax(repr(self.of), run, primals, cotangents)


def reversed_by_jax(name: str, run: Callable[..., Any], primals: Sequence[jax.Array], cotangents: Sequence[jax.Array]):
    """The pull-back of a function that JAX differentiates itself, or an error that says what to do instead."""
    if has_loop(jax.make_jaxpr(run)(*primals).jaxpr):
        raise TypeError(
            f"{name}: this derivative would reverse a loop that runs as often as the data says, which JAX cannot do. Supported are "
            "jax.grad once and, for second derivatives, forward over reverse: jax.jvp or jax.jacfwd of jax.grad, jax.hessian."
        )
    return list(jax.vjp(run, *primals)[1](list(cotangents)))


def has_loop(jaxpr: Any) -> bool:
    from jax.extend.core import ClosedJaxpr, Jaxpr  # see bind.primitive: costly to import

    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "while":
            return True
        for leaf in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: isinstance(x, (Jaxpr, ClosedJaxpr))):
            if isinstance(leaf, (Jaxpr, ClosedJaxpr)) and has_loop(leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf):
                return True
    return False


def no_tangent(x: jax.Array) -> ad.Zero:
    return ad.Zero(jax.typeof(x).to_tangent_aval())


def bind(of: Map, residuals: Sequence[jax.Array], tangents: Sequence[jax.Array], results: Sequence[Any]) -> list[jax.Array]:
    """Apply a map; `results` are the types of its results."""
    return _primitive().bind(*residuals, *tangents, of=of, split=len(residuals), results=tuple(results))


@functools.cache
def _primitive() -> "Primitive":
    from jax.extend.core import Primitive  # see bind.primitive: costly to import

    prim = Primitive("jax_aiter.derivative")
    prim.multiple_results = True
    prim.def_impl(_eager)
    prim.def_abstract_eval(lambda *avals, of, split, results: list(results))
    mlir.register_lowering(prim, functools.partial(_lower, "cpu"))
    for platform in machine.GPUS:
        mlir.register_lowering(prim, functools.partial(_lower, platform), platform=platform)
    ad.primitive_jvps[prim] = _jvp
    ad.primitive_transposes[prim] = _transpose
    jax_batching.fancy_primitive_batchers[prim] = _batch
    return prim


@functools.lru_cache(maxsize=4096)
def _jitted(params: tuple):
    return jax.jit(functools.partial(_primitive().bind, **dict(params)))


def _eager(*values, **params):
    return switches.run_compiled(f"the derivative of {params['of']!r}", _jitted(tuple(params.items())), values)


def _lower(platform: str, ctx, *values, of: Map, split: int, results):
    def push(*all):
        with machine.traced_for(platform in forms.PLATFORMS):
            return tuple(of.push(all[:split], all[split:]))

    return lowering.lower_plain(ctx, values, push)


def _jvp(values, tangents, *, of: Map, split: int, results):
    moving = tuple(type(t) is not ad.Zero and t.dtype != jax.dtypes.float0 for t in tangents)
    primals = _primitive().bind(*values, of=of, split=split, results=results)
    given = [t for t, m in zip(tangents, moving, strict=True) if m]
    if not given:
        return primals, [no_tangent(x) for x in primals]
    return primals, bind(Again(of, split, moving), values, given, results)


def _transpose(cotangents, *values, of: Map, split: int, results):
    residuals, linear = values[:split], values[split:]
    if any(map(ad.is_undefined_primal, residuals)) or not all(map(ad.is_undefined_primal, linear)):
        raise NotImplementedError(f"{of!r}: its derivative can only be transposed in the tangents of all operands together")
    types = [x.aval for x in linear]
    unused = tuple(type(ct) is ad.Zero for ct in cotangents)
    given = [ad.instantiate_zeros(ct) for ct in cotangents]
    # What a rule computes on the way is its own business, as what a compiled program does is; its gradients are checked.
    with switches.pinned(wide=symbolic.any_symbolic(*residuals, *given)), switches.unwatched():
        found = sharding.on_plain_types(
            lambda *all: _typed(of.pull(all[:split], all[split:], unused), types), (*residuals, *given), types
        )
    switches.check_results(f"the gradient of {of!r}", found)
    return [None] * split + found


def _typed(found: Sequence[jax.Array | None], types: Sequence[Any]) -> list[jax.Array]:
    """Gradients in shape, dtype and varying axes of the operands; shardings are the caller's to set."""
    out = []
    for g, aval in zip(found, types, strict=True):
        g = jnp.zeros(aval.shape, aval.dtype) if g is None else g
        if g.shape != aval.shape:
            raise AssertionError(f"a gradient has shape {g.shape}, must be {aval.shape}")
        missing = tuple(sorted(sharding.varying_axes(aval) - sharding.varying_axes(jax.typeof(g))))
        g = g.astype(aval.dtype)
        out.append(jax.lax.pcast(g, missing, to="varying") if missing else g)
    return out


def _batch(axis_data, values, dims, *, of: Map, split: int, results):
    if all(d is None for d in dims):
        return _primitive().bind(*values, of=of, split=split, results=results), [None] * len(results)
    batched = tuple(d is not None for d in dims)
    front = [x if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(values, dims, strict=True)]
    mapped = Vmapped(of, batched[:split], batched[split:], axis_data.size, axis_data.spmd_name)
    types = [sharding.with_batch(aval, axis_data) for aval in results]
    return bind(mapped, front[:split], front[split:], types), [0] * len(results)
