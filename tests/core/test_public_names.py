"""The package's names: what `dir` lists works, what the type checker is told is what there is, modules may be loaded again."""

import ast
import dataclasses
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import jax.numpy as jnp
import pytest

import jax_aiter
from jax_aiter.bind.op import _MODULES as DEFINED_IN
from jax_aiter.bind.op import OPS
from jax_aiter.ops.catalogue import all_ops

ROOT = Path(__file__).parents[2]
NAMES = dir(jax_aiter)
PUBLIC = [n for n in NAMES if not n.startswith("_")]
all_ops()
# Without the helpers: types that exported programs name are registered once a process.
OP_MODULES = sorted(set(DEFINED_IN.values()))


@pytest.mark.parametrize("name", NAMES)
def test_a_listed_name_works(name):
    assert getattr(jax_aiter, name) is not None
    if name in PUBLIC:
        assert name in jax_aiter.__all__


def test_the_type_checker_is_told_every_name_and_no_other():
    """The imports under TYPE_CHECKING and at the top; subpackages are names too once they are imported."""
    tree = ast.parse((ROOT / "jax_aiter/__init__.py").read_text())
    told = {a.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names if a.asname}
    packages = {p.parent.name for p in (ROOT / "jax_aiter").glob("*/__init__.py")}
    assert set(PUBLIC) - packages == told - packages
    assert told & packages == {"parallel", "vllm_ops"}


def test_star_import_brings_the_public_names():
    space: dict = {}
    exec("from jax_aiter import *", space)
    assert space.keys() >= set(PUBLIC)
    assert not {"Any", "TYPE_CHECKING"} & space.keys()


@pytest.mark.parametrize("name", ["fused_moe_backward", "flash_attention_bwd", "gemm", "ops.rope", "a b", "_ffi_"])
def test_any_other_name_is_an_attribute_error_of_the_package(name):
    with pytest.raises(AttributeError, match=f"module 'jax_aiter' has no attribute '{name}'"):
        getattr(jax_aiter, name)


def child(code: str) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


RELOAD = """
import importlib, jax, jax.numpy as jnp, jax_aiter
from jax_aiter.bind.op import OPS
from jax_aiter.ops.catalogue import all_ops

module = importlib.import_module("{module}")
before = dict(all_ops())
importlib.reload(module)
importlib.reload(jax_aiter)
assert list(all_ops()) == list(before), set(all_ops()) ^ set(before)
for name in dir(jax_aiter):
    getattr(jax_aiter, name)
changed = [n for n, op in OPS.items() if op is not before[n]]
for op in [OPS[n] for n in changed]:
    for case in op.cases()[:1]:
        run = jax.jit(lambda operands: op(**operands, **case.params))
        jax.block_until_ready(run(case.draw()))
print(len(changed))
"""


@pytest.mark.parametrize(
    "module", [pytest.param(m, marks=[] if i % 24 == 0 else pytest.mark.exhaustive) for i, m in enumerate(OP_MODULES)]
)
def test_an_ops_module_and_the_package_may_be_reloaded(module):
    """In a process of its own: the new records take the place of the old ones, and run."""
    done = child(RELOAD.format(module=module))
    all_ops()
    defined = [n for n, where in DEFINED_IN.items() if where == module]
    assert int(done.stdout) >= len(defined)


def test_a_reload_of_the_package_forgets_what_it_had_found():
    code = (
        "import importlib, jax_aiter, jax_aiter.ops.norm.rms_norm as m; old = jax_aiter.rms_norm; importlib.reload(m); "
        "assert jax_aiter.rms_norm is old; importlib.reload(jax_aiter); assert jax_aiter.rms_norm is m.rms_norm is not old"
    )
    child(code)


def test_a_second_op_of_one_name_is_refused():
    op = all_ops()["rms_norm"]
    with pytest.raises(ValueError, match="test_public_names: an op called rms_norm is defined already"):
        dataclasses.replace(op)
    assert OPS["rms_norm"] is op
    assert jax_aiter.rms_norm(jnp.ones((1, 2)), jnp.ones(2)).shape == (1, 2)


def test_the_package_is_typed():
    assert (ROOT / "jax_aiter/py.typed").read_bytes() == b""


@pytest.mark.parametrize("project", [ROOT, ROOT / "vgpu"], ids=["jax_aiter", "vgpu"])
def test_a_build_writes_nothing_into_the_checkout(project):
    """scikit-build-core builds in a temporary folder unless it is told one; a shared one lets two builds break each other."""
    settings = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["scikit-build"]
    assert "build-dir" not in settings


@pytest.mark.exhaustive
@pytest.mark.parametrize("project", [ROOT, ROOT / "vgpu"], ids=["jax_aiter", "vgpu"])
def test_two_builds_of_one_checkout_at_once(project, tmp_path):
    """Needs what the build needs: a compiler, and the packages that pip fetches for it."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", str(project)]
    started = [subprocess.Popen([*command, "-w", str(tmp_path / str(i))], stderr=subprocess.PIPE, text=True) for i in range(2)]
    for i, process in enumerate(started):
        _, errors = process.communicate(timeout=550)
        assert process.returncode == 0, errors[-2000:]
        (wheel,) = (tmp_path / str(i)).glob("*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        assert any(n.endswith(".so") for n in names)
        if project == ROOT:
            assert "jax_aiter/py.typed" in names
            assert sum(n.startswith("jax_aiter/_ffi") for n in names) == 1
