"""A mesh as a command line says it."""

import contextlib
from collections.abc import Iterator

import click


class Sizes(click.ParamType):
    """``expert=2,model=2``: a mesh's axes, of those that there may be; one that is not named has one device."""

    name = "axis=size,..."

    def __init__(self, *axes: str):
        self.axes = axes

    def convert(self, value, param, ctx):
        if isinstance(value, dict):
            return value
        try:
            sizes = {name: int(size) for name, size in (part.split("=") for part in value.split(","))}
        except ValueError:
            self.fail(f"{value!r} is not axis=size,...", param, ctx)
        if set(sizes) - set(self.axes):
            self.fail(f"{value!r} has the axes {', '.join(sizes)}, must be of {', '.join(self.axes)}", param, ctx)
        if min(sizes.values()) < 1:
            self.fail(f"{value!r} has an axis of fewer than one device", param, ctx)
        return sizes


@contextlib.contextmanager
def that_fit() -> Iterator[None]:
    """What a mesh has too many devices for, or does not divide, is a fault of the command's ``--mesh``."""
    try:
        yield
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--mesh") from error
