"""What an op must not read meets no arithmetic: NaN, infinities, 1e30 there change no result and no gradient.

The jitted function runs on clean and on poisoned data: one compiled program, whose arithmetic on what is read is the same, so the
results are compared bit for bit.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.bind import select
from jax_aiter.bind.explain import platform_name
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import adapters

from .common import ALL, LATER, OPS, bound, is_float
from .poison import KINDS, Dependence, assert_equal_at, bad, poisoned
from .poison_cases import larger
from .poison_odd import odd

LARGER = [(OPS[name], case) for name, cases in larger().items() for case in cases]
ODD = [(OPS[name], case) for name, cases in odd().items() for case in cases]
CALLS = LARGER + ODD + ALL


def parameters(calls, default):
    """Those calls that are not in `default` run with the mark `exhaustive`."""
    return pytest.mark.parametrize(
        ("op", "case"),
        [pytest.param(op, case, id=f"{op.name}-{case.name}", marks=[] if (op, case) in default else LATER) for op, case in calls],
    )


# What only chooses: a router takes NaN for the least of all scores, and what it then returns may well be finite.
CHOOSING = {(name, "correction_bias") for name in ("biased_grouped_topk", "topk_gating")}


# Where a kernel of AITER's breaks the rule; docs/limits.md. It takes the queries of a sequence and key head in tiles and multiplies
# what a mask hides from some of them by zero, NaN too: there the rule is asked of all that may share a tile.
TILED = {("triton", "flash_attention"), ("triton", "flash_attention_bwd"), ("triton", "flash_attention_varlen")}
# And where a kernel finds the scale, its largest value and its cast drop a NaN; adapters of the Triton provider declare that.
HIDING = {("hip", n) for n in ("group_quant", "topk_softmax", "topk_sigmoid", "grouped_topk", "biased_grouped_topk")}


def hides(op, case, request) -> bool:
    if request.config.getoption("--implementation") != "triton":
        return within(HIDING, op, request) and "scale" not in case.operands
    operands = {n: a.struct for n, a in case.operands.items()}
    call = select.make_call(op, platform_name(), None, operands, case.params, op.infer(operands, case.params))
    adapter = adapters().get(op.name)  # a composition has none, and hides nothing of its own
    return adapter is not None and adapter.hides_nan(CallSpec.of(call))


def within(table, op, request) -> bool:
    return (request.config.getoption("--implementation"), op.name) in table


@parameters(CALLS, CALLS)
def test_results(op, case, request):
    check_results(op, case, request, groups=3, kinds=("nan", "mixed"))


@parameters(CALLS, ())
def test_every_group(op, case, request):
    check_results(op, case, request, groups=60, kinds=KINDS)


def check_results(op, case, request, groups: int, kinds):
    run = jax.jit(bound(op, case, request.config.getoption("--implementation")))
    operands = case.draw()
    depends = Dependence(op, operands, case.params)
    want = run(operands)
    everything = [np.ones(x.shape, bool) for x in want]
    for kind in KINDS:
        got = run(poisoned(operands, depends.read(depends.live), kind, tables=True))
        assert_equal_at(got, want, everything, f"what nothing reads is {kind}")
    tiled = within(TILED, op, request)
    for chosen in [np.zeros_like(depends.live), *(depends.tiles(groups) if tiled else depends.some(groups))]:
        for kind in kinds:
            got = run(poisoned(operands, depends.read(chosen), kind))
            what = f"what group {np.flatnonzero(chosen)} does not read is {kind}"
            assert_equal_at(got, want, depends.own(chosen, constant=True), what)
    if tiled:
        what_a_tile_hides_shows(run, operands, depends)
    if hides(op, case, request):
        with pytest.raises(AssertionError, match="does not show"):
            what_is_read_shows(run, op, operands, case.draw(seed=1), want, depends)
    else:
        what_is_read_shows(run, op, operands, case.draw(seed=1), want, depends)


def what_a_tile_hides_shows(run, operands, depends):
    """Where that is no longer so, `TILED` and the line of docs/limits.md have an entry too many."""
    for one in depends.some(3):
        kept, tile = depends.read(one), depends.read(depends.tile(one))
        if not any((tile[n] & ~kept[n]).any() for n in ("k", "v")):
            continue
        got = run(poisoned(operands, {n: kept[n] for n in ("k", "v")}, "nan"))
        assert not np.isfinite(floats(got, depends.own(one))).all(), f"NaN beside what group {np.flatnonzero(one)} reads"


def what_is_read_shows(run, op, operands, others, want, depends):
    """NaN in what a group reads is in its results, wherever other numbers there would change them: nothing hides a real one."""
    for groups in depends.some(2):
        own, read = depends.own(groups), depends.read(groups)
        for n, x in operands.items():
            if not jnp.issubdtype(x.dtype, jnp.floating) or not read[n].any() or (op.name, n) in CHOOSING:
                continue
            changed = floats(run({**operands, n: jnp.asarray(np.where(read[n], others[n], x))}), own)
            if np.array_equal(changed, floats(want, own), equal_nan=True):
                continue
            got = floats(run({**operands, n: jnp.asarray(np.where(read[n], np.asarray(jnp.nan, x.dtype), x))}), own)
            assert not np.isfinite(got).all(), f"NaN in {n} does not show in group {np.flatnonzero(groups)}"


def floats(results, where) -> np.ndarray:
    """The chosen elements of all float results."""
    chosen = [(x, at) for x, at in zip(results, where, strict=True) if jnp.issubdtype(x.dtype, jnp.floating)]
    return np.concatenate([np.zeros(0), *(np.asarray(x).astype(np.float64)[at] for x, at in chosen)])


def differentiated(op, case):
    if op.gradient is None or op.gradient.backward is None:  # that is the derivative of a gradient, which JAX makes
        return []
    return [n for n, x in case.operands.items() if n in op.gradient.wrt and is_float(x)]


DIFFERENTIABLE = [(op, case) for op, case in CALLS if differentiated(op, case)]
FIRST = [*{op.name: (op, case) for op, case in reversed(DIFFERENTIABLE) if (op, case) not in LARGER + ODD}.values()]


def gradient(op, case, implementation):
    """jitted (operands, cotangents of float results) -> gradients by operand."""
    names = differentiated(op, case)

    @jax.jit
    def pull(operands, cotangents):
        def call(wrt):
            results = op(**{**operands, **wrt}, **case.params, implementation=implementation)
            return [x for x in results if is_float(x)]

        return jax.vjp(call, {n: operands[n] for n in names})[1](cotangents)[0]

    return pull


@parameters(DIFFERENTIABLE, LARGER + FIRST)
def test_gradients(op, case, request):
    pull = gradient(op, case, request.config.getoption("--implementation"))
    operands = case.draw()
    depends = Dependence(op, operands, case.params)
    rng = np.random.default_rng(5)
    structs = op.infer({n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in operands.items()}, case.params)
    labels = [depends.labels[i] for i, s in enumerate(structs) if is_float(s)]
    cotangents = [jnp.asarray(rng.standard_normal(s.shape), s.dtype) for s in structs if is_float(s)]
    want = pull(operands, cotangents)
    sets = [np.zeros_like(depends.live), depends.live]
    for n in want:
        for _ in range(2):
            sets.append(depends.readers(n, tuple(int(rng.integers(k)) for k in operands[n].shape)))
    sets = [depends.tile(groups) for groups in sets] if within(TILED, op, request) else sets
    for groups in sets:
        kept = np.append(groups, False)
        for kind in ("nan", "mixed", "huge"):
            given = [
                jnp.asarray(np.where(kept[at], np.asarray(ct), bad(ct.dtype, kind, ct.shape, rng)))
                for ct, at in zip(cotangents, labels, strict=True)
            ]
            got = pull(poisoned(operands, depends.read(groups), kind, tables=bool((groups == depends.live).all())), given)
            where = [depends.only(groups, n) for n in got]
            assert_equal_at(
                got.values(), want.values(), where, f"gradients of {list(got)} of groups {np.flatnonzero(groups)}: {kind}"
            )
            for n, g in got.items():
                unread = ~depends.read(depends.live)[n]
                assert not np.any(np.asarray(g)[unread]), f"gradient of {n} where nothing reads it: {kind}"
