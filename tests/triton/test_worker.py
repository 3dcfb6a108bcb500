"""The plan cache and the worker process when things go wrong. Needs neither AITER nor Triton."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels import cache
from jax_aiter.kernels.triton import client, plans
from jax_aiter.kernels.triton.provider import plan_for

from .calls import call

SPEC = call("rms_norm", "gfx942", {"x": "bfloat16[4,8]", "weight": "bfloat16[8]"}, ["bfloat16[4,8]"], epsilon=1e-6)
ROOT = Path(__file__).parents[2]


def record(root):
    """A hand-written record of one launch."""
    buffers = [("operand", 0, 64), ("operand", 1, 16), ("result", 0, 64)]
    launch = {"step": "launch", "kernel": "k", "symbol": "k", "code": cache.put_code(root, b"\x7fELF code"), "shared": 0}
    launch |= {"threads": 64, "grid": [4, 1, 1], "args": [["ptr", 0, 0], ["ptr", 2, 0], ["fp32", 0.5]]}
    described = [{"kind": kind, "index": index, "nbytes": nbytes} for kind, index, nbytes in buffers]
    return {"op": SPEC.op, "arch": SPEC.arch, "buffers": described, "steps": [launch]}


@pytest.mark.usefixtures("aiter_present")
class TestWorkerFailures:
    def test_no_such_python(self, monkeypatch):
        monkeypatch.setenv("JAX_AITER_TRITON_PYTHON", "/nowhere/python")
        with pytest.raises(KernelBuildError, match="set JAX_AITER_TRITON_PYTHON to a Python that has torch and triton"):
            plan_for(SPEC)

    def test_missing_torch(self, worker_python):
        worker_python('exec "$PYTHON" -S "$@"')  # no site-packages
        with pytest.raises(KernelBuildError, match=r"needs torch: .*pip install \"jax_aiter\[triton\]\""):
            plan_for(SPEC)

    def test_wrong_triton_version(self, worker_python, tmp_path):
        (tmp_path / "fake").mkdir()
        (tmp_path / "fake/torch.py").write_text("")
        (tmp_path / "fake/triton.py").write_text("__version__ = '3.9.0'")
        worker_python(f'PYTHONPATH="{tmp_path}/fake" exec "$PYTHON" -S "$@"')
        with pytest.raises(KernelBuildError, match=r"Triton 3\.9\.0 is installed.*triton>=3\.6,<3\.8"):
            plan_for(SPEC)

    def test_killed_while_it_works_and_replaced_by_the_next_call(self, worker_python, tmp_path, aiter_present):
        answer = json.dumps({"ok": True, "record": record(aiter_present)})
        once = tmp_path / "once"
        worker_python(
            f"""echo '{{"triton": "3.6.0"}}'; read line
            if [ ! -e {once} ]; then touch {once}; echo "out of memory" >&2; kill -9 $$; fi
            echo '{answer}'; read line"""
        )
        with pytest.raises(KernelBuildError, match=r"was killed by signal 9; its last words: out of memory.*--jobs 1"):
            plan_for(SPEC)
        assert plan_for(SPEC).kernels == ("k",)

    def test_a_failure_of_the_wrapper_is_reported_but_not_kept(self, worker_python):
        failed = json.dumps({"ok": False, "refused": False, "error": "AssertionError: K (gemm.py:7)"})
        worker_python(f"""echo '{{"triton": "3.6.0"}}'; read line; echo '{failed}'; read line""")
        for _ in range(2):
            with pytest.raises(KernelBuildError, match=r"recording failed.*AssertionError: K \(gemm.py:7\)"):
                plan_for(SPEC)
            client.close_workers()

    def test_a_refusal_is_kept(self, worker_python, tmp_path):
        started = tmp_path / "started"
        refused = json.dumps({"ok": False, "refused": True, "error": "too much shared memory"})
        worker_python(f"""echo x >> {started}; echo '{{"triton": "3.6.0"}}'; read line; echo '{refused}'; read line""")
        for _ in range(2):
            with pytest.raises(KernelBuildError, match="too much shared memory"):
                plan_for(SPEC)
            client.close_workers()
        if plans.triton_version() in (None, "3.6.0"):
            assert started.read_text() == "x\n", "the second call asked no worker"

    def test_an_unwritable_cache(self, worker_python, aiter_present):
        answer = json.dumps({"ok": True, "record": record(aiter_present)})
        worker_python(f"""echo '{{"triton": "3.6.0"}}'; read line; echo '{answer}'; read line""")
        (aiter_present / "plans").write_text("a file where a folder should be")
        with pytest.raises(KernelBuildError, match="set JAX_AITER_CACHE"):
            plan_for(SPEC)


def _store(root):
    version = plans.triton_version() or "3.6.0"
    return plans.find_or_build(SPEC, root, lambda spec: ({"record": record(root)}, version))


def test_without_aiter_the_remedy_is_named(empty_root):
    with pytest.raises(KernelBuildError, match="jax-aiter kernels add PATH"):
        plan_for(SPEC)


def test_a_stored_plan_needs_no_aiter(empty_root):
    _store(empty_root)
    assert plan_for(SPEC).kernels == ("k",)


@pytest.mark.parametrize("damage", ["entry", "code"])
def test_damage_is_noticed_and_rebuilt(empty_root, damage):
    plan = _store(empty_root)
    (entry,) = plans.PLANS.entries(SPEC, empty_root)
    broken = entry if damage == "entry" else next((empty_root / "code").iterdir())
    broken.write_bytes(broken.read_bytes()[:-3])
    assert plans.find(SPEC, empty_root) is None
    assert _store(empty_root) == plan


def test_the_key_tells_calls_apart(empty_root):
    other = call("rms_norm", "gfx942", {"x": "bfloat16[4,8]", "weight": "bfloat16[8]"}, ["bfloat16[4,8]"], epsilon=1e-5)
    wider = call("rms_norm", "gfx942", {"x": "bfloat16[5,8]", "weight": "bfloat16[8]"}, ["bfloat16[5,8]"], epsilon=1e-6)
    paths = {plans.plan_path(spec, empty_root) for spec in (SPEC, other, wider)}
    assert len(paths) == 3


def test_a_warm_cache_imports_neither_torch_nor_triton_and_starts_nothing(aiter_present):
    _store(aiter_present)
    program = (
        "import sys; from tests.triton.test_worker import SPEC; from jax_aiter.kernels.triton.provider import plan_for;"
        "from jax_aiter.kernels.triton import client; assert plan_for(SPEC).kernels == ('k',);"
        "assert not client._workers; bad = {'torch', 'triton'} & set(sys.modules); assert not bad, bad"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=ROOT)


def _build_slowly(root, log):
    def build(spec):
        with open(log, "a") as file:
            file.write("built\n")
        time.sleep(1.0)
        return {"record": record(root)}, plans.triton_version() or "3.6.0"

    plans.find_or_build(SPEC, root, build)


def test_processes_that_want_the_same_plan_build_it_once(empty_root, tmp_path):
    log = tmp_path / "log"
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_build_slowly, args=(empty_root, log)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert log.read_text() == "built\n"
