"""Parameters on disk: one safetensors file, the sizes in its header."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from examples.moe_lm import model
from examples.moe_lm.model import Config, Params


def _names(params: Params) -> list[str]:
    return [".".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path) for path, _ in jax.tree.leaves_with_path(params)]


def save(path: Path, params: Params, config: Config) -> None:
    tensors = {n: np.asarray(x) for n, x in zip(_names(params), jax.tree.leaves(params), strict=True)}
    save_file(tensors, path, metadata={"config": json.dumps(dataclasses.asdict(config))})


def load(path: Path) -> tuple[Params, Config]:
    """Parameters and sizes; ValueError if the file's tensors are not those that its own sizes ask for."""
    with safe_open(path, framework="numpy") as file:
        config = Config(**json.loads(file.metadata()["config"]))
        shapes = jax.eval_shape(lambda key: model.init(config, key), jax.random.key(0))
        names = _names(shapes)
        if set(names) != set(file.keys()):
            raise ValueError(f"{path} holds tensors {sorted(file.keys())}, its config needs {sorted(names)}")
        leaves = [jnp.asarray(file.get_tensor(n)) for n in names]
    for name, leaf, want in zip(names, leaves, jax.tree.leaves(shapes), strict=True):
        if leaf.shape != want.shape:
            raise ValueError(f"{path}: {name} has shape {leaf.shape}, its config needs {want.shape}")
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves), config
