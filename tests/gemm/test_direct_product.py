"""On a GPU a large product of 16 bits is one operation, as ``a @ b.T`` is; a small one, or one with a bias, is float32 first."""

import jax
import jax.numpy as jnp
import pytest

import jax_aiter


def lowered(m, n, dtype, platform="cuda", **options):
    a, b = (jax.ShapeDtypeStruct((size, 64), dtype) for size in (m, n))
    arch = {"cuda": "sm_90", "rocm": "gfx942", "cpu": None}[platform]
    with jax_aiter.config(arch=arch):
        call = jax.jit(lambda a, b: jax_aiter.gemm_a16w16(a, b, implementation="xla", **options))
        return call.trace(a, b).lower(lowering_platforms=(platform,)).as_text()


def products(text):
    """The types that products write, as they stand in the program."""
    return [line.split("-> ")[1].strip().split("x")[-1].rstrip(">") for line in text.splitlines() if "dot_general" in line]


@pytest.mark.parametrize("platform", ["cuda", "rocm"])
@pytest.mark.parametrize(("dtype", "written"), [(jnp.bfloat16, "bf16"), (jnp.float16, "f16"), (jnp.float32, "f32")])
def test_a_large_product_is_written_as_it_is_wanted(platform, dtype, written):
    text = lowered(4096, 4096, dtype, platform)
    assert products(text) == [written]
    assert "stablehlo.convert" not in text


@pytest.mark.parametrize(
    ("m", "n", "options"),
    [(16, 4096, {}), (4096, 4095, {}), (4096, 4096, {"out_dtype": jnp.float32})],
    ids=["rows", "one short", "wide"],
)
def test_others_are_float32_first(m, n, options):
    assert products(lowered(m, n, jnp.bfloat16, **options)) == ["f32"]


def test_a_bias_is_added_before_the_one_rounding():
    assert products(lowered(4096, 4096, jnp.bfloat16, bias=jnp.zeros(4096, jnp.bfloat16))) == ["f32"]


def test_a_cpu_rounds_after_float32():
    assert set(products(lowered(4096, 4096, jnp.bfloat16, "cpu"))) == {"f32"}
