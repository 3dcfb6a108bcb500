"""Which ops there are, where they stand, what is public, and what can run them.

An op called `x` and its public function stand in ``jax_aiter/ops/<family>/x.py``, and are found by that name: a new op is one new
file, listed nowhere else. Modules are imported when something in them is asked for.
"""

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jax_aiter.bind import select
from jax_aiter.bind.op import OPS, Op
from jax_aiter.bind.public import as_operand
from jax_aiter.core import check, folders
from jax_aiter.core.config import config
from jax_aiter.core.record import Struct, Structs
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


@functools.cache
def kinds(op: Op) -> dict[str, frozenset[type]]:
    """The parameters of an op's record by name, and of which types their values are."""
    found: dict[str, set[type]] = {}
    for case in op.cases():
        for name, value in case.params.items():
            found.setdefault(name, set()).add(type(value))
    return {name: frozenset(types) for name, types in found.items()}


def completed(op: Op, params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` and the defaults of those that are left out: the record's, else the public function's.

    The latter where the record takes it as it is: None may stand for something that the function works out of the operands, and a
    name for a dtype, so it must be of a type that the record's own cases have.
    """
    found, public = dict(params), function(op.name)
    signature = {} if public is None else inspect.signature(public).parameters
    for name, types in kinds(op).items():
        if name in op.defaults:
            found.setdefault(name, op.defaults[name])
        elif name in signature and type(signature[name].default) in types:
            found.setdefault(name, signature[name].default)
    return found


def inferred(op: Op, operands: Mapping[str, Struct | None], params: Mapping[str, Any]) -> tuple[dict[str, Any], Structs]:
    """All parameters of a call and its results; TypeError for a parameter that is missing and has no default."""
    found = completed(op, params)
    try:
        return found, op.infer(operands, found)
    except KeyError as error:
        name = error.args[0] if error.args else None
        if name in found or name not in kinds(op):
            raise
        raise TypeError(f"{op.name}: parameter {name} is missing, and has no default") from None


def supports(op: str, arch: str, *avals: Any, **params: Any) -> dict[str, str | None]:
    """Per implementation, None if it can run the op on `arch` for operands of these shapes and dtypes, else the reason.

    `avals` are arrays or ShapeDtypeStructs in the op's operand order (None for an absent optional one); a GEMM's activations are
    the matrix that their leading axes make. `params` that are left out are as the op has them by default. A call that the op itself
    rejects raises the same TypeError or ValueError as the op.
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
        params, results = inferred(record, structs, params)
        platform = "cuda" if arch.startswith("sm_") else "rocm"
        call = select.make_call(record, platform, arch, structs, params, results)
        return {**select.refusals(call), "xla": None}


def _struct(name: str, aval: Any) -> jax.ShapeDtypeStruct | None:
    x = aval if isinstance(aval, jax.ShapeDtypeStruct) else as_operand("supports", name, aval, (type(None),))
    return None if x is None else jax.ShapeDtypeStruct(x.shape, x.dtype)
