"""How many blocks of a paged cache fit a number of bytes."""

import jax

from examples.llm import cache
from examples.llm.config import Config


def block_bytes(config: Config, block_size: int, dtype: str) -> int:
    """Of one block in all layers."""
    shapes = jax.eval_shape(lambda: cache.make(config, 1, block_size, dtype))
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))


def blocks(config: Config, block_size: int, dtype: str, size: int) -> int:
    """ValueError where not even one does."""
    each = block_bytes(config, block_size, dtype)
    if size < each:
        raise ValueError(f"a cache of {size} bytes holds no block of {each}")
    return size // each
