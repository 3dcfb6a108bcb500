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

import argparse
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.model_step import measure, steps
from benchmarks.model_step.forms import Way, ways
from benchmarks.peers import build
from benchmarks.peers.measure import short
from examples.moe_lm.model import Config
from jax_aiter.core.arch import arch_of
from jax_aiter.core.config import config as settings

STEPS = ("decode", "train")


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


FULL = Size(
    Config(layers=5, dim=2048, heads=16, kv_heads=4, experts=64, topk=8, intermediate=512, sequence=2048, context_bytes=1),
    64, 4, jnp.bfloat16, 5e-2, 1e-2,
)  # fmt: skip
SMALL = Size(
    Config(layers=1, dim=32, heads=4, kv_heads=2, experts=4, topk=2, intermediate=16, sequence=32, context_bytes=2),
    3, 2, jnp.float32, 1e-4, 1e-4,
)  # fmt: skip


def programs(size: Size, gpu: bool, wanted: Sequence[str] = STEPS) -> dict[str, tuple[list[Way], dict[str, Any]]]:
    """Of each step its ways, and by name what lowers each."""
    config, made = size.config, {}
    for step in wanted:
        tokens = size.decoding if step == "decode" else size.training * config.sequence
        found = ways(config, tokens, gpu)
        if step == "train":  # the memory of attention's scores is no way to train: cuDNN where there is one
            found = [way for way in found if way.form is None or way.form.attention == ("cudnn" if gpu else "xla")]
        lower = {}
        for way in found:
            if step == "decode":
                arguments = measure.decode_arguments(config, size.decoding, size.dtype, way)
                lower[way.name] = measure.lowered(way, lambda w: steps.decoding(w, config), arguments)
            else:
                arguments = measure.train_arguments(config, size.training, way)
                lower[way.name] = measure.lowered(way, lambda w: steps.training(w, config, size.dtype), arguments)
        made[step] = found, lower
    return made


def compiled(found: dict[str, tuple[list[Way], dict[str, Any]]], threads: int) -> dict[tuple[str, str], Any]:
    """By step and way: the program, or why there is none."""
    return measure.compiled({(step, name): lower for step, (_, lowers) in found.items() for name, lower in lowers.items()}, threads)


def run(size: Size, gpu: bool, threads: int, filed: Any, wanted: Sequence[str] = STEPS) -> dict[str, Any]:
    found = programs(size, gpu, wanted)
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
        sequences = size.decoding if step == "decode" else size.training
        about = f"{sequences} sequences of {size.config.sequence}{', with Adam' if step == 'train' else ''}"
        made = {name: program for (kind, name), program in done.items() if kind == step}
        if step == "decode":
            forms = measure.decode(size.config, size.decoding, size.dtype, found[step][0], made, size.logits)
        else:
            forms = measure.train(size.config, size.training, found[step][0], made, size.loss)
        report["steps"][step] = {"about": about, "forms": forms}
        filed(report)
    return report


def lines(report: dict[str, Any]) -> list[str]:
    said = [report["about"]]
    for step, found in report["steps"].items():
        said.append(f"{step}, {found['about']}:")
        for name, form in found["forms"].items():
            rate = f"{form['tokens_per_s']:12,.0f} tokens/s, {1e3 * form['step_s']:9.3f} ms a step" if "step_s" in form else ""
            said.append(
                f"    {name:28}{rate} {form.get('failed', '')} {'† ' + form['limits'] if 'limits' in form else ''}".rstrip()
            )
    return said


def share(size: Size, arch: str, which: str) -> int:
    """Lowers ours for the arch, every n-th from the i-th on ("i/n"): what the kernels need is built then."""
    number, of = map(int, which.split("/"))
    platform, failed = "cuda" if arch.startswith("sm_") else "rocm", 0
    jobs = [(step, way) for step, (found, _) in programs(size, False).items() for way in found if way.name == "auto"]
    for step, way in jobs[number::of]:
        try:
            with settings(arch=arch):
                if step == "decode":
                    program, arguments = (
                        steps.decoding(way, size.config),
                        measure.decode_arguments(size.config, size.decoding, size.dtype, way),
                    )
                else:
                    program, arguments = (
                        steps.training(way, size.config, size.dtype),
                        measure.train_arguments(size.config, size.training, way),
                    )
                program.trace(*arguments).lower(lowering_platforms=(platform,))
            print(f"{step}: lowered", flush=True)
        except Exception as error:
            print(f"{step}: {short(error)}", flush=True)
            failed += 1
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--threads", type=int, default=min(8, os.cpu_count() or 1), help="that compile, before anything is timed")
    parser.add_argument("--build", action="store_true")
    parser.add_argument("--arch", default="sm_90", help="of --build")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--share", help=argparse.SUPPRESS)
    parser.add_argument("--compile", action="store_true", help="only compile, into JAX_COMPILATION_CACHE_DIR")
    parser.add_argument("--steps", default=",".join(STEPS))
    options = parser.parse_args()
    size = SMALL if options.small else FULL
    if options.build:
        if options.share:
            raise SystemExit(1 if share(size, options.arch, options.share) else 0)
        small = ["--small"] if options.small else []
        raise SystemExit(1 if build.in_processes("benchmarks.model_step", options.jobs, options.arch, *small) else 0)
    gpu = arch_of(jax.devices()[0]) is not None
    if not gpu and not options.small:
        raise SystemExit("this machine has no GPU that jax can see; --small tries the command on a CPU")
    if options.compile:
        for (step, name), made in compiled(programs(size, gpu, options.steps.split(",")), options.threads).items():
            print(f"{step}, {name}: {made if isinstance(made, str) else 'compiled'}")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "model_step.json"
    report = run(size, gpu, options.threads, lambda found: path.write_text(json.dumps(found, indent=1)), options.steps.split(","))
    print("\n".join(lines(report)))
    ours = [found["forms"]["auto"] for found in report["steps"].values()]
    raise SystemExit(1 if any("failed" in form for form in ours) else 0)


if __name__ == "__main__":
    main()
