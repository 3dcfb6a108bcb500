"""``jax-aiter kernels``: AITER's files and compiled plans in the user's cache."""

from __future__ import annotations

import json
from pathlib import Path

import click

from jax_aiter.cli.inventory import MISSING, inventory, lines
from jax_aiter.cli.say import Group, examples, say
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import cache_root

KINDS = ("hip", "triton")


@click.group(cls=Group)
def kernels() -> None:
    """Add AITER to the cache, build launch plans ahead of time, look after both."""


@kernels.command(epilog=examples("jax-aiter kernels add ~/aiter", "jax-aiter kernels add --known-only amd_aiter-0.1.7.whl"))
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--unverified", is_flag=True, help="Take files that no known release has as they are.")
@click.option("--known-only", is_flag=True, help="Leave such files out, and do without those that are missing.")
def add(path: Path, unverified: bool, known_only: bool) -> None:
    """Copy AITER's kernels from PATH (checkout, git directory, package, wheel, tar or zip), each file known by its hash.

    Any release that is known will do. Only names that AITER is known to have are read, and nothing in PATH is run or obeyed.
    """
    from jax_aiter.kernels.store import add as add_files

    if unverified and known_only:
        raise click.UsageError("--unverified and --known-only exclude each other")
    with _progress("checking AITER's files") as progress:
        task = progress.add_task("files", total=None)

        def step(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        added = add_files(path, unverified=unverified, known_only=known_only, progress=step)
    say(f"AITER: {added.survey}")
    for line in added.survey.lines():
        say(f"  {line}", err=True)
    say(f"C++ sources of its HIP kernels: {len(added.sources)}, and {len(added.unknown_sources)} not known, left out")
    say(f"AITER {added.location.identity[:18]} ({added.location.state}) is in {added.location.path}")


@kernels.command("list", epilog=examples("jax-aiter kernels list", "jax-aiter kernels list --json | jq .plans"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_(as_json: bool) -> None:
    """What the cache holds, where AITER is, which release, what of it is known."""
    found = inventory(cache_root())
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        for line in lines(found):
            say(line)
    if "error" in found["aiter"]:
        raise SystemExit(1)


@kernels.command(epilog=examples("jax-aiter kernels verify"))
def verify() -> None:
    """Compare AITER's files with those of the known releases and every cached entry with its hash. Nothing is changed."""
    from jax_aiter.kernels.marker import others_can_write
    from jax_aiter.kernels.prune import damaged
    from jax_aiter.kernels.store import aiter_location
    from jax_aiter.kernels.store.installed import why_not
    from jax_aiter.kernels.store.survey import survey

    root, location = cache_root(), aiter_location()
    if location is None:
        raise click.ClickException(why_not() or f"AITER was {MISSING}")
    found, bad = survey(location), damaged(root)
    say(f"AITER: {found}, in {location.path} ({location.state})")
    for line in found.lines():
        say(line, err=True)
    for path in bad[:10]:
        say(f"damaged, built again by the next use and removed by `jax-aiter kernels prune`: {path}", err=True)
    # What a copy lacks was left out when it was added.
    wrong = len(found.altered) + len(found.unknown) + (len(found.missing) if location.source != "cache" else 0)
    if wrong or bad:
        raise click.ClickException(f"{wrong} files of AITER differ, {len(bad)} cache entries were damaged")
    doubt = others_can_write(root)
    say("all files are as they should be" + (f", but plans are NOT verified: {doubt}" if doubt else ""))


@kernels.command(epilog=examples("jax-aiter kernels prune", "jax-aiter kernels prune --all   # AITER's files too"))
@click.option("--all", "everything", is_flag=True, help="Remove AITER's files and every plan too.")
def prune(everything: bool) -> None:
    """Remove plans of other AITER versions, unused code objects, damaged entries and leftovers."""
    from jax_aiter.kernels.prune import prune as remove

    say(f"freed {remove(cache_root(), everything) / 2**20:.1f} MiB")


@kernels.command(
    epilog=examples(
        "jax-aiter kernels build --arch gfx942 --shapes calls.json --jobs 8   # calls as `jax-aiter tune --help` shows them",
        "jax-aiter kernels build --arch gfx942 --arch gfx950 --ops rms_norm,rope --implementation triton",
        "jax-aiter kernels build --arch gfx942 --hip --jobs 8                 # AITER's HIP sources, once for all calls",
    )
)
@click.option("--arch", "archs", multiple=True, required=True, type=click.Choice(["gfx942", "gfx950", "sm_90"]))
@click.option("--ops", default="", help="Comma-separated op names; default: all.")
@click.option("--shapes", type=click.Path(path_type=Path, exists=True), help="JSON list of calls; default: the ops' own cases.")
@click.option("--implementation", "kinds", multiple=True, type=click.Choice(KINDS), help="Whose plans; default: of both kinds.")
@click.option("--jobs", default=1, type=click.IntRange(1), help="Worker processes.")
@click.option("--hip", is_flag=True, help="Compile AITER's HIP sources instead, once for all calls.")
@click.option("--sources", default="", help="With --hip: comma-separated names of sources; default: all.")
def build(
    archs: tuple[str, ...], ops: str, shapes: Path | None, kinds: tuple[str, ...], jobs: int, hip: bool, sources: str
) -> None:
    """Record and compile plans ahead of time; what is cached already is skipped.

    Of each call the plan of its Triton kernel and, on gfx942 and gfx950, of its HIP kernel and of those around its hand-written
    kernel, where AITER has one. A process that finds its plans starts no worker and needs no compiler: JAX_AITER_BUILD=0 there
    makes sure of it.
    """
    from jax_aiter.cli.build_plans import build_plans, calls_of

    if hip:
        if ops or shapes is not None or kinds:
            raise click.UsageError("--hip compiles sources, whatever the calls: it takes neither --ops nor --shapes")
        _build_sources(archs, [name for name in sources.split(",") if name], jobs)
        return
    if sources:
        raise click.UsageError("--sources needs --hip")
    try:
        calls = calls_of(archs, {name for name in ops.split(",") if name}, shapes)
    except (ValueError, TypeError) as error:
        raise click.ClickException(str(error)) from error
    with _progress("building plans") as progress:
        outcomes = build_plans(calls, kinds, jobs, progress)
    _report([(outcome.status, f"{outcome.spec.op} on {outcome.spec.arch}", outcome.reason) for outcome in outcomes], "plans")


def _build_sources(archs: tuple[str, ...], chosen: list[str], jobs: int) -> None:
    from jax_aiter.kernels.hip.build import ahead
    from jax_aiter.kernels.store import aiter_location

    location = aiter_location()
    if location is None:
        raise click.ClickException(f"AITER was {MISSING}")
    if "sm_90" in archs:
        raise click.UsageError("--hip: AITER's HIP kernels are for gfx942 and gfx950")
    try:
        count = len(ahead.names(chosen)) * len(archs)
        with _progress("compiling sources") as progress:
            task = progress.add_task("sources", total=count)
            outcomes = ahead.build_all(location, chosen, archs, cache_root(), jobs, lambda outcome: progress.advance(task))
    except (ValueError, KernelBuildError) as error:
        raise click.ClickException(str(error)) from error
    _report([(outcome.status, f"{outcome.name} on {outcome.arch}", outcome.reason) for outcome in outcomes], "sources")


def _report(outcomes: list[tuple[str, str, str]], what: str) -> None:
    """Says what became of each, with a reason; an error if one failed."""
    for status, name, reason in outcomes:
        if reason:
            for line in f"{status}: {name}: {reason}".splitlines():
                say(line, err=True)
    counts = {status: sum(status == found for found, _, _ in outcomes) for status in ("built", "cached", "refused", "failed")}
    say(", ".join(f"{count} {status}" for status, count in counts.items()))
    if counts["failed"]:
        raise click.ClickException(f"{counts['failed']} {what} could not be built")


def _progress(title: str):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))
