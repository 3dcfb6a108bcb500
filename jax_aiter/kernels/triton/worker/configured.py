"""The configuration that a recording function launches with: AITER's, with what the call's tile says instead.

A tile is measured, so it must be what runs: an entry that nothing asked for, or that AITER's wrapper replaced by a value of its
own before the launch, is an error and not a slower or faster neighbour under the tile's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.worker.compile import AMD_ONLY
from jax_aiter.kernels.triton.worker.errors import RecordError


class Tiled:
    """Called with a configuration and the name of its part. own: AITER's configurations by part, as they were asked for."""

    def __init__(self, spec: CallSpec) -> None:
        self._tile, self._op = spec.tile, spec.op
        self._used: set[str] = set()
        self.own: dict[str, dict[str, Any]] = {}

    def __call__(self, config: Mapping[str, Any], part: str = "") -> dict[str, Any]:
        """`config` with the tile's entries ``NAME``, or, of a named part, ``part.NAME``."""
        self.own.setdefault(part, {name: value for name, value in config.items() if isinstance(value, (int, str, type(None)))})
        prefix = f"{part}." if part else ""
        mine = {name: value for name, value in self._tile.items() if name.startswith(prefix) and "." not in name[len(prefix) :]}
        self._used |= mine.keys()
        return {**config, **{name[len(prefix) :]: value for name, value in mine.items()}}

    def check(self, steps: Sequence[Any]) -> None:
        """RecordError unless every entry was asked for and, where a launch has a parameter or option of its name, reached one."""
        if unused := sorted(self._tile.keys() - self._used):
            raise RecordError(f"{self._op} has no kernel whose configuration is named by {', '.join(unused)} of the call's tile")
        launched: dict[str, list[Any]] = {}
        for step in steps:
            for name, value in _configuration(step).items():
                launched.setdefault(name, []).append(value)
        for entry, wanted in self._tile.items():
            name = entry.rpartition(".")[2]
            if name in AMD_ONLY and name not in launched:
                raise RecordError(f"{entry} = {wanted} of the tile of {self._op} is an option of AMD's backend only")
            if name in launched and wanted not in launched[name]:
                found = ", ".join(map(str, launched[name]))
                raise RecordError(f"{entry} = {wanted} of the tile of {self._op} is replaced by AITER, which launches with {found}")


def _configuration(step: Any) -> dict[str, Any]:
    """Compile-time parameters and options of a launch, by name."""
    if not hasattr(step, "constexprs"):
        return {}
    names = step.function.arg_names
    return {**step.options.__dict__, **{names[path[0]]: value for path, value in step.constexprs.items() if len(path) == 1}}
