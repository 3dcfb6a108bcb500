"""What every public function does before anything else: its operands become arrays, or errors that name function and argument."""

import functools
import inspect
import numbers
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")
NUMBERS = {int: numbers.Integral, float: numbers.Real}


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates an op's public function: arguments annotated as `jax.Array` arrive as one, or as what else the annotation names."""
    parameters = inspect.signature(function).parameters
    kinds = {name: get_args(p.annotation) or (p.annotation,) for name, p in parameters.items()}
    operands = {name: tuple(k for k in each if k is not jax.Array) for name, each in kinds.items() if jax.Array in each}
    order, op = tuple(parameters), function.__name__

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        named = [as_operand(op, n, x, operands[n]) if n in operands else x for n, x in zip(order, args, strict=False)]
        kwargs = {n: as_operand(op, n, x, operands[n]) if n in operands else x for n, x in kwargs.items()}
        return function(*named, *args[len(order) :], **kwargs)  # type: ignore[arg-type]

    call.__dict__["is_public"] = True  # so that no helper of its module's name is taken for one (`ops.catalogue`)
    return call  # type: ignore[return-value]


#: Where the type is from in which JAX hands numpy arrays that a function closes over to rules of differentiation. From 0.10 on it
#: is a numpy array.
CONSTANTS = "jax._src.literals"


def as_operand(op: str, name: str, value: Any, others: tuple[type, ...] = ()) -> Any:
    """`value` as a jax array; instances of `others` as they are. What holds an array (``__jax_array__``) gives it."""
    if value is None:
        if type(None) not in others:
            raise TypeError(f"{op}: {name} is required, got None")
        return None
    value = held(value)
    if isinstance(value, jax.Array):
        if not isinstance(value.dtype, np.dtype):  # random keys
            raise TypeError(f"{op}: {name} has dtype {value.dtype}, must be an array of numbers that jax has")
        return value
    if isinstance(value, tuple(NUMBERS.get(k, k) for k in others)) and not isinstance(value, (bool, np.generic)):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return _from_numpy(op, name, value)
    kinds = [k.__name__ for k in others if k is not type(None)]
    raise TypeError(f"{op}: {name} must be {' or '.join(['a jax or numpy array', *kinds])}, got {type(value).__name__}")


def held(value: Any) -> Any:
    """What a parameter object of a neural network library holds (``__jax_array__``), or a constant that JAX has wrapped; anything
    else as it is."""
    if type(value).__module__ == CONSTANTS:
        return np.asarray(value)
    return value.__jax_array__() if hasattr(type(value), "__jax_array__") and not isinstance(value, jax.Array) else value


def _from_numpy(op: str, name: str, value: Any) -> jax.Array:
    """A numpy array in the type that JAX gives it, where its values fit that."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{op}: {name} is a masked array, must be a plain one (value.filled(...) makes it)")
    dtype = value.dtype
    native = dtype.newbyteorder("=")
    if not (native == np.bool_ or jnp.issubdtype(native, jnp.number)) or native in (np.longdouble, np.clongdouble):
        raise TypeError(f"{op}: {name} has dtype {dtype}, must be an array of numbers that jax has")
    wanted = jax.dtypes.canonicalize_dtype(native)
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.asarray(value).astype(wanted, copy=False)
    if dtype.itemsize > wanted.itemsize:
        kept = array == value if dtype.kind in "iu" else np.isfinite(array) | ~np.isfinite(value)
        if not np.all(kept):
            first = np.asarray(value)[~kept].flat[0]
            raise ValueError(f"{op}: {name} holds {first}, which {wanted.name} cannot (jax_enable_x64 is off)")
    return jnp.asarray(array)
