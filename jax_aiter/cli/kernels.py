"""``jax-aiter kernels``: AITER's files and compiled plans in the user's cache."""

from __future__ import annotations

from pathlib import Path

import click

from jax_aiter.kernels.cache import CacheError, cache_root


@click.group()
def kernels() -> None:
    """Add AITER to the cache, build launch plans ahead of time, look after both."""


@kernels.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--unverified", is_flag=True, help="Accept files that differ from the pinned commit.")
def add(path: Path, unverified: bool) -> None:
    """Copy AITER's kernels from PATH (checkout, git directory, tar or zip) after checking every file's hash."""
    from jax_aiter.kernels.store import SourceError, VerificationError, add_aiter

    with _progress("checking AITER's files") as progress:
        task = progress.add_task("files", total=None)
        try:
            location = add_aiter(
                path, unverified=unverified, progress=lambda n, total: progress.update(task, completed=n, total=total)
            )
        except (SourceError, VerificationError, CacheError) as error:
            raise click.ClickException(str(error)) from error
    state = "verified" if location.verified else "NOT verified"
    click.echo(f"AITER {location.identity[:12]} ({state}) is in {location.path}")


@kernels.command("list")
def list_() -> None:
    """What the cache holds."""
    from jax_aiter.kernels.prune import contents
    from jax_aiter.kernels.store import aiter_location

    root, location = cache_root(), aiter_location()
    click.echo(f"cache: {root}")
    if location is None:
        click.echo("AITER: not found; add a checkout with `jax-aiter kernels add PATH`")
    else:
        state = "verified" if location.verified else "not verified"
        click.echo(f"AITER: {location.identity} from {location.source} ({state}), {location.path}")
    found = contents(root)
    for (arch, op), count in found.plans.items():
        click.echo(f"  {arch:8} {op:28} {count:5} plans")
    click.echo(f"{found.refused} refused calls, {found.codes} code objects, {found.nbytes / 2**20:.1f} MiB in all")


@kernels.command()
def verify() -> None:
    """Check AITER's files against the manifest and every cached entry against its hash."""
    from jax_aiter.kernels.prune import damaged
    from jax_aiter.kernels.store import aiter_location
    from jax_aiter.kernels.store import verify as verify_files

    location = aiter_location()
    if location is None:
        raise click.ClickException("AITER was not found; add a checkout with `jax-aiter kernels add PATH`")
    wrong = verify_files(location)
    bad = damaged(cache_root())
    for name in wrong[:10]:
        click.echo(f"differs from the pinned commit or is missing: {name}", err=True)
    for path in bad[:10]:
        click.echo(f"damaged, removed: {path}", err=True)
    if wrong or bad:
        raise click.ClickException(f"{len(wrong)} files of AITER differ, {len(bad)} cache entries were damaged")
    click.echo("all files are as they should be")


@kernels.command()
@click.option("--all", "everything", is_flag=True, help="Remove AITER's files and every plan too.")
def prune(everything: bool) -> None:
    """Remove plans of other AITER versions, unused code objects and leftovers."""
    from jax_aiter.kernels.prune import prune as remove

    try:
        freed = remove(cache_root(), everything)
    except CacheError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"freed {freed / 2**20:.1f} MiB")


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
            click.echo(f"{outcome.status}: {outcome.spec.op} on {outcome.spec.arch}: {outcome.reason}", err=True)
    counts = {status: sum(o.status == status for o in outcomes) for status in ("built", "cached", "refused", "failed")}
    click.echo(", ".join(f"{count} {status}" for status, count in counts.items()))
    if counts["failed"]:
        raise click.ClickException(f"{counts['failed']} plans could not be built")


def _progress(title: str):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))
