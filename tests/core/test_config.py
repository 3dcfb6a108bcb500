"""Settings: where they come from, how long they hold, what they change."""

import jax
import jax.numpy as jnp
import pytest

import jax_aiter
from jax_aiter.core.config import FAMILIES, Config, Settings, settings_from_env


def test_environment():
    env = {"JAX_AITER": "0", "JAX_AITER_MOE": "0", "JAX_AITER_IMPLEMENTATION": "xla", "JAX_AITER_ARCH": "gfx950"}
    got = settings_from_env(env)
    assert got == Settings(enabled=False, disabled_families=frozenset({"MOE"}), implementation="xla", arch="gfx950")
    assert settings_from_env({}) == Settings()


@pytest.mark.parametrize("name", ["JAX_AITER", *(f"JAX_AITER_{f}" for f in FAMILIES), "JAX_AITER_IMPLEMENTATION", "JAX_AITER_ARCH"])
def test_a_wrong_variable_is_named(name):
    with pytest.raises(ValueError, match="JAX_AITER"):
        Config({name: "yes"})


def test_a_setting_holds_inside_the_block_only():
    assert jax_aiter.config.implementation is None
    with jax_aiter.config(implementation="xla"):
        assert jax_aiter.config.implementation == "xla"
        with jax_aiter.config(arch="gfx950"):
            assert (jax_aiter.config.implementation, jax_aiter.config.arch) == ("xla", "gfx950")
        assert jax_aiter.config.arch is None
    assert jax_aiter.config.implementation is None


@pytest.mark.parametrize("changes", [{"implementation": "cuda"}, {"arch": "gfx90a"}, {"disabled_families": ["GEMM"]}])
def test_wrong_values_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))), jax_aiter.config(**changes):
        pass


def test_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="colour"), jax_aiter.config(colour="red"):
        pass
    with pytest.raises(AttributeError):
        jax_aiter.config.colour  # noqa: B018


def test_a_jitted_function_follows_the_setting():
    """The settings are part of jit's cache key: no stale program after a change."""
    quantise = jax.jit(lambda x: jax_aiter.per_token_quant(x, quant_dtype="fp8")[0])
    x = jnp.ones((2, 4))
    for arch, dtype in (("gfx942", jnp.float8_e4m3fnuz), ("gfx950", jnp.float8_e4m3fn), ("gfx942", jnp.float8_e4m3fnuz)):
        with jax_aiter.config(arch=arch):
            assert quantise(x).dtype == dtype
