"""What compiling AITER's HIP kernels from nothing costs: front ends, a kernel more of each source, a tile of Composable Kernel's.

    python -m benchmarks.hip_build --arch gfx942

Prints Markdown: processor seconds of the compiler, which other work beside does not change much, and half of their sum, as on two
processors that are idle otherwise. Works in a cache of its own. Needs AITER's files and a compiler (`jax-aiter doctor`).
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: by group; those of paged attention and of Composable Kernel are compiled for a call.
SOURCES = {
    "a": ("activation", "quant", "rmsnorm", "rope_positions"),
    "b": ("cache",),
    "c": ("moe_sorting", "topk_softmax", "topk_group", "topk_sigmoid"),
    "d": ("mla_reduce",),
}
#: rows, columns and depth of a product of 8 bits, whose tile AITER's rule for shapes without a tuned row chooses.
PRODUCT = (5, 48, 528)


def spent() -> float:
    """Processor seconds of processes that this one, or one it waited for, has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(what) -> tuple[object, float, float]:
    """The result, processor seconds and seconds."""
    before, begin = spent(), time.monotonic()
    found = what()
    return found, spent() - before, time.monotonic() - begin


def symbols(arch: str, release: str | None) -> dict[str, str]:
    """A kernel of each source of a release that is known to run."""
    from jax_aiter.kernels.hip.coverage import PROVEN

    proven = json.loads(PROVEN.read_text()).values()
    return {entry["source"]: entry["symbol"] for entry in proven if (entry["arch"], entry["release"]) == (arch, release)}


def product(arch: str):
    from jax_aiter.kernels.hip import client
    from jax_aiter.kernels.hip.provider import plan_for
    from jax_aiter.kernels.spec import ArraySpec, CallSpec

    m, n, k = PRODUCT
    operands = {"xq": ArraySpec((m, k), "int8"), "wq": ArraySpec((n, k), "int8")}
    operands |= {"x_scale": ArraySpec((m, 1), "float32"), "w_scale": ArraySpec((n, 1), "float32")}
    try:
        return plan_for(CallSpec("gemm_a8w8", arch, operands, {}, (ArraySpec((m, n), "bfloat16"),)))
    finally:
        client.close_workers()  # whose compilers' time counts when it has ended


def rows(arch: str, root: Path) -> Iterator[tuple[str, float, float]]:
    from jax_aiter.kernels.hip.build import ahead, device, frontend
    from jax_aiter.kernels.hip.build.source import lacking, source
    from jax_aiter.kernels.store import NOWHERE, aiter_location
    from jax_aiter.kernels.store.survey import survey

    where = aiter_location(root)
    if where is None:
        raise SystemExit(NOWHERE)
    known = symbols(arch, survey(where).release)
    for group, names in SOURCES.items():
        for name in names:
            if (rule := lacking(where, name)) is not None:
                raise SystemExit(f"{name}: {rule}")
            unit = source(where, name)
            made, used, wall = timed(lambda unit=unit: frontend.front_end(unit, arch, root))
            assert isinstance(made, frontend.FrontEnd)
            yield f"front end of {name} ({group})", used, wall
            if name in known:
                build = lambda made=made, name=name: device.code_object(made.bitcode, known[name], arch)  # noqa: E731
                yield f"a kernel of {name}", *timed(build)[1:]
    _, used, wall = timed(lambda: ahead.build_all(where, ["gemm_a8w8"], [arch], root, 1, lambda _: None))
    yield "what dispatches gemm_a8w8 (e)", used, wall
    yield "a tile of gemm_a8w8, and its plan", *timed(lambda: product(arch))[1:]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hip_build", description=__doc__)
    parser.add_argument("--arch", choices=("gfx942", "gfx950"), default="gfx942")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_AITER_CACHE"] = folder
        print("| what | processor seconds | seconds |\n|---|--:|--:|", flush=True)
        total = 0.0
        for what, used, wall in rows(options.arch, Path(folder)):
            total += used if what.startswith("front end") else 0
            print(f"| {what} | {used:.1f} | {wall:.1f} |", flush=True)
    print(f"\nfront ends of groups a to d: {total:.0f} processor seconds, {total / 2:.0f} s on two idle processors")


if __name__ == "__main__":
    main()
