"""Calls whose kernels depend on what is in the cache, lowered for an MI300X on any machine."""

import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jax_aiter
from jax_aiter.core.config import config
from jax_aiter.core.errors import KernelBuildError, NotSupportedError
from jax_aiter.kernels.triton import plans
from tests.triton.test_worker import SPEC, record


def lowered(implementation=None, op="topk_softmax"):
    """The program for an MI300X, lowered anew."""
    if op == "topk_softmax":
        arguments = [jax.ShapeDtypeStruct((64, 128), jnp.bfloat16)]
        call = jax.jit(lambda x: jax_aiter.topk_softmax(x, 8, implementation=implementation))
    else:
        arguments = [jax.ShapeDtypeStruct((4, 8), jnp.bfloat16), jax.ShapeDtypeStruct((8,), jnp.bfloat16)]
        call = jax.jit(lambda x, w: jax_aiter.rms_norm(x, w, 1e-6, implementation=implementation))
    with config(arch="gfx942", implementation=None):
        return call.trace(*arguments).lower(lowering_platforms=("rocm",)).as_text()


def asked(match: str, implementation: str, op: str = "topk_softmax") -> None:
    """Auto says once what the explicit call raises; questions are answered, and no file is changed by any of it."""
    with pytest.raises((NotSupportedError, KernelBuildError), match=match) as raised:
        lowered(implementation, op)
    assert "\x1b" not in str(raised.value)
    with pytest.warns(RuntimeWarning, match=match) as caught:
        text = lowered(None, op)
    messages = [str(w.message) for w in caught]
    assert len(set(messages)) == len(messages), messages
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lowered(None, op) == text
        with config(arch="gfx942"):
            shapes = jax.ShapeDtypeStruct((64, 128), jnp.bfloat16)
            (said,) = jax_aiter.explain(lambda x: jax_aiter.topk_softmax(x, 8), shapes, platform="rocm")
        assert str(said)
        assert isinstance(jax_aiter.is_aiter_found(), bool)
        assert jax_aiter.supports("topk_softmax", "gfx942", shapes, topk=8, renormalize=True)["xla"] is None


def planned(tmp_path: Path) -> Path:
    """A cache with one plan of `lowered`'s rms_norm."""
    root = tmp_path / "cache"
    plans.find_or_build(SPEC, root, lambda spec: ({"record": record(root)}, plans.triton_version() or "3.6.0"))
    return root
