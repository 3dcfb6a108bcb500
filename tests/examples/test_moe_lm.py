"""The main example: its parts against small restatements, and the whole command at a tiny size on two virtual devices."""

import asyncio
import functools
import math
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

from examples.moe_lm import baselines, checkpoint, data, decode, model, quantize, serve
from examples.moe_lm.__main__ import main

TINY = model.Config(layers=1, dim=32, heads=2, kv_heads=1, experts=4, topk=2, intermediate=32, sequence=64, context_bytes=2)

SOURCE = Path(asyncio.__file__).parent  # a small part of the standard library


@pytest.fixture
def quick_compile():
    """These models run for a moment: XLA's optimisation passes would take most of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def params():
    return jax.jit(functools.partial(model.init, TINY))(jax.random.key(0))


def test_windows_score_every_byte_once():
    stream = data.join([b"abc", bytes(range(1, 100)), b"x"])
    tokens, scored = data.windows(stream, 16)
    starts = np.arange(len(tokens)) * 8
    targets = (starts[:, None] + np.arange(1, 17))[scored]
    assert sorted(targets) == np.flatnonzero(stream != 0).tolist()
    assert (tokens[:, 1:][scored] == stream[targets]).all()


def test_held_out_files_are_not_trained_on():
    corpus = data.load(65536, 3, SOURCE)
    assert 65536 <= sum(map(len, corpus.held_out)) < 2 * 65536
    train = corpus.train.tobytes()
    assert all(b"\0" + f + b"\0" not in train for f in corpus.held_out)
    assert data.load(65536, 4, SOURCE).held_out != corpus.held_out


def test_a_held_out_part_shorter_than_every_file_is_refused(tmp_path):
    for i in range(20):
        (tmp_path / f"{i}.py").write_text("x" * 100)
    assert len(data.load(200, 0, tmp_path).held_out) == 2
    with pytest.raises(ValueError, match="as short as half of the 199 bytes to hold out"):
        data.load(199, 0, tmp_path)


def test_trigram_is_the_interpolation_of_counts(monkeypatch):
    """With the weights fixed, against counting in a dictionary."""
    rng = np.random.default_rng(0)
    train, held_out = data.join([rng.integers(97, 101, 500, np.uint8).tobytes()]), data.join([b"abcdabcd", b"zaab"])
    weights = np.random.default_rng(1).dirichlet(np.ones(4), baselines.BUCKETS)
    monkeypatch.setattr(baselines, "_tune", lambda *a: weights)
    grams = [Counter(tuple(train[i : i + n]) for i in range(len(train) - n + 1)) for n in (1, 2, 3)]
    total, x = 0.0, [0, 0, *held_out.tolist()]
    for i in range(2, len(x)):
        if x[i] == 0:
            continue
        p = [1 / 256]
        for n, counts in enumerate(grams):
            context = tuple(x[i - n : i])
            seen = sum(c for g, c in counts.items() if g[:n] == context)
            p.append(counts[(*context, x[i])] / seen if seen else 0.0)
        bucket = min(math.ceil(math.log2(seen + 1)), baselines.BUCKETS - 1)
        total -= math.log2(weights[bucket] @ p)
    assert baselines.trigram_bits_per_byte(train, held_out) == pytest.approx(total / 12, rel=1e-12)


def test_trigram_weights_are_tuned():
    """A text of period 3 is known from two bytes of context."""
    assert baselines.trigram_bits_per_byte(data.join([b"abc" * 2000]), data.join([b"abc" * 50])) < 0.2


def test_checkpoint_round_trip_and_refusal(params, tmp_path):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, params, TINY)
    loaded, config = checkpoint.load(path)
    assert config == TINY
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), loaded, params))  # the bytes that were written
    checkpoint.save(path, params, model.Config(layers=3, dim=32))
    with pytest.raises(ValueError, match="its config needs"):
        checkpoint.load(path)


def test_decoding_is_the_forward_pass(params, quick_compile):
    tokens = jnp.asarray(np.random.default_rng(0).integers(1, 256, (3, 64)), jnp.int32)
    error, allowed = decode.decode_error(params, TINY, tokens, block_size=8)
    assert error <= allowed
    wrong = {**params, "layers": [{**p, "qkv": p["qkv"] * 1.001} for p in params["layers"]]}
    run = jax.jit(lambda p: model.forward_sequences(p, TINY, tokens)[0])
    off = run(wrong) - run(params)
    assert jnp.max(jnp.abs(off)) > allowed  # the tolerance would see an error of a thousandth in one weight matrix


def test_server_gives_each_request_what_it_would_get_alone(params, quick_compile):
    """Greedy, in float32: 7 requests through 3 places against the full forward pass of each.

    Two logits that are closer than the rounding of the two programs may change places: what the server took must be the largest
    but for that much, which is the bound of `decode_error`.
    """
    server = serve.Server(params, TINY, places=3, blocks=24, block_size=8, dtype=jnp.float32, temperature=0.0)
    rng = np.random.default_rng(1)
    requests = [
        serve.Request(bytes(rng.integers(1, 256, n).tolist()), m)
        for n, m in [(1, 5), (18, 9), (32, 20), (17, 1), (22, 3), (22, 3), (30, 16)]
    ]
    for request in requests:
        server.submit(request)
    stats = server.run()
    assert server.allocator.free == 24
    assert stats.joined_late >= 3
    assert stats.most_concurrent == 3
    forward = jax.jit(lambda t: model.forward_sequences(params, TINY, t)[0])
    for request in requests:
        padded = np.zeros((1, TINY.sequence), np.int32)
        padded[0, : len(request.text)] = list(request.text)
        logits = np.asarray(forward(padded)[0, len(request.prompt) - 1 : len(request.text) - 1])
        taken = np.take_along_axis(logits, np.array(list(request.output))[:, None], axis=1)
        assert (logits - taken).max() <= 2 * decode.allowed_error(TINY, logits)


def test_server_refuses_what_does_not_fit(params):
    server = serve.Server(params, TINY, places=1, blocks=8, block_size=8, dtype=jnp.float32, temperature=0.0)
    for prompt, new in ((b"", 1), (b"a", 0), (b"a" * 60, 5)):
        with pytest.raises(ValueError, match="at most 64 in all"):
            server.submit(serve.Request(prompt, new))


def test_caches_are_updated_in_place(params):
    """The compiled decode step aliases every cache and makes no second one."""
    from examples.moe_lm import cache

    pool = cache.make(TINY, 512, 16, jnp.float32)
    args = (jnp.zeros((4, 2), jnp.int32), jnp.ones(4, jnp.int32), jnp.zeros((4, 4), jnp.int32), jax.random.key(0), jnp.float32(0))
    memory = decode.decode.lower(params, pool, *args, config=TINY).compile().memory_analysis()
    size = sum(x.nbytes for x in jax.tree.leaves(pool))
    assert memory.alias_size_in_bytes >= size
    assert memory.temp_size_in_bytes < pool[0][0].nbytes


def test_fp8_model_is_close(params, quick_compile):
    """e4m3 has 4 significant bits: a rounding errs by 2^-4 of a value at most and about a third of that as a rule; errors are
    independent, so logits move by some 5 % of their spread per layer."""
    fp8 = quantize.quantize(params)
    for name in quantize.FP8_WEIGHTS:
        assert fp8["layers"][0][name].values.dtype.itemsize == 1
    assert quantize.size_in_bytes(fp8) < quantize.size_in_bytes(params)
    tokens = jnp.asarray(np.random.default_rng(0).integers(1, 256, (2, 32)), jnp.int32)
    run = jax.jit(lambda p: model.forward_sequences(p, TINY, tokens)[0])
    full, short = run(params), run(fp8)
    assert 0 < jnp.std(short - full) < 0.2 * jnp.std(full)


def test_whole_command(tmp_path, quick_compile):
    sizes = "--layers 1 --dim 32 --heads 2 --kv-heads 1 --experts 4 --intermediate 32 --sequence 32 --held-out-bytes 4096"
    run = f"--text {SOURCE} {sizes} --steps 12 --batch 4 --devices 2 --concurrent 3 --requests 5 --out {tmp_path}"
    result = CliRunner().invoke(main, run.split(), catch_exceptions=False)
    assert result.exit_code == 0
    for line in ("interpolated byte trigram", "FP8 costs", "served 5 requests in FP8, at most 3 at once", "tokens/s"):
        assert line in " ".join(result.output.split())
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    _, config = checkpoint.load(tmp_path / "moe_lm.safetensors")
    assert config.dim == 32
