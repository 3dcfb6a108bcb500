"""The records of both grouped GEMMs, each the other's derivative: rows in groups times a matrix per group, and their transpose."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.core import check, machine, symbolic
from jax_aiter.core.axes import FP8_TYPES, INT32, Arg
from jax_aiter.core.cases import case, constant, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.machine import Form, always
from jax_aiter.core.reads import NOTHING, Reads, at, spread
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm import product
from jax_aiter.ops.moe.forms import aligned, dense, expert, groups, over_rows
from jax_aiter.ops.shared.running_sum import running_sum

FLOATS = ("float32", "bfloat16", "float16", *FP8_TYPES)


class Loaded(NamedTuple):
    matrix: jax.Array
    bias: jax.Array | None


def ends(group_sizes: jax.Array, rows: int) -> jax.Array:
    """int32 [G]: where each group ends. A negative size counts as 0, and no group goes beyond the last row."""

    def add(a, b):
        return jnp.where(a > rows - b, rows, a + b)

    return running_sum(jnp.clip(group_sizes, 0, rows), add)


def _groups(last: jax.Array, rows: int) -> groups.Groups:
    first = jnp.concatenate([jnp.zeros(1, jnp.int32), last])[:-1]
    order = jnp.arange(rows, dtype=jnp.int32)
    return groups.Groups(order, order, first, last - first, jnp.ones(rows, bool))


def _slice(x: jax.Array, rows: groups.Rows) -> jax.Array:
    return jax.lax.dynamic_slice(x, (rows.start, 0), (rows.valid.shape[0], x.shape[1]))


def owners(group_sizes: np.ndarray, rows: int) -> np.ndarray:
    """The group of each row, `NOTHING` behind the last; sizes are good."""
    held = np.repeat(np.arange(len(group_sizes)), group_sizes)[:rows]
    return np.concatenate([held, np.full(rows - len(held), NOTHING)]).astype(int)


def _abstract(dims, *, lhs, rhs, group_sizes, bias, transpose_rhs, preferred_element_type):
    check.same_dtype("grouped_gemm", lhs=lhs.dtype, rhs=rhs.dtype)
    return (Struct((dims["M"], dims["N"]), preferred_element_type),)


def _reference(*, lhs, rhs, group_sizes, bias, transpose_rhs, preferred_element_type):
    rows, held, columns = lhs.shape[0], rhs.shape[0], rhs.shape[1 if transpose_rhs else 2]
    last = ends(group_sizes, rows)
    found = _groups(last, rows)

    def load(g):
        return Loaded(groups.take_row(rhs, g), None if bias is None else groups.take_row(bias, g).astype(jnp.float32))

    def product(x, loaded):
        y = expert.matmul(x, loaded.matrix, contract=1 if transpose_rhs else 0)
        return y if loaded.bias is None else y + loaded.bias

    if machine.is_gpu() and _dense(rows, held, columns, rhs.dtype.itemsize):
        every = jax.vmap(lambda matrix, b: product(lhs, Loaded(matrix, b)))(rhs, None if bias is None else bias.astype(jnp.float32))
        row = jnp.arange(rows, dtype=jnp.int32)
        out = every[groups.experts_of(found, row, "compare_all"), row]
    else:
        padded = jnp.pad(lhs, ((0, over_rows.longest_block(rows, held, rhs.dtype.itemsize)), (0, 0)))

        def compute(loaded, part):
            return product(_slice(padded, part), loaded)

        out = over_rows.over_rows(found, load, compute, columns, over_rows.bytes_of(rhs), rhs.dtype.itemsize)
    taken = jnp.arange(rows) < (last[-1] if last.shape[0] else 0)
    return (jnp.where(taken[:, None], out[:rows], 0.0).astype(preferred_element_type),)


def _dense(rows, held, columns, itemsize: int) -> bool:
    """Whether every group's matrix for every row is cheaper than blocks of rows with copies of their matrices (`aligned`)."""
    if symbolic.any_symbolic_size(rows, held, columns) or 0 in (rows, held) or held * rows * columns > dense.ELEMENTS:
        return False
    best = aligned.cost(rows, held, aligned.block_size(rows, held, itemsize), itemsize)
    return aligned.dense_cost(rows, held, itemsize) <= best


