"""The loss of a batch that is split over a mesh; every device computes its part inside of `jax.shard_map`."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from examples.llm.config import Config
from examples.llm.decoder import Params, forward_balanced
from examples.llm.distributed import axes as axis
from examples.llm.distributed import layout
from examples.llm.linear import Linear, Rounded
from examples.llm.rope import Tables

BATCH = ("data", "expert")  # the mesh axes that sequences are split over
BALANCE = 0.01  # weight of the load-balancing loss, that of the Switch Transformer


@dataclasses.dataclass(frozen=True)
class Loss:
    """dtype: of arithmetic; parameters are float32, and so are their gradients, summed over devices as such.

    fp8: matrices of the layers are rounded to fp8 with a scale per row, what they multiply per token, in the forward pass;
    gradients are those of `dtype`, through the rounding. Where "model" splits a row, each device's part has a scale of its own.
    """

    config: Config
    mesh: Mesh
    dtype: Any = jnp.float32
    fp8: bool = False
    remat: bool = False

    @property
    def axes(self) -> axis.Axes:
        return axis.training(dict(self.mesh.shape))

    def specs(self, params: Params) -> Params:
        """Of parameters as `layout.separate` has them, without the rotary tables."""
        return layout.specs(params, self.config, self.axes)

    def __call__(self, params: Params, ropes: Tables, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What is minimised, and the bits per byte alone, of int32 ``[B, S + 1]``."""
        wide = layout.widen(params, self.config, self.axes)
        specs = self.specs(wide)

        def local(wide: Params, ropes: Tables, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
            return self._local({**self._cast(wide, specs), "rope": ropes}, tokens)

        run = jax.shard_map(local, mesh=self.mesh, in_specs=(specs, P(), P(BATCH)), out_specs=P())
        return run(wide, ropes, tokens)

    def _cast(self, params: Params, specs: Params) -> Params:
        """The decoder's tree in `dtype`, the router as it is. What devices of the batch share is said to vary before it is rounded:
        the transpose of that is the sum of their gradients, which is of float32.
        """

        def varying(x: jax.Array, spec: P) -> jax.Array:
            missing = tuple(name for name in BATCH if name not in spec)
            return jax.lax.pcast(x, missing, to="varying")

        params = layout.join(jax.tree.map(varying, params, specs), self.config)
        return jax.tree.map_with_path(self._cast_one, params, is_leaf=lambda x: isinstance(x, Linear))

    def _cast_one(self, path: Any, x: Any) -> Any:
        names = [getattr(k, "key", None) for k in path]
        if names[-1] in ("router", "correction"):
            return x
        cast = jax.tree.map(lambda leaf: leaf.astype(self.dtype), x)
        return cast._replace(weight=Rounded(cast.weight)) if self.fp8 and names[0] == "layers" and isinstance(x, Linear) else cast

    def _local(self, params: Params, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, balance = forward_balanced(params, axis.local(self.config, self.axes), tokens[:, :-1], remat=self.remat)
        bits = jnp.mean(cross_entropy(logits, tokens[:, 1:], layout.vocabulary(self.config, self.axes))) / jnp.log(2.0)
        return jax.lax.pmean((bits + BALANCE * jnp.mean(balance), bits), BATCH)


def cross_entropy(logits: jax.Array, targets: jax.Array, axis: tuple[str, ...] = ()) -> jax.Array:
    """float32 ``[...]`` of logits ``[..., V]``; with `axis` each device has its share of V."""
    if not axis:
        chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        return jax.nn.logsumexp(logits, axis=-1) - chosen
    top = jax.lax.pmax(jnp.max(jax.lax.stop_gradient(logits), axis=-1), axis)
    total = jax.lax.psum(jnp.sum(jnp.exp(logits - top[..., None]), axis=-1), axis)
    at = targets - jax.lax.axis_index(axis) * logits.shape[-1]
    here = (at >= 0) & (at < logits.shape[-1])
    chosen = jnp.take_along_axis(logits, jnp.where(here, at, 0)[..., None], axis=-1)[..., 0]
    return jnp.log(total) + top - jax.lax.psum(jnp.where(here, chosen, 0.0), axis)
