"""An op: a record that JAX knows, as a primitive that can be called.

Adding an op is adding one file that makes one `Op`: everything else (primitive, lowerings, gradient, batching, sharding, docs
table, transform suite, benchmarks) follows from its record.
"""

import functools
import sys
from collections.abc import Mapping
from typing import Any

import jax

from jax_aiter.bind import data, primitive, sharding, switches
from jax_aiter.bind.public import as_operand
from jax_aiter.core import check, symbolic
from jax_aiter.core.config import IMPLEMENTATIONS, config
from jax_aiter.core.record import Record, Struct
from jax_aiter.core.text import shown


class Op(Record):
    """One op. Called with its operands and parameters by name, it gives its results as a tuple.

    A second op of a name is refused, unless it comes from the same module: modules may be reloaded.
    """

    def __post_init__(self):
        super().__post_init__()
        module = _defining_module()
        if _MODULES.setdefault(self.name, module) != module:
            raise ValueError(f"{module}: an op called {self.name} is defined already, in {_MODULES[self.name]}")
        OPS[self.name] = self  # again, where the module is reloaded

    @functools.cached_property
    def primitive(self):
        return primitive.make(self)

    def __call__(self, *, implementation: str | None = None, kernel: str | None = None, **arguments: Any) -> tuple[jax.Array, ...]:
        operands = {n: as_operand(self.name, n, arguments.pop(n, None), (type(None),)) for n in self.operands}
        present = {n: x for n, x in operands.items() if x is not None}
        structs = {n: Struct(x.shape, x.dtype) for n, x in present.items()}
        self.infer(structs, arguments)
        chosen = resolve_implementation(self, implementation, kernel)
        bound = {"implementation": chosen, "arch": config.arch, "kernel": kernel}
        if config.debug_checks and self.data_checks:
            _insert_checks(self, present, arguments)
        values = sharding.same_varying_axes(list(present.values()))
        return tuple(self.primitive.bind(*values, names=tuple(present), **arguments, **bound))


OPS: dict[str, Op] = {}
_MODULES: dict[str, str] = {}  # by op, the module that defines it


def _insert_checks(op: Record, present: Mapping[str, jax.Array], params: Mapping[str, Any]) -> None:
    def checks(*values: jax.Array) -> list[jax.Array]:
        assert op.data_checks is not None
        operands = {**dict.fromkeys(op.operands), **dict(zip(present, values, strict=True))}
        data.insert_checks(op.name, op.data_checks(**operands, **params))
        return []

    with switches.pinned(wide=symbolic.any_symbolic(*present.values())):
        sharding.on_plain_types(checks, list(present.values()), [])


def _defining_module() -> str:
    """The op's file: the innermost module that is being imported, or the innermost caller outside of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        ours = module.startswith("jax_aiter.") and frame.f_code.co_name != "<module>"  # a function that makes records for others
        if not ours and module != "dataclasses":
            return module
        frame = frame.f_back
    return "__main__"


def resolve_implementation(op: Record, implementation: str | None, kernel: str | None = None) -> str | None:
    """What the caller asked for, else what the configuration says; None stays None, which means auto.

    `kernel` names one of AITER's hand-written kernels, so it asks for ``"asm"``.
    """
    if kernel is not None:
        if not isinstance(kernel, str) or implementation not in (None, "asm"):
            rule = "a kernel name goes with implementation='asm' or none"
            raise ValueError(f"{op.name}: kernel={shown(kernel)} with implementation={shown(implementation)}: {rule}")
        return "asm"
    if implementation is not None:
        check.choice(op.name, "implementation", implementation, IMPLEMENTATIONS)
        return implementation
    if not config.enabled or op.family in config.disabled_families:
        return "xla"
    return config.implementation
