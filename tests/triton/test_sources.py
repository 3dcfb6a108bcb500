"""What the recording worker imports and reads of AITER: private copies of compared files, and nothing that lay beside them; which
files a call needs, and what a release has of them."""

import importlib.util
import json
import py_compile

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import canonical, digest, write_entry
from jax_aiter.kernels.manifest import LANDMARK, Fact
from jax_aiter.kernels.store import Location, files
from jax_aiter.kernels.store.files import UnknownError
from jax_aiter.kernels.store.location import BY_CONTENT, UNVERIFIED, entry, listing
from jax_aiter.kernels.triton import sources
from jax_aiter.kernels.triton.provider import plan_for

from .test_worker import SPEC, record

FILES = {
    LANDMARK: b"",
    "aiter/ops/triton/norm.py": b"VALUE = 1\n",
    "aiter/ops/triton/configs/gemm/gfx942-GEMM.json": b"{}",
    "aiter/utility/triton/tools.py": b"",
    "aiter/configs/tuned.csv": b"a\n",
    "hsa/gfx942/fmoe.co": b"code",
}


@pytest.fixture
def copy(empty_root):
    """A copy of a made-up AITER in the cache."""
    listed = {name: list(Fact.of(data)) for name, data in FILES.items()}
    identity = UNVERIFIED + digest(canonical(listed))[:32]
    folder = empty_root / "aiter" / identity
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    write_entry(listing(empty_root, identity), listed)
    write_entry(entry(empty_root), {"identity": identity})
    return folder


def _seen(worker_python, root, tmp_path):
    """The files that a worker is given, which then answers; its arguments: script, module, architecture, folder."""
    answer = json.dumps({"ok": True, "record": record(root)})
    worker_python(
        f"""cp -r "$4" {tmp_path}/given; stat -c %a "$4" > {tmp_path}/mode
        echo '{{"triton": "3.6.0"}}'; while read line; do echo '{answer}'; done"""
    )
    plan_for(SPEC)
    given = tmp_path / "given"
    return {path.relative_to(given).as_posix(): path.read_bytes() for path in given.rglob("*") if path.is_file()}


def test_only_compared_files_of_its_own_half_are_given_to_the_worker(copy, worker_python, empty_root, tmp_path):
    norm = copy / "aiter/ops/triton/norm.py"
    evil = tmp_path / "evil.py"
    evil.write_bytes(b"VALUE = 2\n")
    cached = importlib.util.cache_from_source(str(norm))
    py_compile.compile(str(evil), cfile=cached, dfile=str(norm), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    for name in (
        "aiter/__init__.py",
        "aiter/ops/triton/torch.py",
        "aiter/ops/triton/configs/gemm/gfx942-GEMM-N=1.json",
        "sitecustomize.py",
    ):
        (copy / name).write_bytes(b"evil")
    given = _seen(worker_python, empty_root, tmp_path)
    assert given == {name: data for name, data in FILES.items() if name.startswith(("aiter/ops", "aiter/utility"))}
    assert (tmp_path / "mode").read_text() == "700\n"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(("aiter/ops", "aiter/utility"))])
def test_no_worker_is_started_on_altered_files(name, copy, worker_python, empty_root, tmp_path):
    (copy / name).write_bytes(b"evil")
    with pytest.raises(KernelBuildError, match=r"is altered.*jax-aiter kernels add PATH"):
        _seen(worker_python, empty_root, tmp_path)
    assert not (tmp_path / "given").exists()


# ---- what a release has of what an op takes


@pytest.fixture
def release(tmp_path, monkeypatch):
    """Makes a folder with modules of AITER, each of which a release has, but for those that are called unknown."""

    def make(modules, unknown=()):
        for name, text in modules.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(files, "is_known", lambda name, _: name not in unknown)
        return Location(tmp_path, "setting", BY_CONTENT, None)

    sources._functions.cache_clear()
    sources._module.cache_clear()
    return make


PLAIN = {"aiter/ops/triton/__init__.py": "", "aiter/ops/triton/utils/__init__.py": "", "aiter/ops/triton/utils/core.py": ""}


@pytest.mark.parametrize("module", ["normalization/rmsnorm", "rmsnorm"])
def test_a_wrapper_is_found_where_early_and_late_releases_have_it(module, release):
    where = release(PLAIN | {f"aiter/ops/triton/{module}.py": "def rms_norm(x, *, epsilon): pass\n"})
    name = "normalization.rmsnorm"
    assert sources.lacking(where, [f"{name}:rms_norm", f"{name}:rms_norm(x)", f"{name}:rms_norm(epsilon)"]) is None
    assert sources.lacking(where, [f"{name}:rms_norm(y)"]) == f"this release of AITER's Triton wrapper {name}.rms_norm has no y"
    assert sources.lacking(where, [f"{name}:add"]) == f"this release of AITER has no Triton wrapper {name}.add"
    assert sources.lacking(where, ["gemm.basic.a:b"]) == "this release of AITER has no Triton wrapper gemm.basic.a.b"


@pytest.mark.parametrize(
    "statement",
    [
        "from aiter.ops.triton.utils.core import f",
        "from aiter.ops.triton.utils import core",
        "import aiter.ops.triton.utils.core as c",
        "from .utils.core import f",
        "from .utils import core",
        "from . import middle",
        "try:\n    from .utils.core import f\nexcept ImportError:\n    f = None",
        "if True:\n    from .utils.core import f",
    ],
)
@pytest.mark.parametrize(
    "unknown", ["aiter/ops/triton/utils/core.py", "aiter/ops/triton/utils/__init__.py", "aiter/ops/triton/a.py"]
)
def test_a_file_that_no_release_has_is_refused_by_name_whatever_imports_it(statement, unknown, release):
    middle = {"aiter/ops/triton/middle.py": "import aiter.ops.triton.utils.core"}
    where = release(PLAIN | middle | {"aiter/ops/triton/a.py": f"{statement}\ndef f(x): pass\n"}, [unknown])
    with pytest.raises(UnknownError, match=f"AITER's file {unknown} in .* is not known: .*its hash, [0-9a-f]{{32}}; set JAX_"):
        sources.lacking(where, ["a:f"])


def test_what_is_imported_when_a_function_runs_may_be_unknown(release):
    where = release(
        PLAIN | {"aiter/ops/triton/a.py": "def f(x):\n    from .utils import core\n"}, ["aiter/ops/triton/utils/core.py"]
    )
    assert sources.lacking(where, ["a:f"]) is None


def test_what_is_not_python_is_an_error_that_names_the_file(release):
    with pytest.raises(KernelBuildError, match=r"aiter/ops/triton/a\.py in .* is not Python"):
        sources.lacking(release({"aiter/ops/triton/a.py": "def f(:"}), ["a:f"])
