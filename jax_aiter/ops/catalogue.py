"""Where an op stands, and what is public: found by file name, so that a new op is one new file and is listed nowhere else.

An op called `x` and its public function stand in ``jax_aiter/ops/<family>/x.py``. Families and files are looked up once; modules
are imported when something in them is asked for.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from jax_aiter.bind.op import OPS, Op
from jax_aiter.core import folders


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
