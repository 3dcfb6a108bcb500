"""fused_moe's gradient as grouped GEMMs equals that of the loop over experts, which is held against the oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.core.cases import case, constant, normal
from jax_aiter.ops.moe.forms.grouped_backward import Products, backward
from jax_aiter.ops.moe.gradient import FUSED_MOE_BACKWARD as OP
from jax_aiter.ops.moe.grouped import GROUPED_GEMM, TRANSPOSED_GROUPED_GEMM


def _products(dtype) -> Products:
    """The five products by the ops' references; rows of nobody hold NaN, where kernels leave what the memory held."""

    def forward(transpose):
        def run(x, w, sizes):
            (out,) = GROUPED_GEMM(lhs=x, rhs=w, group_sizes=sizes, transpose_rhs=transpose, preferred_element_type=dtype)
            return jnp.where((jnp.arange(len(out)) < jnp.sum(sizes))[:, None], out, jnp.nan)

        return run

    def weights(x, y, sizes):
        return TRANSPOSED_GROUPED_GEMM(lhs=x, rhs=y, group_sizes=sizes, preferred_element_type=dtype)[0]

    return Products(forward(True), forward(False), forward(False), weights, weights)


def _case(name, tokens, experts, ids, inter, model, dtype, **params):
    operands = {
        "d_out": normal(tokens, model, dtype=dtype),
        "hidden_states": normal(tokens, model, dtype=dtype),
        "w1": normal(experts, 2 * inter, model, dtype=dtype),
        "w2": normal(experts, model, inter, dtype=dtype),
        "topk_weight": normal(tokens, len(ids[0])),
        "topk_ids": constant(ids, jnp.int32),
        "bias1": normal(experts, 2 * inter),
        "bias2": normal(experts, model),
    }
    usual = OP.cases()[0].params
    return case(name, **operands, **{**usual, "output_dtype": jnp.dtype(dtype), **params})


CASES = [
    _case("biases", 5, 3, [[0, 2], [2, 0], [2, 2], [-1, 7], [0, -1]], 6, 8, jnp.float32, activation="gelu_tanh"),
    _case("early", 4, 2, [[1], [1], [1], [1]], 3, 5, jnp.float32, doweight_stage1=True, activation="swiglu"),
]
CASES += [
    c for c in OP.cases() if c.params["quant_type"] == "none" and not (c.params["hidden_pad"] or c.params["intermediate_pad"])
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_equals_the_loop(case):
    operands = {n: jnp.asarray(x) for n, x in case.draw().items()}
    given = {n: operands.get(n) for n in OP.operands}
    want = OP.reference(**given, **case.params)
    d_out = given.pop("d_out")
    dtype = given["w1"].dtype
    got = jax.jit(lambda d, o: backward(d, {**dict.fromkeys(given), **o}, case.params, _products(dtype)))(
        d_out, {n: x for n, x in given.items() if x is not None}
    )
    # Rows, intermediate and cotangents are rounded to the weights' type, five times on the way to the farthest result; float32
    # sums of other order add a few ulps of their largest term.
    eps = max(float(jnp.finfo(dtype).eps), 1e-6)
    for name, x, y in zip(OP.results, got, want, strict=True):
        x, y = (np.asarray(v, np.float64) for v in (x, y))
        assert x.shape == y.shape, name
        norm = np.sqrt(np.mean(y * y)) if y.size else 0.0
        np.testing.assert_allclose(x, y, rtol=8 * eps, atol=8 * eps * norm + 1e-9, err_msg=name)


def test_what_nobody_takes_reaches_nothing():
    """Rows without an expert, an expert without rows, and their biases hold NaN."""
    call = CASES[0]
    given = dict(call.draw())
    given["d_out"], given["hidden_states"] = (given[n].at[3].set(jnp.nan) for n in ("d_out", "hidden_states"))
    for name in ("w1", "w2", "bias1", "bias2"):
        given[name] = given[name].at[1].set(jnp.nan)
    d_out = given.pop("d_out")
    got = backward(d_out, {**dict.fromkeys(n for n in OP.operands if n != "d_out"), **given}, call.params, _products(jnp.float32))
    assert all(np.all(np.isfinite(x)) for x in got)
    assert not np.any(got[0][3])
    assert not any(np.any(got[i][1]) for i in (1, 2, 4, 5))


def test_there_are_calls():
    assert len(CASES) >= 2
