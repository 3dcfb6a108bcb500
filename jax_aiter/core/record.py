"""The declarative record of an op: what it takes, gives and means. `bind.op` makes an op of it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import axes, symbolic
from jax_aiter.core.arch import FP8, target_arch
from jax_aiter.core.cases import Case
from jax_aiter.core.config import FAMILIES
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.machine import Forms
from jax_aiter.core.reads import Reads

Struct = jax.ShapeDtypeStruct
Structs = tuple[Struct, ...]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Record:
    """What there is to know of one op.

    name, family, mirrors: its name, its family in the configuration, the AITER entry point whose contract it keeps.
    operands: array arguments in binding order, with axes and dtypes; absent optional ones are None everywhere.
    results: axes by result name, for sharding and docs.
    abstract: ``(dims, *, **operands, **params) -> structs``; operands arrive as ShapeDtypeStruct after the axes check. Runs all
        remaining validation and no numerics.
    reference: ``(*, **operands, **params) -> arrays``: readable jax.numpy; the lowering where no kernel runs.
    gpu: the form of the reference on a GPU (`core.machine`): the same results, without a loop whose end depends on data.
    relayout: axes of operands and results that depend on static parameters.
    defaults: parameters that a description of a call may leave out (`ops.catalogue`), where the public function's do not say it.
    fixed: axis names whose sizes decide how the call is computed, so that no `jax.export.symbolic_shape` can stand for them.
    parallel: axis names along which the work splits with no communication; they stay sharded.
    fold: the axis (or ``...``) into which `jax.vmap` folds its batch; operands without it stay unbatched.
    batch: an own batching rule, tried before `fold` (see `bind.batching`).
    gradient: how it is differentiated, None if not.
    infinite: results in which an infinity stands for something on good input, such as a query without keys.
    aliases: operand -> result that a kernel updates in place.
    reads: ``(**operands, **params) -> core.reads.Reads``, on concrete numpy operands: what each result depends on, where that is
        more than the axes say (lengths, tables, masks, ids).
    data_checks: ``(**operands, **params) -> {rule: bad mask}`` for what shapes cannot show; used under `debug_checks`.
    cases: named calls for tests, docs and benchmarks.
    """

    name: str
    family: str
    mirrors: str
    operands: Mapping[str, axes.Arg]
    results: Mapping[str, str]
    abstract: Callable[..., Structs]
    reference: Callable[..., tuple[jax.Array, ...]]
    cases: Callable[[], list[Case]]
    gpu: Forms | None = None
    relayout: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    parallel: tuple[str, ...] = ()
    fold: str | None = None
    batch: Callable[..., Any] | None = None
    gradient: Gradient | None = None
    infinite: tuple[str, ...] = ()
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    reads: Callable[..., Reads] | None = None
    data_checks: Callable[..., Mapping[str, jax.Array]] | None = None

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise ValueError(f"{self.name}: family must be one of {FAMILIES}, got {self.family!r}")

    def operand_args(self, params: Mapping[str, Any]) -> dict[str, axes.Arg]:
        changed = self.relayout(params) if self.relayout else {}
        return {n: dataclasses.replace(a, axes=changed.get(n, a.axes)) for n, a in self.operands.items()}

    def result_axes(self, params: Mapping[str, Any]) -> dict[str, str]:
        changed = self.relayout(params) if self.relayout else {}
        return {n: changed.get(n, a) for n, a in self.results.items()}

    def infer(self, operands: Mapping[str, Struct | None], params: Mapping[str, Any]) -> Structs:
        """Validate a call and return its result structs; no numerics, no device."""
        args = self.operand_args(params)
        dims = axes.match(self.name, args, operands)
        symbolic.refuse(self.name, self.fixed, {n: a.axes for n, a in args.items()}, operands)
        _check_fp8_family(self.name, operands, params)
        full = {name: operands.get(name) for name in self.operands}
        with symbolic.named(self.name, {n: a.axes for n, a in args.items()}, operands):
            return tuple(self.abstract(dims, **full, **params))


def _check_fp8_family(op: str, operands: Mapping[str, Struct | None], params: Mapping[str, Any]) -> None:
    """One call computes in one fp8 family, and it is the target's where a target is known."""
    found = {n: jnp.dtype(x.dtype) for n, x in operands.items() if x is not None}
    found |= {n: jnp.dtype(v) for n, v in params.items() if isinstance(v, np.dtype)}
    found = {n: d for n, d in found.items() if d in FP8.values()}
    if op == "convert_fp8" or not found:
        return
    (first, dtype), *rest = found.items()
    for name, other in rest:
        if other != dtype:
            raise TypeError(f"{op}: {name} is {other.name} but {first} is {dtype.name}; convert one with convert_fp8")
    arch = target_arch()
    if arch in FP8 and dtype != FP8[arch]:
        raise TypeError(f"{op}: {first} is {dtype.name}, but {arch} computes in {FP8[arch].name}; convert it with convert_fp8")
