"""``jax-aiter tune``: measure the implementations on this machine's device, and write down which one auto shall take."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import jax

from jax_aiter.bind import select, tuning
from jax_aiter.bind.searched import Searched
from jax_aiter.cli.say import examples, first_line, say
from jax_aiter.cli.sides import Sides
from jax_aiter.cli.tune_calls import TuneCall, benchmark_calls, call_of, file_calls, own_cases, with_parts
from jax_aiter.cli.tune_print import Row, print_rows, progress_bar
from jax_aiter.cli.tune_search import searching_of
from jax_aiter.cli.tune_state import Unfinished
from jax_aiter.cli.tune_tiles import Searching, search_all
from jax_aiter.core.arch import arch_of
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels import _native
from jax_aiter.kernels.ahead import Builders
from jax_aiter.kernels.cache import CacheError, write_atomic
from jax_aiter.kernels.provider import Call
from jax_aiter.kernels.triton.ahead import KIND
from jax_aiter.kernels.triton.tiles.choose import forced

#: of a provider, and of XLA: a call that meets one of these is named, and the others are measured.
FAILURES = (KernelBuildError, jax.errors.JaxRuntimeError)
#: calls that are compiled before they are timed, for each thread that compiles: nothing compiles beside a timing.
AHEAD = 4
#: how much the processes that compile let this one go first, which takes times.
NICE = 10


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A call whose implementations are compiled; without `sides` it is not measured, for the reason `why`."""

    item: TuneCall
    call: Call
    sides: Sides | None = None
    why: str = ""
    searched: Searched | None = None


def prepared(item: TuneCall, arch: str, searched: Searched | None = None) -> Prepared:
    """XLA and every provider that accepts; a call that no kernel can run has nothing to choose.

    searched: the tile that Triton's kernels are timed with; without it they take what they would take anyway.
    """
    op, case = item.op, item.case
    call = call_of(item, arch)
    refusals = select.refusals(call)
    names = [name for name, reason in refusals.items() if reason is None]
    if not names:
        return Prepared(item, call, why="; ".join(f"{n}: {r}" for n, r in refusals.items()))
    tile = contextlib.nullcontext() if searched is None else forced(op.name, searched.tile)
    try:
        with tile:
            sides = Sides(op, case.params, {n: a.struct for n, a in case.operands.items()}, ["xla", *names], arch)
    except FAILURES as error:
        return Prepared(item, call, why=first_line(error))
    return Prepared(item, call, sides, searched=searched)


def measure(found: Prepared) -> Row:
    """Times what was prepared."""
    if found.sides is None:
        return Row(found.call, None, found.why)
    try:
        seconds = found.sides.seconds(found.item.draw)
    except FAILURES as error:
        return Row(found.call, None, first_line(error))
    return Row(found.call, tuning.Entry(seconds, tuning.spelled(found.call), found.searched))


def merge(known: dict[str, tuning.Entry], rows: list[Row], continued: Iterable[str] = ()) -> dict[str, tuning.Entry]:
    """The measurements of earlier runs, replaced where this run measured the same key; `continued` are keys that it began with."""
    fresh: dict[str, tuning.Entry] = {key: known[key] for key in continued if key in known}
    for row in rows:
        if row.entry is not None:
            key = tuning.key(row.call)
            fresh[key] = tuning.merged(fresh.get(key), row.entry)
    return {**known, **fresh}


def _known(path: Path) -> dict[str, tuning.Entry]:
    if not path.exists():
        return {}
    try:
        return tuning.parse(path.read_text())
    except (OSError, ValueError) as error:
        raise click.ClickException(f"--out {path}: {error}; remove it, or name another file") from None


def _calls(shapes: Path | None, cases: bool, ops: str) -> list[TuneCall]:
    try:
        calls = file_calls(shapes) if shapes else own_cases() if cases else [*own_cases(), *benchmark_calls()]
    except (ValueError, TypeError) as error:
        raise click.ClickException(str(error)) from error
    wanted = {name for name in ops.split(",") if name}
    if unknown := wanted - {call.op.name for call in calls}:
        raise click.ClickException(f"--ops: no call of {', '.join(sorted(unknown))}")
    return [call for call in calls if not wanted or call.op.name in wanted]


