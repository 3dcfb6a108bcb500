"""A table of AITER's as it stands in its file."""

from __future__ import annotations

import csv
import io

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.store import Location, files

Value = int | str


class TableError(KernelBuildError):
    """A table of AITER's is not understood; the message names table, kernel, column and value."""


def cells(where: Location, name: str) -> list[list[str]]:
    """The cells of a CSV file, the header first; lines that begin with # or // are comments."""
    try:
        return split(files.read(where, name))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"AITER's table {name} in {where.path} is not a table: {error}") from error


def split(content: bytes) -> list[list[str]]:
    """The same of a file's content. Raises UnicodeDecodeError or csv.Error."""
    text = io.StringIO(content.decode("utf-8-sig"), newline="")
    return [row for row in csv.reader(line for line in text if not line.lstrip().startswith(("#", "//"))) if row]
