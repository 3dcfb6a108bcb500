"""Wrong calls of every public op: a TypeError or ValueError that names the argument, before anything reaches XLA."""

import dataclasses
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jax_aiter
from jax_aiter.core.arch import FNUZ, FP8, OCP, target_arch

from .common import ALL, dims_of


def computable(case):
    """The case's fp8 family is the target's, where a device or the configuration sets one."""
    wanted = FP8.get(target_arch() or "")
    named = {v for v in case.params.values() if isinstance(v, np.dtype)}
    used = ({jnp.dtype(a.dtype) for a in case.operands.values()} | named) & {FNUZ, OCP}
    return wanted is None or used <= {wanted}


def takes_operands(op, case, function):
    """All that the public function must be given is an operand or a parameter of the op."""
    needed = [n for n, p in inspect.signature(function).parameters.items() if p.default is inspect.Parameter.empty]
    return set(needed) <= {*case.operands, *case.params, *(("scale",) if op.name == "convert_fp8" else ())}


# Each case becomes a call of the public function; wrappers that build their operands otherwise take part with what they accept.
FUNCTIONS = [(op, case, getattr(jax_aiter, op.name)) for op, case in ALL if hasattr(jax_aiter, op.name) and computable(case)]
PUBLIC = [(op, case, function) for op, case, function in FUNCTIONS if takes_operands(op, case, function)]


def takes_leading_axes(op):
    """The public function takes any leading axes in place of the record's M."""
    return op.name.startswith("gemm_")


# A slope may stand per head or per sequence and head, a count may be a scalar, one state a sequence a vector.
RANKS = {"alibi_slopes", "num_local_tokens", "per_tensor_quant_scale", "ssm_state_indices"}


def spread(op, name):
    """The public function takes this scale of rows in other shapes too, and one number for all rows."""
    return op.family == "LINEAR" and name.endswith(("_scale", "_scales")) and op.operands[name].axes.split()[-1] == "1"


def spread_scales(op):
    """Names of the operands that hold one factor per row or for all."""
    return [name for name in op.operands if spread(op, name) and " " in op.operands[name].axes]


DTYPES = ("float32", "bfloat16", "float16", "int32", "int8", "uint8", "float8_e4m3fnuz", "float8_e4m3fn", "complex64")


@dataclasses.dataclass(frozen=True)
class Wrong:
    """A call and the names of which one must stand in the message."""

    op: Any
    function: Any
    arguments: dict
    names: tuple[str, ...]
    what: str


def call_arguments(op, case, function):
    accepted = inspect.signature(function).parameters
    operands = {n: a.struct for n, a in case.operands.items() if n in accepted}
    params = {n: v for n, v in case.params.items() if n in accepted}
    if op.name == "convert_fp8":  # the scale only passes through the public function
        operands["scale"] = jax.ShapeDtypeStruct((), jnp.float32)
    return operands, params


def resized(struct, axis, size):
    shape = list(struct.shape)
    shape[axis] = size
    return jax.ShapeDtypeStruct(tuple(shape), struct.dtype)


