"""`explain`, `supports`, explicit implementations, and the availability functions."""

import json

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner

import jax_aiter
from jax_aiter.bind.op import OPS
from jax_aiter.kernels import found

X = jax.ShapeDtypeStruct((4, 64), jnp.bfloat16)
W = jax.ShapeDtypeStruct((64,), jnp.bfloat16)


def test_explain_lists_ops_in_order_and_through_control_flow():
    def model(x, w):
        x = jax.lax.scan(lambda c, _: (jax_aiter.rms_norm(c, w), None), x, None, length=2)[0]
        return jax.jit(jax_aiter.silu_and_mul)(x)

    got = jax_aiter.explain(model, X, W)
    assert [e.op for e in got] == ["rms_norm", "silu_and_mul"]
    assert all(e.implementation == "xla" for e in got)
    assert got[0].operands == {"x": "bfloat16[4, 64]", "weight": "bfloat16[64]"}
    assert "the platform is cpu" in got[0].refusals["triton"]
    assert "rms_norm(x=bfloat16[4, 64]" in str(got[0])


def test_explain_sees_the_backward_pass():
    got = jax_aiter.explain(jax.grad(lambda x, w: jax_aiter.rms_norm(x, w).astype(jnp.float32).sum()), X, W)
    assert [e.op for e in got][:1] == ["rms_norm"]


def test_explicit_implementation_never_falls_back():
    x, w = jnp.ones((2, 8)), jnp.ones(8)
    for implementation in ("triton", "asm"):
        with pytest.raises(jax_aiter.NotSupportedError, match=f"rms_norm.*{implementation}.*platform is cpu"):
            jax.jit(lambda x, w, i=implementation: jax_aiter.rms_norm(x, w, implementation=i))(x, w)
    with jax_aiter.config(implementation="triton"), pytest.raises(jax_aiter.NotSupportedError):
        jax_aiter.rms_norm(x, w)


def test_disabled_family_stays_on_the_reference():
    with jax_aiter.config(implementation=None, disabled_families=["NORM"]):
        assert jax_aiter.explain(jax_aiter.rms_norm, X, W, platform="rocm")[0].implementation == "xla"


def test_supports():
    got = jax_aiter.supports("rms_norm", "gfx942", X, W, epsilon=1e-6)
    assert set(got) == {"asm", "hip", "triton", "xla"}
    assert got["xla"] is None
    with pytest.raises(ValueError, match="weight"):
        jax_aiter.supports("rms_norm", "gfx942", X, X, epsilon=1e-6)
    with pytest.raises(ValueError, match="no op is called"):
        jax_aiter.supports("rmsnorm", "gfx942", X)
    with pytest.raises(TypeError, match="at most 2 operands"):
        jax_aiter.supports("rms_norm", "gfx942", X, W, W, epsilon=1e-6)


def test_availability_needs_no_gpu(monkeypatch):
    assert jax_aiter.is_aiter_found() in (True, False)
    assert jax_aiter.is_aiter_found_and_supported() is False

    @jax_aiter.if_aiter_supported
    def fast(x):
        return x + 1

    assert fast(1) is None
    monkeypatch.setattr(found, "target_arch", lambda: "gfx942")
    monkeypatch.setattr(found, "is_aiter_found", lambda: True)
    assert jax_aiter.is_aiter_found_and_supported() is True
    assert fast(1) == 2
    with jax_aiter.config(enabled=False):
        assert fast(1) is None


def test_doctor():
    from jax_aiter.cli.main import cli

    data = json.loads(CliRunner().invoke(cli, ["doctor", "--json"], catch_exceptions=False).output)
    compiler = data["hip_compiler"]
    assert ("clang" in compiler["found"]) if compiler["found"] else ("JAX_AITER_CLANG" in compiler["reason"])
    assert data["packages"]["jax"] == jax.__version__
    assert {row["op"] for row in data["ops"]} == set(OPS)
    assert all(row["implementations"] for row in data["ops"])
    assert data["exit_code"] == 1  # a CPU
    assert {check["part"]: check["state"] for check in data["checks"]}["launch handler"] == "good"
    done = CliRunner().invoke(cli, ["doctor"], catch_exceptions=False)
    assert done.exit_code == 1
    assert "target arch" in done.output
    assert "rms_norm" not in done.output
    assert len(done.output.splitlines()) <= 40  # one screen
    assert "rms_norm" in CliRunner().invoke(cli, ["doctor", "--ops"], catch_exceptions=False).output


def test_every_public_op_has_a_docstring_that_names_its_source():
    from jax_aiter.cli.ops import rows

    table = rows()
    assert {name for _, name, *_ in table} >= {"rms_norm", "fused_moe", "paged_attention", "gemm_a8w8"}
    for _, name, sentence, _, mirrors in table:
        assert len(sentence) > 20, name
        assert "aiter" in mirrors.lower(), name
