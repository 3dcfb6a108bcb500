"""The MoE slot sort is right on Triton's interpreter: any numbers of tokens, experts and slots, ids out of range, masks, limits."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_slots_are_sorted_as_numpy_sorts_them():
    if None in map(importlib.util.find_spec, ("torch", "triton")):
        pytest.skip("torch and triton are not installed")
    probe = Path(__file__).with_name("sort_probe.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(probe.parents[2])}
    done = subprocess.run([sys.executable, str(probe)], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "agreed"
