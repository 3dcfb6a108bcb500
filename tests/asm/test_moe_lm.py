"""The example's language model, trained by its command and served in FP8 on AITER's kernels: the text that the CPU gives.

Hand-written kernels do routing and the experts. Where torch and triton are at hand (JAX_AITER_TRITON_PYTHON), AITER's Triton
kernels do the norms and bfloat16 GEMMs; its HIP kernels, if there is a compiler, quantisation and rope, and with a release that has
Composable Kernel the FP8 GEMMs and attention of so few heads. What is missing gives way: to hand-written attention, Triton, XLA.
"""

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from examples.moe_lm import cache as paged
from examples.moe_lm import decode, model, quantize, serve
from jax_aiter.kernels.hip.build import compilers
from jax_aiter.kernels.known import AITER_COMMIT
from jax_aiter.kernels.store import aiter_location, sources

from . import common

ROOT = Path(__file__).parents[2]
# Heads of 128, and 6 of 128 experts: sizes that every release of AITER has decode attention and routing kernels for.
SIZES = {"layers": 1, "dim": 512, "heads": 4, "kv-heads": 1, "experts": 128, "topk": 6, "intermediate": 128, "sequence": 64}
# A text of 1 kB, which 60 steps learn by heart: each next byte is then far ahead of the second best one.
TEXT = (ROOT / "LICENSE").read_bytes()
PROMPTS = TEXT[544:560], TEXT[200:208], TEXT[616:648]
LENGTH = 8  # bytes to append to each prompt
ON_TRITON = {"gemm_a16w16", "rope_and_cache"}
ON_HIP = {"per_token_quant"}
CK = "3rdparty/composable_kernel/include/ck_tile/core.hpp"


def served(params, config):
    """The bytes that greedy decoding appends to each prompt, two of them at a time."""
    server = serve.Server(params, config, places=2, blocks=8, block_size=16, dtype=jnp.bfloat16, temperature=0.0)
    requests = [serve.Request(prompt, LENGTH) for prompt in PROMPTS]
    for request in requests:
        server.submit(request)
    server.run()
    return [bytes(r.output) for r in requests]


def margins(params, config, texts):
    """By how much the best next byte leads the second best, [prompts, LENGTH], where the prompts go on with `texts`."""
    tokens = np.zeros((len(PROMPTS), config.sequence), np.int32)
    for row, prompt, text in zip(tokens, PROMPTS, texts, strict=True):
        row[: len(prompt) + LENGTH] = list(prompt + text)
    logits = np.asarray(jax.jit(lambda t: model.forward_sequences(params, config, t)[0])(tokens))
    best = np.sort(np.stack([row[len(p) - 1 :][:LENGTH] for row, p in zip(logits, PROMPTS, strict=True)]))
    return best[..., -1] - best[..., -2]


def logits(params, config):
    """What prefill and then one decode step give."""
    prompt = np.frombuffer(PROMPTS[2], np.uint8).astype(np.int32)
    pool = paged.make(config, 4, 16, jnp.bfloat16)
    first, pool = decode.prefill(
        params, pool, prompt, np.arange(len(prompt), dtype=np.int32), np.int32(len(prompt) - 1), config=config
    )
    history = np.array([[TEXT[648], *prompt[::-1][:3]]], np.int32)
    lens = np.array([len(prompt) + 1], np.int32)
    tables = np.arange(4, dtype=np.int32)[None]
    _, second, _ = decode.decode(params, pool, history, lens, tables, jax.random.key(0), jnp.float32(0), config=config)
    return np.stack([np.asarray(first), np.asarray(second)[0]])


@pytest.fixture(scope="module")
def trained(_device, tmp_path_factory):
    """Parameters and sizes from the checkpoint that the example's command leaves, run on the CPU."""
    pytest.importorskip("optax", reason="needs the example's packages: pip install 'jax_aiter[examples]'")
    folder = tmp_path_factory.mktemp("trained")
    for i in range(24):  # the command takes a folder of files, some of which it holds out
        (folder / f"{i}.py").write_bytes(TEXT)
    options = {**SIZES, "text": folder, "out": folder, "steps": 60, "held-out-bytes": 4096, "requests": 2, "concurrent": 2}
    command = [sys.executable, "-m", "examples.moe_lm", *(word for k, v in options.items() for word in (f"--{k}", str(v)))]
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    from examples.moe_lm import checkpoint

    with jax.default_device(jax.devices("cpu")[0]):
        return checkpoint.load(folder / "moe_lm.safetensors")


