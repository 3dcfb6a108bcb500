"""Tokens per second of decoding with the models of examples/llm, with this package and without, on the present device:

    python -m benchmarks.llm_decode --build --arch sm_90 --jobs 2    # first: what the kernels need, on any machine
    python -m benchmarks.llm_decode --out DIR                        # then: prints, and writes DIR/llm_decode.json

SmolLM2-135M, and Qwen3-30B-A3B cut to `--layers` of its 48, both of random weights in bfloat16: batches of 1 and of 64, with full
contexts in a paged cache; each step is one call of one program. Ways: this package as auto chooses; this package with
`implementation="xla"` throughout; and plain JAX (`benchmarks.llm_decode.plain`) in several forms, of which the fastest that gives
the same numbers counts. SmolLM2's layers run in a loop, so that one of them is compiled. Several forms of the experts' weights are
held at once: 24 layers take 70 GB. `--cases` and `--ways` pick some; what --compile compiled is not compiled again by a process
with the same JAX_COMPILATION_CACHE_DIR, so that a machine with a time limit can compile case by case; `--mesh expert=2` decodes on
two devices, plain JAX on the same shares of the weights; `--small`: tiny, float32, on a CPU too.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import stepping
from benchmarks.llm_decode import forms
from benchmarks.llm_decode.forms import Way
from benchmarks.llm_decode.models import Size, sizes
from benchmarks.llm_decode.spread import Spread
from benchmarks.model_step import measure
from examples.llm.distributed.program import Program, make_mesh


def arguments(size: Size, way: Way) -> tuple[Any, Any]:
    """Shapes of what the program takes."""
    return jax.eval_shape(lambda: way.own(size.params())), jax.eval_shape(lambda: forms.state(size))


def compiled(size: Size, found: list[Way], threads: int) -> dict[str, Any]:
    """By way the program, or why there is none."""
    lower = {way.name: measure.lowered(way, lambda w: (w.program(size), arguments(size, w))) for way in found}
    return measure.compiled(lower, threads)


def run(
    cases: Mapping[str, Size],
    gpu: bool,
    threads: int,
    filed: Callable[[Any], Any],
    count: int = measure.STEPS,
    mesh: dict[str, int] | None = None,
    names: str = "",
) -> dict[str, Any]:
    report: dict[str, Any] = {"about": f"{jax.devices()[0].device_kind}, jax {jax.__version__}, mesh {mesh}.", "steps": {}}
    for name, size in cases.items():
        shapes = jax.eval_shape(size.params)
        billions = sum(x.size for x in jax.tree.leaves(shapes)) / 1e9
        about = f"{len(size.config.layers)} layers, {billions:.3g} billion random parameters, {jnp.dtype(size.dtype).name}, "
        about += f"{size.batch} sequence{'' if size.batch == 1 else 's'} of {size.context}; "
        about += f"logits within {size.logits:g} of ours (relative, or it does not count)"
        if mesh is not None:
            whole = Program(size.drawn, size.config, make_mesh(**mesh))
            done = Spread(size, whole).run(stepping.chosen(forms.ways(size, gpu), names), threads, count)
        else:
            found = stepping.chosen(forms.ways(size, gpu), names)
            made = compiled(size, found, threads)
            done = measure.decode(size.params(), functools.partial(forms.state, size), size.batch, found, made, size.logits, count)
        report["steps"][name] = {"about": about, "forms": done}
        filed(report)
        gc.collect()
    return report


def main() -> None:
    parser = stepping.parser(__doc__)
    parser.add_argument("--layers", type=int, default=24, help="of Qwen3-30B-A3B's 48")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--cases", help="comma-separated: smollm2-1, smollm2-64, qwen3-1, qwen3-64")
    parser.add_argument("--mesh", help="as of examples.llm.distributed: expert=2, or expert=2,model=2")
    parser.add_argument("--steps", type=int, default=measure.STEPS, help="of each round that is timed")
    options = parser.parse_args()
    cases = sizes(options.layers, options.context, options.small)
    if options.cases:
        cases = {name: cases[name] for name in options.cases.split(",")}
    mesh = {n: int(size) for n, size in (part.split("=") for part in options.mesh.split(","))} if options.mesh else None

    def ours() -> Iterator[stepping.Ours]:
        for name, size in cases.items():
            way = Way("auto")
            yield stepping.Ours(name, way.program(size), arguments(size, way))

    def made(gpu: bool) -> dict[str, Any]:
        found = {}
        for name, size in cases.items():
            ways = stepping.chosen(forms.ways(size, gpu), options.ways)
            found |= {f"{name}, {way}": program for way, program in compiled(size, ways, options.threads).items()}
        return found

    status = stepping.command(
        "benchmarks.llm_decode",
        options,
        ("--layers", str(options.layers), "--context", str(options.context), "--cases", ",".join(cases)),
        ours,
        made,
        lambda gpu, filed: run(cases, gpu, options.threads, filed, options.steps, mesh, options.ways),
    )
    raise SystemExit(status)


if __name__ == "__main__":
    main()
