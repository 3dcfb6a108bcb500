"""What would run, and why: nothing here executes or compiles anything."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jax_aiter.bind import equation, preference, select
from jax_aiter.bind.op import OPS, Op
from jax_aiter.core import check


@dataclasses.dataclass(frozen=True)
class Explanation:
    """One call of one op: its shapes, the implementation that would run, and the rule that refuses each other one."""

    op: str
    operands: dict[str, str]
    params: dict[str, Any]
    platform: str
    arch: str | None
    implementation: str
    refusals: dict[str, str]
    details: tuple[str, ...] = ()  # of a kernel: symbol, code object, grid, what chose it; of the reference: its form on a GPU

    def __str__(self) -> str:
        operands = ", ".join(f"{n}={s}" for n, s in self.operands.items())
        lines = [f"{self.op}({operands})  ->  {self.implementation}  [{self.platform}, {self.arch or 'no arch'}]"]
        lines += [f"    {line}" for line in self.details]
        lines += [f"    not {name}: {reason}" for name, reason in self.refusals.items()]
        return "\n".join(lines)


def _equations(jaxpr: Any) -> Iterator[Any]:
    from jax.extend.core import ClosedJaxpr, Jaxpr  # see bind.primitive: costly to import

    for eqn in jaxpr.eqns:
        yield eqn
        for leaf in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: isinstance(x, (Jaxpr, ClosedJaxpr))):
            if isinstance(leaf, (Jaxpr, ClosedJaxpr)):
                yield from _equations(leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf)


def explain(fn: Callable[..., Any], *args: Any, platform: str | None = None, **kwargs: Any) -> list[Explanation]:
    """Each jax_aiter op that ``fn(*args, **kwargs)`` would run, in order, with the choice made for it.

    `args` and `kwargs` may be arrays or `jax.ShapeDtypeStruct`. `platform` is ``"rocm"``, ``"cuda"`` or ``"cpu"``; by default that
    of this process. For another platform set ``config(arch=...)`` as well. Nothing is executed, compiled or built.

    Raises ValueError for a platform that is none of these, and what tracing `fn` raises.
    """
    if platform is None:
        platform = platform_name()
    else:
        check.choice("explain", "platform", platform, ("rocm", "cuda", "cpu"))
    jaxpr = jax.make_jaxpr(fn)(*args, **kwargs)
    named = {f"jax_aiter.{name}": op for name, op in OPS.items()}  # after the trace, which is what imports an op's module
    found = [(named.get(eqn.primitive.name), eqn) for eqn in _equations(jaxpr.jaxpr)]
    return [_explain_equation(op, eqn, platform) for op, eqn in found if op is not None]


def _explain_equation(op: Op, eqn, platform: str) -> Explanation:
    params = equation.static_params(eqn.params)
    operands = {n: jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for n, v in zip(eqn.params["names"], eqn.invars, strict=True)}
    results = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.outvars]
    call = select.make_call(op, platform, eqn.params["arch"], operands, params, results, eqn.params["kernel"])
    implementation, refused = select.preferred(call, eqn.params["implementation"])
    shapes = {n: f"{s.dtype.name}{list(s.shape)}" for n, s in operands.items()}
    details = select.details(call, implementation)
    if implementation == "xla" and call.reference is not None:
        details = (f"reference: {call.reference.name}",)
    elif implementation != "xla" and eqn.params["implementation"] is None:
        details = (*details, *(preference.details(call, implementation) or select.by_estimate(call, implementation)))
    return Explanation(op.name, shapes, params, platform, call.target.arch, implementation, refused, details)


def platform_name() -> str:
    """``"rocm"``, ``"cuda"`` or ``"cpu"``: the platform of this process's default backend under its lowering name."""
    backend = jax.default_backend()
    if backend != "gpu":
        return backend
    return "rocm" if "rocm" in jax.devices()[0].client.platform_version.lower() else "cuda"
