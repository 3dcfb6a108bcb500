"""``jax-aiter tune``: measure the implementations on this machine's device, and write down which one auto shall take."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import click
import jax

from jax_aiter.bind import select, tuning
from jax_aiter.bind.explain import platform_name
from jax_aiter.cli.measure import device_seconds
from jax_aiter.cli.say import say
from jax_aiter.cli.tune_calls import TuneCall, benchmark_calls, file_calls, own_cases
from jax_aiter.core.arch import arch_of
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.core.text import printable
from jax_aiter.kernels import _native
from jax_aiter.kernels.cache import CacheError, write_atomic
from jax_aiter.kernels.provider import Call


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of one call: its time per implementation, or why it was not measured."""

    call: Call
    entry: tuning.Entry | None
    why: str = ""


def measure(item: TuneCall, arch: str) -> Row:
    """Times XLA and every provider that accepts; a call that no kernel can run has nothing to choose."""
    op, case = item.op, item.case
    operands = {n: a.struct for n, a in case.operands.items()}
    call = select.make_call(op, platform_name(), arch, operands, case.params, op.infer(operands, case.params))
    refusals = select.refusals(call)
    names = [name for name, reason in refusals.items() if reason is None]
    if not names:
        return Row(call, None, "; ".join(f"{n}: {r}" for n, r in refusals.items()))
    try:
        seconds = device_seconds(op, case.params, item.draw(), ["xla", *names])
    except (KernelBuildError, jax.errors.JaxRuntimeError) as error:
        return Row(call, None, str(error).splitlines()[0])
    return Row(call, tuning.Entry(seconds, tuning.spelled(call)))


def merge(known: dict[str, tuning.Entry], rows: list[Row]) -> dict[str, tuning.Entry]:
    """The measurements of earlier runs, replaced where this run measured the same key."""
    fresh: dict[str, tuning.Entry] = {}
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


@click.command()
@click.option("--ops", default="", help="Comma-separated op names; default: all.")
@click.option("--shapes", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="JSON list of calls, see above.")
@click.option("--cases", is_flag=True, help="Only the ops' own small cases. Default: these and the benchmark shapes.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write; default: the one auto reads.")
def tune(ops: str, shapes: Path | None, cases: bool, out: Path | None) -> None:
    """Measure every implementation on this machine's GPU and write what implementation=None shall take.

    The file is <cache>/tune/<arch>.json, or what JAX_AITER_TUNE names; measurements of other calls in it are kept. A call
    later uses the measurement of its op, dtypes and static parameters whose dimensions agree when each is rounded up to the
    next power of two.

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
    calls = _calls(shapes, cases, ops)

    def save(rows: list[Row]) -> None:
        write_atomic(path, tuning.render(merge(known, rows), arch=arch, device=device.device_kind, jax=jax.__version__))

    try:
        rows = _measured(calls, arch, save)
    except CacheError as error:
        raise click.ClickException(str(error)) from error
    _print(rows)
    say(f"{sum(row.entry is not None for row in rows)} of {len(rows)} calls measured, written to {path}")


def _measured(calls: list[TuneCall], arch: str, save: Callable[[list[Row]], None]) -> list[Row]:
    """`save` is given the rows after every call: a run that is cut off leaves what it measured."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    rows: list[Row] = []
    save(rows)  # a place that cannot be written to is reported before anything is measured
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("measuring", total=len(calls))
        for item in calls:
            progress.update(task, description=f"{item.op.name} {item.case.name}")
            rows.append(measure(item, arch))
            save(rows)
            progress.advance(task)
    return rows


def _print(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("op", "operands", "best", "median times")
    for row in rows:
        if row.entry is not None:
            table.add_row(row.call.op, tuning.spelled(row.call), row.entry.best, str(row.entry))
    console = Console()
    console.print(table)
    for row in rows:
        if row.entry is None:
            why = printable(f"not measured: {row.call.op} {tuning.spelled(row.call)}: {row.why}")
            console.print(why, markup=False, highlight=False)
