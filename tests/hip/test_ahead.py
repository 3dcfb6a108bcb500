"""`jax-aiter kernels build --hip`: every source of a release, several at once, what is there already left alone."""

import json
import threading

import pytest
from click.testing import CliRunner

from jax_aiter.cli.kernels import kernels
from jax_aiter.core.config import config
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.asm.provider import AsmProvider
from jax_aiter.kernels.cache import cache_root
from jax_aiter.kernels.described import call_of
from jax_aiter.kernels.hip import client
from jax_aiter.kernels.hip.build import ahead, commands, compilers, frontend, source
from jax_aiter.kernels.hip.build.catalogue import CATALOGUE
from jax_aiter.kernels.hip.plans import PLANS
from jax_aiter.kernels.store import Location
from jax_aiter.kernels.store.location import AS_IT_IS
from tests.hip.test_choice import lowered
from tests.hip.test_ck import of_release
from tests.hip.test_worker import answering, record
from tests.needs import needs_aiter

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
    monkeypatch.delenv(client.PYTHON, raising=False)
    return asked


def run(*arguments):
    return CliRunner().invoke(kernels, ["build", "--hip", "--arch", "gfx942", *arguments], catch_exceptions=False)


def test_each_source_is_built_once_and_what_a_release_lacks_is_refused(where, root, compiled):
    counted = []
    first = ahead.build_all(where, [], ["gfx942", "gfx950"], root, 4, counted.append)
    assert len(first) == len(counted) == 2 * len(ahead.NAMES)
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


def test_of_composable_kernels_products_what_dispatches_is_built_once(tmp_path, monkeypatch):
    unit, asked = of_release("gemm_a8w8"), []

    def compile_(compiler, unit, arch, *_):
        asked.append((unit.files, arch))
        return b"a library"

    monkeypatch.setattr(commands, "host", compile_)
    monkeypatch.setattr(compilers, "find", lambda: type("Compiler", (), {"identity": COMPILER}))
    found = [ahead.build_all(unit.where, ["gemm_a8w8"], ["gfx942"], tmp_path, 1, lambda _: None) for _ in range(2)]
    assert [o.status for (o,) in found] == ["built", "cached"], found
    assert asked == [(unit.files, "gfx942")]


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


CALLS = [
    {"op": "silu_and_mul", "operands": {"x": ["bfloat16", 4, 64]}, "params": {"limit": 0.0}},
    {"op": "silu_and_mul", "operands": {"x": ["float32", 4, 64]}, "params": {"limit": 0.0}},
    {"op": "moe_sorting_of_none", "operands": {}},
]


@pytest.fixture
def shapes(tmp_path):
    def write(calls):
        (tmp_path / "calls.json").write_text(json.dumps(calls))
        return str(tmp_path / "calls.json")

    return write


def plans(*arguments):
    return CliRunner().invoke(kernels, ["build", "--arch", "gfx942", *arguments], catch_exceptions=False)


def test_plans_of_calls_are_made_ahead_and_a_second_run_goes_on_where_the_first_stopped(
    where, root, compiled, worker_python, shapes, monkeypatch
):
    """Afterwards a process makes nothing: neither has it a worker, nor may it start one."""
    answering(worker_python, root)
    arguments = ("--shapes", shapes(CALLS[:2]), "--jobs", "2", "--implementation", "hip")
    with config(source=str(where.path), unverified=True, implementation=None):
        first = plans(*arguments)
        assert first.exit_code == 0, first.output
        assert "1 built, 0 cached, 1 refused, 0 failed" in first.output
        assert "refused: silu_and_mul on gfx942: x has dtype float32" in first.output
        assert compiled == [("activation", "gfx942")], "its source, once, before the calls"
        assert "0 built, 1 cached, 1 refused, 0 failed" in plans(*arguments).output
        assert compiled == [("activation", "gfx942")]
        monkeypatch.setenv(client.PYTHON, "/bin/false")
        monkeypatch.setenv(compilers.VARIABLE, "/bin/false")
        assert lowered()
        with config(build=False):
            assert lowered()


MIXTURE = {
    "hidden_states": ["bfloat16", 16, 1024], "w1": ["int8", 8, 512, 1024], "w2": ["int8", 8, 1024, 256],
    "topk_weight": ["float32", 16, 2], "topk_ids": ["int32", 16, 2],
    "w1_scale": ["float32", 8, 512], "w2_scale": ["float32", 8, 1024],
}  # fmt: skip
PARAMS = {"quant_type": "per_token", "weight_layout": (16, 16), "output_dtype": "bfloat16"}


def test_what_stands_around_a_hand_written_kernel_is_made_ahead_too(root, compiled, worker_python, shapes):
    """fused_moe on assembly: sorted and quantised by HIP kernels, whose plan is none of the op's own."""
    needs_aiter("hsa")
    described = {"op": "fused_moe", "operands": MIXTURE, "params": PARAMS}
    call = call_of(described, "gfx942")
    (part,) = AsmProvider().recorded(call)
    arrays = [("operand", list(part.operands.values())), ("result", part.results)]
    buffers = [{"kind": kind, "index": i, "nbytes": x.nbytes} for kind, found in arrays for i, x in enumerate(found)]
    answering(worker_python, root, ok=True, record={**record(root), "op": part.op, "buffers": buffers})
    with config(build=False):
        assert any("sorted by XLA's kernels: no plan of this call is in the cache" in line for line in AsmProvider().details(call))
    done = plans("--shapes", shapes([described]), "--implementation", "hip")
    assert "1 built, 0 cached, 1 refused, 0 failed" in done.output
    assert {name for name, _ in compiled} >= {"moe_sorting", "quant"}
    assert PLANS.exists(part, cache_root())
    with config(build=False):
        assert any(line.startswith("quantised and sorted by AITER's HIP kernels") for line in AsmProvider().details(call))


def test_a_source_that_does_not_compile_fails_its_calls_and_no_others(where, root, compiled, worker_python, shapes, monkeypatch):
    def fail(unit, arch):
        raise KernelBuildError(f"error: {unit.name}")

    monkeypatch.setattr(frontend, "_compile", fail)
    worker_python("exit 3")
    with config(source=str(where.path), unverified=True):
        done = plans("--shapes", shapes(CALLS[:1]), "--implementation", "hip")
    assert done.exit_code == 1
    assert "failed: silu_and_mul on gfx942: error: activation" in done.output


def test_where_nothing_compiles_the_other_plans_are_made_and_an_explicit_wish_is_refused(where, root, shapes, monkeypatch):
    monkeypatch.setenv(compilers.VARIABLE, "/nowhere/clang++")
    monkeypatch.delenv(client.PYTHON, raising=False)
    float32 = {"op": "silu_and_mul", "operands": {"x": ["float16", 4, 6]}, "params": {"limit": 0.0}}
    with config(source=str(where.path), unverified=True):
        done = plans("--shapes", shapes([float32]), "--ops", "silu_and_mul")
        asked = plans("--shapes", shapes([float32]), "--implementation", "hip")
    assert "no plans of HIP kernels: AITER's HIP kernels cannot be compiled: JAX_AITER_CLANG=/nowhere/clang++" in done.output
    assert asked.exit_code == 1
    assert "cannot be compiled" in asked.output


def test_calls_of_no_op_are_an_error(where, root, shapes):
    with config(source=str(where.path), unverified=True):
        assert "is not one of" in plans("--shapes", shapes(CALLS[2:])).output
