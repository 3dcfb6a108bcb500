"""Named tuples of the ops that return several things, as many as were asked for.

They may stand in the signature of an exported program, which is read back in a process that has used no op yet: `import jax_aiter`
brings them in.
"""

from typing import NamedTuple

import jax
from jax import export


class Quantized(NamedTuple):
    """Quantised values and their scales: ``xq * scale`` stands for what was quantised.

    xq: the operand's shape, in the dtype asked for; scale: of the shape and dtype that the function which made it says.
    """

    xq: jax.Array
    scale: jax.Array


class QuantizedAndPlain(NamedTuple):
    """`Quantized`, and what was quantised."""

    xq: jax.Array
    scale: jax.Array
    y: jax.Array


class QuantizedAndSum(NamedTuple):
    """`Quantized`, and the sum with the residual that was normalised."""

    xq: jax.Array
    scale: jax.Array
    residual_out: jax.Array


class QuantizedPlainAndSum(NamedTuple):
    """`QuantizedAndPlain`, and the sum with the residual that was normalised."""

    xq: jax.Array
    scale: jax.Array
    y: jax.Array
    residual_out: jax.Array


class QkNorms(NamedTuple):
    """The query's norm, quantised, and the key's."""

    q: jax.Array
    q_scale: jax.Array
    k: jax.Array


class QkNormsAndPlain(NamedTuple):
    """`QkNorms`, and what was quantised."""

    q: jax.Array
    q_scale: jax.Array
    q_unquantized: jax.Array
    k: jax.Array


class QkNormsAndSum(NamedTuple):
    """`QkNorms`, and the query's sum with its residual."""

    q: jax.Array
    q_scale: jax.Array
    k: jax.Array
    q_residual_out: jax.Array


class QkNormsPlainAndSum(NamedTuple):
    """`QkNormsAndPlain`, and the query's sum with its residual."""

    q: jax.Array
    q_scale: jax.Array
    q_unquantized: jax.Array
    k: jax.Array
    q_residual_out: jax.Array


_QUANTIZED = (Quantized, QuantizedAndPlain, QuantizedAndSum, QuantizedPlainAndSum)
_QK_NORMS = (QkNorms, QkNormsAndPlain, QkNormsAndSum, QkNormsPlainAndSum)
_BY_FIELDS = {each._fields: each for each in (*_QUANTIZED, *_QK_NORMS)}
for _each in _BY_FIELDS.values():  # the names are part of serialised programs and stay readable
    export.register_namedtuple_serialization(_each, serialized_name=f"jax_aiter.{_each.__name__}")


def named(**arrays: jax.Array | None) -> tuple[jax.Array, ...]:
    """The named tuple of those that are there."""
    present = {name: x for name, x in arrays.items() if x is not None}
    return _BY_FIELDS[tuple(present)](**present)
