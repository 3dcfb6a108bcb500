"""What the card does at best, measured in the same run: copying, and matrix products of each dtype that the rows name."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_aiter.cli.bench import chain
from jax_aiter.cli.bench.row import Operands
from jax_aiter.cli.measure import side_by_side

#: float32 numbers copied; rows of a square matrix. Of a GPU, of a CPU (beyond its caches, in a second), of a test.
FULL, CPU, SMALL = (1 << 28, 8192), (1 << 24, 1024), (1 << 16, 128)


def _copy(operands: Operands) -> jax.Array:
    return operands["x"] * jnp.float32(1.5)


def _product(operands: Operands) -> jax.Array:
    dims = (((1,), (1,)), ((), ()))
    # XLA multiplies fp8 widened to bfloat16 as fp8.
    a, b = (x.astype(jnp.bfloat16) for x in (operands["a"], operands["b"]))
    return lax.dot_general(a, b, dims, preferred_element_type=jnp.float32).astype(jnp.bfloat16)


def _own(operands: Operands) -> chain.Held:
    return chain.Held(lambda: jax.tree.map(jnp.copy, operands))


def measure(dtypes: list[str], sizes: tuple[int, int], arch: str | None = None) -> dict[str, Any]:
    """Rates, the time of a chain's empty step, and what a chain makes of two calls that are long enough to be timed by themselves.

    Returns copy_bytes_per_s, matrix_flops by dtype, floor_s and method {name: chained / queued}, which should be 1.
    """
    elements, n = sizes
    calls: dict[str, tuple[Any, str, Operands]] = {"copy": (_copy, "x", {"x": jnp.ones(elements, jnp.float32)})}
    for dtype in dtypes:
        normal = [jax.random.normal(jax.random.key(i), (n, n), jnp.bfloat16).astype(dtype) for i in range(2)]
        calls[dtype] = (_product, "a", dict(zip("ab", normal, strict=True)))
    timed: dict[str, Any] = {}
    for name, (call, through, operands) in calls.items():
        timed[f"{name} chained"] = chain.Chain(chain.program(call, through, 8, arch).lower(operands).compile(), _own(operands))
        alone = jax.jit(call).lower(operands).compile()
        timed[f"{name} queued"] = lambda run=alone, operands=operands: run(operands)
    nothing = {"x": jnp.ones(128, jnp.float32)}
    floor = chain.Chain(chain.program(chain.empty, "x", chain.MOST, arch).lower(nothing).compile(), _own(nothing))
    found = side_by_side({**timed, "floor": floor})
    chained_s = {name: found[f"{name} chained"] / 8 for name in calls}
    return {
        "copy_bytes_per_s": 2.0 * 4 * elements / min(chained_s["copy"], found["copy queued"]),
        "matrix_flops": {name: 2.0 * n**3 / min(chained_s[name], found[f"{name} queued"]) for name in dtypes},
        "floor_s": found["floor"] / chain.MOST,
        "method": {name: chained_s[name] / found[f"{name} queued"] for name in calls},
    }


def seconds(moved: float, work: float, rate: str, limits: dict[str, Any]) -> float:
    """The least that the card can need, by its measured rates."""
    return max(moved / limits["copy_bytes_per_s"], work / limits["matrix_flops"][rate])
