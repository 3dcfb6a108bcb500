"""How an op is differentiated, as its record says it; `bind.derivative` is what JAX is told of it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core.axes import FP8_TYPES


@dataclasses.dataclass(frozen=True)
class Keeping:
    """What a differentiated call keeps for its backward pass, beyond its own operands and results.

    op: the record that is bound instead: the same operands and parameters; its results are those of the op and then more, which
        `Gradient.saves` names.
    alone: records that give some of these results only: a call takes the place of `op` where the others are dead, as they are
        once rematerialisation has split it.
    when: ``(arch, operands as structs, params, *, implementation, kernel) -> bool``: whether this call keeps anything.
    """

    op: Any
    alone: tuple[Any, ...]
    when: Callable[..., bool]


@dataclasses.dataclass(frozen=True)
class Gradient:
    """How an op is differentiated.

    wrt: operands that have a gradient. A float operand that is not listed raises when something asks for its gradient: a silent
        zero would train the wrong model.
    saves: operands and results that the derivative depends on, by name; what no operand among them says (a choice that another
        one makes, say) it must not depend on.
    backward: ``(saved, cotangents, *, implementation, **params) -> {operand: cotangent}``; `saved` and `cotangents` are dicts
        (absent optional operands are None, unused float results have zero cotangents, or None: see `unused`). It is traced on plain
        types, whatever mesh the operands live on, and what it returns is cast to the operand's type: dtype, sharding, varying axes.
        None: JAX reverses `forward`, where its loops allow it.
    forward: ``(*, **operands, **params) -> results``: what forward mode differentiates; by default the op's reference. It may
        raise where its derivative is not the one that `backward` gives.
    unused: results whose cotangent is None where nothing depends on them, as shapes and not numbers show it: the rule can then
        take a kernel that knows no such cotangent.
    of_fp8: operands of `wrt` have a gradient where they are fp8 too. They do not where they are quantised weights: asking raises.
    keeps: what the forward pass keeps, for a kernel of the backward pass that would compute it again. It is data to the backward
        pass and no function of the operands, so `forward` must not read it.
    """

    wrt: tuple[str, ...]
    saves: tuple[str, ...]
    backward: Callable[..., Mapping[str, jax.Array | None]] | None
    forward: Callable[..., Sequence[jax.Array]] | None = None
    unused: tuple[str, ...] = ()
    of_fp8: bool = False
    keeps: Keeping | None = None

    def has(self, name: str, dtype: Any) -> bool:
        return name in self.wrt and (self.of_fp8 or jnp.dtype(dtype).name not in FP8_TYPES)
