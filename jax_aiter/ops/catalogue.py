"""Which ops there are, where they stand, what is public, and what can run them.

An op called `x` and its public function stand in ``jax_aiter/ops/<family>/x.py``, and are found by that name: a new op is one new
file, listed nowhere else. Modules are imported when something in them is asked for.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax

from jax_aiter.bind import select
from jax_aiter.bind.op import OPS, Op
from jax_aiter.bind.public import as_operand
from jax_aiter.core import check, folders
from jax_aiter.core.config import config
from jax_aiter.core.settings import ARCHS
from jax_aiter.core.text import shown


@functools.cache
def modules() -> tuple[str, ...]:
    """Every module of every family, in the order of their own names."""
    return folders.modules("jax_aiter.ops")


def _name(module: str) -> str:
    return module.rpartition(".")[2]


def all_ops() -> dict[str, Op]:
    """Every op by name. Ops define themselves when their module is imported; this imports all of them."""
    for module in modules():
        importlib.import_module(module)
    return OPS


def named(name: str) -> Op:
    """The op called `name`, of which only the own module need be imported. KeyError if there is none."""
    for module in modules() if name not in OPS else ():
        if _name(module) == name:
            importlib.import_module(module)
    return OPS.get(name) or all_ops()[name]


def function(name: str) -> Callable[..., Any] | None:
    """The public function called `name`: the one that its module is named after. None if there is none."""
    for module in modules():
        if _name(module) == name:
            found = vars(importlib.import_module(module)).get(name)
            if getattr(found, "is_public", False):
                return found
    return None


def functions() -> list[str]:
    """The names of all public functions of ops; imports every module."""
    return [name for name in dict.fromkeys(map(_name, modules())) if function(name) is not None]


def supports(op: str, arch: str, *avals: Any, **params: Any) -> dict[str, str | None]:
    """Per implementation, None if it can run the op on `arch` for operands of these shapes and dtypes, else the reason.

    `avals` are arrays or ShapeDtypeStructs in the op's operand order (None for an absent optional one); a GEMM's activations are
    the matrix that their leading axes make. A call that the op itself rejects raises the same TypeError or ValueError as the op.
    ``"xla"`` is always None: the reference runs everywhere.
    """
    ops = all_ops()
    if not isinstance(op, str) or op not in ops:
        raise ValueError(f"supports: no op is called {shown(op)}; the ops are {sorted(ops)}")
    check.choice("supports", "arch", arch, ARCHS)
    record = ops[op]
    if len(avals) > len(record.operands):
        raise TypeError(f"{op} takes at most {len(record.operands)} operands {list(record.operands)}, got {len(avals)}")
    given = {n: _struct(n, a) for n, a in zip(record.operands, avals, strict=False)}
    structs = {n: a for n, a in given.items() if a is not None}
    with config(arch=arch):
        results = record.infer(structs, params)
        platform = "cuda" if arch.startswith("sm_") else "rocm"
        call = select.make_call(record, platform, arch, structs, params, results)
        return {**select.refusals(call), "xla": None}


def _struct(name: str, aval: Any) -> jax.ShapeDtypeStruct | None:
    x = aval if isinstance(aval, jax.ShapeDtypeStruct) else as_operand("supports", name, aval, (type(None),))
    return None if x is None else jax.ShapeDtypeStruct(x.shape, x.dtype)
