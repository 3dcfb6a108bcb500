"""One routed layer split over devices: its operands, routings, meshes, and a stand-in for the exchange that CPUs lack."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jax_aiter.parallel import expert_parallel
from tests.oracle import draw

D, INTER = 16, 8


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


def rows_by_documentation(operand, output, input_offsets, send_sizes, output_offsets, recv_sizes, *, axis_name):
    """`jax.lax.ragged_all_to_all` as its documentation defines it, of collectives that XLA's CPU backend has.

    What would be undefined (a slice past the end, sizes that the two ends do not agree on) is loud: every row becomes a -77.
    """
    gather = functools.partial(jax.lax.all_gather, axis_name=axis_name)
    sources, begins, sizes, places = map(gather, (operand, input_offsets, send_sizes, output_offsets))
    me, devices = jax.lax.axis_index(axis_name), sources.shape[0]
    slices, leftover = divmod(len(input_offsets), devices)
    assert not leftover
    # [from, to, slice] -> those for this device, [from * slice]
    begins, sizes, places = (x.reshape(devices, devices, slices)[:, me].reshape(-1) for x in (begins, sizes, places))
    at = jnp.arange(output.shape[0])

    def received(i, result):
        here = (at >= places[i]) & (at < places[i] + sizes[i])
        row = jnp.clip(begins[i] + at - places[i], 0, operand.shape[0] - 1)
        return jnp.where(here.reshape(-1, *[1] * (output.ndim - 1)), sources[i // slices][row], result)

    result = jax.lax.fori_loop(0, devices * slices, received, output)
    bad = (sizes != recv_sizes) | (begins + sizes > operand.shape[0]) | (places + sizes > output.shape[0]) | (sizes < 0)
    return jnp.where(jnp.any(bad), jnp.asarray(-77, output.dtype), result)
