"""The configuration that AITER's wrappers of matrix products are called with."""

# pyright: reportMissingImports=false
# AITER is the worker's; this is called by recording functions.
from __future__ import annotations

import importlib
import inspect
from typing import Any

#: what the compiler is told, whether a configuration names it or not; and values that stand for what a kernel without such a
#: parameter does.
OPTIONS = ("num_warps", "num_stages", "waves_per_eu", "matrix_instr_nonkdim", "kpack")
WITHOUT = {"NUM_KSPLIT": 1, "cache_modifier": ""}


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
    config = _of_release(ctx.tiled(own), own, module)
    if not (ctx.spec.tile or always or m < least):
        return None
    if ctx.spec.tile and "SPLITK_BLOCK_SIZE" in config:
        config["SPLITK_BLOCK_SIZE"] = -(-k // config["NUM_KSPLIT"])
    return config


def _of_release(config: dict[str, Any], own: dict[str, Any], module: str) -> dict[str, Any]:
    """Releases up to 0.1.7 split K in fewer kernels: there a tile that does not split is the same without saying so."""
    from jax_aiter.kernels.triton.worker.errors import RecordError

    found = {name: value for name, value in config.items() if name in own or name in OPTIONS}
    for name in config.keys() - found.keys():
        if name not in WITHOUT or config[name] != WITHOUT[name]:
            raise RecordError(f"{name} = {config[name]} of the tile: {module} in this release of AITER has no {name}")
    return found
