"""Whether two ways to compute a call agree, as far as rounding lets them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

#: Units in the last place of a result, or of the widest 16-bit type that goes in, at the largest magnitude of the result: products
#: that are summed in another order, once rounded on the way (the intermediate of an MoE layer), differ by less than one.
ULPS = 2.0


def tolerance(result: Any, operands: Iterable[Any]) -> float:
    """The difference between two results that is rounding, as a part of the largest magnitude in the result."""
    kinds = [jnp.dtype(x.dtype) for x in (result, *operands)]
    # A value in 8 bits that goes in is exact; one that comes out is rounded to its own last place.
    wide = [k for i, k in enumerate(kinds) if jnp.issubdtype(k, jnp.floating) and (i == 0 or k.itemsize > 1)]
    return ULPS * max((float(jnp.finfo(kind).eps) for kind in wide), default=0.0)


@jax.jit
def _distance(got: jax.Array, wanted: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    a, b = got.astype(jnp.float32), wanted.astype(jnp.float32)
    unlike = jnp.sum((a != b) & ~(jnp.isfinite(a) & jnp.isfinite(b)) & ~(jnp.isnan(a) & jnp.isnan(b)))
    finite = jnp.isfinite(a) & jnp.isfinite(b)
    return jnp.max(jnp.where(finite, abs(a - b), 0)), jnp.max(jnp.where(finite, abs(b), 0)), unlike


def differ(got: Sequence[jax.Array], wanted: Sequence[jax.Array], operands: Iterable[Any]) -> str | None:
    """None if the results agree; else which does not, and by how much."""
    operands = list(operands)
    for number, (a, b) in enumerate(zip(got, wanted, strict=True)):
        if b.size == 0:
            continue
        difference, largest, unlike = (float(x) for x in _distance(a, b))
        limit = tolerance(b, operands) * largest if jnp.issubdtype(b.dtype, jnp.floating) else float(b.dtype == jnp.int8)
        if unlike:
            return f"result {number} is infinite or NaN in {unlike:.0f} places where the other is not"
        if not difference <= limit:
            return f"result {number} is off by {difference:.3g}, where {limit:.3g} is rounding"
    return None
