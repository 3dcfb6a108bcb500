"""What `expert_parallel` accepts, and which way auto takes."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind import sharding
from jax_aiter.core import check
from jax_aiter.core.axes import FLOATING, FP8_TYPES
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.core.text import shown
from jax_aiter.ops.moe.fused_moe import fused_moe
from jax_aiter.parallel import everywhere

OP = "expert_parallel"
EXCHANGES = ("exchange", "ragged_all_to_all", "all_to_all")
METHODS = (*EXCHANGES, "psum")

#: Auto gathers and sums while the devices have at most so many tokens together: few bytes, and half as many steps that wait.
FEW_TOKENS = 512


def axis(axis_name: Any, op: str = OP) -> tuple[tuple[str, ...], int]:
    """The mesh axes as a tuple, and how many devices they span."""
    names = tuple(axis_name) if isinstance(axis_name, (tuple, list)) else (axis_name,)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise TypeError(f"{op}: axis_name must be a name of a mesh axis or a tuple of different ones, got {shown(axis_name)}")
    try:
        return names, jax.lax.axis_size(names)
    except NameError:
        raise ValueError(
            f"{op}: axis_name is {shown(axis_name)}, must name axes of the mesh that a jax.shard_map around the call splits over"
        ) from None


def validate(operands: Mapping[str, Any], settings: Mapping[str, Any]) -> jax.ShapeDtypeStruct:
    """The result of the same call of `fused_moe`, whose rules these operands keep; its errors under this function's name."""
    given = {n: x for n, x in operands.items() if x is not None}
    static = {n: given.pop(n) for n in list(given) if not hasattr(given[n], "shape") and n == "num_local_tokens"}
    structs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), given)
    try:
        return jax.eval_shape(lambda given: fused_moe(**given, **static, **settings), structs)
    except (TypeError, ValueError, NotSupportedError) as error:
        message = str(error)
        if not message.startswith("fused_moe"):
            raise
        raise type(error)(message.replace("fused_moe", OP, 1)) from None


def replicated(tokens: Mapping[str, Any], axes: tuple[str, ...]) -> bool:
    """Whether JAX knows that every device along the axis has the same tokens. It keeps no account under ``check_vma=False``."""
    if not everywhere.is_accounted(axes):
        return False
    varying = frozenset().union(*(sharding.varying_axes(jax.typeof(x)) for x in tokens.values() if x is not None))
    return not varying & set(axes)


def method(asked: str | None, few: bool, only: Mapping[str, Any]) -> str:
    """few: auto sums. only: arguments that were given and speak of an exchange."""
    if asked is not None:
        check.choice(OP, "method", asked, METHODS)
    if asked == "psum" and only:
        name, value = next(iter(only.items()))
        raise ValueError(f"{OP}: {name} is about an exchange, method 'psum' has none; got {name} {shown(value)}")
    if asked is not None:
        return asked
    return "psum" if few and not only else "exchange"


def code(asked: Any, hidden: Any) -> np.dtype:
    """`dispatch_dtype` of hidden states that are `hidden`."""
    dtype = check.static_dtype(OP, "dispatch_dtype", asked, FP8_TYPES)
    if jnp.dtype(hidden).name not in FLOATING:
        raise ValueError(f"{OP}: dispatch_dtype is for float hidden_states, got {jnp.dtype(hidden).name}, which travel as they are")
    return dtype
