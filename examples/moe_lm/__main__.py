"""``python -m examples.moe_lm``: train on the standard library's source, evaluate, checkpoint, quantise to FP8, serve."""

import time
from pathlib import Path

import click
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from examples.moe_lm import baselines, checkpoint, data, decode, model, plot, quantize
from examples.moe_lm import serve as serving
from examples.moe_lm import train as training

console = Console()


def _train(config, corpus, *, steps, batch, learning_rate, devices, dtype, seed):
    losses: list[float] = []
    columns = [
        "training",
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[bits]} bits per byte"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=steps, bits="  -  ")

        def report(number: int, bits: float) -> None:
            losses.append(bits)
            recent = f"{np.mean(losses[-50:]):.3f}"
            bar.update(task, completed=number, bits=recent)
            if not console.is_terminal and number % max(1, steps // 10) == 0:
                console.print(f"step {number} of {steps}: {recent} bits per byte")

        params = training.train(
            config,
            data.batches(corpus.train, batch, config.sequence, seed),
            steps=steps,
            learning_rate=learning_rate,
            devices=devices,
            dtype=dtype,
            seed=seed,
            report=report,
        )
    return params, losses


def _requests(files: tuple[bytes, ...], count: int, sequence: int, seed: int) -> list[serving.Request]:
    """Prompts from held-out text, of lengths from an eighth to half of what the model can hold, and as varied answers."""
    rng, text = np.random.default_rng(seed), b"".join(files)
    requests = []
    for _ in range(count):
        length, new = (int(n) for n in rng.integers(sequence // 8, sequence // 2, 2))
        start = int(rng.integers(0, len(text) - length))
        requests.append(serving.Request(text[start : start + length], new))
    return requests


def _serve(params, config, corpus, *, concurrent, requests, dtype, temperature, seed):
    block_size = 16
    blocks = concurrent * -(-config.sequence // block_size) * 3 // 4  # less than the worst case: some requests wait for blocks

    def server():
        return serving.Server(
            params, config, places=concurrent, blocks=blocks, block_size=block_size, dtype=dtype, temperature=temperature
        )

    warm = server()  # compiles every program the measured run needs
    for request in _requests(corpus.held_out, requests, config.sequence, seed):
        request.new_bytes = 2
        warm.submit(request)
    warm.run()
    measured, asked = server(), _requests(corpus.held_out, requests, config.sequence, seed)
    for request in asked:
        measured.submit(request)
    stats = measured.run()
    if measured.allocator.free != blocks:
        raise AssertionError(f"the server finished with {blocks - measured.allocator.free} cache blocks not given back")
    return stats, asked


@click.command(context_settings={"show_default": True})
@click.option("--layers", default=model.Config.layers)
@click.option("--dim", default=model.Config.dim)
@click.option("--heads", default=model.Config.heads)
@click.option("--kv-heads", default=model.Config.kv_heads)
@click.option("--experts", default=model.Config.experts)
@click.option("--topk", default=model.Config.topk)
@click.option("--intermediate", default=model.Config.intermediate, help="Width of one expert.")
@click.option("--sequence", default=model.Config.sequence, help="Bytes in a training window, and the most a request may hold.")
@click.option("--steps", default=600)
@click.option("--batch", default=8, help="Windows per step, over all devices.")
@click.option("--learning-rate", default=4e-3)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", help="Compute type of training.")
@click.option("--devices", default=1, help="Split the batch over this many devices.")
@click.option(
    "--text",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of Python files to learn from.  [default: the standard library]",
)
@click.option("--held-out-bytes", default=131072)
@click.option("--concurrent", default=16, help="Places in the serving batch.")
@click.option("--requests", default=24, help="Requests to serve; what exceeds the places joins as others leave.")
@click.option("--temperature", default=0.7, help="0 takes the most probable byte.")
@click.option("--seed", default=0)
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/moe_lm"), help="Folder for checkpoint and plot.")
def main(
    steps, batch, learning_rate, dtype, devices, text, held_out_bytes, concurrent, requests, temperature, seed, out, **sizes
) -> None:
    """Train a byte-level mixture-of-experts language model with jax_aiter's ops, quantise it to FP8 and serve it."""
    begin = time.perf_counter(), time.process_time()
    if devices > len(jax.devices()) or batch % devices:
        raise click.UsageError(
            f"--devices {devices} needs that many of {len(jax.devices())} devices, and a --batch that it divides"
        )
    config = model.Config(**sizes)
    out.mkdir(parents=True, exist_ok=True)

    corpus = data.load(held_out_bytes, seed, text)
    size = sum(map(len, corpus.held_out))
    console.print(f"{len(corpus.train):,} bytes to train on; {size:,} bytes in {len(corpus.held_out)} files held out")
    trigram = baselines.trigram_bits_per_byte(corpus.train, corpus.held_out_stream)
    gzipped = baselines.gzip_bits_per_byte(corpus.held_out)

    params, losses = _train(
        config, corpus, steps=steps, batch=batch, learning_rate=learning_rate, devices=devices, dtype=jnp.dtype(dtype), seed=seed
    )
    path = out / "moe_lm.safetensors"
    checkpoint.save(path, params, config)
    trained = params
    params, config = checkpoint.load(path)
    if not jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, trained)):
        raise AssertionError(f"{path} does not hold what was saved")
    console.print(f"{sum(x.size for x in jax.tree.leaves(params)):,} parameters saved to {path} and loaded again")

    span = min(64, config.sequence)
    check = jnp.asarray(corpus.held_out_stream[: 2 * span].reshape(2, span), jnp.int32)
    error, allowed = decode.decode_error(params, config, check)
    console.print(
        f"decoding through the paged cache: logits within {error:.1e} of the full forward pass (float32, allowed {allowed:.1e})"
    )
    if error > allowed:
        raise AssertionError(f"paged decoding differs from the full forward pass by {error}, allowed {allowed}")

    fp8 = quantize.quantize(params)
    sizes_in_mb = [quantize.size_in_bytes(p) / 1e6 for p in (model.cast(params, jnp.bfloat16), model.cast(fp8, jnp.bfloat16))]
    console.print(f"weights: {sizes_in_mb[0]:.2f} MB in bfloat16, {sizes_in_mb[1]:.2f} MB with FP8 matrices")
    tokens, scored = data.windows(corpus.held_out_stream, config.sequence)
    evaluate = lambda p: training.evaluate(p, config, tokens, scored, jnp.bfloat16, 2 * batch)  # noqa: E731
    bf16_bits, fp8_bits = evaluate(params), evaluate(fp8)
    table = Table("held-out text", "bits per byte")
    rows = {
        "this model, bfloat16": bf16_bits,
        "this model, FP8": fp8_bits,
        "interpolated byte trigram": trigram,
        "gzip -9, files joined": gzipped["joined"],
        "gzip -9, each file": gzipped["each"],
    }
    for name, value in rows.items():
        table.add_row(name, f"{value:.4f}")
    console.print(table)
    console.print(f"FP8 costs {fp8_bits - bf16_bits:+.4f} bits per byte")
    plot.save(out / "loss.png", losses, {n: v for n, v in rows.items() if n != "this model, FP8"})

    served = quantize.for_hand_written_kernels(config)
    if served is not None:
        fp8, config = quantize.quantize(params, shuffle=True), served
    serve_params = model.cast(fp8, jnp.bfloat16)
    stats, asked = _serve(
        serve_params,
        config,
        corpus,
        concurrent=concurrent,
        requests=requests,
        dtype=jnp.bfloat16,
        temperature=temperature,
        seed=seed,
    )
    console.print(
        f"served {len(asked)} requests in FP8, at most {stats.most_concurrent} at once; "
        f"{stats.joined_late} joined a running batch. "
        f"{stats.generated} bytes in {stats.seconds:.1f} s: {stats.generated / stats.seconds:.0f} tokens/s "
        f"(and {stats.prompt} bytes of prompts)"
    )
    sample = asked[0]
    console.rule("one of them")
    console.print(sample.prompt.decode("utf-8", "replace"), style="dim", end="", markup=False, highlight=False)
    console.print(bytes(sample.output).decode("utf-8", "replace"), markup=False, highlight=False)
    console.rule()
    console.print(f"{time.perf_counter() - begin[0]:.0f} s, {time.process_time() - begin[1]:.0f} s of CPU; results in {out}/")


if __name__ == "__main__":
    main()
