"""One step of training: gradients of several parts of a batch, summed, and one update of parameters that lie over a mesh."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from examples.llm.architectures import Json
from examples.llm.distributed import layout
from examples.train.init import init
from examples.train.loss import BATCH, Loss

AXES = ("data", "expert", "model")


def make_mesh(**sizes: int) -> Mesh:
    """Of the first devices, with the axes "data", "expert" and "model"; one that is not given has one device."""
    shape = {**dict.fromkeys(AXES, 1), **sizes}
    if set(shape) != set(AXES):
        raise ValueError(f"the mesh has the axes {', '.join(sizes)}, must be of {', '.join(AXES)}")
    count = int(np.prod(list(shape.values())))
    if count > jax.device_count():
        raise ValueError(f"the mesh {sizes} has {count} devices, there are {jax.device_count()}")
    devices = np.asarray(jax.devices()[:count]).reshape(*shape.values())
    return Mesh(devices, AXES, axis_types=(jax.sharding.AxisType.Auto,) * len(AXES))


def optimiser(steps: int, learning_rate: float) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine decay, gradients clipped to norm 1; matrices decay, norms do not."""
    warmup = max(1, min(100, steps // 10))
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, max(steps, warmup + 1), learning_rate / 20)
    mask = functools.partial(jax.tree.map, lambda w: w.ndim > 1)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b1=0.9, b2=0.95, weight_decay=0.1, mask=mask))


@dataclasses.dataclass(frozen=True)
class Trainer:
    """accumulate: parts that a batch is computed in, one after the other, so that only one part's activations are held."""

    loss: Loss
    raw: Json
    optimise: optax.GradientTransformation
    accumulate: int = 1

    def fresh(self, seed: int) -> Any:
        """``{"params", "optimiser"}``, drawn by the seed alone, whatever the mesh; each array where it belongs."""
        return jax.jit(self._drawn, out_shardings=self.shardings())(jax.random.key(seed))

    def _drawn(self, key: jax.Array) -> Any:
        params = layout.separate(init(self.raw, self.loss.config, key), self.loss.config)
        del params["rope"]
        return {"params": params, "optimiser": self.optimise.init(params)}

    def shardings(self) -> Any:
        """Of the state: the optimiser's moments lie as the parameters do."""
        shapes = jax.eval_shape(self._drawn, jax.random.key(0))
        params = jax.tree.map(lambda spec: NamedSharding(self.loss.mesh, spec), self.loss.specs(shapes["params"]))
        whole = NamedSharding(self.loss.mesh, P())
        moments = optax.tree.map_params(
            self.optimise, lambda _, sharding: sharding, shapes["optimiser"], params, transform_non_params=lambda _: whole
        )
        return {"params": params, "optimiser": moments}

    def abstract(self) -> Any:
        """The state as shapes with shardings: what a checkpoint is restored to."""
        shapes = jax.eval_shape(self._drawn, jax.random.key(0))
        return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, self.shardings())

    def put(self, tokens: np.ndarray) -> jax.Array:
        """A batch int32 ``[B, S + 1]`` as the step takes it: ``[accumulate, B / accumulate, S + 1]`` over the mesh."""
        parts = tokens.reshape(self.accumulate, -1, tokens.shape[1])
        return jax.device_put(parts, self.split())

    def split(self) -> NamedSharding:
        """Of what `put` gives."""
        return NamedSharding(self.loss.mesh, P(None, BATCH))

    def gradients(self, params: Any, ropes: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Of the mean loss of all parts, and the bits per byte: the loss is a mean over sequences, so parts may be averaged."""

        def part(total: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
            (_, bits), found = jax.value_and_grad(self.loss, has_aux=True)(params, ropes, tokens)
            return jax.tree.map(jnp.add, total, found), bits

        if self.accumulate == 1:
            (_, bits), found = jax.value_and_grad(self.loss, has_aux=True)(params, ropes, tokens[0])
            return found, bits
        total, bits = jax.lax.scan(part, jax.tree.map(jnp.zeros_like, params), tokens)
        return jax.tree.map(lambda x: x / self.accumulate, total), jnp.mean(bits)

    def step(self) -> Any:
        """``(state, ropes, tokens of put) -> (state, bits per byte)``, jitted, the state donated."""

        def run(state: Any, ropes: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
            gradients, bits = self.gradients(state["params"], ropes, tokens)
            updates, moments = self.optimise.update(gradients, state["optimiser"], state["params"])
            return {"params": optax.apply_updates(state["params"], updates), "optimiser": moments}, bits

        whole = NamedSharding(self.loss.mesh, P())
        return jax.jit(run, donate_argnums=0, out_shardings=(self.shardings(), whole))
