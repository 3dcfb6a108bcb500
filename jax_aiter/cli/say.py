"""What the commands print: names of files, kernels and packages come from outside and must not act on the terminal."""

from __future__ import annotations

from typing import Any

import click

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.core.text import one_line, printable
from jax_aiter.kernels.cache import CacheError
from jax_aiter.kernels.store import SourceError, VerificationError

OURS = (CacheError, KernelBuildError, SourceError, VerificationError)


def say(text: str, *, err: bool = False) -> None:
    """Prints one line, with control characters spelled out: no name in it makes a line that looks like one of ours."""
    click.echo(one_line(text), err=err)


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def examples(*lines: str) -> str:
    """What stands at the end of a command's help: a test parses each line as it is."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


class Group(click.Group):
    """A group of commands whose errors, ours and those about its arguments, are one printable line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OURS as error:
            raise click.ClickException(printable(str(error))) from error
        except click.ClickException as error:
            vars(error)["message"] = printable(error.message)  # declared final
            raise
