"""`jax-aiter kernels build --hip`: every source of a release, several at once, what is there already left alone."""

import threading

import pytest
from click.testing import CliRunner

from jax_aiter.cli.kernels import kernels
from jax_aiter.core.config import config
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.build import ahead, compilers, frontend, source
from jax_aiter.kernels.hip.build.catalogue import CATALOGUE
from jax_aiter.kernels.store import Location
from jax_aiter.kernels.store.location import AS_IT_IS

COMPILER = "the compiler of this test"


@pytest.fixture
def where(tmp_path):
    """A release with two of the sources."""
    for name in ("activation", "cache"):
        path = tmp_path / "aiter_source" / CATALOGUE[name][-1].files[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"#include <torch/all.h>\n")
    landmark = tmp_path / "aiter_source/aiter/ops/triton/__init__.py"
    landmark.parent.mkdir(parents=True)
    landmark.write_bytes(b"")
    return Location(tmp_path / "aiter_source", "setting", AS_IT_IS, None)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compiled(monkeypatch):
    """Instead of a compiler, the names of what it was asked for."""
    asked = []

    def compile_(unit, arch):
        asked.append((unit.name, arch))
        if unit.name == "cache" and arch == "gfx950":
            raise KernelBuildError("error: what?")
        return f"host of {unit.name}".encode(), b"bitcode"

    monkeypatch.setattr(frontend, "_compile", compile_)
    monkeypatch.setattr(compilers, "find", lambda: type("Compiler", (), {"identity": COMPILER}))
    return asked


def run(*arguments):
    return CliRunner().invoke(kernels, ["build", "--hip", "--arch", "gfx942", *arguments], catch_exceptions=False)


def test_each_source_is_built_once_and_what_a_release_lacks_is_refused(where, root, compiled):
    counted = []
    first = ahead.build_all(where, [], ["gfx942", "gfx950"], root, 4, counted.append)
    assert len(first) == len(counted) == 2 * len(CATALOGUE)
    by_status = {status: sorted((o.name, o.arch) for o in first if o.status == status) for status in ("built", "failed", "cached")}
    assert by_status == {
        "built": [("activation", "gfx942"), ("activation", "gfx950"), ("cache", "gfx942")],
        "failed": [("cache", "gfx950")],
        "cached": [],
    }
    lacking = next(o for o in first if o.name == "quant")
    assert (lacking.status, lacking.reason) == ("refused", "this release of AITER has no csrc/kernels/quant_kernels.cu")
    again = ahead.build_all(where, ["activation", "cache"], ["gfx942"], root, 1, counted.append)
    assert [o.status for o in again] == ["cached", "cached"]
    assert len(compiled) == 4


def test_two_threads_that_want_one_source_compile_it_once(where, root, compiled):
    unit = source.source(where, "activation")
    threads = [threading.Thread(target=frontend.front_end, args=(unit, "gfx942", root)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert compiled == [("activation", "gfx942")]


def test_the_command_prints_what_became_of_each(where, root, compiled):
    with config(source=str(where.path), unverified=True):
        done = run("--sources", "activation,quant")
        assert done.exit_code == 0, done.output
        assert "1 built, 0 cached, 1 refused, 0 failed" in done.output
        assert "refused: quant on gfx942: this release of AITER has no csrc/kernels/quant_kernels.cu" in done.output
        failed = run("--arch", "gfx950", "--sources", "cache")
    assert failed.exit_code == 1
    assert "failed: cache on gfx950: error: what?" in failed.output
    assert "1 sources could not be built" in failed.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--sources", "activation,none"), "AITER has no HIP source none; there are activation"),
        (("--ops", "rms_norm"), "it takes neither --ops nor --shapes"),
        (("--arch", "sm_90"), "AITER's HIP kernels are for gfx942 and gfx950"),
    ],
)
def test_a_wrong_command_is_told_the_rule(where, root, compiled, arguments, says):
    with config(source=str(where.path), unverified=True):
        done = run(*arguments)
    assert done.exit_code
    assert says in " ".join(done.output.replace("│", " ").split())


def test_without_a_compiler_the_command_says_what_to_install(where, root, monkeypatch):
    monkeypatch.setenv(compilers.VARIABLE, "/nowhere/clang++")
    with config(source=str(where.path), unverified=True):
        done = run()
    assert done.exit_code == 1
    assert "JAX_AITER_CLANG=/nowhere/clang++ is no compiler; install ROCm, or LLVM 19" in " ".join(done.output.split())
