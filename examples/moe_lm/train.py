"""Training and evaluation: AdamW on random windows, the batch split over devices with shard_map."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from examples.moe_lm import model
from examples.moe_lm.model import Config, Params

BALANCE = 0.01  # weight of the load-balancing loss, that of the Switch Transformer


def optimiser(steps: int, learning_rate: float) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine decay; matrices decay, norms do not."""
    warmup = max(1, min(100, steps // 10))
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, max(steps, warmup + 1), learning_rate / 20)
    mask = functools.partial(jax.tree.map, lambda w: w.ndim > 1)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b1=0.9, b2=0.95, weight_decay=0.1, mask=mask))


def make_step(config: Config, optimise: optax.GradientTransformation, mesh: Mesh, dtype: Any) -> Callable:
    """``(params, state, tokens [B, S+1]) -> (params, state, bits per byte)``, jitted, arguments donated, B split over the mesh."""

    def local_loss(params: Params, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, balance = model.forward_sequences(model.cast(params, dtype), config, tokens[:, :-1])
        bits = jnp.mean(model.bits(logits, tokens[:, 1:]))
        return jax.lax.pmean((bits + BALANCE * balance, bits), "data")

    loss = jax.shard_map(local_loss, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, tokens):
        (_, bits), gradients = jax.value_and_grad(loss, has_aux=True)(params, tokens)
        updates, state = optimise.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, bits

    return step


def train(
    config: Config,
    batches: Iterator[np.ndarray],
    *,
    steps: int,
    learning_rate: float,
    devices: int,
    dtype: Any,
    seed: int,
    report: Callable[[int, float], None],
) -> Params:
    """Train from scratch and return float32 parameters; `report` gets every step's number and training bits per byte."""
    mesh = Mesh(np.asarray(jax.devices()[:devices]), ("data",))
    optimise = optimiser(steps, learning_rate)
    params = jax.device_put(jax.jit(functools.partial(model.init, config))(jax.random.key(seed)), NamedSharding(mesh, P()))
    state = jax.device_put(jax.jit(optimise.init)(params), NamedSharding(mesh, P()))
    step = make_step(config, optimise, mesh, dtype)
    for number in range(1, steps + 1):
        tokens = jax.device_put(next(batches), NamedSharding(mesh, P("data")))
        params, state, bits = step(params, state, tokens)
        report(number, float(bits))
    return jax.device_put(params, jax.devices()[0])


def evaluate(params: Params, config: Config, tokens: np.ndarray, scored: np.ndarray, dtype: Any, batch: int) -> float:
    """Mean bits per scored byte over windows [n, S+1] (`data.windows`), computing in `dtype`."""
    params = model.cast(params, dtype)

    @jax.jit
    def total(params, tokens, scored):
        logits, _ = model.forward_sequences(params, config, tokens[:, :-1])
        return jnp.sum(model.bits(logits, tokens[:, 1:]), where=scored)

    bits = 0.0
    for start in range(0, len(tokens), batch):
        chunk, mask = tokens[start : start + batch], scored[start : start + batch]
        short = batch - len(chunk)  # one compiled shape: the last batch is filled up with windows that score nothing
        chunk, mask = np.pad(chunk, ((0, short), (0, 0))), np.pad(mask, ((0, short), (0, 0)))
        bits += float(total(params, chunk, mask))
    return bits / scored.sum()
