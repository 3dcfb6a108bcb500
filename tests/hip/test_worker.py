"""The HIP kernels' worker and plan cache when things go wrong. Needs neither AITER nor a compiler."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels import cache
from jax_aiter.kernels.hip import client
from jax_aiter.kernels.hip.plans import PLANS
from jax_aiter.kernels.hip.provider import plan_for
from jax_aiter.kernels.hip.worker import main
from jax_aiter.kernels.spec import ArraySpec, CallSpec

ROOT = Path(__file__).parents[2]
X, Y = ArraySpec((4, 64), "bfloat16"), ArraySpec((4, 32), "bfloat16")
SPEC = CallSpec("silu_and_mul", "gfx942", {"x": X}, {"limit": 0.0}, (Y,))
HELLO = """echo '{"compiler": "clang 22"}'"""


def record(root) -> dict:
    """A hand-written record of one launch."""
    launch = {"step": "launch", "kernel": "k(float*)", "symbol": "k", "code": cache.put_code(root, b"\x7fELF code"), "shared": 0}
    launch |= {"grid": [4, 1, 1], "block": [64, 1, 1], "arguments": "00" * 20, "pointers": [[0, 1, 0], [8, 0, 16]]}
    launch |= {"params": [[0, 8], [8, 8], [16, 4]]}
    buffers = [{"kind": "operand", "index": 0, "nbytes": X.nbytes}, {"kind": "result", "index": 0, "nbytes": Y.nbytes}]
    return {"op": SPEC.op, "arch": SPEC.arch, "buffers": buffers, "steps": [launch]}


def answering(worker_python, root, **answer):
    said = json.dumps(answer or {"ok": True, "record": record(root)})
    worker_python(f"{HELLO}; while read line; do echo '{said}'; done")


def test_a_record_becomes_a_plan_and_another_process_needs_no_worker(worker_python, root, monkeypatch):
    answering(worker_python, root)
    plan = plan_for(SPEC)
    (step,) = plan.steps
    assert [(s.offset, s.buffer, s.byte_offset) for s in step.args.pointers] == [(0, 1, 0), (8, 0, 16)]
    monkeypatch.setenv(client.PYTHON, "/nowhere/python")
    script = (
        "import sys; from jax_aiter.kernels.hip.provider import plan_for; from jax_aiter.kernels.spec import CallSpec;"
        "from jax_aiter.kernels.hip import client;"
        f"plan = plan_for(CallSpec.from_json({SPEC.to_json()!r})); assert not client._workers; print(plan.digest)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == plan.digest, done.stderr


def test_two_processes_at_once_record_a_call_once_and_use_it_whole(worker_python, root, tmp_path):
    """The second waits for the first, whose worker takes its time, and reads what that has stored."""
    asked, answer = tmp_path / "asked", json.dumps({"ok": True, "record": record(root)})
    worker_python(f"{HELLO}; while read line; do echo x >> {asked}; sleep 2; echo '{answer}'; done")
    script = (
        "import sys; from jax_aiter.kernels.hip.provider import plan_for; from jax_aiter.kernels.spec import CallSpec;"
        f"print('ready', flush=True); sys.stdin.readline(); print(plan_for(CallSpec.from_json({SPEC.to_json()!r})).digest)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", script], env=environment, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert asked.read_text() == "x\n"
    assert PLANS.find(SPEC, root).digest == said[0][0].strip()


def test_no_such_python(monkeypatch, root):
    monkeypatch.setenv(client.PYTHON, "/nowhere/python")
    with pytest.raises(KernelBuildError, match=r"cannot start the HIP kernel worker for gfx942.*set JAX_AITER_TRITON_PYTHON"):
        plan_for(SPEC)


def test_no_compiler(worker_python, root):
    worker_python('JAX_AITER_CLANG=/nowhere/clang exec "$PYTHON" "$@"')
    with pytest.raises(KernelBuildError, match=r"cannot be compiled: JAX_AITER_CLANG=/nowhere/clang is no compiler.*install ROCm"):
        plan_for(SPEC)


def test_killed_while_it_works_and_replaced_by_the_next_call(worker_python, root, tmp_path):
    once, answer = tmp_path / "once", json.dumps({"ok": True, "record": record(root)})
    killed = f'if [ ! -e {once} ]; then touch {once}; echo "out of memory" >&2; kill -9 $$; fi'
    worker_python(f"{HELLO}; read line; {killed}; echo '{answer}'; read line")
    with pytest.raises(KernelBuildError, match=r"was killed by signal 9; its last words: out of memory"):
        plan_for(SPEC)
    assert plan_for(SPEC).kernels == ("k",)


def test_a_refusal_is_kept(worker_python, root, monkeypatch):
    answering(worker_python, root, ok=False, refused=True, error="it calls hipMalloc")
    for _ in range(2):
        with pytest.raises(
            KernelBuildError, match=r"cannot be recorded from AITER's host code: .*hipMalloc.*implementation=\"xla\""
        ):
            plan_for(SPEC)
        monkeypatch.setenv(client.PYTHON, "/nowhere/python")


def test_what_the_compiler_says_is_not_kept(worker_python, root):
    answering(worker_python, root, ok=False, refused=False, known=True, error="clang++ ended with status 1: error: no such header")
    with pytest.raises(KernelBuildError, match="no such header"):
        plan_for(SPEC)
    client.close_workers()
    answering(worker_python, root)
    assert plan_for(SPEC).kernels == ("k",)


def test_a_worker_that_a_signal_left_as_it_was_is_not_asked_again(worker_python, root, tmp_path):
    started = tmp_path / "started"
    answer = json.dumps({"ok": False, "refused": True, "error": "it aborts", "last": True})
    worker_python(f"echo x >> {started}; {HELLO}; while read line; do echo '{answer}'; done")
    for columns in (64, 128):
        other = CallSpec(SPEC.op, SPEC.arch, {"x": ArraySpec((4, columns), "bfloat16")}, SPEC.params, SPEC.results)
        with pytest.raises(KernelBuildError, match="it aborts"):
            plan_for(other)
    assert started.read_text() == "x\nx\n"


@pytest.mark.parametrize("part", ["entry", "code"])
def test_damage_is_noticed_and_rebuilt(worker_python, root, part):
    answering(worker_python, root)
    plan = plan_for(SPEC)
    (path,) = PLANS.entries(SPEC, root) if part == "entry" else (root / "code").iterdir()
    path.write_bytes(b"?" + path.read_bytes()[1:])
    assert PLANS.find(SPEC, root) is None
    client.close_workers()
    answering(worker_python, root)
    assert plan_for(SPEC).digest == plan.digest


def test_a_full_disk_is_told_from_a_failure_of_aiter(monkeypatch, tmp_path):
    def full(*_):
        raise cache.CacheError("kernel cache: No space left on device; free some space (`jax-aiter kernels prune`)")

    monkeypatch.setattr(main, "record", full)
    answer = main._answer({"spec": SPEC.to_json()}, types.SimpleNamespace(), types.SimpleNamespace(), tmp_path)
    assert {k: answer[k] for k in ("ok", "refused", "known")} == {"ok": False, "refused": False, "known": True}
    assert "kernels prune" in answer["error"]
