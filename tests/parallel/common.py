"""One routed layer split over devices, and the float64 loop over tokens and slots that it must equal; see `tests.moe.oracle`."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import PartitionSpec as P

from jax_aiter.parallel import expert_parallel
from tests.moe import oracle
from tests.oracle import draw, f64

D, INTER = 16, 8
NAMES = ("hidden_states", "w1", "w2", "topk_weight", "bias1", "bias2")
THEIRS = {"swiglu_limit": "limit", "doweight_stage1": "early"}


def inputs(tokens, experts, k, *, gate=True, bias=False, dtype="float32", seed=0):
    """Float operands of `tokens` tokens in all."""
    rows = 2 * INTER if gate else INTER
    return {
        "hidden_states": draw(seed + 1, tokens, D, dtype=dtype),
        "w1": draw(seed + 2, experts, rows, D, dtype=dtype, std=D**-0.5),
        "w2": draw(seed + 3, experts, D, INTER, dtype=dtype, std=INTER**-0.5),
        "topk_weight": jnp.asarray(np.random.default_rng(seed).uniform(0.1, 1, (tokens, k)), jnp.float32),
        **({"bias1": draw(seed + 4, experts, rows), "bias2": draw(seed + 5, experts, D)} if bias else {}),
    }


def routing(kind, tokens, experts, k, held):
    """int32 [tokens, k] global ids."""
    rng = np.random.default_rng(7)
    ids = {
        "even": lambda: np.argsort(rng.random((tokens, max(experts, k))), axis=1)[:, :k],
        "one_expert_takes_all": lambda: np.full((tokens, k), experts - 1),
        "the_last_device_has_none": lambda: rng.integers(0, max(experts - held, 1), (tokens, k)),
        "some_have_no_expert": lambda: rng.choice([-1, 0, experts - 1, experts, 2**31 - 1, -(2**31)], (tokens, k)),
        "nobody": lambda: np.full((tokens, k), -1),
    }[kind]()
    return jnp.asarray(ids, jnp.int32)


ROUTINGS = ("even", "one_expert_takes_all", "the_last_device_has_none", "some_have_no_expert", "nobody")


def some(names, *axes, default):
    """Every combination of `axes`, those of `default` in the default run; the others are exhaustive."""
    each = list(itertools.product(*axes))
    assert set(default) <= set(each)
    marks = {True: (), False: pytest.mark.exhaustive}
    return pytest.mark.parametrize(names, [pytest.param(*c, marks=marks[c in default], id="-".join(map(_name, c))) for c in each])


def _name(value):
    return getattr(value, "name", None) or ("_".join(value) if isinstance(value, tuple) else str(value))


def mesh_of(devices, axes=("e",), shape=None, kind=jax.sharding.AxisType.Auto):
    shape = (devices,) if shape is None else shape
    return jax.make_mesh(shape, axes, axis_types=(kind,) * len(axes), devices=jax.devices()[:devices])


def split(mesh, axis="e", *, check_vma=True, **settings):
    """``(floats, ids) -> [T, D]``: everything split over `axis`, tokens and experts alike."""

    def layer(floats, ids):
        return expert_parallel(**floats, topk_ids=ids, axis_name=axis, **settings)

    return jax.shard_map(layer, mesh=mesh, in_specs=P(axis), out_specs=P(axis), check_vma=check_vma)


def with_gradient(function):
    """``(floats, ids, cotangent) -> out, {name: gradient}``, compiled."""

    @jax.jit
    def run(floats, ids, ct):
        out, pull = jax.vjp(lambda floats: function(floats, ids), floats)
        return out, pull(ct.astype(out.dtype))[0]

    return run


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


def rows_by_documentation(operand, output, input_offsets, send_sizes, output_offsets, recv_sizes, *, axis_name):
    """`jax.lax.ragged_all_to_all` as its documentation defines it, of collectives that XLA's CPU backend has.

    What would be undefined (a slice past the end, sizes that the two ends do not agree on) is loud: every row becomes a -77.
    """
    gather = functools.partial(jax.lax.all_gather, axis_name=axis_name)
    sources, begins, sizes, places = map(gather, (operand, input_offsets, send_sizes, output_offsets))
    me = jax.lax.axis_index(axis_name)
    begins, sizes, places = begins[:, me], sizes[:, me], places[:, me]
    at = jnp.arange(output.shape[0])
    result = output
    for peer in range(sources.shape[0]):
        here = (at >= places[peer]) & (at < places[peer] + sizes[peer])
        row = jnp.clip(begins[peer] + at - places[peer], 0, operand.shape[0] - 1)
        result = jnp.where(here.reshape(-1, *[1] * (output.ndim - 1)), sources[peer][row], result)
    bad = (sizes != recv_sizes) | (begins + sizes > operand.shape[0]) | (places + sizes > output.shape[0]) | (sizes < 0)
    return jnp.where(jnp.any(bad), jnp.asarray(-77, output.dtype), result)
