"""The recorder: what a launch plan can replay is recorded exactly, everything else is refused and named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import has_triton

PROBE = Path(__file__).with_name("recorder_probe.py")
NAMES = [
    "views_and_offsets", "computes", "reads_a_value", "branches_on_data", "transposes", "copies_a_row", "converts",
    "host_tensor", "too_large_a_grid", "too_large_a_number", "empty_grid", "fills_and_copies", "fills_a_strided_view",
    "pattern_too_wide",
    "too_much_scratch", "scratch_as_large_as_32_bits_count", "much_scratch_for_a_kernel_of_ours",
]  # fmt: skip


@pytest.fixture(scope="module")
def probed():
    if not has_triton():
        pytest.skip("triton is not installed")
    python = os.environ.get("JAX_AITER_TRITON_PYTHON") or sys.executable
    root = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [python, str(PROBE), *NAMES], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_pointers_keep_their_byte_offset_and_its_alignment(probed):
    (step,) = probed["views_and_offsets"]["steps"]
    # x[1:] starts 256 bytes in; the other view 12 bytes in, so only the first may be taken for 16-byte aligned.
    assert step["args"] == [["ptr", 256], ["ptr", 12], ["fp32", 0.5]], "n == 1 is compiled in"
    assert "(0,)" in step["attrs"]
    assert "divisibility" in step["attrs"]["(0,)"]
    assert "divisibility" not in step["attrs"].get("(1,)", "")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("computes", "computes aten.add.Tensor on device arrays of shapes"),
        ("transposes", "converts or transposes (64, 8)"),
        ("converts", "converts or transposes (64,) torch.bfloat16"),
        ("host_tensor", "is given a host tensor"),
        ("too_large_a_grid", "needs grid (33554432, 1, 1)"),
        ("fills_a_strided_view", "fill of a strided view"),
        ("pattern_too_wide", "at most 4 bytes"),
        ("too_much_scratch", "is given 2147483648 elements of scratch for x; it may count them with 32 bits"),
    ],
)
def test_what_a_plan_cannot_replay_is_refused(probed, name, reason):
    assert reason in probed[name].get("refused", ""), probed[name]


@pytest.mark.parametrize("name", ["scratch_as_large_as_32_bits_count", "much_scratch_for_a_kernel_of_ours"])
def test_scratch_that_a_kernel_can_count(probed, name):
    assert len(probed[name]["steps"]) == 1, probed[name]


@pytest.mark.parametrize("name", ["reads_a_value", "branches_on_data", "too_large_a_number"])
def test_reading_data_never_records(probed, name):
    assert "steps" not in probed[name]


def test_an_empty_grid_is_no_launch(probed):
    assert probed["empty_grid"] == {"steps": []}


def test_strides_of_one_element_are_no_transposition(probed):
    copy, launch = probed["copies_a_row"]["steps"]
    assert copy == {"Copy": {"nbytes": 256}, "offset": 0}
    assert launch["args"][0] == ["ptr", 0]


def test_fills_and_copies(probed):
    one = 0x3F80  # bfloat16
    assert probed["fills_and_copies"]["steps"] == [
        {"Fill": {"nbytes": 12, "value": 0, "width": 4}, "offset": 0},
        {"Fill": {"nbytes": 10, "value": one, "width": 2}, "offset": 0},
        {"Fill": {"nbytes": 32, "value": 0xBF800000, "width": 4}, "offset": 16},
        {"Fill": {"nbytes": 8, "value": 3, "width": 4}, "offset": 0},
        {"Copy": {"nbytes": 8}, "offset": 0},
    ]
