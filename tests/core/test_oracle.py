"""`assert_same` takes what rounding does to a result and nothing else."""

import ml_dtypes
import numpy as np
import pytest

from tests.oracle import ULPS, assert_same


def moved(x, by, at=slice(None)):
    """x with some elements moved by so many of its values' spacing at the largest, or of its codes."""
    y = x.copy()
    if x.dtype.itemsize == 1:
        y.view(np.uint8)[at] += np.uint8(by)
    else:
        y[at] += np.asarray(by * float(ml_dtypes.finfo(x.dtype).eps) * np.abs(x.astype(np.float64)).max()).astype(x.dtype)
    return y


def refused(got, want):
    with pytest.raises(AssertionError):
        assert_same([got], [want])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_floats(dtype):
    want = np.random.default_rng(0).standard_normal(100).astype(dtype)
    want[3], want[4], want[5] = np.nan, np.inf, 0
    finite = want[6:]
    assert_same({"a": finite, "b": (want,)}, {"a": moved(finite, ULPS - 1), "b": (want.copy(),)})
    refused(moved(finite, ULPS + 2), finite)
    for place, value in ((3, 0), (4, -np.inf), (4, 1), (5, np.nan)):
        other = want.copy()
        other[place] = value
        refused(other, want)
    refused(want.astype(np.float64), want)
    refused(want[:, None], want)


@pytest.mark.parametrize("dtype", [np.int8, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz])
def test_codes(dtype):
    """A neighbouring code is a rounding that fell to the other side; few of them do."""
    want = np.arange(1, 101, dtype=np.uint8).view(dtype)
    assert_same([moved(want, 1, [3, 50])], [want])
    refused(moved(want, 2, 3), want)
    refused(moved(want, 1), want)
    if dtype != np.int8:
        assert_same([np.asarray([-0.0, 1], np.float32).astype(dtype)], [np.asarray([0.0, 1], np.float32).astype(dtype)])
        refused(np.asarray([np.nan], np.float32).astype(dtype), want[:1])


def test_integers_are_exact():
    want = np.arange(5, dtype=np.int32)
    assert_same([want], [want.copy()])
    refused(want + 1, want)
    refused(want, want.astype(np.int64))
