"""Who asks XLA for the same bits in every run gets no tile whose sums are in any order."""

import pytest

from jax_aiter.core import repeatable
from jax_aiter.kernels.triton.attention import flash_tiles
from jax_aiter.kernels.triton.tiles import choose
from tests.triton.calls import flash

EXCLUDE = "--xla_gpu_exclude_nondeterministic_ops"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", False),
        ("--xla_gpu_autotune_level=4", False),
        ("--xla_gpu_deterministic_ops", True),
        (f"--xla_dump_to=/nowhere {EXCLUDE}=true", True),
        (f"{EXCLUDE}=1", True),
        (f"{EXCLUDE}=false", False),
        (f"{EXCLUDE}=true {EXCLUDE}=false", False),
        (f"{EXCLUDE}=false --xla_gpu_deterministic_ops=True", True),
        (f"{EXCLUDE}_of_another_name=true", False),
    ],
)
def test_flags_of_xla(monkeypatch, tmp_path, flags, expected):
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert repeatable.wanted() == expected
    path = tmp_path / "flags"
    path.write_text(flags)
    monkeypatch.setenv("XLA_FLAGS", str(path))
    assert repeatable.wanted() == expected


def test_no_flags_and_no_file(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert not repeatable.wanted()
    monkeypatch.setenv("XLA_FLAGS", "/no/such/file")
    assert not repeatable.wanted()


def test_the_backward_pass_of_attention(monkeypatch, tmp_path):
    """Its kernel of ours is the one that is shipped for causal calls on sm_90, and is not taken then, nor for others."""
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_AITER_TUNE", raising=False)
    space = flash_tiles.backward
    spec = flash("sm_90", backward=True)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    tile, origin = choose.choose(spec, space(spec))
    assert tile["KERNEL"] == "own", origin
    full = flash("sm_90", backward=True, causal=False)
    assert choose.choose(full, space(full))[0]["BLOCK_N1"] == 128
    monkeypatch.setenv("XLA_FLAGS", f"{EXCLUDE}=true")
    tile, origin = choose.choose(spec, space(spec))
    assert "KERNEL" not in tile
    assert origin.startswith("shipped for sm_90")
    assert "no fixed order" in str(space(spec).refuse({"KERNEL": "own"}))
