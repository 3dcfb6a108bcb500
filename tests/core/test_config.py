"""Settings: where they come from, how long they hold, what they change."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
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


@pytest.mark.parametrize("changes", [{"implementation": "cuda"}, {"arch": "gfx90a"}, {"arch": ""}, {"disabled_families": ["GEMM"]}])
def test_wrong_values_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        jax_aiter.config(**changes)


ODD = ("no", "0", "", 0, 1, 2.5, b"xla", object(), jnp.ones(()), np.array(["xla"]), ["MOE", 1], {"MOE": True}, "MOE")


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Settings)])
@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)  # not repr, which holds addresses
def test_values_of_another_type_are_refused(name, value):
    """A setting counts as what it is or not at all: "no" is not a way to say yes."""
    if name == "source" and isinstance(value, str) and value:
        pytest.skip("the path of a folder")
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be"):
        jax_aiter.config(**{name: value})
    assert jax_aiter.config.settings == Settings()


@pytest.mark.parametrize("value", ["no", 1, None])
def test_debug_checks_takes_a_bool(value):
    with pytest.raises(TypeError, match="debug_checks must be True or False"):
        jax_aiter.debug_checks(value)


@pytest.mark.parametrize("families", [["MOE"], ("MOE", "MOE"), {"MOE"}, frozenset({"MOE"})])
def test_families_may_be_listed(families):
    with jax_aiter.config(disabled_families=families) as settings:
        assert settings.disabled_families == {"MOE"}


@pytest.mark.parametrize("name", ["arch", "debug_checks", "colour"])
def test_a_setting_cannot_be_assigned(name):
    with pytest.raises(AttributeError, match=rf"config\.{name} cannot be assigned.*with jax_aiter\.config\({name}='gfx950'\):"):
        setattr(jax_aiter.config, name, "gfx950")
    with pytest.raises(AttributeError, match=rf"config\.{name} cannot be deleted"):
        delattr(jax_aiter.config, name)
    assert jax_aiter.config.settings == Settings()
    assert {f.name for f in dataclasses.fields(Settings)} <= set(dir(jax_aiter.config))


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
