"""Reading the tensors of one part of a model: matrices stacked by rows, biases, FP8 with its scales."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from examples.llm.checkpoint.quantise import dequantise, on_target, quantise
from examples.llm.checkpoint.tensors import Tensors
from examples.llm.linear import BLOCK, Blocks, Linear, pad_last

SCALE = ".weight_scale_inv"  # DeepSeek's FP8 checkpoints: a scale for each block of 128 x 128, to be multiplied with


@dataclasses.dataclass(frozen=True)
class Reader:
    """prefix: of all names that are asked for. dtype: of activations. scheme: how matrices are held."""

    tensors: Tensors
    prefix: str
    dtype: Any
    scheme: str

    def at(self, name: str, *, absolute: bool = False) -> "Reader":
        return dataclasses.replace(self, prefix=name if absolute else self.prefix + name)

    def has(self, name: str) -> bool:
        return self.prefix + name in self.tensors.names

    def holds(self, name: str) -> bool:
        """Whether there is any tensor whose name goes on so."""
        return any(n.startswith(self.prefix + name) for n in self.tensors.names)

    def raw(self, name: str) -> Any:
        if not self.has(name):
            raise ValueError(f"the checkpoint has no tensor {self.prefix + name!r}")
        return self.tensors.read(self.prefix + name)

    def array(self, name: str, dtype: Any = None) -> jax.Array:
        return jnp.asarray(self.raw(name), self.dtype if dtype is None else dtype)

    def matrix(self, name: str) -> Any:
        """``name.weight`` as it is stored: `Blocks` or a float array."""
        weight = self.raw(f"{name}.weight")
        if not self.has(f"{name}{SCALE}"):
            return jnp.asarray(weight)
        return on_target(Blocks(jnp.asarray(weight), jnp.asarray(self.raw(f"{name}{SCALE}"), jnp.float32)))

    def dense(self, name: str) -> jax.Array:
        """``name.weight`` as floats, whatever it is stored as."""
        found = self.matrix(name)
        return dequantise(found) if isinstance(found, Blocks) else found

    def held(self, weight: Any) -> Any:
        """A weight as `scheme` says."""
        if isinstance(weight, Blocks) and self.scheme in ("keep", "fp8_block"):
            return weight._replace(values=pad_last(weight.values, weight.scale.shape[-1] * BLOCK))
        if self.scheme in ("keep", "none"):
            return dequantise(weight).astype(self.dtype) if isinstance(weight, Blocks) else weight.astype(self.dtype)
        return quantise(dequantise(weight), self.scheme)

    def linear(self, *names: str) -> Linear:
        """The matrices of `names`, one below the other, and their biases."""
        biased = [self.has(f"{n}.bias") for n in names]
        bias = jnp.concatenate([self.array(f"{n}.bias") for n in names]) if all(biased) else None
        if any(biased) and bias is None:
            raise ValueError(f"of {self.prefix}{{{', '.join(names)}}} some have a bias and some have none")
        return Linear(self.held(stack([self.matrix(n) for n in names])), bias)

    def gated(self) -> dict[str, Any]:
        """An MLP."""
        if self.has("gate_up_proj.weight"):
            return {"gate_up": self.linear("gate_up_proj"), "down": self.linear("down_proj")}
        return {"gate_up": self.linear("gate_proj", "up_proj"), "down": self.linear("down_proj")}


def stack(weights: list[Any]) -> Any:
    """Matrices one below the other: as blocks if each but the last has whole ones, else as floats."""
    if len(weights) == 1:
        return weights[0]
    if all(isinstance(w, Blocks) for w in weights) and all(w.values.shape[0] % BLOCK == 0 for w in weights[:-1]):
        return Blocks(*(jnp.concatenate(parts) for parts in zip(*weights, strict=True)))
    return jnp.concatenate([dequantise(w) if isinstance(w, Blocks) else w for w in weights])
