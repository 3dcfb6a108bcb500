"""`jax-aiter tune` on the device itself: what it measures is written, and auto follows the file, whichever way it points."""

import functools
import json

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner

import jax_aiter
from jax_aiter.bind import tuning
from jax_aiter.cli import tune_search
from jax_aiter.cli.main import cli
from jax_aiter.core.arch import arch_of
from jax_aiter.core.cases import case, normal
from jax_aiter.core.config import config
from jax_aiter.kernels.triton.tiles.search import Search
from jax_aiter.ops.catalogue import all_ops
from tests.transforms.common import bound

from .common import get, refusal, runs_kernel

OP = all_ops()["rms_norm"]
GIVEN = case("tuned", x=normal(96, 512, dtype=jnp.bfloat16), weight=normal(512, dtype=jnp.bfloat16), epsilon=1e-6)
CALL = {"op": "rms_norm", "operands": {"x": ["bfloat16", 96, 512], "weight": ["bfloat16", 512]}, "params": {"epsilon": 1e-6}}


def chosen() -> str:
    """What implementation=None compiles to."""
    with config(implementation=None):
        compiled = jax.jit(bound(OP, GIVEN)).lower(GIVEN.draw()).compile()
    return "triton" if runs_kernel(compiled) else "xla"


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """The file of one tuning run; auto reads it."""
    get("rms_norm")  # skips without AITER's files
    assert refusal(OP, GIVEN) is None
    shapes, path = tmp_path / "shapes.json", tmp_path / "tune.json"
    shapes.write_text(json.dumps([CALL]))
    done = CliRunner().invoke(cli, ["tune", "--shapes", str(shapes), "--out", str(path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "1 of 1 calls measured" in done.output
    monkeypatch.setenv(tuning.ENVIRONMENT, str(path))
    return path


def test_auto_follows_what_was_measured(tuned):
    written = json.loads(tuned.read_text())
    ((key, entry),) = written["entries"].items()
    arch = arch_of(jax.devices()[0])
    assert (written["arch"], written["device"]) == (arch, jax.devices()[0].device_kind)
    assert key.startswith(f"{arch} rms_norm x=bfloat16[128,512]")
    assert {"xla", "triton"} <= entry["seconds"].keys()
    assert all(1e-7 < seconds < 1 for seconds in entry["seconds"].values()), entry  # a launch, on a real card or an interpreter
    assert chosen() == entry["best"]


@pytest.mark.parametrize("best", ["triton", "xla"])
def test_auto_follows_the_file_either_way(tuned, best):
    """The measured times changed places: the choice changes with them, so it comes from the file and not from the rule."""
    written = json.loads(tuned.read_text())
    (entry,) = written["entries"].values()
    entry["seconds"] = {"xla": 2e-5, "triton": 1e-5 if best == "triton" else 3e-5}
    tuned.write_text(json.dumps(written))
    assert chosen() == best


def test_a_tile_that_was_found_is_what_runs(tmp_path, monkeypatch):
    """A short search for one product: the file has a tile, and explain says that it is taken and from where."""
    get("rms_norm")  # skips without AITER's files
    shapes, path = tmp_path / "shapes.json", tmp_path / "tune.json"
    operands = {"a": ["bfloat16", 64, 128], "b": ["bfloat16", 128, 128]}
    shapes.write_text(json.dumps([{"op": "gemm_a16w16", "operands": operands, "params": {"out_dtype": "bfloat16"}}]))
    monkeypatch.setattr(tune_search, "Search", functools.partial(Search, most=4))  # a virtual device takes its time
    how = ["tune", "--shapes", str(shapes), "--out", str(path), "--jobs", "2"]
    done = CliRunner().invoke(cli, how, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (entry,) = json.loads(path.read_text())["entries"].values()
    assert entry["bucket"] == {"M": 64, "N": 128, "K": 128}
    assert entry["tile_seconds"] <= (entry["own_seconds"] or 1)
    monkeypatch.setenv(tuning.ENVIRONMENT, str(path))
    a, b = (jax.ShapeDtypeStruct((n, 128), jnp.bfloat16) for n in (64, 128))
    with config(implementation="triton"):
        (said,) = jax_aiter.explain(jax_aiter.gemm_a16w16, a, b)
    assert "measured for this bucket by `jax-aiter tune`" in str(said)
    assert all(f"{name}=" in str(said) for name in entry["tile"])
