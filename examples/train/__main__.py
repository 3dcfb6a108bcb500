"""``python -m examples.train``: train a mixture of experts on the standard library's source, on a mesh, with checkpoints."""

import hashlib
import time
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np

from examples.llm import architectures, rope
from examples.llm.distributed.sizes import Sizes, that_fit
from examples.moe_lm import data as text_data
from examples.moe_lm import plot
from examples.train import data, model, step
from examples.train.checkpoint import Checkpoints, Progress
from examples.train.loss import Loss

#: Options that do not change which numbers come next, but by rounding.
FREE = ("mesh", "out", "save_every", "stop_at", "accumulate", "remat", "digests")


def digest(state: Any) -> str:
    """Of every bit of the state."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()[:16]


@click.command(context_settings={"show_default": True})
@click.option(
    "--mesh",
    type=Sizes("data", "expert", "model"),
    default="data=1",
    help="data: replicas; expert: devices of experts; model: of heads and columns.",
)
@click.option("--layers", default=2)
@click.option("--dim", default=128)
@click.option("--heads", default=4)
@click.option("--kv-heads", default=2)
@click.option("--experts", default=8)
@click.option("--topk", default=2)
@click.option("--intermediate", default=128, help="Width of one expert.")
@click.option("--sequence", default=256, help="Bytes of a window.")
@click.option("--steps", default=300)
@click.option("--batch", default=8, help="Windows of a step, over all devices and parts.")
@click.option("--accumulate", default=1, help="Parts that a batch is computed in, one after the other.")
@click.option("--learning-rate", default=4e-3)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", help="Of arithmetic.")
@click.option("--fp8", is_flag=True, help="Matrices of the layers in fp8 in the forward pass.")
@click.option("--remat", is_flag=True, help="Layers are computed again for their gradient.")
@click.option(
    "--text",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of Python files.  [default: the standard library]",
)
@click.option("--save-every", default=100, help="Steps.")
@click.option("--stop-at", type=int, help="Stop after this step, as if interrupted.")
@click.option("--digests", is_flag=True, help="Say after every step what its state's bits come to.")
@click.option("--seed", default=0)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/train"),
    help="Checkpoints and the loss curve; a run goes on from here.",
)
def main(**options: Any) -> None:
    """Train; where the folder has a checkpoint of the same run, go on from it, to the bit."""
    sizes = {n: options[n] for n in ("layers", "dim", "heads", "kv_heads", "experts", "topk", "intermediate", "sequence")}
    steps, batch, accumulate, seed, out = (options[n] for n in ("steps", "batch", "accumulate", "seed", "out"))
    with that_fit():
        mesh = step.make_mesh(**options["mesh"])
    spread = mesh.shape["data"] * mesh.shape["expert"] * accumulate
    if batch % spread:
        raise click.UsageError(f"--batch {batch} cannot be dealt out to {spread} parts: data · expert · accumulate")
    raw = model.configuration(**sizes)
    config = architectures.read(raw)
    loss = Loss(config, mesh, jnp.dtype(options["dtype"]), options["fp8"], options["remat"])
    trainer = step.Trainer(loss, raw, step.optimiser(steps, options["learning_rate"]), accumulate)
    train = text_data.load(131072, seed, options["text"]).train
    settings = {n: str(v) for n, v in options.items() if n not in FREE} | {"text_bytes": str(len(train))}

    checkpoints = Checkpoints(out / "checkpoints")
    found = checkpoints.restore(trainer.abstract(), settings)
    state, progress = found or (trainer.fresh(seed), Progress(0, [], settings))
    losses, first = list(progress.losses), progress.position
    click.echo(f"{len(train):,} bytes; {_size(state['params']):,} parameters on {dict(mesh.shape)}; from step {first}")
    ropes, run, begin = rope.tables(raw, config), trainer.step(), time.perf_counter()
    last = min(steps, options["stop_at"] or steps)
    for number in range(first, last):
        state, bits = run(state, ropes, trainer.put(data.batch(train, number, batch, sizes["sequence"], seed)))
        losses.append(float(bits))
        done = number + 1
        if options["digests"]:
            click.echo(f"step {done}: {digest(state)}")
        if done % max(1, steps // 20) == 0 or done == last:
            click.echo(f"step {done} of {steps}: {np.mean(losses[-50:]):.4f} bits per byte")
        if done % options["save_every"] == 0 or done == last:
            checkpoints.save(state, Progress(done, losses, settings))
    rate = (last - first) * batch * sizes["sequence"] / (time.perf_counter() - begin)
    checkpoints.close()
    plot.save(out / "loss.png", losses, {})
    click.echo(f"{rate:,.0f} bytes/s, compiling included; state {digest(state)} after step {last}; results in {out}/")


def _size(params: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


if __name__ == "__main__":
    main()
