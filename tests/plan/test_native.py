"""Registration: refused where it would stop the backend, never raising at import."""

import builtins
import re
import subprocess
import sys

import jax
import pytest

from jax_aiter.kernels import _native, wire

BUILD = {"xla_ffi_api": (0, 3), "plan_version": wire.VERSION}


def test_this_process_can_use_it():
    assert _native.register() == _native.Status(True)
    assert _native.require() is _native.load()
    assert _native.register() is _native.register()


def test_build_info_tells_the_headers():
    major, minor = _native.load().build_info()["xla_ffi_api"]
    assert (major, minor) <= _native.runtime_api_version()
    assert major == 0


def test_runtime_version_is_read_from_jaxlib():
    # jaxlib 0.9.1 .. 0.11.0: 0.3, 0.11.1: 0.4, 0.12: 0.5; later ones only go up.
    version = tuple(int(part) for part in jax.__version__.split(".")[:3])
    minor = 3 if version < (0, 11, 1) else 4 if version < (0, 12) else 5
    assert _native.runtime_api_version() >= (0, minor)


@pytest.mark.parametrize("runtime", [(0, 3), (0, 4), (0, 5)])
def test_same_or_newer_runtime_is_accepted(runtime):
    assert _native.incompatibility(BUILD, runtime) is None


@pytest.mark.parametrize(
    ("build", "runtime", "message"),
    [
        ({**BUILD, "xla_ffi_api": (0, 5)}, (0, 3), "built with XLA FFI 0.5, jaxlib .* has 0.3; install a newer jaxlib"),
        (BUILD, (1, 0), "built with XLA FFI 0.3, jaxlib .* has 1.0"),
        (BUILD, None, "does not tell its XLA FFI version"),
        ({**BUILD, "plan_version": 1}, (0, 3), "reads launch plans up to version 1, this jax_aiter writes version 2"),
    ],
)
def test_misfits_are_named(build, runtime, message):
    reason = _native.incompatibility(build, runtime)
    assert reason is not None
    assert re.search(message, reason)


def test_a_native_module_that_reads_newer_plans_is_accepted():
    assert _native.incompatibility({**BUILD, "plan_version": wire.VERSION + 1}, (0, 3)) is None


def test_missing_module_is_a_status_not_an_exception(monkeypatch):
    monkeypatch.setattr(_native, "_status", None)
    monkeypatch.setattr(_native, "load", lambda: builtins.__import__("jax_aiter._no_such_module"))
    status = _native.register()
    assert not status.available
    assert "jax_aiter._ffi cannot be imported" in status.reason
    with pytest.raises(_native.NativeUnavailableError, match="reinstall jax_aiter"):
        _native.require()


def test_register_starts_no_backend():
    code = (
        "from jax._src import xla_bridge; from jax_aiter.kernels import _native; "
        "assert _native.register().available; print(xla_bridge.backends_are_initialized())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"
