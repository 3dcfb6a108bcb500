"""The command itself."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import click
import jax
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from jax_aiter.bind.explain import platform_name
from jax_aiter.cli.bench import compare, limits, measure, models, plot, rows, table
from jax_aiter.cli.bench.row import Row
from jax_aiter.cli.say import examples
from jax_aiter.core.arch import FP8, arch_of

PEER = "best of JAX"
EXAMPLES = examples(
    "jax-aiter bench                                    # a table, on this device",
    "jax-aiter bench --only paged_attention,gemm --out before.json --plot before.svg",
    "jax-aiter bench --model llama-70b-tp8 --batch 64 --length 8192",
    "jax-aiter bench --compare before.json after.json   # exits with 1 if a row got slower by more than the noise",
    "jax-aiter bench --show before.json --plot before.svg   # of a run on another machine, say one without matplotlib",
)
#: threads that a row's forms keep busy while they are compiled; rows are compiled together by as many as there are.
FORMS = 4


@click.command(epilog=EXAMPLES)
@click.option("--only", default="", help="Comma-separated beginnings of row names.")
@click.option("--model", metavar="NAME[-tpN]", help=f"A layer's calls instead: {', '.join(models.MODELS)}, split N ways.")
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="With --model: sequences that decode.")
@click.option(
    "--length", type=click.IntRange(16), default=2048, show_default=True, help="With --model: tokens of each, and of a prompt."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write what was measured, as JSON, after every row.")
@click.option("--plot", "picture", type=click.Path(path_type=Path, dir_okay=False), help="Write a plot: .svg or .png (matplotlib).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.option("--list", "only_list", is_flag=True, help="Print the rows' names and measure nothing.")
@click.option(
    "--compare", "files", nargs=2, type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Compare two files of --out."
)
@click.option(
    "--show", "earlier", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Measure nothing: show a file of --out."
)
def bench(
    only: str, model: str | None, batch: int, length: int, out: Path | None, picture: Path | None, as_json: bool, only_list: bool,
    files: tuple[Path, Path] | None, earlier: Path | None,
) -> None:  # fmt: skip
    """Measure ops against JAX's own alternatives on this device.

    Per row: what implementation=None takes, this package's Triton kernel alone where there is one, and the best that JAX offers
    without this package (cuDNN, ragged_dot, plain jax.numpy, ...), each checked to give the same numbers. Times are of the device,
    by chains of calls inside one program; medians of rounds in turns, with their quartiles in the file.
    """
    if files:
        return compared(*files, as_json)
    if picture and importlib.util.find_spec("matplotlib") is None:  # before minutes of measuring, not after
        raise click.ClickException("--plot needs matplotlib: pip install matplotlib, or --out now and --show elsewhere")
    if earlier:
        return shown(loaded(earlier), picture, as_json)
    if virtual() and not only_list:
        raise click.UsageError(
            "this GPU is virtual: its clock says nothing of hardware. Counts of launches, instructions and bytes: "
            "python -m benchmarks.virtual_cost, in a checkout"
        )
    arch = arch_of(jax.devices()[0])
    wanted = chosen(only, model, batch, length, arch)
    if only_list:
        return click.echo("\n".join(row.name for row in wanted))
    return shown(run(wanted, arch, out, quiet=as_json), picture, as_json)


def shown(report: dict[str, Any], picture: Path | None, as_json: bool) -> None:
    """The plot and the table; exits with 1 if a row failed."""
    if picture:
        plot.plot(report, picture)
    if as_json:
        click.echo(json.dumps(report, indent=1))
    else:
        printed(report)
    if any("failed" in row for row in report["rows"]):
        sys.exit(1)


def virtual() -> bool:
    """Whether vgpu stands for the GPU: `vgpu run` sets this variable."""
    return platform_name() == "rocm" and "VGPU_ARCH" in os.environ


def chosen(only: str, model: str | None, batch: int, length: int, arch: str | None) -> list[Row]:
    fp8 = FP8[arch or "sm_90"]
    ours = rows.on_a_cpu if arch is None else rows.full
    found = models.rows(model, fp8, batch, length) if model else ours(fp8)
    wanted = [row for row in found if row.name.startswith(tuple(only.split(",")))] if only else found
    if not wanted:
        raise click.UsageError(f"--only {only}: no row begins so; --list prints their names")
    return wanted


def run(wanted: list[Row], arch: str | None, out: Path | None, quiet: bool) -> dict[str, Any]:
    """Some rows compiled together, then timed one after the other; `out` is written after each."""
    device = jax.devices()[0].device_kind if arch else processor()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("what the device does at best", total=len(wanted))
        sizes = limits.CPU if arch is None else limits.FULL
        rates = limits.measure(sorted({row.rate for row in wanted} | {"bfloat16"}), sizes, arch)
        report: dict[str, Any] = {
            "device": device,
            "arch": arch,
            "jax": jax.__version__,
            "small": False,
            "limits": rates,
            "rows": [],
        }
        names = iter([*(row.name for row in wanted), "done"])

        def filed(done: list[dict[str, Any]]) -> None:
            report["rows"].append(done[-1])
            bar.update(task, advance=1, description=next(names))
            if out:
                out.write_text(json.dumps(report, indent=1) + "\n")

        bar.update(task, description=next(names))
        threads = os.cpu_count() or 1
        together = max(1, threads // FORMS)
        for start in range(0, len(wanted), together):
            measure.all_rows(wanted[start : start + together], rates, arch, threads, filed)
    return report


def processor() -> str:
    """The CPU's name and how many processors this process has."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {len(os.sched_getaffinity(0))} processors"


