"""Tokens per second of a step of the example's model (examples/moe_lm), with this package and without, on the present device:

    python -m benchmarks.model_step --build --arch sm_90 --jobs 2    # first: what the kernels need, on any machine
    python -m benchmarks.model_step --out DIR                        # then: prints, and writes DIR/model_step.json

A mixture-of-experts transformer of a billion random parameters, 64 experts, 8 per token. Decoding: a batch with full contexts in a
paged cache, bfloat16, each step one call of one program. Training: forward, backward and Adam, float32 parameters, bfloat16
arithmetic. Ways: this package as auto chooses; this package with `implementation="xla"` throughout; and plain JAX
(`benchmarks.model_step.plain`) in several forms, of which the fastest that gives the same numbers counts. `--small`: tiny, float32,
on a CPU too, for tests.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import stepping
from benchmarks.model_step import measure, steps
from benchmarks.model_step.forms import Way, ways
from examples.moe_lm import model
from examples.moe_lm.model import Config

#: "decode" is of the size's own number of sequences, "decode-8" of eight
STEPS = ("decode-1", "decode-8", "decode", "train")


@dataclasses.dataclass(frozen=True)
class Size:
    """The model, the sequences that decode and train at once, the dtype of arithmetic, and how far the ways may be apart: of the
    logits (relative, Frobenius norm) and of the loss. In bfloat16 a router's near-ties fall differently in differently rounded
    programs, so that some tokens meet other experts; in float32 sums in another order are all there is.
    """

    config: Config
    decoding: int
    training: int
    dtype: Any
    logits: float
    loss: float


def sequences(size: Size, step: str) -> int:
    """That the step takes at once."""
    if step == "train":
        return size.training
    return int(step.partition("-")[2] or size.decoding)


FULL = Size(
    Config(layers=5, dim=2048, heads=16, kv_heads=4, experts=64, topk=8, intermediate=512, sequence=2048, context_bytes=1),
    64, 4, jnp.bfloat16, 5e-2, 1e-2,
)  # fmt: skip
SMALL = Size(
    Config(layers=1, dim=32, heads=4, kv_heads=2, experts=4, topk=2, intermediate=16, sequence=32, context_bytes=2),
    3, 2, jnp.float32, 1e-4, 1e-4,
)  # fmt: skip


def program(size: Size, step: str, way: Way) -> tuple[Any, Any]:
    """The way's jitted step, and shapes of what it takes."""
    if step != "train":
        return steps.decoding(way, size.config), measure.decode_arguments(size.config, sequences(size, step), size.dtype, way)
    return steps.training(way, size.config, size.dtype), measure.train_arguments(size.config, size.training, way)


def programs(size: Size, gpu: bool, wanted: Sequence[str] = STEPS, names: str = "") -> dict[str, tuple[list[Way], dict[str, Any]]]:
    """Of each step its ways, and by name what lowers each."""
    made = {}
    for step in wanted:
        tokens = sequences(size, step) * (size.config.sequence if step == "train" else 1)
        found = stepping.chosen(ways(size.config, tokens, gpu), names)
        if step == "train":  # the memory of attention's scores is no way to train: cuDNN where there is one
            found = [way for way in found if way.form is None or way.form.attention == ("cudnn" if gpu else "xla")]
        made[step] = found, {way.name: measure.lowered(way, functools.partial(program, size, step)) for way in found}
    return made


def compiled(found: dict[str, tuple[list[Way], dict[str, Any]]], threads: int) -> dict[tuple[str, str], Any]:
    """By step and way: the program, or why there is none."""
    return measure.compiled({(step, name): lower for step, (_, lowers) in found.items() for name, lower in lowers.items()}, threads)


def run(
    size: Size, gpu: bool, threads: int, filed: Callable[[Any], Any], wanted: Sequence[str] = STEPS, names: str = ""
) -> dict[str, Any]:
    found = programs(size, gpu, wanted, names)
    done = compiled(found, threads)
    parameters = sum(x.size for x in jax.tree.leaves(jax.eval_shape(measure.parameters(size.config))))
    report: dict[str, Any] = {
        "about": f"{jax.devices()[0].device_kind}, jax {jax.__version__}. The model of examples/moe_lm with {parameters / 1e9:.3g} "
        f"billion random parameters: {size.config.layers} layers of {size.config.dim}, {size.config.experts} experts of "
        f"{size.config.intermediate}, {size.config.topk} per token; {jnp.dtype(size.dtype).name} arithmetic.",
        "check": f"Logits within {size.logits:g} and losses within {size.loss:g} of ours (relative), or the form does not count.",
        "config": dataclasses.asdict(size.config),
        "steps": {},
    }
    for step in wanted:
        count = sequences(size, step)
        about = f"{count} sequence{'' if count == 1 else 's'} of {size.config.sequence}{', with Adam' if step == 'train' else ''}"
        made = {name: program for (kind, name), program in done.items() if kind == step}
        if step != "train":
            params = jax.jit(lambda: model.cast(measure.parameters(size.config)(), size.dtype))()
            draw = functools.partial(steps.decoding_state, size.config, count, size.dtype)
            forms = measure.decode(params, draw, count, found[step][0], made, size.logits)
            del params
        else:
            forms = measure.train(size.config, size.training, found[step][0], made, size.loss)
        report["steps"][step] = {"about": about, "forms": forms}
        filed(report)
    return report


def main() -> None:
    parser = stepping.parser(__doc__)
    parser.add_argument("--steps", default=",".join(STEPS))
    options = parser.parse_args()
    size, wanted, names = SMALL if options.small else FULL, options.steps.split(","), options.ways

    def made(gpu: bool) -> dict[str, Any]:
        found = compiled(programs(size, gpu, wanted, names), options.threads)
        return {f"{step}, {way}": program for (step, way), program in found.items()}

    status = stepping.command(
        "benchmarks.model_step",
        options,
        ("--steps", options.steps),
        lambda: (stepping.Ours(step, *program(size, step, Way("auto"))) for step in wanted),
        made,
        lambda gpu, filed: run(size, gpu, options.threads, filed, wanted, names),
    )
    raise SystemExit(status)


if __name__ == "__main__":
    main()