@st.composite
def wrong_calls(draw):
    op, case, function = draw(st.sampled_from(PUBLIC))
    operands, params = call_arguments(op, case, function)
    arguments = {**operands, **params}
    kinds = ["rank", "dtype", "dimension", "missing", "not an array", "unknown implementation", "parameter"]
    kind = draw(st.sampled_from(kinds))
    name = draw(st.sampled_from(sorted(set(operands) & set(op.operands))))
    struct = operands[name]
    if kind == "rank":
        axes = op.operand_args(case.params)[name].axes
        axes = axes.replace("M", "...") if takes_leading_axes(op) else axes
        # Any rank is right for "..."; some may stand in more ways.
        if axes == "..." or name in RANKS:
            names = ("implementation",)
            arguments["implementation"] = "cuda"
        else:
            # 3 and not 1: some public functions take a trailing 1 for a scale, as AITER does.
            one_of_two = name == "kv_cache" and "head_axis" in case.params  # with an axis for its one head, or without
            longer = not struct.shape or one_of_two or spread(op, name) or ("..." not in axes and draw(st.booleans()))
            shape = (*struct.shape, 3) if longer else () if "..." in axes else struct.shape[1:]
            arguments[name] = jax.ShapeDtypeStruct(shape, struct.dtype)
            names = tuple(operands)
    elif kind == "dtype":
        allowed = op.operands[name].dtypes
        arguments[name] = jax.ShapeDtypeStruct(
            struct.shape, jnp.dtype(draw(st.sampled_from([d for d in DTYPES if d not in allowed])))
        )
        names = (name,)
    elif kind == "dimension":
        shared = [
            (n, i)
            for n in sorted(set(operands) & set(op.operands))
            for i, axis in enumerate(dims_of(op, case, n))
            if axis.isdigit() or sum(axis in dims_of(op, case, m) for m in case.operands) > 1
            if axis.isdigit() or operands[n].shape[i] != 1 or not spread_scales(op)  # a scale of one row is one of many rows too
        ]
        if not shared:
            names = ("implementation",)
            arguments["implementation"] = "cuda"
        else:
            name, axis = draw(st.sampled_from(shared))
            size = operands[name].shape[axis]
            right = (1, size) if spread(op, name) else (size,)
            arguments[name] = resized(operands[name], axis, draw(st.integers(0, 2 * size + 3).filter(lambda n: n not in right)))
            names = tuple(operands)
    elif kind == "missing":
        signature = inspect.signature(function).parameters
        name = draw(st.sampled_from([n for n in sorted(operands) if signature[n].default is inspect.Parameter.empty]))
        arguments[name] = None
        names = (name,)
    elif kind == "not an array":
        number = [] if name == "per_tensor_quant_scale" else [3.5]  # which may be one
        arguments[name] = draw(st.sampled_from([[1.0, 2.0], "text", *number, {"a": 1}, object()]))
        names = (name,)
    elif kind == "unknown implementation":
        arguments["implementation"] = draw(st.sampled_from(["cuda", "", "XLA", 1, True]))
        names = ("implementation",)
    else:
        typed = [n for n, v in params.items() if isinstance(v, (str, int, float, np.dtype)) or v is None]
        if not typed:
            names = ("implementation",)
            arguments["implementation"] = "cuda"
        else:
            name = draw(st.sampled_from(sorted(typed)))
            arguments[name] = draw(st.sampled_from(bad_values(params[name])))
            names = (name,)
    return Wrong(op, function, arguments, names, f"{kind}: {op.name}-{case.name}, {name} = {arguments.get(name)!r}")


def bad_values(value):
    if isinstance(value, bool):
        return ["yes", 2, 0.5, (1,)]
    if isinstance(value, str):
        return ["bogus", "", 3]
    if isinstance(value, int):
        return [-1, "3", 2.5, True]
    if isinstance(value, float):
        return ["0.1", float("nan"), float("inf"), (1.0,)]
    return [object(), "bogus", (1, "x")]


def traced(function, arguments):
    """`jax.eval_shape` of a call; weights that a function takes in shuffled order only are wrapped for it."""
    arrays = {n: v for n, v in arguments.items() if isinstance(v, jax.ShapeDtypeStruct)}
    static = {n: v for n, v in arguments.items() if n not in arrays}
    wrapped = {n for n, p in inspect.signature(function).parameters.items() if p.annotation is jax_aiter.ShuffledWeight}

    def call(xs):
        return function(**{n: jax_aiter.ShuffledWeight(x, (16, 16)) if n in wrapped else x for n, x in xs.items()}, **static)

    return jax.eval_shape(call, arrays)


def run(wrong: Wrong):
    return traced(wrong.function, wrong.arguments)


@settings(max_examples=3000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(wrong_calls())
def test_wrong_calls_are_refused(wrong):
    with pytest.raises((TypeError, ValueError)) as caught:
        run(wrong)
    message = str(caught.value)
    assert any(name in message for name in wrong.names), (wrong.what, message)
    assert not isinstance(caught.value, jax.errors.JAXTypeError), (wrong.what, message)


def test_fp8_families_may_not_be_mixed():
    """One operand of the other family than the rest: refused in every op that takes two fp8 operands."""
    tried = 0
    for op, case, function in PUBLIC:
        operands, params = call_arguments(op, case, function)
        fp8 = [n for n, s in operands.items() if s.dtype in (FNUZ, OCP)]
        for name in fp8 if len(fp8) > 1 else []:
            other = OCP if operands[name].dtype == FNUZ else FNUZ
            mixed = {**operands, name: jax.ShapeDtypeStruct(operands[name].shape, other)}
            with pytest.raises(TypeError, match="convert_fp8"):
                traced(function, {**mixed, **params})
            tried += 1
    assert tried >= 4


def test_fp8_of_another_arch_is_refused():
    for op, case, function in PUBLIC:
        operands, params = call_arguments(op, case, function)
        fp8 = {jnp.dtype(s.dtype) for s in operands.values()} & {FNUZ, OCP}
        if not fp8 or op.name == "convert_fp8":
            continue
        arch = "gfx950" if fp8 == {FNUZ} else "gfx942"
        with jax_aiter.config(arch=arch), pytest.raises(TypeError, match=arch):
            traced(function, {**operands, **params})
