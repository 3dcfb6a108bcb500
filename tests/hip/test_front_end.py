"""AITER's sources through the compiler: what comes out, where it is kept, what is said when it fails."""

import dataclasses
import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import read_entry, write_entry
from jax_aiter.kernels.hip.build import commands, compilers, device, frontend, source
from jax_aiter.kernels.hip.build.catalogue import CATALOGUE
from jax_aiter.kernels.store import Location, sources
from jax_aiter.kernels.store.location import AS_IT_IS
from tests.hip.compiled import compiler, needs_source
from tests.needs import needs_aiter

ARCH = "gfx942"
#: what the recorder gives: HIP's API, and what our stand-ins for torch call.
OURS = ("jax_aiter_refuse", "jax_aiter_scratch")


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A cache that the tests of one process share: a source is compiled once for all of them."""
    return tmp_path_factory.mktemp("hip")


@pytest.fixture
def activation(root):
    """The front end of the cheapest source: 1.5 s of each half."""
    return frontend.front_end(needs_source("activation"), ARCH, root)


def symbols(path, *options: str) -> set[str]:
    nm = compilers.find().opt.resolve().with_name("llvm-nm")
    listed = subprocess.run([nm, *options, path], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].partition("@")[0] for line in listed.splitlines() if line.split()}


def kernels(found: frontend.FrontEnd) -> list[str]:
    """Symbols of the module that the host library registers."""
    host = found.host.read_bytes()
    defined = symbols(found.bitcode, "--defined-only")  # constants too, which are registered as well
    return sorted(name for name in defined if name.startswith("_Z") and f"\0{name}\0".encode() in host)


def test_the_host_library_has_aiters_functions_and_leaves_hip_to_the_recorder(activation):
    defined = symbols(activation.host, "-D", "--defined-only")
    assert any("12silu_and_mulERN2at6Tensor" in name or "12silu_and_mul" in name for name in defined)
    wanted = symbols(activation.host, "-D", "--undefined-only")
    assert {"hipLaunchKernel", "__hipRegisterFunction"} <= wanted
    alien = {name for name in wanted if name.startswith(("hip", "__hip", "jax_aiter"))} - set(OURS)
    assert all(name.startswith(("hip", "__hip")) for name in alien)


def test_one_kernel_is_all_that_its_code_object_holds(activation):
    names = [name for name in kernels(activation) if "act_and_mul" in name]
    assert len(names) > 12
    code = device.code_object(activation.bitcode, names[0], ARCH)
    assert code.startswith(b"\x7fELF")
    assert f"{names[0]}.kd".encode() in code
    assert not any(f"{name}.kd".encode() in code for name in names[1:])
    assert len(code) < 20_000
    assert code == device.code_object(activation.bitcode, names[0], ARCH)


PASSED = """
#include <torch/all.h>
__device__ float twice(float x) { return 2 * x; }
extern __shared__ float room[];  // whoever launches makes it
template <class F> __device__ void apply(float* x, F f) { room[0] = x[threadIdx.x]; x[threadIdx.x] = f(room[threadIdx.x]); }
extern "C" __global__ void passes(float* x) { apply(x, twice); }
"""


def compiled(text: str, folder: Path, root: Path) -> frontend.FrontEnd:
    """A source of our own, as one of AITER's."""
    compiler()
    path = folder / "csrc/kernels/own.cu"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    where = Location(folder, "setting", AS_IT_IS, None)
    return frontend.front_end(source.Source(where, "own", ("csrc/kernels/own.cu",), (), (), (), "torch"), ARCH, root)


def test_a_function_that_a_kernel_passes_and_does_not_call_comes_along(tmp_path, root):
    assert b"passes.kd" in device.code_object(compiled(PASSED, tmp_path, root).bitcode, "passes", ARCH)


DEEP = """
#include <torch/all.h>
template <int N> __device__ float step(const float* x, float sum) { return step<N - 1>(x, sum * x[N]); }
template <> __device__ float step<0>(const float* x, float sum) { return sum * x[0]; }
extern "C" __global__ void deep(float* x) { x[threadIdx.x] = step<%d>(x, x[threadIdx.x]); }
"""


