"""The float64 loop over tokens and slots that a routed layer must equal, gradients included; see `tests.moe.oracle`."""

import jax
import numpy as np
import torch

from tests.moe import oracle
from tests.oracle import draw, f64

from .common import INTER, D

NAMES = ("hidden_states", "w1", "w2", "topk_weight", "bias1", "bias2")
THEIRS = {"swiglu_limit": "limit", "doweight_stage1": "early"}


def expected(floats, ids, ct, **settings):
    """The same of the oracle, in float64."""
    leaves = {n: oracle.leaf(x) for n, x in floats.items()}
    if not ids.shape[0]:
        return np.zeros((0, D)), {n: np.zeros(x.shape) for n, x in floats.items()}
    theirs = {THEIRS.get(n, n): v for n, v in settings.items()}
    biases = leaves.get("bias1"), leaves.get("bias2")
    want = oracle.moe(*(leaves[n] for n in NAMES[:4]), np.asarray(ids), *biases, **theirs)
    if want.requires_grad:
        (want * torch.tensor(f64(ct))).sum().backward()
    return want.detach().numpy(), {n: np.zeros(x.shape) if x.grad is None else x.grad.numpy() for n, x in leaves.items()}


def close(got, want, terms, dtype="float32", roundings=4):
    """Sums of `terms` float32 products err by that many 2^-24 of the terms' magnitudes, here within 8 of the largest entry; 16-bit
    operands add `roundings` of 2^-8: of the intermediate, of the result, and of each device's part on its way."""
    top = np.abs(want).max(initial=1e-30)
    unit = 8 * terms * 2.0**-24 + (roundings * 2.0**-8 if dtype == "bfloat16" else 0)
    np.testing.assert_allclose(f64(got), want, rtol=0, atol=unit * top)


def check(run, floats, ids, sharding=None, **settings):
    """`run` as of `with_gradient`, against the oracle of `settings`: output and every gradient. sharding: of the cotangent."""
    dtype, k = floats["w1"].dtype.name, ids.shape[1]
    ct = jax.device_put(draw(9, ids.shape[0], D).astype(dtype), sharding)
    out, gradients = run(floats, ids, ct)
    want, want_gradients = expected(floats, ids, ct, **settings)
    assert out.dtype == floats["hidden_states"].dtype
    close(out, want, D + INTER, dtype, 4 + k)
    for name, gradient in gradients.items():
        assert gradient.dtype == floats[name].dtype
        close(gradient, want_gradients[name], D + INTER + ids.size, dtype, 4 + 2 * k)
