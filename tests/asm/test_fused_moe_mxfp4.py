"""AITER's hand-written experts in MXFP4, which only gfx950 has, against the float64 model of `tests.moe.mxfp4`.

These kernels find the scale of 32 values of the intermediate by rounding the largest over 6 up to a power of two, which the model
then does too. Beyond that they round where it does: a value on a border takes the other of its neighbours now and then, and the
sums of k parts are rounded to 16 bits (`moe.assert_agrees`).
"""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jax_aiter
from jax_aiter.kernels.asm.moe import mxfp4
from tests.moe import mxfp4 as model
from tests.oracle import assert_same

from . import common, moe

TABLES = [(act, out) for act in ("silu", "gelu") for out in ("bf16", "fp16")]
DTYPES = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16}


def rows(arch, act, out):
    if arch != "gfx950":
        pytest.skip("AITER's hand-written experts in MXFP4 are for gfx950")
    return common.rows("fused_moe", arch, f"fmoe/{act}/fmoe_{out}_{mxfp4.KIND}_g1u1_{act}.csv")


def usable(arch, act, out):
    return sorted((r for r in rows(arch, act, out) if mxfp4.never(r) is None), key=lambda r: (r["subGU_n"], r.symbol))


def run(act, out, inter, *, kernel=None, mask=None, **sizes):
    dtype, activation = DTYPES[out], moe.named(act)
    args, scales, _ = model.draws(inter=inter, dtype=dtype, **sizes)
    x, w1, w2, weight, ids = args
    how = {"quant_type": "per_1x32", "q_dtype_a": jnp.uint8, "activation": activation, "kernel": kernel}
    shuffled = [moe.shuffle(w) for w in (w1, w2)]
    call = lambda *args: jax_aiter.fused_moe(*args, mask, **how, **scales, implementation="asm")  # noqa: E731
    as_held = args
    if mask is not None:  # ids name experts of all devices, of which those with a mask are here
        here = moe.local(ids, len(w1), mask)
        as_held = (x, w1, w2, weight, here)
    with common.running(call, x, *shuffled, weight, ids) as got:
        like = {"interleaved": False, "activation": activation, "limit": np.inf, "between": "rceil"}
        want, _, _ = model.expected(as_held, scales, None, q_dtype_a="uint8", **like)
        moe.assert_agrees(got, want)


@pytest.mark.parametrize(("act", "out"), TABLES)
def test_some_of_each_table(arch, act, out):
    found = usable(arch, act, out)
    row = found[TABLES.index((act, out)) % len(found)]
    run(act, out, row.number("subGU_n"), kernel=row.symbol, model=512, tokens=5, experts=3)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("act", "out"), TABLES)
def test_each_table_whole(arch, act, out):
    """Two tiles of I, and the D behind the least."""
    for row in usable(arch, act, out):
        run(act, out, 2 * row.number("subGU_n"), kernel=row.symbol, model=1024, tokens=5, experts=3)


def test_the_heuristic_and_an_expert_elsewhere(arch):
    """More rows of an expert than a block, an expert without any, ids in none; half of the experts are on another device."""
    rows(arch, "silu", "bf16")
    run("silu", "bf16", 512, model=512, tokens=70, experts=4, k=3, mask=np.array([1, 0, 1, 1, 0, 1], np.int32))


def test_the_reference_takes_shuffled_weights():
    """Whose bytes stand as AITER's kernels read them."""
    args, scales, biases = model.draws()
    x, w1, w2, *routed = args
    how = {"quant_type": "per_1x32", "implementation": "xla", **scales, **biases}
    call = jax.jit(lambda w1, w2: jax_aiter.fused_moe(x, w1, w2, *routed, **how))
    assert_same([call(moe.shuffle(w1), moe.shuffle(w2))], [call(w1, w2)])  # two programs of the same sums


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"q_dtype_a": None}, "q_dtype_a = None; the hand-written kernels multiply MXFP4 with MXFP4 rows"),
        ({"activation": "swiglu"}, "activation = 'swiglu'"),
        ({"model": 768}, "D = 768; .* steps of 512"),
        ({"inter": 128}, "I = 128; must be a multiple of what a workgroup takes: 256, 512"),
    ],
)
def test_what_is_refused(arch, more, says):
    rows(arch, "silu", "bf16")
    sizes = {n: more[n] for n in ("model", "inter") if n in more}
    (x, w1, w2, *routed), scales, _ = model.draws(**{"model": 512, "inter": 256, **sizes})
    how = {"quant_type": "per_1x32", "q_dtype_a": jnp.uint8, **{n: v for n, v in more.items() if n not in sizes}, **scales}
    with pytest.raises(jax_aiter.NotSupportedError, match=says):
        jax_aiter.fused_moe(x, moe.shuffle(w1), moe.shuffle(w2), *routed, **how, implementation="asm")