@pytest.fixture(scope="module")
def both(trained):
    """(weights, config) for the device and for the CPU: the same numbers, laid out for each."""
    params, config = trained
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        on_cpu = model.cast(quantize.quantize(params), jnp.bfloat16)
        shuffled = model.cast(quantize.quantize(params, shuffle=True), jnp.bfloat16)
    on_device = jax.device_put(shuffled, jax.devices()[0])
    return (on_device, quantize.for_hand_written_kernels(config)), (jax.device_put(on_cpu, cpu), config)


@pytest.mark.timeout(1800)  # the fixture trains the model
def test_decoding_runs_on_aiters_kernels(both, arch):
    (params, config), (_, plain) = both
    assert dataclasses.replace(config, kv_layout="NHD") == plain
    assert config.kv_layout == "asm"
    shapes = jax.eval_shape(lambda: paged.make(config, 8, 16, jnp.bfloat16))
    step = functools.partial(decode.decode, config=config)
    arguments = (params, shapes, np.zeros((2, 4), np.int32), np.ones(2, np.int32), np.zeros((2, 4), np.int32))
    chosen = {e.op: e.implementation for e in jax_aiter.explain(step, *arguments, jax.random.key(0), jnp.float32(0))}
    pairs = {(row["num_experts"], row["topk"]) for row in common.rows("topk_softmax", arch, "topksoftmax/topksoftmax.csv")}
    routed = (config.experts, config.topk) in pairs
    assert routed or common.release() != AITER_COMMIT
    compiled = not compilers.missing(another="JAX_AITER_TRITON_PYTHON" in os.environ)
    by_ck = compiled and sources.has(aiter_location(), CK)
    assert {name: chosen[name] for name in ("fused_moe", "topk_softmax")} == {
        "fused_moe": "asm",
        "topk_softmax": "asm" if routed else chosen["topk_softmax"],
    }
    # Without AITER's own kernel estimates decide, of the sizes.
    assert chosen["paged_attention"] in ({"hip"} if by_ck else {"asm", "triton"})
    if "JAX_AITER_TRITON_PYTHON" in os.environ:
        hip = "hip" if compiled else "triton"
        assert {name: chosen[name] for name in ON_TRITON | ON_HIP | {"gemm_a8w8"}} == {
            **dict.fromkeys(ON_TRITON, "triton"),
            **dict.fromkeys(ON_HIP, hip),
            "gemm_a8w8": "hip" if by_ck else "triton",
        }
        # The HIP kernel of 16 bits came after release 0.1.7.
        newer = sources.has(aiter_location(), "csrc/kernels/rmsnorm_quant_kernels.cu")
        # On gfx942 it cuts the residual off where others round it.
        assert chosen["rms_norm_with_add"] == (hip if newer and arch != "gfx942" else "triton")


@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:.*the triton kernels need something that is missing:RuntimeWarning")
def test_same_text_as_on_the_cpu(both):
    (params, config), (cpu_params, cpu_config) = both
    ours = logits(params, config), served(params, config)
    with jax.default_device(jax.devices("cpu")[0]):
        theirs = logits(cpu_params, cpu_config), served(cpu_params, cpu_config)
        leads = margins(cpu_params, cpu_config, theirs[1])
    assert theirs[1] == [TEXT[TEXT.index(p) + len(p) :][:LENGTH] for p in PROMPTS], "the model knows its text by heart"
    # Both round to bfloat16 at the same places and sum in different orders: a sum that lands on the other side of a rounding
    # boundary moves by 2^-8 of itself, FP8 by 2^-4 of its row's largest, in one of `dim` terms. Over a layer's about five
    # roundings that stays within a few percent of the logits' spread.
    bound = 0.1 * np.std(theirs[0])
    assert np.abs(ours[0] - theirs[0]).max() <= bound, np.abs(ours[0] - theirs[0]).max() / np.std(theirs[0])
    assert np.sqrt(np.mean((ours[0] - theirs[0]) ** 2)) <= 0.3 * bound
    said = f"lead of the best byte over the second, on the CPU:\n{np.round(leads, 2)}\nbound of a logit's error: {bound:.2f}"
    assert ours[1] == theirs[1], said
    assert leads.min() > 2 * bound, f"the text would be the same by luck only: {said}"