@pytest.mark.parametrize(("functions", "early", "order"), [
    (device.MANY // 4, False, device.EARLY),
    (device.MANY, False, device.BOTTOM_UP),
    (device.MANY, True, device.EARLY),
])  # fmt: skip
def test_a_kernel_of_many_functions_is_inlined_bottom_up_and_is_one_function_too(
    tmp_path, root, monkeypatch, functions, early, order
):
    found, asked, run = compiled(DEEP % functions, tmp_path, root), [], commands.run
    monkeypatch.setattr(commands, "run", lambda command, *rest: asked.append(command) or run(command, *rest))
    code = device.code_object(found.bitcode, "deep", ARCH, early=early)
    assert {*device.EARLY, *device.BOTTOM_UP} & set(asked[-1]) == set(order)
    (tmp_path / "deep.co").write_bytes(code)
    disassembler = compilers.find().opt.resolve().with_name("llvm-objdump")
    said = subprocess.run([disassembler, "-d", tmp_path / "deep.co"], capture_output=True, text=True, check=True).stdout
    assert said.count("v_mul_f32") >= functions
    assert not any(word in said for word in ("s_swappc", "s_setpc", "s_getpc"))


@pytest.mark.parametrize("symbol", ["no_such_kernel", "--help", "a b"])
def test_a_kernel_that_is_none_is_named(activation, symbol):
    with pytest.raises(KernelBuildError, match=r"llvm-extract ended with status 1|is no name of a kernel"):
        device.code_object(activation.bitcode, symbol, ARCH)


def test_nothing_made_knows_this_machines_folders(activation, tmp_path):
    name = next(name for name in kernels(activation) if "act_and_mul" in name)
    made = [activation.host.read_bytes(), activation.bitcode.read_bytes(), device.code_object(activation.bitcode, name, ARCH)]
    assert not any(b"/tmp/" in data or b"jax_aiter-hip-" in data for data in made)


def test_a_second_process_takes_both_halves_from_the_cache(activation, root, monkeypatch):
    monkeypatch.setattr(frontend, "_unpacked", {})
    monkeypatch.setattr(frontend, "_compile", lambda *a: pytest.fail("compiled again"))
    again = frontend.front_end(needs_source("activation"), ARCH, root)
    assert (again.host.read_bytes(), again.bitcode.read_bytes()) == (activation.host.read_bytes(), activation.bitcode.read_bytes())
    assert again.identity == activation.identity


@pytest.mark.parametrize("harm", ["entry gone", "entry torn", "code gone", "code torn", "another's"])
def test_what_is_damaged_is_compiled_again(activation, root, tmp_path, monkeypatch, harm):
    copy = tmp_path / "cache"
    shutil.copytree(root, copy)
    unit = needs_source("activation")
    entry = frontend.entry(copy, unit, ARCH)
    stored = read_entry(entry)
    code = copy / "code" / stored["bitcode"]
    if harm == "entry gone":
        entry.unlink()
    elif harm == "another's":
        write_entry(entry, ["of", "something", "else"])
    elif harm.endswith("gone"):
        code.unlink()
    else:
        torn = entry if harm.startswith("entry") else code
        torn.write_bytes(torn.read_bytes()[:-9])
    halves = (activation.host.read_bytes(), activation.bitcode.read_bytes())
    asked = []
    monkeypatch.setattr(frontend, "_compile", lambda *a: asked.append(a) or halves)
    again = frontend.front_end(unit, ARCH, copy)
    assert len(asked) == 1
    assert again.bitcode.read_bytes() == halves[1]
    assert read_entry(entry) == stored


def test_what_the_compiler_says_is_passed_on(root):
    unit = needs_source("activation")
    broken = dataclasses.replace(unit, defines=(*unit.defines, "max_vec_size=what?"))
    with pytest.raises(KernelBuildError, match=r"activation_kernels\.cu was not compiled for gfx942: .*error: expected"):
        frontend.front_end(broken, ARCH, root)
    assert not frontend.exists(broken, ARCH, root)


def test_a_compiler_that_is_killed_leaves_nothing_half_written(root, monkeypatch):
    unit = dataclasses.replace(needs_source("activation"), defines=("KILLED",))

    def kill(command, folder, seconds=0):
        raise KernelBuildError("clang++ was killed by signal 9: ")

    monkeypatch.setattr(commands, "run", kill)
    with pytest.raises(KernelBuildError, match=r"was not compiled for gfx942: clang.* was killed by signal 9"):
        frontend.front_end(unit, ARCH, root)
    assert not frontend.exists(unit, ARCH, root)


@pytest.mark.parametrize("full", [False, True], ids=["missing", "full"])
def test_a_folder_without_room_is_named_with_the_remedy(activation, root, tmp_path, monkeypatch, full):
    def no_room(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    unit = dataclasses.replace(needs_source("activation"), defines=("NO_ROOM",))
    if full:
        monkeypatch.setattr(Path, "write_bytes", no_room)
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    says = r"No space left on device" if full else r"No such file or directory"
    with pytest.raises(KernelBuildError, match=rf"no place to work: .*{says}; set TMPDIR to a folder with room"):
        frontend.front_end(unit, ARCH, root)
    assert not frontend.exists(unit, ARCH, root)


@pytest.fixture
def altered(tmp_path):
    """A copy of AITER's sources that may be changed."""
    where = needs_aiter()
    for name in source.source(where, "activation").names if source.lacking(where, "activation") is None else ():
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(sources.read(where, name))
    return Location(tmp_path, where.source, where.identity, where.doubt)


def test_a_source_of_no_release_is_refused_by_its_hash(altered):
    needs_source("activation")
    before = needs_source("activation").identity
    path = altered.place("csrc/kernels/activation_kernels.cu")
    path.write_bytes(path.read_bytes() + b"\n")
    assert "is not known: no release has one of its hash" in str(source.lacking(altered, "activation"))
    with pytest.raises(KernelBuildError, match=r"activation_kernels\.cu .* is not known"):
        source.source(altered, "activation")
    taken = dataclasses.replace(altered, identity="as it is")
    assert source.source(taken, "activation").identity != before


def test_a_header_of_no_release_is_left_out(altered, tmp_path_factory):
    text = altered.place(needs_source("activation").files[0]).read_text()
    included = (line.split('"')[1] for line in text.splitlines() if line.startswith('#include "'))
    header = next(name for name in included if altered.place(f"csrc/include/{name}").is_file())
    path = altered.place(f"csrc/include/{header}")
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(KernelBuildError, match=rf"{header}' file not found.*1 sources that no release has were left out"):
        frontend.front_end(source.source(altered, "activation"), ARCH, tmp_path_factory.mktemp("cache"))


def test_a_source_that_changes_under_the_compiler_is_not_kept_under_its_old_hash(altered, root):
    needs_source("activation")
    unit = source.source(dataclasses.replace(altered, identity="as it is"), "activation")
    path = altered.place("csrc/include/dispatch_utils.h")
    assert unit.identity
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(KernelBuildError, match=r"sources in .* changed since they were first read; start again"):
        frontend.front_end(dataclasses.replace(unit, defines=(*unit.defines, "OTHER")), ARCH, root)


def test_every_name_is_of_a_source_that_some_release_has():
    assert all(sources.is_source(file) for units in CATALOGUE.values() for unit in units for file in unit.files)


@pytest.mark.exhaustive
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_source_compiles_and_gives_kernels(name, arch, root):
    found = frontend.front_end(needs_source(name), arch, root)
    names = kernels(found)
    assert names
    for symbol in names[:: max(1, len(names) // 3)][:3]:
        assert f"{symbol}.kd".encode() in device.code_object(found.bitcode, symbol, arch)
