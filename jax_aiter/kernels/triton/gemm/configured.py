"""The configuration that AITER's wrappers of matrix products are called with."""

# pyright: reportMissingImports=false
# AITER is the worker's; this is called by recording functions.
from __future__ import annotations

import importlib
import inspect
from typing import Any


def configured(ctx, module: str, x, *, least: int = 1, shuffle: bool = False, always: bool = False) -> dict[str, Any] | None:
    """AITER's configuration of the product of `x` [..., M, K] in its Triton `module`, with the call's tile.

    None where it is AITER's own, which its wrapper then asks for itself, unless `always` or it is of `least` rows for fewer.
    """
    get = importlib.import_module(f"aiter.ops.triton._triton_kernels.{module}")._get_config
    (m, k), n = x.shape[-2:], ctx.results[0].shape[-1]
    known = {"backend": "triton", "B": x.shape[0], **({"shuffle": True} if shuffle else {})}
    more = {name: value for name, value in known.items() if name in inspect.signature(get).parameters}
    found = get(max(m, least), n, k, **more)
    own = dict(found[0] if isinstance(found, tuple) else found)  # up to 0.1.7 the configuration alone
    config = ctx.tiled(own)
    if not (ctx.spec.tile or always or m < least):
        return None
    if ctx.spec.tile and "SPLITK_BLOCK_SIZE" in config:
        config["SPLITK_BLOCK_SIZE"] = -(-k // config["NUM_KSPLIT"])
    return config
