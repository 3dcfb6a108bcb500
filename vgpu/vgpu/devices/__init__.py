"""Tables of devices for the estimate of time: one TOML file each, every number with where it comes from."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

_FOLDER = Path(__file__).parent
ORIGINS = ("document", "benchmark", "fitted", "assumed")


@dataclass(frozen=True)
class Device:
    """A device by its numbers.

    Attributes:
      name: as the file is called.
      arch: of the code objects that it runs.
      values: numbers by name; src/time/table.h has the names.
      origins: where each comes from: "document: ...", "benchmark: ...", "fitted: ..." or "assumed: ...".
    """

    name: str
    arch: str
    values: Mapping[str, float]
    origins: Mapping[str, str]

    def origins_table(self) -> str:
        """Every number with where it comes from, in Markdown, the best known first."""
        lines = ["| number | value | origin | which |", "| --- | ---: | --- | --- |"]
        for origin in ORIGINS:
            for name, source in self.origins.items():
                kind, _, which = source.partition(":")
                if kind == origin:
                    lines.append(f"| `{name}` | {self.values[name]:,.10g} | {kind} | {which.strip()} |")
        return "\n".join(lines)

    def text(self) -> str:
        """As the interpreter reads it."""
        return " ".join(f"{name}={value!r}" for name, value in self.values.items())

    def with_values(self, **values: float) -> Device:
        """The same with other numbers; a name that the table lacks is an error."""
        if unknown := set(values) - set(self.values):
            raise ValueError(f"{self.name} has no {', '.join(sorted(unknown))}")
        return replace(self, values={**self.values, **values})


def names() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load(name: str) -> Device:
    """The table `name`; raises ValueError if there is none, or if a number of it lacks its origin."""
    if name not in names():
        raise ValueError(f"device {name!r}: expected one of {', '.join(names())}")
    content = tomllib.loads((_FOLDER / f"{name}.toml").read_text())
    base = content.pop("base", None)
    below = load(base) if base else Device(name, "", {}, {})
    arch = content.pop("arch", below.arch)
    for key, entry in content.items():
        if set(entry) != {"value", "from"} or entry["from"].split(":")[0] not in ORIGINS:
            raise ValueError(f"{name}.toml: {key} needs a value and a from that begins with one of {', '.join(ORIGINS)}")
    values = {**below.values, **{key: float(entry["value"]) for key, entry in content.items()}}
    origins = {**below.origins, **{key: entry["from"] for key, entry in content.items()}}
    return Device(name, arch, values, origins)