def _form(arch, operands, params) -> Form:
    lhs, rhs = operands["lhs"], operands["rhs"]
    columns = rhs.shape[1 if params["transpose_rhs"] else 2]
    return Form(dense.NAME if _dense(lhs.shape[0], rhs.shape[0], columns, rhs.dtype.itemsize) else aligned.NAME)


def _backward(saved, cotangents, *, implementation, transpose_rhs, preferred_element_type):
    lhs, rhs, sizes, dout = saved["lhs"], saved["rhs"], saved["group_sizes"], cotangents["out"]
    # A cotangent wider than the operands keeps its bits: the products run in the wider type.
    wide = jnp.promote_types(dout.dtype, lhs.dtype)
    x, w, dy = lhs.astype(wide), rhs.astype(wide), dout.astype(wide)
    call: dict[str, Any] = {"group_sizes": sizes, "implementation": implementation}
    (dlhs,) = GROUPED_GEMM(lhs=dy, rhs=w, **call, transpose_rhs=not transpose_rhs, preferred_element_type=lhs.dtype)
    left, right = (dy, x) if transpose_rhs else (x, dy)
    (drhs,) = TRANSPOSED_GROUPED_GEMM(lhs=left, rhs=right, **call, preferred_element_type=rhs.dtype)
    if saved["bias"] is None:
        return {"lhs": dlhs, "rhs": drhs}
    ones = jnp.ones((dy.shape[0], 1), wide)
    (dbias,) = TRANSPOSED_GROUPED_GEMM(lhs=ones, rhs=dy, **call, preferred_element_type=wide)
    return {"lhs": dlhs, "rhs": drhs, "bias": dbias[:, 0]}


def _reads(*, lhs, rhs, group_sizes, bias, **_):
    group = owners(group_sizes, len(lhs))
    (held,) = np.nonzero(group != NOTHING)
    label = np.full((len(lhs), 1), NOTHING)
    label[held, 0] = np.arange(len(held))
    of_group = at(group[held], len(rhs))
    operands = {"lhs": spread(at(held, len(lhs)), None), "rhs": spread(of_group, None, None)}
    return Reads(len(held), {"out": label}, operands | ({} if bias is None else {"bias": spread(of_group, None)}))


def _data_checks(*, lhs, group_sizes, **_):
    rows = lhs.shape[0]
    beyond = running_sum(jnp.clip(group_sizes, 0, rows).astype(jnp.float32)) > rows
    return {
        "group_sizes must not be negative": group_sizes < 0,
        f"group_sizes must sum to at most {rows}, the rows of lhs": beyond,
    }


def _relayout(params):
    return {"rhs": "G N K"} if params["transpose_rhs"] else {}


def _case(name: str, sizes: list[int], dtype: Any = jnp.float32, **operands: Any):
    params = {k: operands.pop(k) for k in ("transpose_rhs",) if k in operands}
    out = operands.pop("out", dtype)
    return case(name, **operands, group_sizes=constant(sizes, jnp.int32), **params, preferred_element_type=jnp.dtype(out))


GROUPED_GEMM = Op(
    name="grouped_gemm",
    family="MOE",
    mirrors="aiter.ops.triton.gmm.gmm",
    operands={
        "lhs": Arg("M K", FLOATS),
        "rhs": Arg("G K N", FLOATS),
        "group_sizes": Arg("G", INT32),
        "bias": Arg("G N", optional=True),
    },
    results={"out": "M N"},
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    gpu=_form,
    parallel=("N",),
    gradient=Gradient(wrt=("lhs", "rhs", "bias"), saves=("lhs", "rhs", "bias", "group_sizes"), backward=_backward),
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        _case("odd", [2, 0, 3], lhs=normal(7, 9), rhs=normal(3, 9, 6), bias=normal(3, 6), transpose_rhs=False),
        _case(
            "transposed",
            [1, 4],
            jnp.bfloat16,
            lhs=normal(5, 8, dtype=jnp.bfloat16),
            rhs=normal(2, 6, 8, dtype=jnp.bfloat16),
            transpose_rhs=True,
            out=jnp.float32,
        ),
    ],
)


def _abstract_transposed(dims, *, lhs, rhs, group_sizes, preferred_element_type):
    check.same_dtype("transposed_grouped_gemm", lhs=lhs.dtype, rhs=rhs.dtype)
    return (Struct((dims["G"], dims["K"], dims["N"]), preferred_element_type),)


