"""Representative calls that AITER's Triton kernels accept, and what every GPU test asks of them."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.bind import select
from jax_aiter.bind.explain import platform_name
from jax_aiter.bind.op import Op
from jax_aiter.core.arch import fp8_dtype
from jax_aiter.core.cases import Case, case, constant, distinct, normal, permutation, uniform
from jax_aiter.kernels.call import CUSTOM_CALL_TARGETS
from jax_aiter.kernels.store import NOWHERE
from jax_aiter.ops.catalogue import all_ops
from tests.needs import skip_without_aiter

if jax.default_backend() != "gpu":
    pytest.skip("jax has no GPU here", allow_module_level=True)

BF16 = jnp.bfloat16
ROOT = Path(__file__).parents[2]

# Kernel and reference each round to bfloat16 once or a few times, on sums taken in different orders: some spacings of the
# output dtype, measured against the largest value of the array.
ULPS = 8
FLASH = {"causal": True, "sliding_window": (-1, -1), "logits_soft_cap": 0.0, "alibi_per_sequence": False}
PAGED = {"logits_soft_cap": 0.0, "sliding_window": 0, "kv_layout": "HND", "ragged": False, "per_token_scales": False}
MOE = {"activation": "silu", "quant_type": "none", "doweight_stage1": False, "hidden_pad": 0, "intermediate_pad": 0}
MOE |= {"swiglu_limit": None, "gate_mode": "separated", "q_dtype_a": None, "output_dtype": jnp.dtype(BF16), "weight_layout": None}


def _cases() -> dict[str, Case]:
    fp8 = fp8_dtype()
    return {
        "rms_norm": case("gpu", x=normal(64, 1024, dtype=BF16), weight=normal(1024, dtype=BF16), epsilon=1e-6),
        "silu_and_mul": case("gpu", x=normal(64, 1024, dtype=BF16), limit=0.0),
        "gemm_a8w8": case(
            "gpu",
            xq=normal(64, 512, dtype=fp8),
            wq=normal(256, 512, dtype=fp8),
            x_scale=uniform(64, 1, low=0.5, high=2.0),
            w_scale=uniform(256, 1, low=0.5, high=2.0),
            out_dtype=jnp.dtype(BF16),
        ),
        "fused_moe": case(
            "gpu",
            hidden_states=normal(32, 256, dtype=BF16),
            w1=normal(8, 256, 256, dtype=BF16, std=256**-0.5),
            w2=normal(8, 256, 128, dtype=BF16, std=128**-0.5),
            topk_weight=uniform(32, 2, low=0.1),
            topk_ids=distinct(32, 2, 8),
            **MOE,
        ),
        "paged_attention": case(
            "gpu",
            query=normal(4, 8, 128, dtype=BF16),
            key_cache=normal(40, 2, 16, 128, dtype=BF16),
            value_cache=normal(40, 2, 16, 128, dtype=BF16),
            block_tables=permutation(4, 8, among=40),
            context_lens=constant([5, 128, 33, 100], jnp.int32),
            scale=128**-0.5,
            **PAGED,
        ),
        "concat_and_cache_mla": case(
            "gpu",
            kv_c=normal(5, 512, dtype=BF16),
            k_pe=normal(5, 64, dtype=BF16),
            kv_cache=normal(6, 16, 1, 576, dtype=BF16),
            slot_mapping=constant([70, -1, 3, 95, 40], jnp.int32),
            head_axis=True,
        ),
        "rope_and_cache": case(
            "gpu",
            q=normal(5, 8, 64, dtype=BF16),
            k=normal(5, 2, 64, dtype=BF16),
            v=normal(5, 2, 64, dtype=BF16),
            key_cache=normal(6, 16, 2, 64, dtype=BF16),
            value_cache=normal(6, 16, 2, 64, dtype=BF16),
            slot_mapping=constant([70, -1, 3, 95, 40], jnp.int32),
            positions=constant([0, 1, 7, 8, 3], jnp.int32),
            cos=uniform(9, 32, low=-1.0),
            sin=uniform(9, 32, low=-1.0),
            rotate_style="neox",
            reuse_freqs_front_part=True,
            nope_first=False,
            kv_layout="NHD",
        ),
        "flash_attention": case(
            "gpu",
            q=normal(2, 128, 4, 64, dtype=BF16),
            k=normal(2, 128, 2, 64, dtype=BF16),
            v=normal(2, 128, 2, 64, dtype=BF16),
            scale=64**-0.5,
            **FLASH,
        ),
    }


OPS = {name: (all_ops()[name], given) for name, given in _cases().items()}
every_call = pytest.mark.parametrize("name", list(OPS))


def refusal(op: Op, given: Case) -> str | None:
    """Why the Triton provider cannot run a case, None if it can."""
    operands = {n: a.struct for n, a in given.operands.items()}
    results = op.infer(operands, given.params)
    return select.refusals(select.make_call(op, platform_name(), None, operands, given.params, results))["triton"]


def get(name: str) -> tuple[Op, Case]:
    """The op and its case. Skips only where AITER's files are missing: any other refusal is a failure of the proof."""
    op, given = OPS[name]
    reason = refusal(op, given)
    if reason == NOWHERE:
        skip_without_aiter()
    assert reason is None, reason
    return op, given


def runs_kernel(compiled) -> bool:
    text = compiled.as_text()
    return any(target in text for target in CUSTOM_CALL_TARGETS)


def close(got, want, ulps: float = ULPS, what: str = "") -> None:
    """Results that are comparable, all: the log-sum-exp of attention as every other."""
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype), what
        a, b = (np.asarray(x).astype(np.float64) for x in (g, w))
        assert np.isfinite(a).all(), f"{what}: not finite"
        # A float32 result beside bfloat16 operands is a sum over bfloat16 products: it is held to the operands' spacing.
        spacing = max(float(jnp.finfo(w.dtype).eps), float(jnp.finfo(BF16).eps) / 8)
        np.testing.assert_allclose(a, b, rtol=0, atol=ulps * spacing * np.abs(b).max(), err_msg=what)


def child(script: str, *arguments: str, timeout: int = 200, **environment: str) -> str:
    """Run Python in a fresh process on the same card; its output, or the test fails with its errors."""
    env = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONPATH": _path(), **environment}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=timeout, env=env, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    return done.stdout


def _path() -> str:
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def bits(x) -> np.ndarray:
    """An array as unsigned integers, which npz can hold whatever the dtype."""
    x = np.asarray(x)
    return x.view(f"u{x.dtype.itemsize}")
