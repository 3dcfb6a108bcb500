"""Exported programs with symbolic dimensions: every axis of every case, called with two sizes, against the direct call.

An axis grows with those that the op's rules tie to it (I and 2·I, a block scale's axis, offsets and their sequences): the smallest
set of axes of which twice the size makes a call that the op takes. Axes that cannot be symbolic are refused by the op's own error.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jax_aiter
from jax_aiter.bind.op import OPS

from .common import LATER, PLATFORMS, assert_same, bound, dims_of
from .test_gradient import split

OFFSETS = ("Bp", "B1", "Np")  # one more than there are sequences, or tiles
# Loops over blocks take other blocks where a size is symbolic, so sums of float32 come in another order: some tens of ulps, but not
# many of the result's own dtype where that is narrower.
FLOAT32_ULPS, OTHER_ULPS = 128, 8


def sizes(op, case):
    """Size by axis name, without axes of a literal size."""
    found = {}
    for name, array in case.operands.items():
        found |= {a: n for a, n in zip(dims_of(op, case, name), array.shape, strict=True) if not a.isdigit()}
    return found


def grown(axis, size, factor):
    return (size - 1) * factor + 1 if axis in OFFSETS else size * factor


def shapes(op, case, sizes):
    """The operands' structs, with these sizes by axis and the case's own for the others."""

    def shape(name, array):
        return tuple(sizes.get(axis, size) for axis, size in zip(dims_of(op, case, name), array.shape, strict=True))

    return {n: jax.ShapeDtypeStruct(shape(n, a), jnp.dtype(a.dtype)) for n, a in case.operands.items()}


def times(op, case, group, factor):
    """The sizes of a group's axes when they are `factor` times as long."""
    return {axis: grown(axis, size, factor) for axis, size in sizes(op, case).items() if axis in group}


def symbol(op, case, group, factor):
    """The same with a symbol: the number of rows itself where it grows alone (or with its offsets), as callers would write it.

    Rows that come in equal parts are a multiple of the case's.
    """
    if counts_rows(op, case, group[0]) and set(group[1:]) <= set(OFFSETS) and any_number(op, case, group):
        return {axis: factor + 1 if axis in OFFSETS else factor for axis in group}
    return times(op, case, group, factor)


def any_number(op, case, group):
    try:
        op.infer(shapes(op, case, {axis: 8 if axis in OFFSETS else 7 for axis in group}), case.params)
    except ValueError:
        return False
    return True


def taken(op, case, group):
    """Whether the axes may grow together without end: not only until two heads share what two had, or a last block is full."""
    try:
        for factor in (2, 3, 5, 7):
            op.infer(shapes(op, case, times(op, case, group, factor)), case.params)
    except ValueError:
        return False
    return True


@functools.cache
def group_of(name, index, axis):
    """The axis and the fewest others with which it grows, or None if there is no such call."""
    op = OPS[name]
    case = op.cases()[index]
    others = [a for a in sizes(op, case) if a != axis]
    for count in range(4):
        for more in itertools.combinations(others, count):
            if taken(op, case, (axis, *more)):
                return (axis, *more)
    return None


def draw(op, case, structs):
    """Operands of these shapes: as the case draws them where it can, else its own repeated. Offsets ascend."""
    rng, found = np.random.default_rng(1), {}
    for name, array in case.operands.items():
        shape = structs[name].shape
        try:
            value = array.fill(rng, shape)
        except ValueError:  # more slots than the cache has, say
            value = None
        if value is None or value.shape != shape:
            value = np.resize(array.fill(rng, array.shape), shape)
        if any(axis in OFFSETS for axis in dims_of(op, case, name)):
            value = np.sort(value)
        found[name] = jnp.asarray(value).astype(array.dtype)
    return found


def close(got, want, what):
    for g, w in zip(got, want, strict=True):
        ulps = FLOAT32_ULPS if w.dtype == jnp.float32 else OTHER_ULPS
        assert_same([g], [w], ulps=ulps, what=what)


def exported(function, *structs):
    return export.deserialize(export.export(jax.jit(function), platforms=PLATFORMS)(*structs).serialize())


