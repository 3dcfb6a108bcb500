"""One line of the table: a call of one op, and how a JAX user would write it without this package."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core.config import config

Operands = dict[str, jax.Array]
Call = Callable[[Operands], Any]  # results: an array or a tree of arrays


def unchanged(operands: Operands) -> Operands:
    """The operands as the row draws them."""
    return operands


@dataclasses.dataclass(frozen=True)
class Peer:
    """`prepare`: the operands as this form would keep them (a transposed weight, say), and `restore`: its results as ours are, to
    compare them. Neither is timed. Forms with one `prepare` are timed on one set of operands.

    `limits`: empty for a form that gives the op's result for every input. Else what it cannot do, and the table says so.
    """

    name: str
    call: Call
    prepare: Callable[[Operands], Operands] = unchanged
    limits: str = ""
    restore: Callable[[Any], Any] = lambda results: results


@dataclasses.dataclass(frozen=True)
class Row:
    """`ours` takes the implementation and gives the call. `draw` makes the operands on the device, and can be traced.

    through: the operand by which a chain of calls depends on the one before, in every form. moved, work: the bytes through memory
    at least, and the floating-point operations; rate: of which dtype's matrix products. tolerance: the largest ‖peer - ours‖ /
    ‖ours‖ of any result. view: what of the results is compared.
    """

    name: str
    op: str
    draw: Callable[[], Operands]
    ours: Callable[[str | None], Call]
    peers: tuple[Peer, ...]
    through: str
    moved: float
    work: float
    rate: str = "bfloat16"
    tolerance: float = 1e-2
    view: Callable[[Any], Any] = lambda results: results

    def forms(self, kernels: bool) -> dict[str, Peer]:
        """Ours (auto), the kernel alone where there may be one, and the peers, by the name under which each is filed."""
        own = [Peer("auto", self.ours(None)), *([Peer("triton", on_kernels(self.ours("triton")))] if kernels else [])]
        return {peer.name: peer for peer in (*own, *self.peers)}


def on_kernels(call: Call) -> Call:
    """The call with the ops inside its gradient, which choose by themselves, on kernels too."""

    def forced(operands: Operands) -> Any:
        with config(implementation="triton"):
            return call(operands)

    return forced


class Draw:
    """Draws operands inside a traced function: normal numbers by a counted key, and arrays that are known."""

    def __init__(self) -> None:
        self._count = 0

    def normal(self, *shape: int, std: float = 1.0, dtype: Any = jnp.bfloat16) -> jax.Array:
        self._count += 1
        values = jax.random.normal(jax.random.key(self._count), shape, jnp.bfloat16)
        return (values * jnp.bfloat16(std)).astype(dtype)

    def uniform(self, *shape: int, low: float = 0.5, high: float = 2.0) -> jax.Array:
        self._count += 1
        return jax.random.uniform(jax.random.key(self._count), shape, jnp.float32, low, high)


def known(array: Any, dtype: Any = np.int32) -> jax.Array:
    return jnp.asarray(np.asarray(array, dtype))


def with_gradient(call: Callable[..., Any], wrt: tuple[str, ...]) -> Call:
    """Forward and backward: the result, and the gradients of `wrt` for the operand `cotangent`."""

    def both(operands: Operands) -> Any:
        others = {name: x for name, x in operands.items() if name not in (*wrt, "cotangent")}
        out, back = jax.vjp(lambda *values: call({**others, **dict(zip(wrt, values, strict=True))}), *(operands[n] for n in wrt))
        return out, back(operands["cotangent"])

    return both


def renamed(prepare: Callable[[Operands], Mapping[str, jax.Array]], *dropped: str) -> Callable[[Operands], Operands]:
    """The operands with those that `prepare` gives in place of `dropped`."""
    return lambda operands: {n: x for n, x in operands.items() if n not in dropped} | dict(prepare(operands))
