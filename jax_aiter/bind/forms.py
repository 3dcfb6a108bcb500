"""The reference as it is lowered for a platform: on a GPU a record may have another form of it than on a CPU (`core.machine`)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jax_aiter.core import machine
from jax_aiter.core.machine import Form
from jax_aiter.core.record import Record

#: Platforms whose references take the GPU's form. The test-suites add the CPU to it, to run that form where there is no GPU.
PLATFORMS = set(machine.GPUS)


def form(op: Record, platform: str, arch: str | None, operands: Mapping[str, Any], params: Mapping[str, Any]) -> Form | None:
    """The GPU's form of a call, None where the platform or the record has none."""
    if op.gpu is None or platform not in PLATFORMS:
        return None
    own = arch is not None and arch.startswith(machine.GPUS.get(platform, "none"))  # not one set for the other kind of GPU
    return op.gpu(arch if own else None, {n: operands.get(n) for n in op.operands}, params)


def reference(op: Record, platform: str, chosen: Form | None, split: bool) -> Callable[..., tuple[jax.Array, ...]]:
    """The reference of a call for the platform that it is lowered for; split: XLA will split the program over devices."""
    function = op.reference if chosen is None or chosen.run is None else chosen.run

    def run(**arguments: Any) -> tuple[jax.Array, ...]:
        with machine.traced_for(platform in PLATFORMS, split):
            return tuple(function(**arguments))

    return run