def agrees(op, case, groups, function, factors=(1, 2)):
    """`function` exported with a symbol for each group of axes, called with these multiples of the case's sizes."""
    names = export.symbolic_shape(", ".join(f"s{i}" for i in range(len(groups))))
    symbolic = {}
    for group, name in zip(groups, names, strict=True):
        symbolic |= symbol(op, case, group, name)
    program = exported(function, shapes(op, case, symbolic))
    for factor in factors:
        known = {}
        for group in groups:
            known |= times(op, case, group, factor)
        operands = draw(op, case, shapes(op, case, known))
        want = jax.jit(function)(operands)
        close(jax.tree.leaves(program.call(operands)), jax.tree.leaves(want), f"{groups} times {factor}")


def indexed():
    return [(op, case, index) for op in OPS.values() for index, case in enumerate(op.cases())]


FIRST_CASES = [pytest.param(op, index, id=f"{op.name}-{case.name}", marks=LATER if index else []) for op, case, index in indexed()]


def counts_rows(op, case, axis):
    """Axes that every program has to leave open: tokens, sequences, rows, columns of block tables, whatever is folded or split."""
    free = {"MOE": {"T"}, "LINEAR": {"B", "M"}}.get(op.family, {"T", "B", "S", "Tq", "Tk", "Sq", "Sk", "M", "Tn"})
    return (axis in free or axis in op.parallel or axis == op.fold or axis.startswith("...")) and axis not in OFFSETS


def row_groups(op, case, index):
    """The axes that count rows, those that grow together in one group."""
    groups = []
    for axis in sizes(op, case):
        if counts_rows(op, case, axis) and not any(axis in group for group in groups):
            groups.append(group_of(op.name, index, axis))
    return groups


@pytest.mark.parametrize(("op", "index"), FIRST_CASES)
def test_symbolic_rows(op, index):
    """All axes that count rows at once, each with a symbol of its own."""
    case = op.cases()[index]
    agrees(op, case, row_groups(op, case, index), bound(op, case))


EACH_AXIS = [
    pytest.param(op, index, axis, id=f"{op.name}-{case.name}-{axis}", marks=LATER)
    for op, case, index in indexed()
    for axis in sizes(op, case)
    if axis not in OFFSETS  # which come with their sequences
]


@pytest.mark.parametrize(("op", "index", "axis"), EACH_AXIS)
def test_symbolic_axis(op, index, axis):
    """Each axis alone, also those that need not be symbolic: right, or refused by the op's own words."""
    case = op.cases()[index]
    group = group_of(op.name, index, axis)
    if group is None or set(group) & set(op.fixed):
        (size,) = export.symbolic_shape("s")
        with pytest.raises((TypeError, ValueError), match=rf"^{op.name}: .*\bs\b") as caught:
            exported(bound(op, case), shapes(op, case, symbol(op, case, group or (axis,), size)))
        assert any(n in str(caught.value) for n in case.operands), caught.value
        return
    agrees(op, case, [group], bound(op, case))


def test_axes_that_count_rows_are_symbolic_everywhere():
    """No op refuses them: each grows together with some others, none of which must be a number."""
    for op, case, index in indexed():
        for axis in sizes(op, case):
            if counts_rows(op, case, axis):
                group = group_of(op.name, index, axis)
                assert group is not None, (op.name, case.name, axis)
                assert not set(group) & set(op.fixed), (op.name, case.name, axis)


def gradients():
    return [
        pytest.param(op, index, id=f"{op.name}-{case.name}", marks=[] if index == 0 else LATER)
        for op, case, index in indexed()
        if op.gradient and op.gradient.backward and split(op, case)[0]  # JAX does not reverse loops over data
    ]


@pytest.mark.parametrize(("op", "index"), gradients())
def test_symbolic_gradient(op, index):
    """Of the first axis that counts rows."""
    case = op.cases()[index]
    wrt = split(op, case)[0]

    def loss(wrt, rest):
        return symbolic_loss(op(**wrt, **rest, **case.params))

    def gradient(operands):
        return jax.grad(loss)({n: operands[n] for n in wrt}, {n: x for n, x in operands.items() if n not in wrt})

    agrees(op, case, row_groups(op, case, index)[:1], gradient)


def symbolic_loss(results):
    """A scalar of all float results whose cotangents are no constants, whatever the sizes."""
    total = jnp.float32(0)
    for x in results:
        if jnp.issubdtype(x.dtype, jnp.floating):
            finite = jnp.where(jnp.isfinite(x), x, 0).astype(jnp.float32)
            total += jnp.sum(jnp.sin(finite + jnp.arange(x.shape[-1], dtype=jnp.float32)))
    return total