def _reference_transposed(*, lhs, rhs, group_sizes, preferred_element_type):
    rows, held = lhs.shape[0], group_sizes.shape[0]
    found = _groups(ends(group_sizes, rows), rows)
    block = groups.block_rows(rows, held)
    if machine.is_gpu():
        block = aligned.block_size(rows, held, lhs.dtype.itemsize, aligned.COPIES * 4 // lhs.dtype.itemsize)
    left, right = (jnp.pad(x, ((0, block), (0, 0))) for x in (lhs, rhs))

    def zeroed(x, part):
        return jnp.where(part.valid[:, None], _slice(x, part), jnp.zeros((), x.dtype))

    def outer(part):
        return expert.outer(zeroed(left, part), zeroed(right, part), lhs.dtype)

    if machine.is_gpu() and 0 not in (rows, held):
        parts = lhs.shape[1] * rhs.shape[1] * 4
        _, sums = aligned.folded(found, block, lambda g: (), lambda _, part: ((), outer(part)), parts)
        return (sums.astype(preferred_element_type),)

    def step(loaded, part, total, out):
        # XLA's CPU backend has no batched half-precision product with float32 results, which a vmap of this would be.
        return total + outer(part), out

    def store(g, total, out):
        return jax.lax.dynamic_update_index_in_dim(out, total.astype(out.dtype), g, 0)

    shape = (lhs.shape[1], rhs.shape[1])
    out = groups.over_experts(
        found,
        block,
        lambda g: (),
        step,
        jnp.zeros((held, *shape), preferred_element_type),
        fresh=lambda: jnp.zeros(shape, jnp.float32),
        store=store,
    )
    return (out,)


def _backward_transposed(saved, cotangents, *, implementation, preferred_element_type):
    lhs, rhs, sizes, dout = saved["lhs"], saved["rhs"], saved["group_sizes"], cotangents["out"]
    wide = jnp.promote_types(dout.dtype, lhs.dtype)
    x, y, dout = lhs.astype(wide), rhs.astype(wide), dout.astype(wide)
    call: dict[str, Any] = {"group_sizes": sizes, "implementation": implementation}
    (dlhs,) = GROUPED_GEMM(lhs=y, rhs=dout, **call, transpose_rhs=True, preferred_element_type=lhs.dtype)
    (drhs,) = GROUPED_GEMM(lhs=x, rhs=dout, **call, transpose_rhs=False, preferred_element_type=rhs.dtype)
    return {"lhs": dlhs, "rhs": drhs}


def _reads_transposed(*, lhs, group_sizes, **_):
    held = len(group_sizes)
    rows = owners(group_sizes, len(lhs))[None] == np.arange(held)[:, None]
    read = {name: spread(rows, None) for name in ("lhs", "rhs")}
    return Reads(held, {"out": np.arange(held).reshape(held, 1, 1)}, read)


TRANSPOSED_GROUPED_GEMM = Op(
    name="transposed_grouped_gemm",
    family="MOE",
    mirrors="aiter.ops.triton.gmm.ptgmm, aiter.ops.triton.gmm.nptgmm",
    operands={"lhs": Arg("M K", FLOATS), "rhs": Arg("M N", FLOATS), "group_sizes": Arg("G", INT32)},
    results={"out": "G K N"},
    abstract=_abstract_transposed,
    reference=_reference_transposed,
    gpu=always(aligned.NAME),
    parallel=("K", "N"),
    gradient=Gradient(wrt=("lhs", "rhs"), saves=("lhs", "rhs", "group_sizes"), backward=_backward_transposed),
    reads=_reads_transposed,
    data_checks=_data_checks,
    cases=lambda: [
        _case("odd", [2, 0, 3], lhs=normal(7, 5), rhs=normal(7, 6)),
        _case("half", [1, 4], jnp.bfloat16, lhs=normal(5, 8, dtype=jnp.bfloat16), rhs=normal(5, 3, dtype=jnp.bfloat16)),
    ],
)


def out_type(op: str, lhs: Any, preferred_element_type: Any) -> np.dtype:
    """The static dtype of the result; None is the dtype of `lhs`, bfloat16 where that is fp8."""
    if preferred_element_type is None:
        dtype = getattr(lhs, "dtype", None)
        preferred_element_type = dtype if dtype is not None and jnp.dtype(dtype).name in product.OUT_TYPES else jnp.bfloat16
    return check.static_dtype(op, "preferred_element_type", preferred_element_type, product.OUT_TYPES)