@click.command(
    epilog=examples(
        "jax-aiter tune --budget 600                  # every op, benchmark shapes, tiles for ten minutes at most",
        "jax-aiter tune --ops rms_norm,rope --no-tiles",
        "jax-aiter tune --shapes calls.json --out tuned.json",
    )
)
@click.option("--ops", default="", help="Comma-separated op names; default: all.")
@click.option("--shapes", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="JSON list of calls, see above.")
@click.option("--cases", is_flag=True, help="Only the ops' own small cases. Default: these and the benchmark shapes.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write; default: the one auto reads.")
@click.option("--tiles/--no-tiles", default=True, help="Search the Triton kernels' tiles too (not of the ops' own cases).")
@click.option("--budget", type=click.FloatRange(min=0), help="Seconds after which no more tiles are tried; default: no limit.")
@click.option("--jobs", type=click.IntRange(1), help="Processes that compile tiles; default: all processors but one.")
def tune(ops: str, shapes: Path | None, cases: bool, out: Path | None, tiles: bool, budget: float | None, jobs: int | None) -> None:
    """Measure every implementation on this machine's GPU and write what implementation=None shall take.

    The file is <cache>/tune/<arch>.json, or what JAX_AITER_TUNE names; measurements of other calls in it are kept. A call
    later uses the measurement of its op, dtypes and static parameters whose dimensions agree when each is rounded up to the
    next power of two. The file is written after every call, and a run that was interrupted goes on where it stopped when it is
    started again with the same calls.

    Tiles (block sizes, warps, stages and what else AITER's configurations hold) are searched per call: from AITER's own
    configuration and from what is known of like calls to whatever neighbour is faster, at most 40 of them. They are compiled
    ahead by --jobs processes; those that do not compile, or whose results differ from the others', are dropped and named.
    The winner, its runner-up and the spread of its times are in the file, and calls of near shapes take it too.

    A shapes file is a JSON list of calls; "fp8" is the device's own e4m3; integer operands whose contents matter and cannot
    be told from shapes take "values":

    \b
    [{"op": "rms_norm",
      "operands": {"x": ["bfloat16", 4096, 8192], "weight": ["bfloat16", 8192]},
      "params": {"epsilon": 1e-6}},
     {"op": "gemm_a8w8",
      "operands": {"xq": ["fp8", 16, 4096], "wq": ["fp8", 4096, 4096],
                   "x_scale": ["float32", 16, 1], "w_scale": ["float32", 4096, 1]},
      "params": {"out_dtype": "bfloat16"}},
     {"op": "flash_attention_varlen", "values": {"cu_seqlens_q": [0, 512, 1024], ...}, ...}]
    """
    if shapes and cases:
        raise click.UsageError("--shapes and --cases exclude each other")
    device = jax.local_devices()[0]
    arch = arch_of(device)
    if arch is None:
        raise click.ClickException(
            f"tuning measures kernels on a GPU, and JAX has none here: its device is {device.device_kind} ({device.platform}). "
            "Run it on the machine that will run the model; the file can be carried and named with JAX_AITER_TUNE"
        )
    if not _native.register().available:
        raise click.ClickException(f"kernels cannot be launched in this process: {_native.register().reason}")
    path = out or tuning.tune_file(arch)
    known = _known(path)
    calls = with_parts(_calls(shapes, cases, ops), arch)
    run = Unfinished.of(path, [call_of(item, arch) for item in calls], tiles)
    about = {"arch": arch, "device": device.device_kind, "jax": jax.__version__}

    def save(rows: list[Row]) -> None:
        left = run.after([row.call for row in rows])
        write_atomic(path, tuning.render(merge(known, rows, run.keys), **about, **left))

    try:
        rows = _measured(run.rest(calls), arch, save, tiles, budget, jobs or max((os.cpu_count() or 1) - 1, 1))
    except CacheError as error:
        raise click.ClickException(str(error)) from error
    print_rows(rows)
    before = f" ({len(run.done)} by a run that was interrupted)" if run.done else ""
    measured = sum(row.entry is not None for row in rows) + len(run.done)
    say(f"{measured} of {len(calls)} calls measured{before}, written to {path}")


def _measured(
    calls: list[TuneCall], arch: str, save: Callable[[list[Row]], None], tiles: bool, budget: float | None, jobs: int
) -> list[Row]:
    """`save` is given the rows after every call: a run that is cut off leaves what it measured."""
    rows: list[Row] = []
    save(rows)  # a place that cannot be written to is reported before anything is measured
    found = [(item, searching_of(item, call_of(item, arch)) if tiles else None) for item in calls]
    searches = {id(searching): (item, searching) for item, searching in found if searching is not None}
    with progress_bar() as progress:
        task = progress.add_task("measuring", total=len(calls))

        def one(found: Prepared, searching: Searching | None = None) -> None:
            progress.update(task, description=f"{found.item.op.name} {found.item.case.name}")
            row = measure(found)
            rows.append(row if searching is None else dataclasses.replace(row, notes=tuple(searching.dropped())))
            save(rows)
            progress.advance(task)

        def searched(searching: Searching) -> None:
            item, _ = searches[id(searching)]
            one(prepared(item, arch, searching.found), searching)

        if searches:
            progress.update(task, description=f"compiling tiles of {len(searches)} calls")
            with Builders(KIND, jobs, NICE) as pool:
                search_all([s for _, s in searches.values()], pool, budget, searched)
        rest = [item for item, searching in found if searching is None]
        for start in range(0, len(rest), AHEAD * jobs):
            batch = rest[start : start + AHEAD * jobs]
            progress.update(task, description=f"compiling {len(batch)} calls")
            with ThreadPoolExecutor(jobs) as threads:
                ready = list(threads.map(lambda item: prepared(item, arch), batch))
            for each in ready:
                one(each)
    return rows