def test_scopes_do_not_meet():
    """The same call with a symbol of the same name in another scope: nothing that is remembered mixes them."""
    op, case = OPS["rms_norm"], OPS["rms_norm"].cases()[0]
    for _ in range(2):
        agrees(op, case, [("...0",)], lambda operands: jax.grad(lambda xs: symbolic_loss(op(**xs, **case.params)))(operands))


def test_a_size_beyond_a_limit_is_refused_when_the_program_is_called():
    """A guard of 32-bit numbers that no symbolic size decides is part of the program, in 64 bits."""
    (tokens,) = export.symbolic_shape("t")

    def sort(ids, weights):
        return jax_aiter.moe_sorting(ids, weights, 8, 32)

    def structs(tokens):
        return jax.ShapeDtypeStruct((tokens, 2), jnp.int32), jax.ShapeDtypeStruct((tokens, 2), jnp.float32)

    program = export.export(jax.jit(sort))(*structs(tokens))
    jax.jit(program.call).lower(*structs(2**24 - 1)).compile()
    with pytest.raises(ValueError, match="refining shapes") as caught:
        jax.jit(program.call).lower(*structs(2**24)).compile()
    assert "must be < 2**24 tokens" in str(caught.value.__cause__)
    # One that is decided needs no size; nor does one that the caller's constraint decides.
    with pytest.raises(ValueError, match=r"moe_sorting: .* must be < 2\*\*24 tokens"):
        export.export(jax.jit(sort))(*structs(tokens + 2**24))
    (few,) = export.symbolic_shape("t", constraints=["t <= 1000"])
    assert "2**24" in program.mlir_module()
    assert "2**24" not in export.export(jax.jit(sort))(*structs(few)).mlir_module()


def test_kernels_refuse_symbolic_sizes():
    (tokens,) = export.symbolic_shape("t")
    x, w = jax.ShapeDtypeStruct((tokens, 8), jnp.float32), jax.ShapeDtypeStruct((8,), jnp.float32)
    with jax_aiter.config(arch="gfx942"):
        found = jax_aiter.supports("rms_norm", "gfx942", x, w, epsilon=1e-6)
        assert all("dimension 0 of x is t" in str(found[name]) for name in found if name != "xla")
        for name in ("asm", "triton"):
            function = jax.jit(lambda x, w, name=name: jax_aiter.rms_norm(x, w, implementation=name))
            with pytest.raises(jax_aiter.NotSupportedError, match="dimension 0 of x is t"):
                export.export(function, platforms=("rocm",))(x, w)


def test_sizes_flow_from_one_op_to_the_next():
    """Routing, sorting and the first GEMM of a mixture of experts for any number of tokens."""
    (tokens,) = export.symbolic_shape("t")

    def layer(x, logits, w1, w1_scale):
        weights, ids = jax_aiter.topk_softmax(logits, 2)
        xq, scale = jax_aiter.per_token_quant(x, quant_dtype=jnp.float8_e4m3fnuz)
        sorted_ids, _, experts, valid = jax_aiter.moe_sorting(ids, weights, 4, 16)
        return jax_aiter.moe_stage1_g1u1(
            xq, w1, None, sorted_ids, experts, valid, topk=2, block_m=16, a1_scale=scale, w1_scale=w1_scale
        )

    def operands(tokens):
        shapes = [
            ((tokens, 32), jnp.bfloat16),
            ((tokens, 4), jnp.float32),
            ((4, 32, 32), jnp.float8_e4m3fnuz),
            ((4, 32), jnp.float32),
        ]
        return [jax.ShapeDtypeStruct(*s) for s in shapes]

    program = exported(layer, *operands(tokens))
    rng = np.random.default_rng(0)
    for count in (1, 37):
        drawn = [jnp.asarray(rng.standard_normal(x.shape).astype(np.float32)).astype(x.dtype) for x in operands(count)]
        close([program.call(*drawn)], [jax.jit(layer)(*drawn)], f"{count} tokens")


@pytest.mark.parametrize("name", ["rms_norm", "fused_moe", "unified_attention"])
def test_symbolic_sizes_in_64_bits(name):
    """Under `jax_enable_x64` JAX computes sizes in 64 bits; the op's arithmetic stays in 32."""
    op, case = OPS[name], OPS[name].cases()[0]
    with jax.enable_x64(True):
        agrees(op, case, row_groups(op, case, 0)[:1], bound(op, case))
