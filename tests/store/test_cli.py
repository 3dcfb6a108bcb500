"""`jax-aiter kernels` from the command line."""

import pytest
from click.testing import CliRunner

from jax_aiter.cli import inventory
from jax_aiter.cli.kernels import kernels
from jax_aiter.core.config import config
from jax_aiter.kernels import cache


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(kernels, [str(a) for a in arguments])


def test_add_list_verify_prune(run, root, hashes, checkout):
    added = run("add", checkout)
    assert added.exit_code == 0, added.output
    assert "(verified)" in added.output
    assert "0 refused calls" in run("list").output
    assert run("verify").exit_code == 0
    unused = cache.put_code(root, b"nobody refers to this")
    assert run("prune").exit_code == 0
    assert cache.get_code(root, unused) is None
    assert run("verify").exit_code == 0
    assert run("prune", "--all").exit_code == 0
    assert "AITER: not found" in run("list").output


def test_a_mismatch_needs_unverified(run, root, hashes, checkout):
    (checkout / "aiter/ops/triton/norm.py").write_bytes(b"changed")
    refused = run("add", checkout)
    assert refused.exit_code == 1
    assert "is not AITER at commit" in refused.output
    assert "NOT verified" in run("add", "--unverified", checkout).output


def test_verify_reports_damage_which_prune_removes(run, root, hashes, checkout):
    run("add", checkout)
    entry = root / "plans" / "commit" / "gfx942" / "rms_norm" / "0123456789-3.6.0.json"
    cache.write_entry(entry, {"refused": "no"})
    entry.write_text("{")
    found = run("verify")
    assert found.exit_code == 1
    assert "1 cache entries were damaged" in found.output
    assert entry.exists()
    assert run("prune").exit_code == 0
    assert not entry.exists()
    assert run("verify").exit_code == 0


def test_list_and_doctor_name_the_tuned_tables_that_are_not_understood(run, root, tmp_path):
    tree = tmp_path / "aiter_tree"
    for name, text in {
        "aiter/ops/triton/__init__.py": "",
        "aiter/configs/tuned_fmoe.csv": "cu_num,token,gravity\n304,1,9\n",
        "aiter/configs/a8w8_tuned_gemm.csv": "cu_num,M,N,K,kernelId\n304,1,2,3,4\n304,5,6,7,8\n",
    }.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    with config(source=str(tree), unverified=True):
        said = run("list").output
        found = inventory.aiter()
    assert "tuned choices: 2, tables that are not understood: 1" in said
    assert "passed over aiter/configs/tuned_fmoe.csv: column 'gravity' is not known" in said
    assert found["tuned"] == {"rows": 2, "passed_over": {"aiter/configs/tuned_fmoe.csv": "column 'gravity' is not known"}}
    assert "passed over" in "".join(inventory.aiter_lines(found)), "which doctor prints"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "expected a JSON list"),
        ('[{"op": "rms_norm"}]', 'needs "op" and "operands"'),
        ('[{"op": "no_such_op", "operands": {}}]', "is not one of"),
        ('[{"op": "rms_norm", "operands": {"x": ["bfloat16", 4, 8]}, "params": {"epsilon": 1e-6}}]', "weight"),
    ],
)
def test_build_rejects_a_bad_shapes_file(run, root, tmp_path, text, message):
    path = tmp_path / "shapes.json"
    path.write_text(text)
    result = run("build", "--arch", "gfx942", "--shapes", path)
    assert result.exit_code == 1
    assert message in result.output


def test_build_without_aiter_says_how_to_get_it(run, root, tmp_path):
    path = tmp_path / "shapes.json"
    operands = '{"x": ["bfloat16", 4, 8], "weight": ["bfloat16", 8]}'
    path.write_text(f'[{{"op": "rms_norm", "operands": {operands}, "params": {{"epsilon": 1e-6}}}}]')
    result = run("build", "--arch", "gfx950", "--shapes", path)
    assert result.exit_code == 1
    assert "jax-aiter kernels add" in result.output
    assert "1 failed" in result.output
