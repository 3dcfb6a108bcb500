"""What tests of ops that end in quantisation share: codes and scales against the float64 rows that they stand for."""

import jax
import numpy as np

from tests.oracle import ROUNDOFF, f64

MAX = {"float8_e4m3fnuz": 240.0, "float8_e4m3fn": 448.0, "int8": 127.0}
LEAST = {"float8_e4m3fnuz": 2.0**-11, "float8_e4m3fn": 2.0**-10}  # half the smallest code
FLOOR = 1e-10


def assert_quantised(
    xq: jax.Array, scale: jax.Array | np.ndarray, want: np.ndarray, error: np.ndarray, dtype: str, given: bool = False
) -> None:
    """`xq * scale` stands for `want`, which was computed with at most `error`; one scale per row of both, or one that was given.

    A scale that was found is the maximum of a row, off by no more than the farthest of its values is, times a rounded reciprocal. A
    code is a value over the scale, rounded by half a step of its dtype (int8: truncated, a whole one), on whichever side of a
    boundary it fell: so `xq * scale` is off by that and by what the value was off.
    """
    unit, top = ROUNDOFF["float32"], MAX[dtype]
    assert xq.dtype == dtype
    scale = f64(scale)
    if not given:
        amax = np.maximum(np.abs(want).max(-1, keepdims=True), FLOOR)
        assert (np.abs(scale - amax / top) <= np.max(error, -1, keepdims=True) / top + 2 * unit * amax / top).all()
    scale = np.broadcast_to(scale, (*want.shape[:-1], 1))
    clipped = np.clip(want, -top * scale, top * scale)
    step = scale if dtype == "int8" else np.maximum(np.abs(clipped) * 2.0**-4, scale * LEAST[dtype])
    assert (np.abs(f64(xq) * scale - clipped) <= step * (1 + 2.0**-10) + error + 4 * unit * np.abs(clipped)).all()