def _table(heads: tuple[str, ...], rows: list[tuple[Text | str, ...]]) -> Table:
    """Of calls; on a narrow terminal words and heads are wrapped, and no figure is cut off."""
    shown = Table(Column("call", min_width=12, overflow="fold"), box=SIMPLE_HEAD, pad_edge=False)
    for place, head in enumerate(heads, 1):
        wide = 0 if head == PEER else max((len(row[place]) for row in rows), default=0)
        shown.add_column(head, justify="right" if head.endswith("µs") or head == "kernel" else "left", min_width=wide)
    for row in rows:
        shown.add_row(*row)
    return shown


def printed(report: dict[str, Any]) -> None:
    console, kernels, rows = Console(), report["arch"] is not None, []
    for row in report["rows"]:
        name, ours, takes, kernel, peer, theirs, faster, _, share, _ = table.cells(row)
        ratio = table.ratio(row)
        style = "" if ratio is None else "green" if ratio * table.SLOWER >= 1 else "yellow"
        rows.append((name, ours, takes, *[kernel] * kernels, peer, theirs, Text(faster, style), share))
    console.print(_table(("ours, µs", "takes", *["kernel"] * kernels, PEER, "µs", "JAX / ours", "of limit"), rows))
    for line in table.summary(report):
        console.print(line, markup=False, highlight=False)


def compared(first: Path, second: Path, as_json: bool) -> None:
    """Prints the verdicts; exits with 1 if a row got slower by more than the noise."""
    before, after = loaded(first), loaded(second)
    found = compare.verdicts(before, after)
    if as_json:
        click.echo(json.dumps([{**vars(v), "ratio": v.ratio} for v in found], indent=1))
    else:
        console = Console()
        for line in compare.differences(before, after):
            console.print(f"not the same: {line}", markup=False, highlight=False)
        rows = []
        for v in found:
            style = {"faster": "green", "slower": "red", "same": ""}[v.verdict]
            cells = v.name, table.us(v.before), table.us(v.after), f"{v.ratio:.2f}", f"±{v.noise / 2:.0%}"
            rows.append((*cells, Text(v.verdict, style)))
        console.print(_table(("before, µs", "after, µs", "after / before", "noise", "verdict"), rows))
        if missing := compare.only_in_one(before, after):
            console.print(f"only in one of them: {', '.join(missing)}", markup=False, highlight=False)
    if any(v.verdict == "slower" for v in found):
        sys.exit(1)


def loaded(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        rows_of = {row["name"]: row for row in found["rows"]}
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path}: not a file of `jax-aiter bench --out` ({type(error).__name__}: {error})") from error
    if not rows_of:
        raise click.UsageError(f"{path}: no row was measured")
    return found
