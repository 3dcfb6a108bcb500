"""expert_parallel on 1 to 8 devices against the float64 loop of tests/moe, outputs and every gradient, by each way and routing.

The ragged exchange runs on collectives that a CPU has, put in the place of JAX's by its own documentation.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jax_aiter.parallel import expert_parallel
from tests.oracle import f64

from . import against, common

METHODS = ("psum", "all_to_all", "ragged_all_to_all")
DEVICES = (1, 2, 3, 5, 8)


@pytest.fixture(autouse=True)
def _ragged(monkeypatch):
    monkeypatch.setattr(jax.lax, "ragged_all_to_all", common.rows_by_documentation)


@common.some(
    ("devices", "method"),
    DEVICES,
    METHODS,
    default=[(1, "ragged_all_to_all"), (2, "psum"), (5, "ragged_all_to_all"), (8, "all_to_all")],
)
def test_any_routing_drops_no_token(devices, method):
    """One program per way and number of devices; what is routed where is data."""
    held, k, tokens = 2, 3, 5
    floats = common.inputs(devices * tokens, devices * held, k)
    run = common.with_gradient(common.split(common.mesh_of(devices), method=method))
    for kind in common.ROUTINGS:
        against.check(run, floats, common.routing(kind, devices * tokens, devices * held, k, held))


@common.some(
    ("tokens", "k", "held", "method"),
    [0, 1, 9],
    [1, 5],
    [1, 3],
    METHODS,
    default=[(0, 1, 1, "psum"), (0, 5, 1, "all_to_all"), (1, 5, 3, "ragged_all_to_all")],
)
def test_sizes(tokens, k, held, method):
    devices = 3
    floats = common.inputs(devices * tokens, devices * held, k)
    run = common.with_gradient(common.split(common.mesh_of(devices), method=method))
    against.check(run, floats, common.routing("some_have_no_expert", devices * tokens, devices * held, k, held))


VARIANTS = [
    ({"gate": True, "bias": True}, {"activation": "silu", "doweight_stage1": True}),
    ({"gate": True, "bias": True}, {"activation": "swiglu", "swiglu_limit": 0.8, "gate_mode": "interleave"}),
    ({"gate": False, "bias": True}, {"activation": "gelu"}),
    ({"gate": True, "bias": False}, {"activation": "gelu_tanh", "swiglu_limit": 0.5}),
    ({"gate": False, "bias": False}, {"activation": "none", "doweight_stage1": True}),
]


@common.some(("number", "method"), range(len(VARIANTS)), ["exchange", "psum"], default=[(1, "exchange"), (2, "psum")])
def test_options_of_fused_moe(number, method):
    kind, settings = VARIANTS[number]
    floats = common.inputs(9, 6, 2, **kind)
    run = common.with_gradient(common.split(common.mesh_of(3), method=method, **settings))
    against.check(run, floats, common.routing("even", 9, 6, 2, 2), **settings)


@common.some(("method",), ["all_to_all", "psum"], default=[("all_to_all",)])
def test_bfloat16(method):
    floats = common.inputs(20, 8, 3, dtype="bfloat16")
    run = common.with_gradient(common.split(common.mesh_of(4), method=method))
    against.check(run, floats, common.routing("even", 20, 8, 3, 2))


@common.some(("method",), ["exchange", "psum"], default=[("exchange",)])
def test_what_is_not_read_may_hold_nan(method):
    """Tokens without an expert, those past the count of their device, experts that nobody names: values and gradients."""
    floats = common.inputs(12, 6, 2)
    ids = common.routing("even", 12, 5, 2, 2).at[1].set(-1)
    count = jnp.asarray([4, 2, 0], jnp.int32)
    skipped = np.array([1, 6, 7, 8, 9, 10, 11])
    dirty = {
        **floats,
        "hidden_states": floats["hidden_states"].at[skipped].set(jnp.nan),
        "topk_weight": floats["topk_weight"].at[skipped].set(jnp.nan),
        "w1": floats["w1"].at[5].set(jnp.nan),
    }

    def layer(given, ids):
        floats, count = given
        return common.split(common.mesh_of(3), method=method)({**floats, "num_local_tokens": count}, ids)

    run = common.with_gradient(lambda floats, ids: layer((floats, count), ids))
    ct = jnp.ones((12, common.D)).at[skipped].set(jnp.nan)
    out, gradients = run(dirty, ids, ct)
    want, want_gradients = against.expected(floats, ids.at[skipped].set(-1), jnp.ones_like(ct))
    against.close(out, want, common.D + common.INTER)
    for name, gradient in gradients.items():
        against.close(gradient, want_gradients[name], common.D + common.INTER + ids.size)


@common.some(("method",), ["all_to_all", "ragged_all_to_all"], default=[("ragged_all_to_all",)])
def test_a_bound_on_rows_says_what_it_lost(method):
    devices, tokens, k, held = 3, 4, 2, 2
    floats = common.inputs(devices * tokens, devices * held, k)
    ids = common.routing("even", devices * tokens, devices * held, k, held)
    goes = np.asarray(ids) // held
    pairs = [(d, t) for d in range(devices) for t in range(devices * tokens) if d in goes[t]]  # in the order of arrival
    for capacity in (0, 3):
        lost = {(d, t) for d in range(devices) for t in [t for e, t in pairs if e == d][capacity:]}
        run = jax.jit(_bounded(devices, method, capacity))
        out, said = run(floats, ids)
        assert said == len(lost)
        short = np.isin(np.arange(devices * tokens), [t for _, t in lost])
        np.testing.assert_array_equal(np.isnan(f64(out)).all(1), short)
        want, _ = against.expected(floats, ids, jnp.zeros_like(out))
        if not short.all():
            against.close(out[~short], want[~short], common.D + common.INTER)


def _bounded(devices, method, capacity):
    def layer(floats, ids):
        return expert_parallel(**floats, topk_ids=ids, axis_name="e", method=method, capacity=capacity)

    return jax.shard_map(layer, mesh=common.mesh_of(devices), in_specs=P("e"), out_specs=(P("e"), P()))


def test_the_stand_in_refuses_what_is_undefined():
    """Otherwise the ragged tests would show nothing."""

    def run(sizes, back):
        def each(x):
            zero = jnp.zeros(2, jnp.int32)
            out = jax.lax.pcast(jnp.zeros(2), "e", to="varying")
            return jax.lax.ragged_all_to_all(x, out, zero, sizes, zero + jax.lax.axis_index("e"), back, axis_name="e")

        mapped = jax.shard_map(each, mesh=common.mesh_of(2), in_specs=P("e"), out_specs=P("e"))
        return jax.jit(mapped)(jnp.arange(4.0))

    one, two = jnp.ones(2, jnp.int32), jnp.full(2, 2, jnp.int32)
    np.testing.assert_array_equal(run(one, one), [0, 2, 0, 2])
    assert (run(one, two) == -77).all()  # the ends do not agree
    assert (run(two, two) == -77).any()  # past the end
