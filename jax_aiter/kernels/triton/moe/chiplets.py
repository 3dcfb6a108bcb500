"""Over how many chiplets AITER's MoE products take programs to be dealt out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def xcds(module, config: dict) -> Iterator[dict]:
    """The configuration without NUM_XCDS, which AITER's wrapper in `module` asks for elsewhere: over how many chiplets, each with
    a cache of its own, the kernel takes programs to be dealt out in turns. On a GPU that is one piece, 1 keeps them in order."""
    number, own = config.get("NUM_XCDS"), getattr(module, "get_num_xcds", None)
    if number is not None and own is not None:
        module.get_num_xcds = lambda: number
    try:
        yield {name: value for name, value in config.items() if name != "NUM_XCDS"}
    finally:
        if own is not None:
            module.get_num_xcds = own
