"""What is wrong with the machine, one thing at a time: an explicit call raises one error that names the remedy; auto goes on with
the reference lowering and says so once. Needs neither AITER nor Triton: the worker is a shell script."""

import errno
import importlib.util
import json
import os
import sys
import types
import warnings

import jax
import jax.numpy as jnp
import pytest

import jax_aiter
from jax_aiter.bind import select
from jax_aiter.core.config import config
from jax_aiter.core.errors import KernelBuildError, NotSupportedError
from jax_aiter.kernels.cache import put_code
from jax_aiter.kernels.call import CUSTOM_CALL_TARGETS
from jax_aiter.kernels.triton.plans import triton_version

from .test_worker import SPEC, record

#: as the Triton here, if there is one: what one of another version refused is asked again
HELLO = f"""echo '{{"triton": "{triton_version() or "3.6.0"}"}}'"""


def _answering(worker_python, root):
    _worker_says(worker_python, {"ok": True, "record": record(root)})


def _worker_says(worker_python, answer):
    worker_python(f"{HELLO}; while read line; do echo '{json.dumps(answer)}'; done")


def unwritable_cache(worker_python, root, monkeypatch, tmp_path):
    _answering(worker_python, root)
    (root / "plans").write_text("a file where a folder should be: permissions do not bind a superuser")


def full_disk(worker_python, root, monkeypatch, tmp_path):
    _answering(worker_python, root)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fail)


def full_disk_in_the_worker(worker_python, root, monkeypatch, tmp_path):
    """The worker stores code objects itself; what it answers then is tested below."""
    _worker_says(worker_python, {"ok": False, "refused": False, "known": True, "error": "kernel cache x: full; prune it"})


def killed_worker(worker_python, root, monkeypatch, tmp_path):
    worker_python(f"{HELLO}; read line; kill -9 $$")


def wrong_triton(worker_python, root, monkeypatch, tmp_path):
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake/torch.py").write_text("")
    (tmp_path / "fake/triton.py").write_text("__version__ = '3.9.0'")
    worker_python(f'PYTHONPATH="{tmp_path}/fake" exec "$PYTHON" -S "$@"')


def missing_torch(worker_python, root, monkeypatch, tmp_path):
    worker_python('exec "$PYTHON" -S "$@"')


REMEDIES = {
    unwritable_cache: "set JAX_AITER_CACHE to a usable directory",
    full_disk: r"free some space \(`jax-aiter kernels prune`\), or set JAX_AITER_CACHE",
    full_disk_in_the_worker: "kernel cache x: full; prune it$",
    killed_worker: "was killed by signal 9.*Call again to start a new one",
    wrong_triton: r"Triton 3\.9\.0 is installed.*pip install \"triton>=3\.6,<3\.8\"",
    missing_torch: r"needs torch: .*pip install \"jax_aiter\[triton\]\"",
}


def lowered(implementation):
    """The program for an MI300X, lowered anew."""
    x, weight = jax.ShapeDtypeStruct((4, 8), jnp.bfloat16), jax.ShapeDtypeStruct((8,), jnp.bfloat16)
    call = jax.jit(lambda x, w: jax_aiter.rms_norm(x, w, 1e-6, implementation=implementation))
    with config(arch="gfx942", implementation=None):
        return call.trace(x, weight).lower(lowering_platforms=("rocm",)).as_text()


@pytest.mark.parametrize("breaks", REMEDIES, ids=lambda breaks: breaks.__name__)
def test_explicit_raises_with_the_remedy_and_auto_says_once_that_it_takes_the_reference(
    breaks, worker_python, aiter_present, monkeypatch, tmp_path
):
    monkeypatch.setattr(select, "_warned", set())
    breaks(worker_python, aiter_present, monkeypatch, tmp_path)
    with pytest.raises(KernelBuildError, match=REMEDIES[breaks]):
        lowered("triton")
    with pytest.warns(RuntimeWarning, match=REMEDIES[breaks]) as caught:
        text = lowered(None)
    assert "does without its triton kernel, which could not be built" in str(caught[0].message)
    assert len(caught) == 1
    assert not any(target in text for target in CUSTOM_CALL_TARGETS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lowered(None) == text


def test_the_same_calls_run_the_kernel_on_a_machine_that_is_in_order(worker_python, aiter_present):
    _answering(worker_python, aiter_present)
    for implementation in ("triton", None):
        assert CUSTOM_CALL_TARGETS[0] in lowered(implementation)


def test_what_is_known_to_be_refused_is_no_longer_tried(worker_python, aiter_present, monkeypatch):
    """By a later process, which takes the refusal for what it is and no plan, and has nothing to warn of."""
    monkeypatch.setattr(select, "_warned", set())
    _worker_says(worker_python, {"ok": False, "refused": True, "error": "it allocates"})
    with pytest.warns(RuntimeWarning, match="does without its triton kernel.*it allocates"):
        text = lowered(None)
    monkeypatch.setattr(select, "_warned", set())
    worker_python("exit 3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lowered(None) == text
    with pytest.raises(NotSupportedError, match=r"cannot run this call: it allocates$"):
        lowered("triton")


def test_the_worker_tells_a_full_disk_from_a_failure_of_aiter(monkeypatch, tmp_path):
    from jax_aiter.kernels.triton.worker import main

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    recording = types.ModuleType("record")  # the real one needs torch; this one only stores its result
    recording.record = lambda spec, run, cache: put_code(cache, b"code")
    monkeypatch.setitem(sys.modules, "jax_aiter.kernels.triton.worker.record", recording)
    monkeypatch.setattr(os, "replace", fail)
    answer = main._answer({"spec": SPEC.to_json()}, tmp_path)
    assert {k: answer[k] for k in ("ok", "refused", "known")} == {"ok": False, "refused": False, "known": True}
    assert "jax-aiter kernels prune" in answer["error"]


def test_torch_and_triton_that_are_not_installed_here(aiter_present, monkeypatch):
    """Known before any worker is started, so the provider refuses; auto says so all the same."""
    monkeypatch.delenv("JAX_AITER_TRITON_PYTHON", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(select, "_warned", set())
    remedy = r"torch and triton not installed.*pip install \"jax_aiter\[triton\]\""
    with pytest.raises(NotSupportedError, match=remedy):
        lowered("triton")
    with pytest.warns(RuntimeWarning, match=remedy) as caught:
        text = lowered(None)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lowered(None) == text
