"""Registers the native handlers with JAX, if that is safe, and remembers why not otherwise.

Registering must happen before a program with our custom call is compiled or deserialised, so `import jax_aiter` does
it. It costs a few milliseconds, starts no backend, and never raises: without the native module the package works, on
the reference implementations.
"""

from __future__ import annotations

import functools
import importlib
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jaxlib.version

from jax_aiter.kernels import wire  # not of `plan`, which costs a start 20 ms and more

TARGET_NAME = "jax_aiter.run_plan.v1"


class NativeUnavailableError(RuntimeError):
    """The native module is missing or does not fit the running jaxlib; the message says which and the remedy."""


@dataclass(frozen=True)
class Status:
    """`available`: the handlers are registered. Otherwise `reason` says what is wrong and what to do."""

    available: bool
    reason: str = ""


_lock = threading.Lock()
_status: Status | None = None


def register() -> Status:
    """Registers the handlers for ROCM and CUDA once per process and returns whether that worked. Never raises."""
    global _status
    with _lock:
        if _status is None:
            _status = _register()
        return _status


def require() -> ModuleType:
    """The native module, registered. Raises `NativeUnavailableError` if it cannot be used."""
    status = register()
    if not status.available:
        raise NativeUnavailableError(status.reason)
    return load()


@functools.cache
def load() -> ModuleType:
    """Imports `jax_aiter._ffi` without registering anything. Raises ImportError if it was not built."""
    return importlib.import_module("jax_aiter._ffi")


def _register() -> Status:
    try:
        module = load()
    except ImportError as e:
        return Status(False, f"the native module jax_aiter._ffi cannot be imported ({e}); reinstall jax_aiter")
    reason = incompatibility(module.build_info(), runtime_api_version())
    if reason is None:
        for registration in module.registrations():
            register_platform(registration)
    return Status(reason is None, reason or "")


def incompatibility(build_info: dict[str, Any], runtime: tuple[int, int] | None) -> str | None:
    """Why a build must not be registered in a jaxlib with FFI version `runtime`, or None if it may be.

    XLA refuses handlers built with headers newer than itself, and does so by failing the start of the whole backend.
    """
    built = build_info["xla_ffi_api"]
    if runtime is None:
        return f"jaxlib {jaxlib.version.__version__} does not tell its XLA FFI version: its c_api.h is missing or unreadable"
    if built[0] != runtime[0] or built[1] > runtime[1]:
        return (
            f"jax_aiter was built with XLA FFI {built[0]}.{built[1]}, jaxlib {jaxlib.version.__version__} has "
            f"{runtime[0]}.{runtime[1]}; install a newer jaxlib, or build jax_aiter with jaxlib 0.9.1's headers"
        )
    if build_info["plan_version"] < wire.VERSION:
        return (
            f"the native module reads launch plans up to version {build_info['plan_version']}, this jax_aiter writes "
            f"version {wire.VERSION}; reinstall jax_aiter"
        )
    return None


@functools.cache
def runtime_api_version() -> tuple[int, int] | None:
    """The XLA FFI version of the running jaxlib, from the header it ships; jaxlib has no function that tells it."""
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    try:
        text = header.read_text(encoding="utf-8")
    except OSError:
        return None
    found = [re.search(rf"#define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    numbers = [int(m[1]) for m in found if m]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def register_platform(registration: dict[str, Any]) -> None:
    """Registers one entry of `_ffi.registrations()`; the state type first, since the handlers refer to it."""
    name, type_registration = registration["type"]
    jax.ffi.register_ffi_type(name, type_registration, platform=registration["platform"])
    jax.ffi.register_ffi_target(TARGET_NAME, registration["stages"], platform=registration["platform"])
