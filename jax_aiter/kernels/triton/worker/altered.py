"""How a tile reaches kernels whose wrappers ask nobody: what AITER's modules choose with, and how a kernel is launched, altered
while one call is recorded."""

# pyright: reportMissingImports=false
# Triton may be absent where types are checked.
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def members(module: Any, **others: Any) -> Iterator[None]:
    """Inside, the module has these members instead of its own. AttributeError if it has none of that name: nobody would read it."""
    own = {name: getattr(module, name) for name in others}
    try:
        module.__dict__.update(others)
        yield
    finally:
        module.__dict__.update(own)


#: options of a launch that change no result: constants of a kernel go together with the grid that the wrapper computed.
OPTIONS = ("num_warps", "num_stages", "waves_per_eu")


@contextlib.contextmanager
def launches(options: Callable[[dict[str, Any]], Mapping[str, Any]], *kernels: str) -> Iterator[None]:
    """Inside, AITER's kernels (of these names, or all) are launched with what `options` makes of the wrapper's own options."""
    from triton.runtime.jit import JITFunction

    run = JITFunction.run

    def altered(function, *args: Any, **kwargs: Any) -> Any:
        if function.__name__ in kernels or (not kernels and function.fn.__module__.partition(".")[0] == "aiter"):
            given = options({name: kwargs[name] for name in OPTIONS if name in kwargs})
            kwargs |= {name: value for name, value in given.items() if name in OPTIONS}
        return run(function, *args, **kwargs)

    JITFunction.run = altered  # type: ignore[method-assign]
    try:
        yield
    finally:
        JITFunction.run = run  # type: ignore[method-assign]
