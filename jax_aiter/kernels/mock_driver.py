"""A device that only records: runs launch plans on platform "cpu" for tests, without a GPU.

`install()` registers the handler for platform "cpu" in this process; the library itself never does. Plans for it have
arch "mock" and code objects made by `code_object`.
"""

from __future__ import annotations

import functools
from typing import Any

import jax

from jax_aiter.kernels import _native


@functools.cache
def install() -> None:
    """Registers the handler for platform "cpu", once per process. Raises `NativeUnavailableError`."""
    # jaxlib's CPU client, when it starts, registers waiting handlers before waiting types, and so refuses handlers
    # with a state; once it runs, both are registered at once. (The GPU plugins do it in the right order.)
    jax.local_devices(backend="cpu")
    _native.register_platform(_native.require().testing.cpu_registration())


def code_object(*symbols: str, filler: bytes = b"") -> bytes:
    """A code object that contains kernels of these names. `mock_copy_u32(dst, src, n)` and
    `mock_add_u32(dst, a, b, n)` do what they say, all others nothing; `filler` makes objects distinct or large.
    """
    return b"\n".join([b"mock", *(s.encode() for s in symbols), *([filler] if filler else [])])


def configure(**settings: Any) -> None:
    """Forgets the records and sets: record, capturing, fail_after, devices, fail_load (see ffi/driver_mock.h)."""
    install()
    _native.load().testing.mock_configure(**settings)


def records(*calls: str) -> list[dict[str, Any]]:
    """What the driver was told since `configure`; only the named calls (open, load, find, launch, fill, copy)."""
    return [r for r in _native.load().testing.mock_records() if not calls or r["call"] in calls]
