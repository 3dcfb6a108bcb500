"""The families that ops, kernels and tests are sorted by: one name, one folder in every tree."""

import importlib
import importlib.util
import pkgutil
from typing import Any

FAMILIES = tuple(
    "activation attention cache gemm indexer linear_attention mhc mla moe norm quant rope routing sampling".split()  # noqa: SIM905
)


def modules(package: str) -> tuple[str, ...]:
    """Every module of every family that `package` has a folder for, in the order of the modules' own names; none is imported."""
    found = []
    for family in FAMILIES:
        if importlib.util.find_spec(f"{package}.{family}") is not None:
            folder = importlib.import_module(f"{package}.{family}")
            found += [f"{folder.__name__}.{m.name}" for m in pkgutil.iter_modules(folder.__path__)]
    return tuple(sorted(found, key=lambda module: module.rpartition(".")[2]))


def declared(package: str, attribute: str = "adapters") -> dict[str, Any]:
    """What the functions in `modules` carry as their `attribute`, by the name of the op that each is for."""
    found: dict[str, Any] = {}
    for module in modules(package):
        for value in vars(importlib.import_module(module)).values():
            for adapter in getattr(value, attribute, ()):
                if found.setdefault(adapter.op, adapter) is not adapter:
                    raise RuntimeError(f"{package}: two {attribute} for op {adapter.op!r}")
    return found
