"""What the Triton provider does with a chosen tile: it says it, builds it, and goes back to AITER's own where it cannot be had."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import pytest

from jax_aiter.kernels.provider import Call, Target
from jax_aiter.kernels.spec import EXACT_GROUPS, ArraySpec, CallSpec
from jax_aiter.kernels.triton import provider
from jax_aiter.kernels.triton.provider import CannotRecord, TritonProvider
from jax_aiter.kernels.triton.tiles import choose, shipped

TILE = {"BLOCK_SIZE_M": 64, "BLOCK_SIZE_N": 64}


def call(m=256, n=512, k=512) -> Call:
    operands = {name: jax.ShapeDtypeStruct((rows, k), jnp.bfloat16) for name, rows in (("a", m), ("b", n))}
    result = jax.ShapeDtypeStruct((m, n), jnp.bfloat16)
    return Call("gemm_a16w16", Target("cuda", "sm_90"), operands, {"out_dtype": "bfloat16"}, (result,))


@pytest.fixture(autouse=True)
def shipped_row(monkeypatch, tmp_path):
    """One row for the op, and no AITER: what would be built is seen, and nothing is."""
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_AITER_TUNE", raising=False)
    monkeypatch.setattr(provider, "aiter_location", lambda root=None: None)
    monkeypatch.setattr(provider.plans, "exists", lambda spec, root: True)
    row = shipped.Row("gemm_a16w16", {"a": "bfloat16"}, {}, {"M": 256, "N": 512, "K": 512}, TILE, "test")
    monkeypatch.setattr(shipped, "rows", lambda arch: (row,))
    provider._say_once.cache_clear()


def test_explain_says_the_tile_and_its_origin():
    (line,) = TritonProvider().details(call())
    assert line == "tile: BLOCK_SIZE_M=64 BLOCK_SIZE_N=64 (shipped for sm_90, of M=256 N=512 K=512 (test))"


def test_parts_of_an_op_are_named_with_theirs(monkeypatch):
    """A layer's gradient is five products, each with a tile of its own."""
    x, w1, w2 = (jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((64, 128), (4, 256, 128), (4, 128, 128)))
    routing = {"topk_weight": ((64, 2), jnp.float32), "topk_ids": ((64, 2), jnp.int32)}
    operands = {"d_out": x, "hidden_states": x, "w1": w1, "w2": w2}
    operands |= {name: jax.ShapeDtypeStruct(*array) for name, array in routing.items()}
    params = {"quant_type": "none", "hidden_pad": 0, "intermediate_pad": 0}
    asked = Call("fused_moe_backward", Target("cuda", "sm_90"), operands, params, (x, w1, w2))
    lines = TritonProvider().details(asked)
    assert [line.partition(":")[0] for line in lines] == [f"tile of {name}" for name in ("u", "q", "d_x", "d_w1", "d_w2")]
    assert all(line.endswith(choose.OWN) for line in lines), "nothing is known of grouped products here"


def test_a_part_has_the_tile_of_the_op_that_it_is():
    """What a composed op says of its parts changes their plans and not what was measured of them."""
    operands = {
        "lhs": ArraySpec((8, 16), "bfloat16"),
        "rhs": ArraySpec((2, 16, 4), "bfloat16"),
        "group_sizes": ArraySpec((2,), "int32"),
    }
    params = {"transpose_rhs": False, "preferred_element_type": "bfloat16"}
    alone, part = (CallSpec("grouped_gemm", "sm_90", operands, p, ()) for p in (params, {**params, EXACT_GROUPS: True}))
    assert choose.key(part) == choose.key(alone)
    assert choose.key(part) != choose.key(dataclasses.replace(part, params={**part.params, "transpose_rhs": True}))
    assert part.to_json() != alone.to_json()


def test_the_tile_is_what_is_built(monkeypatch):
    built = []
    monkeypatch.setattr(provider, "plan_for", lambda spec: built.append(dict(spec.tile)))
    TritonProvider().plan(call())
    assert built == [TILE]


def test_a_tile_that_cannot_be_built_gives_way_and_is_said_once(monkeypatch):
    def plan_for(spec):
        if spec.tile:
            raise CannotRecord("too much shared memory")
        return "own"

    monkeypatch.setattr(provider, "plan_for", plan_for)
    with pytest.warns(RuntimeWarning, match=r"gemm_a16w16 runs with AITER's own configuration.*too much shared memory"):
        assert TritonProvider().plan(call()) == "own"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TritonProvider().plan(call()) == "own"
    with choose.forced("gemm_a16w16", TILE), pytest.raises(CannotRecord):
        TritonProvider().plan(call())


def test_a_tile_that_is_known_to_be_refused_is_not_tried_again(monkeypatch):
    monkeypatch.setattr(provider.plans, "refusal", lambda spec, root: "too much shared memory" if spec.tile else None)
    monkeypatch.setattr(provider, "plan_for", lambda spec: dict(spec.tile))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TritonProvider().plan(call()) == {}
    (line,) = TritonProvider().details(call())
    assert line.endswith("(test) cannot be used: too much shared memory"), line
    assert provider._cannot_build(CallSpec.of(call())) is None
    with choose.forced("gemm_a16w16", TILE):
        assert provider._cannot_build(CallSpec.of(call())) == "too much shared memory"


def test_where_nothing_can_be_built_the_plan_that_is_there_runs(monkeypatch):
    """A machine without Triton, with plans that were made without tiles."""
    monkeypatch.setattr(provider.plans, "exists", lambda spec, root: not spec.tile)
    monkeypatch.setattr(provider, "plan_for", lambda spec: dict(spec.tile))
    assert TritonProvider().plan(call()) == {}
    (line,) = TritonProvider().details(call())
    assert "AITER's own configuration: its plan is in the cache" in line
    assert provider._cannot_build(CallSpec.of(call())) is None
