"""What the recording worker imports and reads of AITER: private copies of compared files, and nothing that lay beside them."""

import importlib.util
import json
import py_compile

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import canonical, digest, write_entry
from jax_aiter.kernels.manifest import LANDMARK, Fact
from jax_aiter.kernels.store.location import UNVERIFIED, entry, listing
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
    """The files that a worker is given, which then answers; its arguments are the script, the architecture and the folder."""
    answer = json.dumps({"ok": True, "record": record(root)})
    worker_python(
        f"""cp -r "$3" {tmp_path}/given; stat -c %a "$3" > {tmp_path}/mode
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
