"""A dense model as a mixture of experts (sparse upcycling): every MLP becomes copies of itself that a router chooses among.

The copies are equal and a token's weights add up to one, so the function is the dense one's whatever the router says.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from examples.llm.config import Config, Experts, Mlp
from examples.llm.decoder import Params
from examples.llm.linear import Blocks, Linear


def upcycle(params: Params, config: Config, count: int, topk: int = 2, *, seed: int = 0) -> tuple[Params, Config]:
    """The same model with `count` experts for each MLP, `topk` for each token, and routers of random weights."""
    keys = jax.random.split(jax.random.key(seed), len(config.layers))
    layers, described = [], []
    for p, layer, key in zip(params["layers"], config.layers, keys, strict=True):
        m = layer.mlp
        if isinstance(m, Mlp):
            p = {**p, "mlp": _experts(p["mlp"], count, config.dim, key)}
            layer = dataclasses.replace(layer, mlp=Experts(count, topk, m.width, m.activation))
        layers.append(p)
        described.append(layer)
    return {**params, "layers": layers}, dataclasses.replace(config, layers=tuple(described))


def _experts(p: dict[str, Any], count: int, dim: int, key: jax.Array) -> dict[str, Any]:
    if isinstance(p["gate_up"].weight, Blocks):
        raise ValueError("upcycle takes weights as floats or with a scale per row: the blocks of experts begin elsewhere")
    copies = lambda w: jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), w)  # noqa: E731
    return {"router": Linear(jax.random.normal(key, (count, dim))), "w1": copies(p["gate_up"]), "w2": copies(p["down"])}
