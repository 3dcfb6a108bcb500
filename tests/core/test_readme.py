"""What the README says is run: its example, the files its commands name; and docs/ops.md is what the records give."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jax_aiter.cli.ops import markdown

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_example_runs_as_printed():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split("(")[0] for line in done.stdout.splitlines() if "->" in line] == [
        "rms_norm",
        "gemm_a16w16",
        "topk_softmax",
        "fused_moe",
    ]


def test_op_table_is_the_one_that_the_records_give():
    table = (ROOT / "docs/ops.md").read_text().split("<!-- ops: printed by `jax-aiter ops` -->\n")[1].split("\n<!-- /ops -->")[0]
    assert table == markdown()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"bash (scripts/\S+?\.sh)", README))))
def test_commands_exist(name):
    assert subprocess.run(["bash", "-n", ROOT / name], check=False).returncode == 0


def test_the_readme_is_two_screens():
    """What is written by hand; the block of figures is written by `benchmarks.peers.report`."""
    head, rest = README.split("<!-- h200:")
    assert len((head + rest.split("<!-- /h200 -->")[1]).splitlines()) <= 85


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_files_that_it_links_exist(path):
    assert (ROOT / path).exists()
