"""``jax-aiter kernels``: AITER's files and compiled plans in the user's cache."""

from __future__ import annotations

from pathlib import Path

import click

from jax_aiter.cli.say import Group, say
from jax_aiter.kernels.cache import cache_root

NOT_FOUND = "AITER was not found; add a checkout with `jax-aiter kernels add PATH`"


@click.group(cls=Group)
def kernels() -> None:
    """Add AITER to the cache, build launch plans ahead of time, look after both."""


@kernels.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--unverified", is_flag=True, help="Accept files that differ from the pinned commit.")
def add(path: Path, unverified: bool) -> None:
    """Copy AITER's kernels from PATH (checkout, git directory, tar or zip) after checking every file's hash.

    Only files that AITER is known to have are read, and nothing in PATH is run or obeyed.
    """
    from jax_aiter.kernels.store import add_aiter

    with _progress("checking AITER's files") as progress:
        task = progress.add_task("files", total=None)
        location = add_aiter(path, unverified=unverified, progress=lambda n, total: progress.update(task, completed=n, total=total))
    say(f"AITER {location.identity[:12]} ({location.state}) is in {location.path}")


@kernels.command("list")
def list_() -> None:
    """What the cache holds."""
    from jax_aiter.kernels.marker import others_can_write
    from jax_aiter.kernels.prune import contents
    from jax_aiter.kernels.store import aiter_location

    root = cache_root()
    doubt = others_can_write(root)
    say(f"cache: {root}" + (f" (NOT verified: {doubt})" if doubt else ""))
    location = aiter_location()
    if location is None:
        say("AITER: not found; add a checkout with `jax-aiter kernels add PATH`")
    else:
        say(f"AITER: {location.identity} from {location.source} ({location.state}), {location.path}")
    found = contents(root)
    for (arch, op), count in found.plans.items():
        say(f"  {arch:8} {op:28} {count:5} plans")
    say(f"{found.refused} refused calls, {found.codes} code objects, {found.nbytes / 2**20:.1f} MiB in all")


@kernels.command()
def verify() -> None:
    """Check AITER's files against the manifest and every cached entry against its hash. Nothing is changed."""
    from jax_aiter.kernels.marker import others_can_write
    from jax_aiter.kernels.prune import damaged
    from jax_aiter.kernels.store import aiter_location, files

    root, location = cache_root(), aiter_location()
    if location is None:
        raise click.ClickException(NOT_FOUND)
    wrong, bad = files.wrong(location), damaged(root)
    for name in wrong[:10]:
        say(f"differs from the pinned commit or is missing: {name}", err=True)
    for path in bad[:10]:
        say(f"damaged, built again by the next use and removed by `jax-aiter kernels prune`: {path}", err=True)
    if wrong or bad:
        raise click.ClickException(f"{len(wrong)} files of AITER differ, {len(bad)} cache entries were damaged")
    doubt = others_can_write(root)
    say("all files are as they should be" + (f", but plans are NOT verified: {doubt}" if doubt else ""))


@kernels.command()
@click.option("--all", "everything", is_flag=True, help="Remove AITER's files and every plan too.")
def prune(everything: bool) -> None:
    """Remove plans of other AITER versions, unused code objects, damaged entries and leftovers."""
    from jax_aiter.kernels.prune import prune as remove

    say(f"freed {remove(cache_root(), everything) / 2**20:.1f} MiB")


@kernels.command()
@click.option("--arch", "archs", multiple=True, required=True, type=click.Choice(["gfx942", "gfx950", "sm_90"]))
@click.option("--ops", default="", help="Comma-separated op names; default: all.")
@click.option("--shapes", type=click.Path(path_type=Path, exists=True), help="JSON list of calls; default: the ops' own cases.")
@click.option("--jobs", default=1, type=click.IntRange(1), help="Worker processes.")
def build(archs: tuple[str, ...], ops: str, shapes: Path | None, jobs: int) -> None:
    """Record and compile plans ahead of time; calls that are cached already are skipped."""
    from jax_aiter.kernels.triton.ahead import build_all, own_cases, read_calls, spec_of

    wanted = {name for name in ops.split(",") if name}
    try:
        calls = own_cases() if shapes is None else read_calls(shapes)
        if unknown := wanted - {call["op"] for call in calls}:
            raise ValueError(f"--ops: no call of {', '.join(sorted(unknown))}")
        calls = [call for call in calls if not wanted or call["op"] in wanted]
        specs = [spec_of(call, arch) for arch in archs for call in calls]
    except (ValueError, TypeError) as error:
        raise click.ClickException(str(error)) from error
    with _progress("building plans") as progress:
        task = progress.add_task("plans", total=len(specs))
        outcomes = build_all(specs, jobs, lambda outcome: progress.advance(task))
    for outcome in outcomes:
        if outcome.reason:
            say(f"{outcome.status}: {outcome.spec.op} on {outcome.spec.arch}: {outcome.reason}", err=True)
    counts = {status: sum(o.status == status for o in outcomes) for status in ("built", "cached", "refused", "failed")}
    say(", ".join(f"{count} {status}" for status, count in counts.items()))
    if counts["failed"]:
        raise click.ClickException(f"{counts['failed']} plans could not be built")


def _progress(title: str):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))
