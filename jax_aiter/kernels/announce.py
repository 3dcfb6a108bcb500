"""Says on stderr that tracing waits for a compiler, and for how long it did."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator


@contextlib.contextmanager
def announced(what: str) -> Iterator[None]:
    """Show `what` while the body runs: a rich status on a terminal, else two plain lines."""
    start = time.monotonic()
    status = _rich_status(what) if sys.stderr.isatty() else None
    if status is None:
        print(f"jax_aiter: {what} ...", file=sys.stderr, flush=True)
        yield
    else:
        with status:
            yield
    print(f"jax_aiter: {what}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)


def _rich_status(what: str):
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(stderr=True).status(f"jax_aiter: {what}")
