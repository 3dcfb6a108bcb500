"""What a kernel provider is, and the list of those there are.

A provider answers two questions about one call: can you run it (`refuse`), and how (`plan`). The first must be cheap and import
neither torch nor triton, since `explain`, `supports` and every trace ask it.
"""

import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any, Protocol

import jax


@dataclasses.dataclass(frozen=True)
class Target:
    platform: str  # "rocm", "cuda" or "cpu"
    arch: str | None  # "gfx942", "gfx950", "sm_90"; None where nothing tells


@dataclasses.dataclass(frozen=True)
class Call:
    """One bound op: operands that are present, by name; static parameters; results."""

    op: str
    target: Target
    operands: Mapping[str, jax.ShapeDtypeStruct]
    params: Mapping[str, Any]
    results: tuple[jax.ShapeDtypeStruct, ...]


class Provider(Protocol):
    name: str

    def refuse(self, call: Call) -> str | None:
        """None if it can run the call, else the rule that forbids it."""
        ...

    def plan(self, call: Call) -> Any:
        """The LaunchPlan. May take seconds the first time; raises KernelBuildError with a remedy."""
        ...


@functools.cache
def providers() -> tuple[Provider, ...]:
    """The installed providers, best first."""
    found = []
    for name in ("asm", "triton"):
        module = f"jax_aiter.kernels.{name}"
        if importlib.util.find_spec(module) is not None:
            found.append(importlib.import_module(module).load())
    return tuple(found)
