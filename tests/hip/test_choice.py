"""What auto makes of AITER's HIP kernels on ROCm: AITER's own choice, and the next provider where they cannot be had.

Needs neither AITER nor a compiler; the last tests take the release that is here.
"""

import dataclasses
import json
import warnings

import jax
import jax.numpy as jnp
import pytest

import jax_aiter
from jax_aiter.bind import select
from jax_aiter.core.config import config
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.kernels.call import CUSTOM_CALL_TARGETS
from jax_aiter.kernels.hip import adapters, client, provider
from jax_aiter.kernels.hip.adapters import Entry
from jax_aiter.kernels.hip.build import compilers
from jax_aiter.kernels.hip.build.catalogue import CATALOGUE
from jax_aiter.kernels.provider import Unasked
from jax_aiter.ops.catalogue import all_ops
from tests.hip.compiled import whole
from tests.hip.test_worker import HELLO, SPEC, answering
from tests.needs import needs_aiter

X = jax.ShapeDtypeStruct((4, 64), jnp.bfloat16)
FUNCTION = "void silu_and_mul(torch::Tensor& out, torch::Tensor& input) {}\n"


@pytest.fixture
def release(root, tmp_path, monkeypatch):
    """A release that has the source of the gated activations and nothing of Triton's, taken as it is; nothing was warned of yet.

    There is a compiler, whatever the machine has.
    """
    monkeypatch.setenv(compilers.VARIABLE, str(whole(tmp_path / "llvm")))
    folder = tmp_path / "release"
    for name, text in ((CATALOGUE["activation"][-1].files[0], FUNCTION), ("aiter/ops/triton/__init__.py", "")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(select, "_warned", set())
    with config(source=str(folder), unverified=True, implementation=None):
        yield folder


def call(x, implementation=None):
    return jax_aiter.silu_and_mul(x, implementation=implementation)


def lowered(implementation=None) -> bool:
    """Whether the program for an MI300X, lowered anew, launches a plan."""
    with config(arch="gfx942"):
        program = jax.jit(lambda x: call(x, implementation)).trace(X)
        return CUSTOM_CALL_TARGETS[0] in program.lower(lowering_platforms=("rocm",)).as_text()


def explained(arch="gfx942"):
    with config(arch=arch):
        (found,) = jax_aiter.explain(call, X, platform="rocm")
    return found


@pytest.mark.usefixtures("release")
def test_auto_takes_what_aiter_takes_and_explain_says_the_kernel_and_the_rule(worker_python, root, capfd):
    answering(worker_python, root)
    before = explained()
    assert before.implementation == "hip"
    assert "no plan is cached: the first trace waits while AITER's source activation is compiled" in str(before)
    assert "chosen by aiter's function of this name is this one" in str(before)
    assert len(client._workers) == 0, "to explain is not to compile"
    assert lowered()
    assert "compiling AITER's HIP kernels for silu_and_mul on gfx942" in capfd.readouterr().err
    assert "kernel k, grid (4, 1, 1)" in str(explained())


@pytest.mark.usefixtures("release")
def test_a_process_that_must_not_compile_takes_what_is_cached_and_nothing_else(worker_python, root, tmp_path):
    started = tmp_path / "started"
    worker_python(f"touch {started}; exit 3")
    with config(build=False):
        assert not lowered()
        assert "not hip: no plan of this call is in the cache, and none is built in this process" in str(explained())
        with pytest.raises(NotSupportedError, match=r"JAX_AITER_BUILD=0 .*`jax-aiter kernels build`"):
            lowered("hip")
    assert not started.exists()
    answering(worker_python, root)
    assert lowered()
    client.close_workers()
    worker_python(f"touch {started}; exit 3")
    with config(build=False):
        assert lowered()
    assert not started.exists()


@pytest.mark.usefixtures("release")
def test_without_a_compiler_the_next_implementation_runs_and_explain_says_why(monkeypatch):
    monkeypatch.delenv(client.PYTHON, raising=False)
    monkeypatch.setenv(compilers.VARIABLE, "/nowhere/clang++")
    assert "not hip: AITER's HIP kernels cannot be compiled: JAX_AITER_CLANG=/nowhere/clang++" in str(explained())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not lowered()
    with pytest.raises(NotSupportedError, match="JAX_AITER_CLANG=/nowhere"):
        lowered("hip")


def test_a_source_that_no_release_has_is_a_reason_to_go_on(release, worker_python):
    worker_python("exit 3")
    with config(unverified=False):
        assert "no release has one of its hash" in explained().refusals["hip"]
        assert not lowered()


def failing(error: str) -> str:
    answer = {"ok": False, "refused": False, "known": True, "error": error}
    return f"{HELLO}; read line; echo '{json.dumps(answer)}'"


BROKEN = {
    "killed": (f"{HELLO}; read line; kill -9 $$", "was killed by signal 9"),
    "never started": ("exit 3", "ended with status 3"),
    "the compiler fails": (failing("clang++ ended with status 1: error: no"), "clang.*error: no"),
    "no room": (failing("cache x: full"), "cache x: full"),
}


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize("how", BROKEN)
def test_auto_goes_on_without_what_cannot_be_built_says_so_once_and_tries_again_later(how, worker_python, root):
    script, says = BROKEN[how]
    worker_python(script)
    with pytest.warns(RuntimeWarning, match=f"silu_and_mul does without its hip kernel, which could not be built: .*{says}"):
        assert not lowered()
    assert not list(root.glob("plans/**/*.json"))
    client.close_workers()
    answering(worker_python, root)
    assert lowered()


@pytest.mark.usefixtures("release")
def test_what_is_known_to_be_refused_is_no_longer_tried(worker_python, root):
    answering(worker_python, root, ok=False, refused=True, error="it calls hipMalloc")
    with pytest.warns(RuntimeWarning, match="does without its hip kernel.*hipMalloc"):
        assert not lowered()
    worker_python("exit 3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not lowered()
    assert explained().refusals["hip"] == "it calls hipMalloc"


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize("asked", [False, True])
def test_what_aiter_would_not_take_comes_behind_the_other_kernels(asked, worker_python, root, monkeypatch):
    """Before the reference, as nothing else runs the call here; not even that if only the caller may ask for it."""
    worker_python("exit 3")
    elsewhere = Entry("the table", "its tuned row takes asm", asked)
    own = adapters.adapter(SPEC.op)
    monkeypatch.setitem(adapters.adapters(), SPEC.op, dataclasses.replace(own, entry=lambda spec: elsewhere))
    found = explained()
    assert found.implementation == ("xla" if asked else "hip")
    if asked:
        assert found.refusals["hip"] == "its tuned row takes asm"
    else:
        assert "taken for want of another kernel: its tuned row takes asm" in str(found)


@pytest.mark.parametrize("arch", provider.ARCHS)
def test_of_every_op_and_case_auto_takes_what_aiter_takes(arch, monkeypatch, tmp_path):
    """Where a HIP kernel can run a call: that one, unless its entry names another, or hand-written assembly is AITER's choice."""
    needs_aiter()
    monkeypatch.setenv(client.PYTHON, "the one that compiles")
    monkeypatch.setenv(compilers.VARIABLE, str(whole(tmp_path)))
    seen = 0
    for op in (all_ops()[name] for name in sorted(adapters.adapters())):
        for case in op.cases():
            operands = {name: array.struct for name, array in case.operands.items()}
            with config(arch=arch, implementation=None):
                try:
                    results = op.infer(operands, case.params)
                except TypeError:  # a case of the other fp8 family than this target's
                    continue
                found = select.make_call(op, "rocm", arch, operands, case.params, results)
                if select.refusals(found)["hip"] is not None:
                    continue
                taken, refused = select.preferred(found, None)
            seen += 1
            passed = provider.HipProvider().passes_over(found)
            if passed is None:
                assert taken in ("asm", "hip"), (op.name, case.name, refused)
            else:
                assert taken != "hip" or not isinstance(passed, Unasked), (op.name, case.name)
    assert seen >= 6
