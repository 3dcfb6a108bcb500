"""What a kernel provider is, and the list of those there are.

A provider answers two questions about one call: can you run it (`refuse`), and how (`plan`). The first must be cheap and import
neither torch nor triton, since `explain`, `supports` and every trace ask it.
"""

import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax

from jax_aiter.core.machine import Form


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
    kernel: str | None = None  # the one kernel that the caller insists on
    reference: Form | None = None  # what the reference lowering is on a GPU; None where it is the CPU's


@dataclasses.dataclass(frozen=True)
class Program:
    """A call that is more than one launch plan: plans with `jax.numpy` between them, emitted in the op's place.

    run: ``{operand: array} -> results``; calls `jax_aiter.kernels.call.call_plan` for its plans.
    """

    plans: tuple[Any, ...]
    run: Callable[[Mapping[str, jax.Array]], Sequence[jax.Array]]


class Missing(str):
    """A refusal that names something to install: auto, where it goes on with the reference lowering, says so once."""


class Unusable(str):
    """A refusal as files are damaged, altered or not to be read: auto goes on with the next implementation, and says so once."""


NOT_BUILT = (
    "no plan of this call is in the cache, and none is built in this process, by JAX_AITER_BUILD=0 or config(build=False); "
    "`jax-aiter kernels build` makes plans ahead"
)


class Unasked(str):
    """A reason to pass over a kernel that auto never overcomes: it computes something else, close as that may be."""


class Provider(Protocol):
    name: str

    def refuse(self, call: Call) -> str | None:
        """None if it can run the call, else the rule that forbids it."""
        ...

    def plan(self, call: Call) -> Any:
        """The LaunchPlan or Program. May take seconds the first time; raises KernelBuildError with a remedy."""
        ...

    def passes_over(self, call: Call) -> str | None:
        """Of a call it can run: why `implementation=None` should rather take the next provider, None if it should not.

        It still comes before the reference, unless the reason is `Unasked`.
        """
        ...

    def left_open(self, call: Call) -> str | None:
        """Of a call it can run: why AITER leaves open which library's kernel runs it, None if a row or rule of its own says.

        Open is what its tables could have a row for and have none, and what it would launch with a kernel of another library's, if
        that is not at hand. Where each provider that can run the call says so, an estimate of the time outweighs AITER's order
        (`bind.estimated`).
        """
        ...

    def details(self, call: Call) -> tuple[str, ...]:
        """For `explain`, of a call it can run: what would be launched and which rule chose it, as far as that is known unbuilt."""
        ...


@functools.cache
def providers() -> tuple[Provider, ...]:
    """The installed providers, best first."""
    found = []
    for name in ("asm", "hip", "triton"):
        module = f"jax_aiter.kernels.{name}"
        if importlib.util.find_spec(module) is not None:
            found.append(importlib.import_module(module).load())
    return tuple(found)
