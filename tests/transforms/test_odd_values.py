"""Every parameter of every public function given what it is not made for: an answer, or an error that names function and parameter.

Python's own errors (OverflowError, AttributeError, RecursionError), numpy's and JAX's are no answer: they name neither.
"""

import inspect
import numbers
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.errors import NotSupportedError

from .common import LATER
from .test_bad_input import FUNCTIONS, call_arguments, traced


class Unprintable:
    def __repr__(self):
        raise RuntimeError("this cannot be shown")


CYCLE: list = []
CYCLE.append(CYCLE)
VALUES = {
    "2**31": 2**31,
    "2**63": 2**63,
    "-2**70": -(2**70),
    "10**400": 10**400,
    "10**9999": 10**9999,  # more digits than Python prints
    "-1": -1,
    "True": True,
    "nan": float("nan"),
    "-inf": -float("inf"),
    "1e300": 1e300,
    "complex": 1j,
    "str": "bogus",
    "empty str": "",
    "bytes": b"x",
    "None": None,
    "Ellipsis": ...,
    "object": object(),
    "object that cannot be shown": Unprintable(),
    "function": len,
    "class": int,
    "empty tuple": (),
    "huge tuple": (2**63, -(2**70)),
    "nested list": [[1, 2], [3]],
    "list that holds itself": CYCLE,
    "dict": {"a": 1},
    "set": {1},
    "range": range(3),
    "jnp.float32": jnp.float32,
    "dtype bool": np.dtype(bool),
    "dtype with fields": np.dtype([("a", "f4")]),
    "dtype in a dict": {"names": ["a"], "formats": ["f4"]},
    "numpy int": np.int64(2**40),
    "numpy float": np.float32(0.5),
    "numpy float64": np.float64(1e300),
    "numpy bool": np.bool_(True),
    "numpy str": np.str_("silu"),
    "numpy void": np.void(b"ab"),
    "0-d int": np.array(3),
    "0-d float": np.array(0.5),
    "jax 0-d": jnp.float32(2.0),
    "jax array": jnp.arange(3),
    "numpy array": np.arange(3),
    "object array": np.array([1, None], object),
    "str array": np.array(["a"]),
    "date array": np.array(["2020-01-01"], "datetime64[D]"),
    "structured array": np.zeros(2, [("a", "f4")]),
    "masked array": np.ma.masked_array([1.0, 2.0], [0, 1]),
    "array of the other byte order": np.arange(3, dtype=">i4"),
    "float64 array": np.ones((2, 3)),
    "long double array": np.ones(2, np.longdouble),
    "array of 2**40": np.array([2**40]),
    "array of 1e300": np.array([1e300]),
    "float0 array": np.zeros(2, jax.dtypes.float0),
    "random key": jax.random.key(0),
}


