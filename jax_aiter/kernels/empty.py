"""The rule with which every provider begins; no import, since the worker that records Triton kernels asks it without jax."""

from collections.abc import Mapping, Sequence
from typing import Any


def nothing_to_launch(operands: Mapping[str, Any], results: Sequence[Any]) -> str | None:
    """Why a call holds too little for a kernel: its rules divide by sizes and its grids count them, so none gets an empty array."""
    for name, x in operands.items():
        if any(size == 0 for size in x.shape):
            return f"{name} is empty, shape {tuple(x.shape)}; there is nothing to launch"
    if all(any(size == 0 for size in x.shape) for x in results):
        return f"the results are empty, {' and '.join(str(tuple(x.shape)) for x in results)}; there is nothing to launch"
    return None
