"""Data movement, indexing, sorting and scans: exact, except for sums."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from cases import case, floats, integers

X, I = floats((17, 37)), integers((17, 37))
ROWS = np.array([3, 16, 0, 5, 3], np.int32)

for name, function in {
    "transpose": jnp.transpose,
    "reshape": lambda x: x.reshape(37, 17),
    "concatenate": lambda x: jnp.concatenate([x, x * 2], 1),
    "pad": lambda x: jnp.pad(x, ((1, 2), (3, 0))),
    "flip": lambda x: jnp.flip(x, 1),
    "roll": lambda x: jnp.roll(x, 5, 1),
    "tile": lambda x: jnp.tile(x, (2, 2)),
    "repeat": lambda x: jnp.repeat(x, 3, 0),
    "tril": jnp.tril,
    "stack": lambda x: jnp.stack([x, -x]),
    "split": lambda x: tuple(jnp.split(x[:, :36], 3, 1)),
    "where": lambda x: jnp.where(x > 0, x, 0),
    "clip": lambda x: jnp.clip(x, -1, 1),
    "diagonal": jnp.diagonal,
    "slice": lambda x: x[1::3, 2:30:5],
    "broadcast": lambda x: jnp.broadcast_to(x[:, None, :], (17, 4, 37)),
    "sort": lambda x: jnp.sort(x, 1),
    "argsort": lambda x: jnp.argsort(x, 1),
    "top_k": lambda x: jax.lax.top_k(x, 5),
    "take": lambda x: jnp.take(x, ROWS, 0),
    "gather": lambda x: x[ROWS, ROWS[::-1]],
    "take_along_axis": lambda x: jnp.take_along_axis(x, jnp.argsort(x, 1)[:, :4], 1),
    "dynamic_slice": lambda x: jax.lax.dynamic_slice(x, (x.shape[0] // 3, 2), (4, 9)),
    "dynamic_update_slice": lambda x: jax.lax.dynamic_update_slice(x, x[:3, :3], (9, 20)),
    "scatter_set": lambda x: x.at[ROWS[:3]].set(1),
    "scatter_max": lambda x: x.at[ROWS].max(1),
    "cummax": lambda x: jax.lax.cummax(x, 1),
    "median_of_sorted": lambda x: jnp.sort(x, 1)[:, 18],
}.items():
    case(f"{name}-f32", function, X)
    if name in ("transpose", "concatenate", "sort", "argsort", "top_k", "take", "gather", "scatter_set", "roll", "where"):
        case(f"{name}-i32", function, I)
        case(f"{name}-bf16", function, X.astype(ml_dtypes.bfloat16))

case("scatter_add-f32", lambda x: x.at[ROWS].add(1.5), X, ulps=1, scale=8)
case("scatter_add-i32", lambda x: x.at[ROWS].add(7), I)
case("segment_sum-f32", lambda x: jax.ops.segment_sum(x, jnp.arange(17) % 4, 4), X, ulps=2, scale=16)
case("cumsum-f32", lambda x: jnp.cumsum(x, 1), X, ulps=2, scale=37)
case("cumsum-i32", lambda x: jnp.cumsum(x, 0), I)
case("cumprod-f32", lambda x: jnp.cumprod(x[:, :8], 1), X, ulps=8)
case("iota", lambda x: jnp.arange(100) * x, np.int32(3))
case("one_hot", lambda x: jax.nn.one_hot(x, 20), ROWS)
case("searchsorted", lambda x, q: jnp.searchsorted(x, q), np.sort(X.ravel()), X[0])
case("unique", lambda x: jnp.unique(x, size=9, fill_value=-1), integers(50, 0, 8))
case("bincount", lambda x: jnp.bincount(x, length=8), integers(90, 0, 8))
case("kron-f32", jnp.kron, X[:3, :3], X[3:6, :4])
