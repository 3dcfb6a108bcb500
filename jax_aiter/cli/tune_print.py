"""What a tuning run shows: a bar while it runs, a table at its end."""

import dataclasses

from jax_aiter.bind import tuning
from jax_aiter.bind.searched import Searched
from jax_aiter.core.text import printable
from jax_aiter.kernels.provider import Call
from jax_aiter.kernels.triton.tiles.choose import OWN, spelled


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of one call: its time per implementation, or why it was not measured. notes: tiles that were dropped."""

    call: Call
    entry: tuning.Entry | None
    why: str = ""
    notes: tuple[str, ...] = ()


def progress_bar():
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def print_rows(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("op", "operands", "best", "median times", "tile")
    for row in rows:
        if row.entry is not None:
            table.add_row(row.call.op, tuning.spelled(row.call), row.entry.best, str(row.entry), _tile(row.entry.searched))
    console = Console()
    console.print(table)
    lines = [(f"not measured: {_name(row)}: {row.why}",) for row in rows if row.entry is None]
    lines += [(f"tiles dropped: {_name(row)}: {note}" for note in row.notes) for row in rows]
    for line in (line for group in lines for line in group):
        console.print(printable(line), markup=False, highlight=False)


def _name(row: Row) -> str:
    return f"{row.call.op} {tuning.spelled(row.call)}"


def _tile(found: Searched | None) -> str:
    """The winner, its gain over AITER's own configuration and what came next."""
    if found is None:
        return ""
    times = [f"{1e6 * found.seconds:.4g} µs ± {found.spread:.1%} of {found.tried} tried"]
    times += [f"AITER's own {1e6 * found.own_seconds:.4g} µs"] if found.own_seconds is not None else ["AITER's own cannot run"]
    times += [f"next {1e6 * found.runner_up[1]:.4g} µs"] if found.runner_up is not None else []
    return f"{spelled(found.tile) or OWN}: {', '.join(times)}"