def a_call(name):
    """A right call of a public function: the first case of its record that traces."""
    for op, case, function in FUNCTIONS:
        if op.name != name:
            continue
        operands, params = call_arguments(op, case, function)
        if "w2" in inspect.signature(function).parameters and "w2" not in operands:  # moe_stage1 asks only its shape
            experts, rows, model = operands["w1"].shape
            operands["w2"] = jax.ShapeDtypeStruct((experts, model, rows // 2), operands["w1"].dtype)
        return function, {**operands, **params}
    return None


def sampled():
    """Those that take a random key, and those that cut in one way."""
    rows, key = jax.ShapeDtypeStruct((2, 8), jnp.float32), jax.random.key(0)
    k, p = jax.ShapeDtypeStruct((2,), jnp.int32), jax.ShapeDtypeStruct((2,), jnp.float32)
    of_probs = {
        "sampling_from_probs": {"top_k": k, "top_p": p, "min_p": p},
        "top_k_sampling_from_probs": {"top_k": k},
        "top_p_sampling_from_probs": {"top_p": p},
        "min_p_sampling_from_probs": {"min_p": p},
        "top_k_top_p_sampling_from_probs": {"top_k": k, "top_p": p},
    }
    found = {name: {"probs": rows, "key": key, **more} for name, more in of_probs.items()}
    found |= {f"{n}_renorm_probs": {"probs": rows, n: k if n == "top_k" else p} for n in ("top_k", "top_p", "min_p")}
    found["mixed_sample"] = {"logits": rows, "key": key, "temperature": p}
    found["sampling_from_logits"] = {**found["mixed_sample"], "top_k": k, "top_p": p, "min_p": p}
    target = jax.ShapeDtypeStruct((2, 4, 8), jnp.float32)
    drafts = jax.ShapeDtypeStruct((2, 3), jnp.int32)
    return {**found, "chain_speculative_sampling": {"draft_token_ids": drafts, "target_probs": target, "key": key}}


CALLS = {n: a_call(n) for n in sorted({op.name for op, _, _ in FUNCTIONS})}
WRAPPERS = {"sparse_attn_indexer": "fp8_paged_mqa_logits", "rope_positions": "rope"}
WRAPPERS |= dict.fromkeys(("rms_norm_add_quant", "rms_norm_group_quant", "rms_norm_add_group_quant"), "rms_norm_quant")
WRAPPERS |= {"act_mul_and_group_quant": "act_mul_and_quant", "fused_recurrent_gated_delta_rule": "chunk_gated_delta_rule"}
# Functions without a record.
PLAIN = {
    "rope_tables": {"config": {"head_dim": 8, "rope_theta": 1e4, "max_position_embeddings": 16}, "length": 5},
    "req_to_global_index": {
        **{
            n: jax.ShapeDtypeStruct(s, jnp.int32) for n, s in (("req_id", (3,)), ("block_table", (2, 4)), ("token_indices", (3, 5)))
        },
        "block_size": 2,
    },
    "mla_sparse_fwd": {
        "q": jax.ShapeDtypeStruct((3, 2, 576), jnp.bfloat16),
        "kv_buffer": jax.ShapeDtypeStruct((4, 2, 1, 576), jnp.bfloat16),
        "indices": jax.ShapeDtypeStruct((3, 5), jnp.int32),
        "sm_scale": 0.1,
    },
    "pack_int4": {"values": jax.ShapeDtypeStruct((2, 4), jnp.int8), "axis": 0},
    **sampled(),
    "hc_head": {
        **{n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in (("hidden_states", (3, 2, 4)), ("hc_fn", (2, 8)))},
        **{n: jax.ShapeDtypeStruct((s,), jnp.float32) for n, s in (("hc_scale", 1), ("hc_base", 2))},
    },
    "chunk_kimi_delta_attn": {
        **{n: jax.ShapeDtypeStruct((1, 3, 2, 4), jnp.float32) for n in "qkvg"},
        "beta": jax.ShapeDtypeStruct((1, 3, 2), jnp.float32),
    },
}


def arguments_of(name):
    if name in CALLS:
        return CALLS[name]
    function = getattr(jax_aiter, name)
    if name in PLAIN:
        return function, PLAIN[name]
    _, arguments = CALLS[WRAPPERS[name]]
    if name == "sparse_attn_indexer":
        arguments = {**arguments, "topk": 2, "stable": True}
    known = inspect.signature(function).parameters
    return function, {n: v for n, v in arguments.items() if n in known}


def public_functions():
    """Those of ops, which say that they are; what the rest of the package accepts is tested with it."""
    return sorted(n for n in dir(jax_aiter) if getattr(getattr(jax_aiter, n), "is_public", False))


def refused(name, parameter, value, arguments):
    """Whether a call is refused, and that it is refused well."""
    function, given = arguments
    caught = None
    try:
        traced(function, {**given, parameter: value})
    except (TypeError, ValueError, NotSupportedError) as error:
        caught = error
    if caught is None:
        return False
    message = str(caught)
    assert not isinstance(caught, jax.errors.JAXTypeError), message
    # An array of numbers may be wrong for another argument's sake only: for its shape. A flag may say how another is laid out.
    array = isinstance(value, (jax.Array, np.ndarray)) and isinstance(value.dtype, np.dtype) and value.dtype.kind in "fiub"
    names = [parameter, *given] if array or isinstance(value, (bool, np.bool_)) else [parameter]
    assert any(n in message for n in names), message
    assert any(message.startswith(n) for n in (name, *jax_aiter.__all__)), message
    return True


@pytest.mark.parametrize("name", public_functions())
@pytest.mark.parametrize("part", [pytest.param(0, id="sample"), pytest.param(1, id="all", marks=LATER)])
def test_odd_values_are_answered_or_refused_by_name(name, part):
    arguments = arguments_of(name)
    traced(*arguments)
    rng = random.Random(name)
    parameters = [n for n in inspect.signature(arguments[0]).parameters if n != "options"]
    for parameter in parameters:
        values = list(VALUES) if part else rng.sample(list(VALUES), 12)
        if not part:
            values = {*values, rng.choice(["2**63", "-2**70", "10**400"])}
        taken = [label for label in values if not refused(name, parameter, VALUES[label], arguments)]
        for label in taken:
            value = VALUES[label]
            if isinstance(value, numbers.Real) and abs(value) > 2**20:
                # What is taken must be lowered too, where constants are made of it.
                function, given = arguments
                arrays = {n: v for n, v in given.items() if isinstance(v, jax.ShapeDtypeStruct) and n != parameter}
                static = {**{n: v for n, v in given.items() if n not in arrays}, parameter: value}
                jax.jit(lambda xs, f=function, static=static: f(**xs, **static)).lower(arrays)


def test_the_rest_of_the_package_names_what_it_refuses():
    for label, value in VALUES.items():
        calls = {
            "arch": lambda v: jax_aiter.fp8_dtype(v),
            "op": lambda v: jax_aiter.supports(v, "gfx942"),
            "supports": lambda v: jax_aiter.supports("rms_norm", v),
            "x": lambda v: jax_aiter.supports("rms_norm", "gfx942", v, jax.ShapeDtypeStruct((2,), jnp.float32), epsilon=1e-5),
            "platform": lambda v: jax_aiter.explain(lambda: 0, platform=v),
        }
        for name, call in calls.items():
            if value is not None or name not in ("arch", "platform"):
                with pytest.raises((TypeError, ValueError), match=name):
                    raise AssertionError(f"{name} took {label}: {call(value)}")
