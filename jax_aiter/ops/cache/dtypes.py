"""Which dtypes the two caches may have, and with which scales."""

from typing import Any

import numpy as np

from jax_aiter.core import check
from jax_aiter.core.axes import FLOATING, FP8_TYPES

CACHE_DTYPES = (*FLOATING, *FP8_TYPES, "int8")


def kv_dtypes(op: str, query: np.dtype, key_cache: np.dtype, value_cache: np.dtype, k_scale: Any, v_scale: Any) -> None:
    """A float cache has the query's dtype and no scales; fp8 and int8 caches may have both scales (absent = 1)."""
    check.same_dtype(op, key_cache=key_cache, value_cache=value_cache)
    if (k_scale is None) != (v_scale is None):
        raise ValueError(f"{op}: k_scale and v_scale must be given together or not at all")
    if key_cache.itemsize > 1:
        if key_cache != query:
            raise TypeError(f"{op}: key_cache has dtype {key_cache.name}, must be that of the tokens, {query.name}, or fp8 or int8")
        if k_scale is not None:
            raise TypeError(f"{op}: k_scale is for fp8 and int8 caches, but key_cache has dtype {key_cache.name}")
