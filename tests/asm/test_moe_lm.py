"""The example's language model served in FP8 on hand-written kernels, against the same weights served on the CPU."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from examples.moe_lm import cache as paged
from examples.moe_lm import decode, model, quantize, serve
from jax_aiter.kernels.known import AITER_COMMIT

from . import common

# Heads of 128, and 6 of 128 experts: sizes that every release of AITER has decode attention and routing kernels for.
CONFIG = model.Config(layers=2, dim=512, heads=4, kv_heads=1, experts=128, topk=6, intermediate=256, sequence=64)
PROMPTS = (b"def main():", b"import ", b"# a comment about nothing in particul")


def served(params, config):
    """The bytes that greedy decoding appends to each prompt, two of them at a time."""
    server = serve.Server(params, config, places=2, blocks=8, block_size=16, dtype=jnp.bfloat16, temperature=0.0)
    requests = [serve.Request(prompt, 6) for prompt in PROMPTS]
    for request in requests:
        server.submit(request)
    server.run()
    return [bytes(r.output) for r in requests]


def next_logits(params, config, text):
    """What prefill gives after `text`."""
    padded = np.zeros(64, np.int32)
    padded[: len(text)] = list(text)
    slots = np.where(np.arange(64) < len(text), np.arange(64), -1).astype(np.int32)
    pool = paged.make(config, 4, 16, jnp.bfloat16)
    return np.asarray(decode.prefill(params, pool, padded, slots, np.int32(len(text) - 1), config=config)[0])


def logits(params, config):
    """What prefill and then one decode step give."""
    prompt = np.frombuffer(PROMPTS[2], np.uint8).astype(np.int32)
    pool = paged.make(config, 4, 16, jnp.bfloat16)
    first, pool = decode.prefill(
        params, pool, prompt, np.arange(len(prompt), dtype=np.int32), np.int32(len(prompt) - 1), config=config
    )
    history = np.array([[1, *prompt[::-1][:3]]], np.int32)
    lens = np.array([len(prompt) + 1], np.int32)
    tables = np.arange(4, dtype=np.int32)[None]
    _, second, _ = decode.decode(params, pool, history, lens, tables, jax.random.key(0), jnp.float32(0), config=config)
    return np.stack([np.asarray(first), np.asarray(second)[0]])


@pytest.fixture(scope="module")
def params():
    with jax.default_device(jax.devices("cpu")[0]):
        return jax.jit(functools.partial(model.init, CONFIG))(jax.random.key(0))


@pytest.fixture(scope="module")
def both(params, _device):
    """(weights, config) for the device and for the CPU: the same numbers, laid out for each."""
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        on_cpu = model.cast(quantize.quantize(params), jnp.bfloat16)
        shuffled = model.cast(quantize.quantize(params, shuffle=True), jnp.bfloat16)
    on_device = jax.device_put(shuffled, jax.devices()[0])
    return (on_device, quantize.for_hand_written_kernels(CONFIG)), (jax.device_put(on_cpu, cpu), CONFIG)


def test_decoding_runs_on_hand_written_kernels(both, arch):
    (params, config), _ = both
    assert dataclasses.replace(config, kv_layout="NHD") == CONFIG
    assert config.kv_layout == "asm"
    shapes = jax.eval_shape(lambda: paged.make(config, 8, 16, jnp.bfloat16))
    step = functools.partial(decode.decode, config=config)
    arguments = (params, shapes, np.zeros((2, 4), np.int32), np.ones(2, np.int32), np.zeros((2, 4), np.int32))
    chosen = {e.op: e.implementation for e in jax_aiter.explain(step, *arguments, jax.random.key(0), jnp.float32(0))}
    pairs = {(row["num_experts"], row["topk"]) for row in common.rows("topk_softmax", arch, "topksoftmax/topksoftmax.csv")}
    routed = (CONFIG.experts, CONFIG.topk) in pairs
    assert routed or common.release() != AITER_COMMIT
    assert {name: chosen[name] for name in ("fused_moe", "topk_softmax", "paged_attention")} == {
        "fused_moe": "asm",
        "topk_softmax": "asm" if routed else "xla",
        "paged_attention": "asm",
    }


@pytest.mark.filterwarnings("ignore:.*the triton kernels need something that is missing:RuntimeWarning")
def test_same_text_as_on_the_cpu(both):
    """What has no hand-written kernel, such as the norms, runs on Triton's if that is installed, else on XLA."""
    (params, config), (cpu_params, cpu_config) = both
    ours = logits(params, config), served(params, config)
    with jax.default_device(jax.devices("cpu")[0]):
        theirs = logits(cpu_params, cpu_config), served(cpu_params, cpu_config)
    # Both round to bfloat16 at the same places and sum in different orders: a sum that lands on the other side of a rounding
    # boundary moves by 2^-8 of itself, FP8 by 2^-4 of its row's largest, in one of `dim` terms. Over the two layers' about ten
    # roundings that stays within a few percent of the logits' spread.
    bound = 0.1 * np.std(theirs[0])
    assert np.abs(ours[0] - theirs[0]).max() <= bound, np.abs(ours[0] - theirs[0]).max() / np.std(theirs[0])
    assert np.sqrt(np.mean((ours[0] - theirs[0]) ** 2)) <= 0.3 * bound
    compared = 0
    for prompt, text, reference in zip(PROMPTS, ours[1], theirs[1], strict=True):
        same = next((i for i, (a, b) in enumerate(zip(text, reference, strict=True)) if a != b), len(text))
        compared += same
        # The weights are random, so now and then the two best bytes are closer than the bound: there the texts may part.
        if same < len(text):
            with jax.default_device(jax.devices("cpu")[0]):
                best = np.sort(next_logits(cpu_params, cpu_config, prompt + reference[:same]))[::-1]
            assert best[0] - best[1] <= 2 * bound, (prompt, same, best[:2])
    assert compared >= 9  # of 18 bytes
