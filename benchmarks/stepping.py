"""What the benchmarks of whole steps have in common: their options, and how they build, compile and say what they measured."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax

from benchmarks.peers import build
from jax_aiter.cli.bench.measure import short
from jax_aiter.core.arch import arch_of
from jax_aiter.core.config import config as settings

AnyWay = TypeVar("AnyWay")


class Ours(NamedTuple):
    """A program of this package on kernels: its name, the jitted function, and shapes of what it takes."""

    name: str
    program: Any
    arguments: Sequence[Any]


def parser(about: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=Path("out"))
    made.add_argument("--small", action="store_true", help="tiny models in float32, on a CPU too")
    made.add_argument("--ways", default="", help="comma-separated beginnings of names; auto always runs")
    made.add_argument("--threads", type=int, default=min(8, os.cpu_count() or 1), help="that compile, before anything is timed")
    made.add_argument("--build", action="store_true", help="only build the kernels, for --arch, by --jobs processes")
    made.add_argument("--arch", default="sm_90")
    made.add_argument("--jobs", type=int, default=2)
    made.add_argument("--share", help=argparse.SUPPRESS)
    made.add_argument("--compile", action="store_true", help="only compile, into JAX_COMPILATION_CACHE_DIR")
    return made


def chosen(found: Sequence[AnyWay], names: str) -> list[AnyWay]:
    """The ways that `--ways` names, and auto."""
    beginnings = ("auto", *names.split(","))
    return [way for way in found if not names or way.name.startswith(beginnings)]  # type: ignore[attr-defined]


def command(
    module: str,
    options: argparse.Namespace,
    same: Sequence[str],
    ours: Callable[[], Iterable[Ours]],
    compiled: Callable[[bool], Mapping[str, Any]],
    run: Callable[[bool, Callable[[Any], Any]], dict[str, Any]],
) -> int:
    """Does what the options say, and gives the status to exit with: 1 if ours failed.

    same: the options that a process of --build needs too. compiled, run: whether there is a GPU -> each program or why there is
    none; and what to file with -> the report.
    """
    if options.build and options.share:
        return 1 if share(list(ours()), options.arch, options.share) else 0
    if options.build:
        same = [*same, *(["--small"] if options.small else [])]
        return 1 if build.in_processes(module, options.jobs, options.arch, *same) else 0
    gpu = arch_of(jax.devices()[0]) is not None
    if not gpu and not options.small:
        raise SystemExit("this machine has no GPU that jax can see; --small tries the command on a CPU")
    if options.compile:
        for name, made in compiled(gpu).items():
            print(f"{name}: {made if isinstance(made, str) else 'compiled'}")
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{module.rpartition('.')[2]}.json"
    report = run(gpu, lambda found: path.write_text(json.dumps(found, indent=1)))
    print("\n".join(lines(report)))
    return 1 if any("failed" in found["forms"]["auto"] for found in report["steps"].values()) else 0


def share(programs: Sequence[Ours], arch: str, which: str) -> int:
    """Lowers every n-th from the i-th on ("i/n") for the arch: what the kernels need is built then. The number that failed."""
    number, of = map(int, which.split("/"))
    platform, failed = "cuda" if arch.startswith("sm_") else "rocm", 0
    for name, program, arguments in programs[number::of]:
        try:
            with settings(arch=arch):
                program.trace(*arguments).lower(lowering_platforms=(platform,))
            print(f"{name}: lowered", flush=True)
        except Exception as error:  # the table prints the same reason
            print(f"{name}: {short(error)}", flush=True)
            failed += 1
    return failed


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
