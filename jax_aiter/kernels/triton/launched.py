"""Recording functions whose kernels are given a tile without their wrappers' knowing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def launched(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A recording function whose launches of AITER's kernels take the options that the call's tile has."""

    @functools.wraps(run)
    def recorded(ctx: Any) -> Any:
        from jax_aiter.kernels.triton.worker import altered

        with altered.launches(ctx.tiled):
            return run(ctx)

    return recorded
